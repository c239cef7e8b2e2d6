import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { DeviceModel } from '../src/device/device.ts';
import { LlmEngine, type LlmOptions } from '../src/engine/llm.ts';
import { GREEDY, type EngineRequest, type PromptLogprobs, type SamplingParams } from '../src/engine/request.ts';
import type { ModelSpec } from '../src/model/spec.ts';
import { bundled, openOnCpu } from './on-cpu.ts';
import { Collector, drain, generateRequest } from './fake-model.ts';

/** The same device with fewer pages or rows: the engine sees no other difference. */
function smaller(model: DeviceModel, limits: { readonly pages?: number; readonly rows?: number }): DeviceModel {
  const { cache, capacity, memory } = model;
  const groups = cache.groups.map((group) => ({ ...group, pages: Math.min(group.pages, limits.pages ?? group.pages) }));
  return {
    cache: { ...cache, groups },
    capacity: { ...capacity, rows: Math.min(capacity.rows, limits.rows ?? capacity.rows) },
    memory,
    step: (batch) => model.step(batch),
    close: () => {},
  };
}

function engineOf(spec: ModelSpec, model: DeviceModel, loop: LlmOptions['loop'] = 'plain'): LlmEngine {
  const limits = { entries: 100, timeoutMs: undefined, stepMs: undefined };
  return new LlmEngine(spec, model, { ...limits, loop, clock: () => 0 });
}

const drawn: SamplingParams = { ...GREEDY, temperature: 1, topP: 0.95, presencePenalty: 0.5 };

function requestsOf(prompts: readonly (readonly number[])[], maxTokens: number): EngineRequest[] {
  return prompts.map((tokens, i) =>
    generateRequest(i + 1, tokens, {
      maxTokens,
      sampling: i % 2 === 0 ? GREEDY : { ...drawn, seed: i },
      logprobs: 3,
      promptLogprobs: i % 3 === 0 ? 2 : -1,
    }),
  );
}

/**
 * Everything a client is told of a request, log-probabilities to the last bit. What is said of a prompt comes in pieces
 * that depend on how it was cut; put together they must be the same.
 */
function answer(sink: Collector, id: number): object[] {
  const events = sink.events.filter((event) => event.id === id && event.kind !== 'begun');
  const pieces = events.flatMap((event) => (event.kind === 'prompt' ? [event] : []));
  const whole = (name: keyof PromptLogprobs): number[] => pieces.flatMap(({ logprobs }) => [...logprobs[name]]);
  const prompt = (['logprobs', 'ranks', 'topTokens', 'topLogprobs'] as const).map(whole);
  return [prompt, ...events.filter(({ kind }) => kind !== 'prompt')];
}

async function together(engine: LlmEngine, requests: readonly EngineRequest[]): Promise<Collector> {
  for (const request of requests) engine.submit(request, 0);
  return await drain(engine);
}

const checkpoints = fileURLToPath(new URL('../../../test/checkpoints', import.meta.url));
const decoders = readdirSync(checkpoints, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && /^(llama|qwen)/.test(entry.name))
  .map(({ name }) => ({ name, directory: join(checkpoints, name) }));

for (const { name, directory } of [{ name: 'tiny-chat', directory: bundled('tiny-chat') }, ...decoders]) {
  describe(`${name}: the same answers, to the last bit`, async () => {
    const golden = JSON.parse(readFileSync(join(directory, 'golden.json'), 'utf8')) as {
      cases: { input_ids: number[] }[];
    };
    const ids = golden.cases.map(({ input_ids: tokens }) => tokens);
    // Long prompts that share their beginning, so that there is something to find again and to run out of.
    const stem = ids.flat().slice(0, 40);
    const prompts = [...ids.slice(0, 3), ...ids.slice(0, 3).map((tokens) => [...stem, ...tokens].slice(0, 56))];
    const requests = requestsOf(prompts, 24);

    const { checkpoint, model, close } = await openOnCpu(directory, {}, 1);
    const { spec } = checkpoint;
    const expected: object[][] = [];
    for (const request of requests) {
      expected.push(answer(await together(engineOf(spec, model), [request]), request.id));
    }
    const check = (sink: Collector, what: string): void => {
      for (const [i, { id }] of requests.entries()) {
        assert.deepEqual(answer(sink, id), expected[i], `${what}: request ${id}`);
      }
    };

    test('alone and in a batch', async () => check(await together(engineOf(spec, model), requests), 'batched'));

    test('in chunks of any size', async () => {
      for (const rows of [7, 16, 33]) {
        check(await together(engineOf(spec, smaller(model, { rows })), requests), `chunks of ${rows}`);
      }
    });

    test('after a prefix hit', async () => {
      const engine = engineOf(spec, model);
      check(await together(engine, requests), 'first');
      const before = engine.state.cachedTokens;
      check(await together(engine, requests), 'again');
      assert.ok(engine.state.cachedTokens > before, 'nothing was found again');
    });

    test('after yielding and being computed anew', async () => {
      const engine = engineOf(spec, smaller(model, { pages: 9 }));
      check(await together(engine, requests), 'preempted');
      assert.ok(engine.state.preemptions > 0, 'nothing had to yield');
    });

    test('in the overlapped loop', async () => {
      check(await together(engineOf(spec, model, 'overlapped'), requests), 'overlapped');
      check(await together(engineOf(spec, smaller(model, { pages: 9 }), 'overlapped'), requests), 'both');
    });

    test('as one of several answers to a prompt', async () => {
      const [first, second] = [requests[5], requests[5]].map((request, i) => ({ ...request, id: 100 + i }));
      const sink = await together(engineOf(spec, model), [first, { ...second, siblingOf: first.id }]);
      const renamed = expected[5].map((event) => ({ ...event, id: 0 }));
      for (const { id } of [first, second]) {
        assert.deepEqual(
          answer(sink, id).map((event) => ({ ...event, id: 0 })),
          renamed,
        );
      }
    });

    test('with two threads', async () => {
      await close();
      const two = await openOnCpu(directory, {}, 2);
      try {
        check(await together(engineOf(spec, two.model), requests), 'two threads');
      } finally {
        await two.close();
      }
    });
  });
}
