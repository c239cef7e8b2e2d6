import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StepCost, readsOf } from '../src/engine/cost.ts';
import { uniform } from '../src/sampling/philox.ts';
import { Collector, drain, FakeModel, fakeEngine, generateRequest } from './fake-model.ts';

test('the cost of steps is learned, whatever they were', () => {
  const cost = new StepCost();
  const real = (rows: number, reads: number): number => 3 + 0.05 * rows + reads / 40_000;
  for (let i = 0; i < 200; i++) {
    const rows = 1 + Math.floor(uniform(1, 3 * i) * 400);
    const reads = Math.floor(uniform(1, 3 * i + 1) * 2_000_000);
    cost.observe(rows, reads, real(rows, reads) * (0.97 + 0.06 * uniform(1, 3 * i + 2)));
  }
  for (const [rows, reads] of [
    [16, 8_000],
    [500, 1_000_000],
    [40, 600_000],
  ] as const) {
    assert.ok(Math.abs(cost.predict(rows, reads) / real(rows, reads) - 1) < 0.03);
  }
  const chunk = cost.rowsWithin(20, 16, 8_000, 5_000, 512);
  assert.ok(cost.predict(16 + chunk, 8_000 + readsOf(5_000, chunk)) <= 20);
  assert.ok(cost.predict(17 + chunk, 8_000 + readsOf(5_000, chunk + 1)) > 20);
});

test('a prompt of 32 k tokens keeps no token of 16 streams waiting twice as long as usual', async () => {
  // Time passes on the device alone, as on a small GPU: a step costs its weights, its rows and what they look at.
  let now = 0;
  let draws = 0;
  const onStep = (rows: number, reads: number): void => {
    now += (6 + 0.03 * rows + reads / 400_000) * (0.96 + 0.08 * uniform(5, draws++));
  };
  const model = new FakeModel({ rows: 2048, sequences: 32, pages: 4096, onStep });
  const engine = fakeEngine(65_536, model, { clock: () => now });
  for (let id = 1; id <= 16; id++) engine.submit(generateRequest(id, [id, 1, 2], { maxTokens: 3000 }), 0);
  const sink = new Collector();
  const step = async (): Promise<number> => {
    const before = now;
    await engine.step(0, sink);
    return now - before;
  };
  const usual: number[] = [];
  for (let i = 0; i < 60; i++) usual.push(await step());
  const median = usual.toSorted((a, b) => a - b)[30];
  engine.submit(generateRequest(99, new Array<number>(32_000).fill(7), { maxTokens: 2 }), 0);
  let steps = 0;
  let longest = 0;
  while (!sink.hasEnded(99)) {
    assert.ok(++steps < 2900, 'the long prompt does not get on');
    longest = Math.max(longest, await step());
  }
  assert.ok(longest <= 2 * median, `${longest} ms against a median of ${median} ms`);
  // All streams went on in every one of those steps.
  assert.equal(sink.tokensOf(1).length, 60 + steps);
});

test('tenants get equal shares, however much each of them asks for', async () => {
  const engine = fakeEngine(64, new FakeModel({ rows: 8, sequences: 1, pages: 8 }));
  for (let id = 1; id <= 30; id++) engine.submit(generateRequest(id, [1], {}, { tenant: 'busy' }), 0);
  for (let id = 31; id <= 35; id++) engine.submit(generateRequest(id, [1], {}, { tenant: 'modest' }), 0);
  const ends = (await drain(engine)).events.filter((event) => event.kind === 'finished').map(({ id }) => id);
  const modest = ends.map((id, place) => (id > 30 ? place : -1)).filter((place) => place >= 0);
  assert.ok(modest.at(-1)! < 11, `the modest tenant's places: ${modest.join(', ')}`);
});

test('no priority is so low that others always go first', async () => {
  const engine = fakeEngine(64, new FakeModel({ rows: 8, sequences: 1, pages: 8 }));
  const sink = new Collector();
  engine.submit(generateRequest(1, [1], { maxTokens: 1 }, { priority: 3 }), 0);
  let id = 2;
  while (!sink.hasEnded(1)) {
    while (engine.state.waiting < 3) engine.submit(generateRequest(id++, [1], { maxTokens: 1 }, { priority: 0 }), 0);
    await engine.step(0, sink);
    assert.ok(id < 200, 'the request of low priority starves');
  }
  await drain(engine, sink);
});

test('what waits too long, or finds the queue full, is told when to try again', async () => {
  const engine = fakeEngine(64, new FakeModel({ rows: 8, sequences: 1, pages: 8 }), { entries: 2, timeoutMs: 100 });
  const sink = new Collector();
  engine.submit(generateRequest(1, [1], { maxTokens: 50 }), 0);
  await engine.step(0, sink);
  for (const id of [2, 3, 4]) engine.submit(generateRequest(id, [1]), 10);
  await engine.step(20, sink);
  const full = sink.endOf(4);
  assert.ok(full.kind === 'failed' && full.error.code === 'overloaded' && full.error.retryAfterSeconds! >= 1);
  await engine.step(111, sink);
  const late = sink.endOf(2);
  assert.ok(late.kind === 'failed' && late.error.code === 'unavailable' && late.error.retryAfterSeconds! >= 1);
  assert.equal(sink.hasEnded(1), false);
  await drain(engine, sink, 111);
  assert.equal(sink.endOf(1).kind, 'finished');
});

test('several answers to a prompt compute it once, and part without disturbing each other', async () => {
  const prompt = Array.from({ length: 37 }, (_, i) => i);
  const model = new FakeModel({ rows: 64, sequences: 8, pages: 40, draws: 'context' });
  const engine = fakeEngine(160, model);
  engine.submit(generateRequest(1, prompt, { maxTokens: 20 }), 0);
  for (let id = 2; id <= 5; id++) engine.submit(generateRequest(id, prompt, { maxTokens: 20 }, { siblingOf: 1 }), 0);
  const sink = await drain(engine);
  assert.deepEqual(model.steps[0], { rows: 37, sequences: 1, outputs: 5 });
  for (let id = 2; id <= 5; id++) assert.deepEqual(sink.tokensOf(id), sink.tokensOf(1));
});
