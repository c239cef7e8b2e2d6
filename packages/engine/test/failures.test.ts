import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { StepResult } from '../src/device/device.ts';
import { startWorker } from '../src/engine/link.ts';
import type { LlmEngine } from '../src/engine/llm.ts';
import { PoolingEngine } from '../src/engine/pooling.ts';
import { GREEDY, type EngineRequest } from '../src/engine/request.ts';
import { openModels } from '../src/serve/hub.ts';
import { Collector, decoderSpec, drain, FakeModel, fakeEngine, generateRequest, poisonedBy } from './fake-model.ts';
import { bundled } from './tokenizers.ts';

const COUNT = 12;
/** Prompts of 10 to 43 tokens that share a beginning, and answers of 20; each has a seed of its own, its id. */
function requests(): EngineRequest[] {
  return Array.from({ length: COUNT }, (_, i) => {
    const prompt = [...Array.from({ length: 3 * i }, () => 7), ...Array.from({ length: 10 }, (_, t) => (i * t) % 90)];
    return generateRequest(i + 1, prompt, { maxTokens: 20, sampling: { ...GREEDY, seed: i + 1 } });
  });
}
const OPTIONS = { rows: 32, sequences: COUNT, pages: 100, draws: 'context' } as const;

const failureOf = (sink: Collector, id: number): string => {
  const end = sink.endOf(id);
  assert.ok(end.kind === 'failed' && end.error.code === 'internal', `request ${id}: ${JSON.stringify(end)}`);
  return end.error.message;
};

for (const loop of ['plain', 'overlapped'] as const) {
  describe(`steps that fail, ${loop} loop`, async () => {
    const begin = (slots = 0): { model: FakeModel; engine: LlmEngine } => {
      const model = new FakeModel({ ...OPTIONS, slots, elsewhere: loop === 'overlapped' });
      return { model, engine: fakeEngine(100, model, { loop }) };
    };
    const expected = new Map<number, number[]>();
    for (const request of requests()) {
      const { engine } = begin();
      engine.submit(request, 0);
      expected.set(request.id, (await drain(engine)).tokensOf(request.id));
    }
    /** All requests but these have had their whole answers, bit for bit. */
    const check = (sink: Collector, failed: readonly number[]): void => {
      for (let id = 1; id <= COUNT; id++) {
        if (failed.includes(id)) continue;
        assert.deepEqual(sink.tokensOf(id), expected.get(id), `request ${id}`);
        assert.equal(sink.endOf(id).kind, 'finished');
      }
    };

    for (const slots of [0, COUNT + 2]) {
      test(`the one that makes them fail is found, and nobody else fails${slots > 0 ? ', with states' : ''}`, async () => {
        for (const [seed, position] of [
          [5, 30],
          [1, 10],
          [12, 43 + 19],
          [7, 0],
        ]) {
          const { model, engine } = begin(slots);
          const poison = poisonedBy([seed, position]);
          model.failsOn = poison;
          for (const request of requests()) engine.submit(request, 0);
          const sink = await drain(engine);
          if (slots === 0) check(sink, [seed]);
          else for (let id = 1; id <= COUNT; id++) assert.equal(sink.endOf(id).kind === 'failed', id === seed);
          assert.match(failureOf(sink, seed), /a step of the engine failed: the device was poisoned/);
          // What it had been given before stands.
          const before = sink.tokensOf(seed);
          assert.equal(before.length, Math.max(0, position - (7 + 3 * seed)));
          if (slots === 0) assert.deepEqual(before, expected.get(seed)!.slice(0, before.length));
          // At once, and then once for each halving.
          assert.ok(
            engine.state.stepFailures <= 1 + Math.ceil(Math.log2(COUNT)),
            `${engine.state.stepFailures} failures`,
          );
          assert.equal(engine.failure, undefined);
        }
      });
    }

    test('several are found', async () => {
      const { model, engine } = begin();
      model.failsOn = poisonedBy([2, 20], [3, 20], [11, 50]);
      for (const request of requests()) engine.submit(request, 0);
      const sink = await drain(engine);
      check(sink, [2, 3, 11]);
      for (const id of [2, 3, 11]) failureOf(sink, id);
    });

    test('a fault that does not come again fails nobody', async () => {
      const { model, engine } = begin();
      for (const request of requests()) engine.submit(request, 0);
      const sink = new Collector();
      const faults: string[] = [];
      for (let i = 0; i < 16; i++) {
        if (i === 4 || i === 8) model.failNext = new Error('once');
        await engine.step(0, sink);
        if (engine.stepFault !== undefined) faults.push(engine.stepFault.message);
      }
      await drain(engine, sink);
      check(sink, []);
      assert.deepEqual(faults, ['once', 'once']);
      assert.equal(engine.state.stepFailures, 2);
    });

    test('two that fail together only come to an end, and the others to theirs', async () => {
      const { model, engine } = begin();
      const [one, other] = [poisonedBy([4, 25]), poisonedBy([9, 35])];
      model.failsOn = (batch) => one(batch) && other(batch);
      for (const request of requests()) engine.submit(request, 0);
      const sink = await drain(engine);
      // Those that were with them each time cannot be told from them; some may have come to their end before.
      for (let id = 1; id <= COUNT; id++) {
        const tokens = sink.tokensOf(id);
        assert.deepEqual(tokens, expected.get(id)!.slice(0, tokens.length));
        assert.ok(sink.hasEnded(id));
      }
      assert.ok(engine.state.stepFailures < 20);
    });

    test('a device that is gone fails its requests at once, and serves again when it is back', async () => {
      const { model, engine } = begin();
      model.failsOn = () => true;
      for (const request of requests()) engine.submit(request, 0);
      const sink = await drain(engine);
      for (let id = 1; id <= COUNT; id++) failureOf(sink, id);
      assert.equal(engine.failure?.message, 'the device was poisoned');
      assert.ok(engine.state.stepFailures <= COUNT);
      model.failsOn = undefined;
      for (const request of requests()) engine.submit({ ...request, id: request.id + 100 }, 0);
      await drain(engine, sink);
      for (let id = 1; id <= COUNT; id++) assert.deepEqual(sink.tokensOf(id + 100), expected.get(id));
      assert.equal(engine.failure, undefined);
    });

    test('several answers to a prompt: the one at fault fails', async () => {
      const { model, engine } = begin();
      const [first] = requests();
      for (let id = 1; id <= 5; id++) {
        const command = { ...first.command, sampling: { ...GREEDY, seed: id } } as EngineRequest['command'];
        engine.submit({ ...first, id, command, siblingOf: id === 1 ? undefined : 1 }, 0);
      }
      model.failsOn = poisonedBy([3, 0]);
      const sink = await drain(engine);
      assert.match(failureOf(sink, 3), /poisoned/);
      for (const id of [1, 2, 4, 5]) assert.equal(sink.tokensOf(id).length, 20);
      assert.deepEqual(sink.tokensOf(1), expected.get(1));
    });

    test('what a step brings cannot be told to one of its requests: that one fails', async () => {
      const { model, engine } = begin();
      const step = model.step.bind(model);
      const broken = (result: StepResult): StepResult => ({
        ...result,
        get topTokens(): Int32Array {
          throw new Error('no list');
        },
      });
      model.step = (batch) => {
        const result = step(batch);
        return result instanceof Promise ? result.then(broken) : broken(result);
      };
      for (const request of requests()) {
        const command = { ...request.command, ...(request.id === 6 && { logprobs: 1 }) };
        engine.submit({ ...request, command }, 0);
      }
      const sink = await drain(engine);
      assert.match(failureOf(sink, 6), /no list/);
      check(sink, [6]);
      // One has ended in the very step that fails.
      engine.submit(generateRequest(50, [1, 2, 3], { maxTokens: 1 }), 0);
      engine.submit(generateRequest(51, [1, 2, 3], { logprobs: 1 }), 0);
      await drain(engine, sink);
      assert.equal(sink.endOf(50).kind, 'finished');
      assert.match(failureOf(sink, 51), /no list/);
    });

    test('requests that come or go while the one at fault is looked for', async () => {
      const { model, engine } = begin();
      model.failsOn = poisonedBy([8, 35]);
      const [late, ...others] = requests();
      for (const request of others) engine.submit(request, 0);
      const sink = new Collector();
      while (engine.scheduler.trials.group === undefined) await engine.step(0, sink);
      engine.submit(late, 0);
      engine.cancel(8);
      engine.cancel(2);
      await drain(engine, sink);
      check(sink, [8, 2]);
      for (const id of [8, 2]) {
        const end = sink.endOf(id);
        assert.ok(end.kind === 'failed' && end.error.code === 'cancelled');
      }
    });
  });
}

