import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { DeviceModel } from '../src/device/device.ts';
import type { Batch } from '../src/engine/batch.ts';
import { LlmEngine } from '../src/engine/llm.ts';
import { GREEDY, type EngineRequest, type PromptLogprobs, type SamplingParams } from '../src/engine/request.ts';
import { Collector, drain, generateRequest, poisonedBy } from './fake-model.ts';
import { bundled, openOnCpu, type OpenedModel } from './on-cpu.ts';

/**
 * Whatever happens to be going on, a request's answer is the one it gets alone, to the last bit of every
 * log-probability. What can go on is a matrix; its ways are chosen so that any two circumstances meet in one of them.
 */
interface Way {
  /** Threads that compute. */
  readonly threads: 1 | 2;
  readonly loop: 'plain' | 'overlapped';
  /** Rows of a step: prompts are cut to what is left of them. */
  readonly rows: 512 | 33 | 16 | 7;
  /** Pages for all: with few of them sequences must yield, and are computed anew. */
  readonly pages: 'plenty' | 'few';
  /** How requests come: each when the one before has ended, all at once, or one after a few steps. */
  readonly company: 'alone' | 'together' | 'staggered';
  /** Whether everything was answered before, so that prompts are found in the prefix tree. */
  readonly tree: 'cold' | 'warm';
}

// prettier-ignore
const WAYS: readonly Way[] = [
  { threads: 1, loop: 'plain',      rows: 512, pages: 'plenty', company: 'together',  tree: 'cold' },
  { threads: 2, loop: 'overlapped', rows: 512, pages: 'few',    company: 'staggered', tree: 'warm' },
  { threads: 2, loop: 'plain',      rows: 512, pages: 'plenty', company: 'alone',     tree: 'warm' },
  { threads: 1, loop: 'overlapped', rows: 33,  pages: 'few',    company: 'together',  tree: 'warm' },
  { threads: 2, loop: 'plain',      rows: 33,  pages: 'plenty', company: 'staggered', tree: 'cold' },
  { threads: 1, loop: 'overlapped', rows: 33,  pages: 'few',    company: 'alone',     tree: 'cold' },
  { threads: 2, loop: 'overlapped', rows: 16,  pages: 'plenty', company: 'together',  tree: 'warm' },
  { threads: 1, loop: 'plain',      rows: 16,  pages: 'few',    company: 'staggered', tree: 'cold' },
  { threads: 2, loop: 'overlapped', rows: 16,  pages: 'plenty', company: 'alone',     tree: 'cold' },
  { threads: 2, loop: 'plain',      rows: 7,   pages: 'few',    company: 'together',  tree: 'cold' },
  { threads: 1, loop: 'overlapped', rows: 7,   pages: 'plenty', company: 'staggered', tree: 'warm' },
  { threads: 1, loop: 'plain',      rows: 7,   pages: 'few',    company: 'alone',     tree: 'warm' },
];

const CIRCUMSTANCES = ['threads', 'loop', 'rows', 'pages', 'company', 'tree'] as const;

test('any two circumstances meet in one of the ways', () => {
  for (const a of CIRCUMSTANCES) {
    for (const b of CIRCUMSTANCES) {
      if (a === b) continue;
      const met = new Set(WAYS.map((way) => `${way[a]} ${way[b]}`));
      const all = new Set(WAYS.map((way) => way[a])).size * new Set(WAYS.map((way) => way[b])).size;
      assert.equal(met.size, all, `${a} and ${b}`);
    }
  }
});

/** The same device with fewer pages or rows: the engine sees no other difference. */
function smaller(model: DeviceModel, limits: { readonly pages: number; readonly rows: number }): DeviceModel {
  const { answersApart, cache, capacity, memory } = model;
  const groups = cache.groups.map((group) => ({ ...group, pages: Math.min(group.pages, limits.pages) }));
  return {
    answersApart,
    cache: { ...cache, groups },
    capacity: { ...capacity, rows: Math.min(capacity.rows, limits.rows) },
    memory,
    step: (batch) => model.step(batch),
    close: () => {},
  };
}

const drawn: SamplingParams = { ...GREEDY, temperature: 1, topP: 0.95 };

/** Short and long prompts, the long ones with a common beginning; every kind of draw; two answers to one prompt. */
function requestsOf(ids: readonly (readonly number[])[]): EngineRequest[] {
  const stem = ids.flat().slice(0, 40);
  const long = ids.slice(0, 3).map((tokens) => [...stem, ...tokens].slice(0, 56));
  const common = { maxTokens: 14, logprobs: 3 };
  const word = ids[0].slice(0, 2);
  return [
    generateRequest(1, ids[0], { ...common, promptLogprobs: 2 }),
    generateRequest(2, ids[1], { ...common, sampling: { ...drawn, seed: 1, presencePenalty: 0.5, badWords: [word] } }),
    generateRequest(3, ids[2], {
      ...common,
      sampling: { ...drawn, seed: 2, logitBias: [[7, 2]], allowedTokens: stem },
    }),
    generateRequest(4, long[0], { ...common, sampling: { ...drawn, seed: 3, minP: 0.02, topK: 50 } }),
    generateRequest(5, long[1], { ...common, promptLogprobs: 2, sampling: { ...GREEDY, repetitionPenalty: 1.2 } }),
    generateRequest(6, long[2], common),
    generateRequest(7, long[2], { ...common, sampling: { ...drawn, seed: 4 } }, { siblingOf: 6 }),
  ];
}

