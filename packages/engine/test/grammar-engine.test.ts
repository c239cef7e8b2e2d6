import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DeviceModel } from '../src/device/device.ts';
import { LlmEngine } from '../src/engine/llm.ts';
import { GREEDY, type EngineRequest } from '../src/engine/request.ts';
import { WorkerGrammars } from '../src/grammar/grammars.ts';
import { grammarOf } from '../src/grammar/structure.ts';
import { Collector, drain, generateRequest } from './fake-model.ts';
import { bundled, openOnCpu } from './on-cpu.ts';

const schema = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 12 },
    age: { type: 'integer', minimum: 0, maximum: 120 },
    tags: { type: 'array', items: { enum: ['é', 'b', '🙂'] }, maxItems: 3 },
  },
  required: ['name', 'age', 'tags'],
};
const grammar = grammarOf({ form: { kind: 'json', schema }, param: 'schema' });
const END = 2;

/** Requests with a grammar and without one, by turns, so that batches hold both. */
function requests(): EngineRequest[] {
  return Array.from({ length: 6 }, (_, i) => {
    const sampling = { ...GREEDY, temperature: i === 0 ? 0 : 1.5, presencePenalty: i === 4 ? 0.5 : 0, seed: i };
    const prompt = Array.from({ length: 12 + 5 * i }, (_, t) => 300 + 7 * t + i);
    const constrained = i % 3 !== 2;
    const ends = { stopTokens: [END], maxTokens: 60, logprobs: 2 };
    return generateRequest(i + 1, prompt, { ...ends, sampling, ...(constrained && { grammar }) });
  });
}

describe('requests with a grammar', async () => {
  const { checkpoint, model, close } = await openOnCpu(bundled('tiny-chat'));
  const { spec } = checkpoint;
  const data = {
    directory: bundled('tiny-chat'),
    vocabSize: spec.vocabSize,
    endTokens: checkpoint.defaults.endTokens,
  };
  const grammars = new WorkerGrammars(data);
  after(async () => {
    grammars.close();
    await close();
  });

  const engineOf = (
    loop: 'plain' | 'overlapped',
    pages = Infinity,
    own: DeviceModel = model,
    ownGrammars = grammars,
  ): LlmEngine => {
    const groups = own.cache.groups.map((group) => ({ ...group, pages: Math.min(group.pages, pages) }));
    const smaller = { ...own, cache: { ...own.cache, groups }, capacity: own.capacity, memory: own.memory };
    const device: DeviceModel = { ...smaller, step: (batch) => own.step(batch), close: () => {} };
    const limits = { entries: 100, timeoutMs: undefined, stepMs: undefined };
    return new LlmEngine(spec, device, { ...limits, loop, clock: () => 0, grammars: ownGrammars });
  };
  const run = async (engine: LlmEngine, all: readonly EngineRequest[]): Promise<Collector> => {
    for (const request of all) engine.submit(request, 0);
    while (engine.compiling > 0) await sleep(2);
    return await drain(engine);
  };
  const told = (sink: Collector, id: number): object[] =>
    sink.events.filter((event) => event.id === id && event.kind !== 'begun');

  const expected: object[][] = [];
  for (const request of requests()) expected.push(told(await run(engineOf('plain'), [request]), request.id));

  const check = (sink: Collector, what: string): void => {
    for (const { id } of requests()) assert.deepEqual(told(sink, id), expected[id - 1], `${what}: request ${id}`);
    assert.equal(grammars.sessions, 0, `${what}: a session is left`);
  };

  test('the same bits batched and in the overlapped loop', async () => {
    check(await run(engineOf('plain'), requests()), 'batched');
    check(await run(engineOf('overlapped'), requests()), 'overlapped');
  });

  test('the same bits after yielding and being computed anew', async () => {
    for (const loop of ['plain', 'overlapped'] as const) {
      const engine = engineOf(loop, 9);
      check(await run(engine, requests()), `preempted, ${loop}`);
      assert.ok(engine.state.preemptions > 0, 'nothing had to yield');
    }
  });

  test('several answers to a prompt have a session each', async () => {
    const [, first] = requests();
    const second = { ...first, id: 50, siblingOf: first.id };
    const sink = await run(engineOf('plain'), [first, second]);
    assert.deepEqual(sink.tokensOf(50), sink.tokensOf(first.id));
    assert.equal(grammars.sessions, 0);
  });

  test('cancelled at any time, a session is gone', async () => {
    const engine = engineOf('plain');
    const sink = new Collector();
    const [a, b] = requests();
    engine.submit(a, 0);
    engine.submit(b, 0);
    engine.cancel(b.id);
    while (engine.compiling > 0) await sleep(2);
    for (let i = 0; i < 5; i++) await engine.step(0, sink);
    engine.cancel(a.id);
    await drain(engine, sink);
    for (const id of [a.id, b.id]) {
      const end = sink.endOf(id);
      assert.ok(end.kind === 'failed' && end.error.code === 'cancelled');
    }
    while (grammars.sessions > 0) await sleep(2);
  });

  test('a wrong grammar fails its own request alone', async () => {
    const [good] = requests();
    const bad = generateRequest(9, [1], { grammar: { ebnf: 'root ::= foo', root: 'root', param: 'g', controls: [] } });
    const sink = await run(engineOf('plain'), [bad, good]);
    const end = sink.endOf(9);
    assert.ok(end.kind === 'failed' && end.error.code === 'invalid' && /foo/.test(end.error.message));
    assert.deepEqual(told(sink, good.id), expected[0]);
  });

  test('a grammar that takes too long fails its own request alone, though the worker is replaced', async () => {
    const worker = new URL('./stalling-grammar.worker.ts', import.meta.url);
    for (const loop of ['plain', 'overlapped'] as const) {
      const own = new WorkerGrammars(data, { compileMs: 2000, worker });
      const engine = engineOf(loop, Infinity, model, own);
      const sink = new Collector();
      for (const request of requests().slice(0, 3)) engine.submit(request, 0);
      while (engine.compiling > 0) await sleep(2);
      for (let i = 0; i < 7; i++) await engine.step(0, sink);
      engine.submit(generateRequest(9, [1], { grammar: { ...grammar, param: 'stall' } }), 0);
      // One waits behind it.
      for (const request of requests().slice(3)) engine.submit(request, 0);
      while (engine.compiling > 0) await engine.step(0, sink);
      check(await drain(engine, sink), loop);
      const end = sink.endOf(9);
      assert.ok(end.kind === 'failed' && end.error.code === 'invalid' && end.error.param === 'stall');
      assert.equal(own.sessions, 0);
      own.close();
    }
  });

  test('nothing that may be drawn is an error that says so', async () => {
    const sampling = { ...GREEDY, allowedTokens: [300] };
    const sink = await run(engineOf('plain'), [generateRequest(9, [1, 5], { grammar, sampling })]);
    const end = sink.endOf(9);
    assert.ok(end.kind === 'failed' && /grammar allows/.test(end.error.message), JSON.stringify(end));
  });
});
