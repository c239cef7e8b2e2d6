import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PoolingEngine } from '../src/engine/pooling.ts';
import { Collector, decoderSpec, FakeModel, generateRequest } from './fake-model.ts';

const LIMITS = { entries: 100, timeoutMs: undefined };

function submit(engine: PoolingEngine, id: number, tokens: readonly number[]): void {
  const command = { kind: 'pool', tokens: Int32Array.from(tokens), types: new Int32Array(tokens.length) } as const;
  engine.submit({ ...generateRequest(id, [1]), command }, 0);
}

test('while a step of an encoder runs, the device has the next one already', async () => {
  for (const loop of ['plain', 'overlapped'] as const) {
    const model = new FakeModel({ rows: 6, sequences: 2, pages: 0, elsewhere: true });
    const given: number[] = [];
    const step = model.step.bind(model);
    model.step = (batch) => {
      given.push(batch.sequences);
      return step(batch);
    };
    const engine = new PoolingEngine(decoderSpec(64), model, { ...LIMITS, loop });
    for (let id = 1; id <= 7; id++) submit(engine, id, [id, id, id]);
    const sink = new Collector();
    const seen: number[][] = [];
    while (engine.hasWork) {
      const { sequences } = await engine.step(0, sink);
      seen.push([given.length, sequences, engine.state.running]);
    }
    // Seven sequences in steps of two: those given to the device when each landed, those that landed, those under way.
    const plain = [1, 2, 3, 4].map((steps) => [steps, steps < 4 ? 2 : 1, 0]);
    const overlapped = [
      [2, 2, 2],
      [3, 2, 2],
      [4, 2, 1],
      [4, 1, 0],
    ];
    assert.deepEqual(seen, loop === 'plain' ? plain : overlapped);
    for (let id = 1; id <= 7; id++) {
      const end = sink.endOf(id);
      assert.ok(end.kind === 'pooled' && end.values[0] === 3 * id);
    }
  }
});

test('an encoder whose step fails reports the one behind it, too', async () => {
  const model = new FakeModel({ rows: 4, sequences: 2, pages: 0, elsewhere: true });
  model.failsOn = (batch) => batch.tokens.subarray(0, batch.rows).includes(13);
  const engine = new PoolingEngine(decoderSpec(64), model, { ...LIMITS, loop: 'overlapped' });
  for (const id of [12, 13, 14, 15, 16]) submit(engine, id, [id]);
  const sink = new Collector();
  await engine.step(0, sink);
  assert.equal(sink.endOf(13).kind, 'failed');
  for (const id of [12, 14, 15]) assert.equal(sink.endOf(id).kind, 'pooled');
  assert.equal(engine.state.running, 0);
  assert.equal(engine.state.stepFailures, 2);
  await engine.step(0, sink);
  assert.equal(sink.endOf(16).kind, 'pooled');
  assert.ok(!engine.hasWork);
});
