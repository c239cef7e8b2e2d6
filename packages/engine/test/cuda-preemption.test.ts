import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DeviceModel } from '../src/device/device.ts';
import { LlmEngine } from '../src/engine/llm.ts';
import { GREEDY, type EngineRequest } from '../src/engine/request.ts';
import type { ModelSpec } from '../src/model/spec.ts';
import { roseError } from './checkpoint/files.ts';
import { Collector, drain, generateRequest } from './fake-model.ts';
import { onSimulated } from './on-simulated.ts';

/** A page of 16 tokens: keys and values of 32 elements in two layers, bf16. */
const PAGE_MIB = (16 * 2 * 32 * 2 * 2) / 2 ** 20;
const PROMPT = 14;
const ANSWER = 4;

/** Tokens and log-probabilities of each request, and how often one had to yield. */
async function answer(model: DeviceModel, spec: ModelSpec, requests: readonly EngineRequest[]) {
  const options = { entries: 10, timeoutMs: undefined, stepMs: undefined, loop: 'overlapped', clock: () => 0 } as const;
  const engine = new LlmEngine(spec, model, options);
  const sink = new Collector();
  for (const request of requests) engine.submit(request, 0);
  await drain(engine, sink);
  const answers = requests.map(({ id }) =>
    sink.events.flatMap((event) =>
      event.kind === 'token' && event.id === id ? [[event.token, event.logprobs!.logprob]] : [],
    ),
  );
  return { answers, preemptions: engine.state.preemptions };
}

test('a few KiB for keys and values: sequences yield, and come to the same bits', async () => {
  await onSimulated('qwen3', { kvCacheMib: 3 * PAGE_MIB }, async (model, _gpu, { spec }) => {
    assert.equal(model.cache.groups[0].pages, 3);
    // Two pages each, at their ends.
    const requests = [0, 1].map((id) => {
      const tokens = Array.from({ length: PROMPT }, (_, i) => (31 * i * i + 7 * i + 50 * id + 3) % spec.vocabSize);
      const sampling = { ...GREEDY, temperature: 1, seed: id };
      return generateRequest(id, tokens, { sampling, maxTokens: ANSWER, logprobs: 0 });
    });
    const alone: unknown[] = [];
    for (const request of requests) {
      const { answers, preemptions } = await answer(model, spec, [request]);
      assert.equal(preemptions, 0);
      assert.equal(answers[0].length, ANSWER);
      alone.push(answers[0]);
    }
    const together = await answer(model, spec, requests);
    assert.ok(together.preemptions > 0);
    assert.deepEqual(together.answers, alone);
  });
});

test('less than a page is refused with what one takes', async () => {
  await assert.rejects(
    onSimulated('qwen3', { kvCacheMib: PAGE_MIB / 2 }, async () => {}),
    roseError('invalid', /16 tokens of keys and values take 0.00391 MiB/),
  );
});