/**
 * Everything a client is told of a request. What is said of a prompt comes in pieces that depend on how it was cut; put
 * together they must be the same.
 */
function answer(sink: Collector, id: number): object[] {
  const events = sink.events.filter((event) => event.id === id && event.kind !== 'begun');
  const pieces = events.flatMap((event) => (event.kind === 'prompt' ? [event] : []));
  const whole = (name: keyof PromptLogprobs): number[] => pieces.flatMap(({ logprobs }) => [...logprobs[name]]);
  const prompt = (['logprobs', 'ranks', 'topTokens', 'topLogprobs'] as const).map(whole);
  return [prompt, ...events.filter(({ kind }) => kind !== 'prompt')];
}

async function run(engine: LlmEngine, requests: readonly EngineRequest[], company: Way['company']): Promise<Collector> {
  const sink = new Collector();
  for (const request of requests) {
    engine.submit(request, 0);
    if (company === 'alone') await drain(engine, sink);
    if (company === 'staggered') for (let i = 0; i < 2; i++) await engine.step(0, sink);
  }
  return await drain(engine, sink);
}

const checkpoints = fileURLToPath(new URL('../../../test/checkpoints', import.meta.url));
const decoders = readdirSync(checkpoints, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && /^(llama|qwen)/.test(entry.name))
  .map(({ name }) => ({ name, directory: join(checkpoints, name) }));

for (const { name, directory } of [{ name: 'tiny-chat', directory: bundled('tiny-chat') }, ...decoders]) {
  describe(`${name}: the same answers, to the last bit`, () => {
    const golden = JSON.parse(readFileSync(join(directory, 'golden.json'), 'utf8')) as {
      cases: { input_ids: number[] }[];
    };
    const requests = requestsOf(golden.cases.map(({ input_ids: tokens }) => tokens));
    const opened: OpenedModel[] = [];
    const expected: object[][] = [];

    before(async () => {
      for (const threads of [1, 2]) opened[threads] = await openOnCpu(directory, {}, threads);
      for (const request of requests) {
        const engine = newEngine({ threads: 1, loop: 'plain', rows: 512, pages: 'plenty' });
        const sink = await run(engine, [{ ...request, siblingOf: undefined }], 'alone');
        assert.equal(sink.endOf(request.id).kind, 'finished');
        expected.push(answer(sink, request.id));
      }
    });
    after(async () => {
      for (const threads of [1, 2]) await opened[threads].close();
    });

    function newEngine(
      { threads, loop, rows, pages }: Omit<Way, 'company' | 'tree'>,
      fails?: (batch: Batch) => boolean,
    ): LlmEngine {
      const { checkpoint, model } = opened[threads];
      const limits = { entries: 100, timeoutMs: undefined, stepMs: undefined };
      const whole = smaller(model, { rows, pages: pages === 'few' ? 6 : Infinity });
      const step = (batch: Batch): ReturnType<DeviceModel['step']> => {
        const result = model.step(batch);
        if (fails?.(batch) === true) throw new Error('the device was poisoned');
        return result;
      };
      const device = { ...whole, step };
      return new LlmEngine(checkpoint.spec, device, { ...limits, loop, clock: () => 0 });
    }

    for (const loop of ['plain', 'overlapped'] as const) {
      test(`loop: ${loop}, beside a request that makes steps fail`, async () => {
        // The fourth request draws with seed 3.
        const poison = poisonedBy([3, requests[3].command.tokens.length + 5]);
        const engine = newEngine({ threads: 1, loop, rows: 33, pages: 'plenty' }, poison);
        const sink = await run(engine, requests, 'together');
        for (const [i, { id }] of requests.entries()) {
          if (id !== 4) assert.deepEqual(answer(sink, id), expected[i], `request ${id}`);
        }
        assert.equal(sink.endOf(4).kind, 'failed');
        const told = answer(sink, 4).slice(0, -1);
        assert.deepEqual(told, expected[3].slice(0, told.length));
        assert.ok(engine.state.stepFailures >= 3);
      });
    }

    for (const way of WAYS) {
      test(CIRCUMSTANCES.map((name) => `${name}: ${way[name]}`).join(', '), async () => {
        const engine = newEngine(way);
        if (way.tree === 'warm') await run(engine, requests, 'together');
        const before = engine.state.cachedTokens;
        const sink = await run(engine, requests, way.company);
        for (const [i, { id }] of requests.entries()) assert.deepEqual(answer(sink, id), expected[i], `request ${id}`);
        // Otherwise the way would show nothing.
        if (way.tree === 'warm') assert.ok(engine.state.cachedTokens > before, 'nothing was found again');
        if (way.pages === 'few' && way.company !== 'alone')
          assert.ok(engine.state.preemptions > 0, 'none had to yield');
      });
    }
  });
}