for (const loop of ['plain', 'overlapped'] as const) {
  test(`an encoder fails only the inputs that make its steps fail, ${loop}`, () => poisonEncoder(loop));
}

async function poisonEncoder(loop: 'plain' | 'overlapped'): Promise<void> {
  const model = new FakeModel({ rows: 64, sequences: 4, pages: 0, elsewhere: loop === 'overlapped' });
  const engine = new PoolingEngine(decoderSpec(64), model, { entries: 100, timeoutMs: undefined, loop });
  model.failsOn = (batch) => batch.tokens.subarray(0, batch.rows).includes(13);
  const sink = new Collector();
  for (let id = 10; id < 20; id++) {
    const tokens = Int32Array.of(1, id, 2);
    const command = { kind: 'pool', tokens, types: new Int32Array(3) } as const;
    engine.submit({ ...generateRequest(id, [1]), command }, 0);
  }
  while (engine.hasWork) await engine.step(0, sink);
  for (let id = 10; id < 20; id++) {
    const end = sink.endOf(id);
    if (id === 13) assert.match(failureOf(sink, id), /poisoned/);
    else assert.ok(end.kind === 'pooled' && end.values[0] === 3 + id, JSON.stringify(end));
  }
  assert.equal(engine.failure, undefined);
  model.failsOn = () => true;
  for (let id = 20; id < 24; id++) {
    engine.submit(
      { ...generateRequest(id, [1]), command: { kind: 'pool', tokens: Int32Array.of(1), types: new Int32Array(1) } },
      0,
    );
  }
  while (engine.hasWork) await engine.step(0, sink);
  for (let id = 20; id < 24; id++) failureOf(sink, id);
  assert.ok(engine.failure);
}

test('a failed step is told to who opened the model', async () => {
  const link = startWorker();
  const told: string[] = [];
  const hub = await openModels(
    {
      models: [{ name: 'tiny', directory: bundled('tiny-chat') }],
      threads: 1,
      onStepFailure: (model, reason) => told.push(`${model}: ${reason}`),
    },
    () => ({
      ...link,
      listen: (receive) =>
        link.listen((message) => {
          receive(message.kind === 'step' && message.sequences > 0 ? { ...message, fault: 'once' } : message);
        }),
    }),
  );
  try {
    const events = hub.get('tiny').generate({ prompt: { kind: 'text', text: 'a' }, maxTokens: 1 });
    for await (const event of events) if (event.kind === 'end') assert.equal(event.generatedTokens, 1);
    assert.deepEqual(told, ['tiny: once']);
  } finally {
    await hub.close();
  }
});
