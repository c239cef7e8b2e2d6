import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { LlmEngine, type LlmOptions } from '../src/engine/llm.ts';
import { GREEDY, type EngineRequest, type GenerateCommand } from '../src/engine/request.ts';
import { Collector, drain, generateRequest } from './fake-model.ts';
import { bundled, hand, openOnCpu, stepLogits } from './on-cpu.ts';

const golden = JSON.parse(readFileSync(join(bundled('tiny-chat'), 'golden.json'), 'utf8')) as {
  readonly cases: readonly { readonly input_ids: number[] }[];
  readonly logprob: { readonly input_ids: number[]; readonly total_logprob: number };
};
const prompts = golden.cases.map(({ input_ids: ids }) => ids);

describe('sampling on the CPU', async () => {
  const { checkpoint, model, close } = await openOnCpu(bundled('tiny-chat'), { maxSequences: 32 });
  after(close);
  const { vocabSize } = checkpoint.spec;

  function newEngine(loop: LlmOptions['loop'] = 'plain'): LlmEngine {
    const limits = { entries: 100, timeoutMs: undefined, stepMs: undefined };
    return new LlmEngine(checkpoint.spec, model, { ...limits, loop, clock: () => 0 });
  }

  async function run(requests: readonly EngineRequest[], engine = newEngine()): Promise<Collector> {
    for (const request of requests) engine.submit(request, 0);
    return await drain(engine);
  }

  async function tokensOf(prompt: readonly number[], command: Partial<GenerateCommand>): Promise<number[]> {
    return (await run([generateRequest(1, prompt, command)])).tokensOf(1);
  }

  describe('log-probabilities of a prompt', () => {
    const { input_ids: text, total_logprob: total } = golden.logprob;

    test('are those of its logits, and sum to the reference', async () => {
      const sink = await run([generateRequest(1, text, { promptLogprobs: 3, maxTokens: 0 })]);
      const [piece] = sink.events.filter((event) => event.kind === 'prompt');
      const { logprobs, ranks, topTokens, topLogprobs } = piece.logprobs;
      assert.equal(logprobs.length, text.length - 1);
      for (let i = 0; i < logprobs.length; i += 13) {
        const [logits] = await stepLogits(model, [{ hand: hand(text, 0), from: 0, to: i + 1 }]);
        const maximum = logits.reduce((a, b) => Math.max(a, b));
        const log = maximum + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - maximum), 0));
        const order = [...logits.keys()].sort((a, b) => logits[b] - logits[a] || a - b);
        // The same logits; only the sums of their exponentials are added in another order, and in float32.
        const close = (value: number, logit: number): void => {
          assert.ok(Math.abs(value - (logit - log)) < 1e-5, `${value} for ${logit - log}`);
        };
        close(logprobs[i], logits[text[i + 1]]);
        assert.equal(ranks[i], 1 + order.indexOf(text[i + 1]));
        assert.deepEqual([...topTokens.slice(3 * i, 3 * i + 3)], order.slice(0, 3));
        for (let k = 0; k < 3; k++) close(topLogprobs[3 * i + k], logits[order[k]]);
      }
      // Weights in bfloat16: see golden.test.ts.
      assert.ok(Math.abs(logprobs.reduce((a, b) => a + b) - total) < 0.4);
    });

    test('are to the last bit those of the same tokens as an answer', async () => {
      const [prompt] = prompts;
      const first = await run([generateRequest(1, prompt, { maxTokens: 40, logprobs: 0 })]);
      const answer = first.events.flatMap((event) => (event.kind === 'token' ? [event] : []));
      const both = [...prompt, ...answer.map(({ token }) => token)];
      const second = await run([generateRequest(1, both, { promptLogprobs: 0, maxTokens: 0 })]);
      assert.deepEqual(
        second.promptOf(1).slice(prompt.length - 1),
        answer.map(({ logprobs }) => logprobs!.logprob),
      );
    });

    test('of many prompts at once, whole and in pieces', async () => {
      const requests = prompts.map((ids, i) => generateRequest(i + 1, ids, { promptLogprobs: 1, maxTokens: i % 2 }));
      const together = await run(requests, newEngine('overlapped'));
      for (const request of requests) {
        const alone = await run([request]);
        assert.deepEqual(together.promptOf(request.id), alone.promptOf(request.id));
        assert.deepEqual(together.tokensOf(request.id), alone.tokensOf(request.id));
      }
    });
  });

  test('only allowed tokens are drawn, by a greedy request too', async () => {
    const allowedTokens = [5, 70, 701, vocabSize - 1];
    for (const temperature of [0, 5]) {
      const sampling = { ...GREEDY, temperature, seed: 3, allowedTokens };
      const tokens = await tokensOf(prompts[0], { maxTokens: 40, sampling });
      assert.equal(tokens.length, 40);
      assert.ok(tokens.every((token) => allowedTokens.includes(token)));
      if (temperature > 0) assert.ok(new Set(tokens).size > 1);
    }
  });

  test('bounds that leave no token are the request’s fault, and nobody else’s', async () => {
    const sampling = { ...GREEDY, allowedTokens: [5] };
    const requests = [
      generateRequest(1, prompts[0], { maxTokens: 4, sampling, minTokens: 3, stopTokens: [5] }),
      generateRequest(2, prompts[0], { maxTokens: 4, sampling: { ...sampling, badWords: [[5, 5]] } }),
      generateRequest(3, prompts[0], { maxTokens: 4, sampling }),
    ];
    for (const loop of ['plain', 'overlapped'] as const) {
      const sink = await run(requests, newEngine(loop));
      for (const id of [1, 2]) {
        const end = sink.endOf(id);
        assert.ok(end.kind === 'failed' && end.error.code === 'invalid', JSON.stringify(end));
        assert.match(end.error.message, /no token may follow/);
      }
      assert.deepEqual(sink.tokensOf(2), [5]);
      assert.deepEqual(sink.tokensOf(3), [5, 5, 5, 5]);
    }
  });

  test('log-probabilities speak of the model’s own distribution, also where tokens are not allowed', async () => {
    const free = await run([generateRequest(1, prompts[0], { maxTokens: 1, logprobs: 5 })]);
    const [{ logprobs }] = free.events.flatMap((event) => (event.kind === 'token' ? [event] : []));
    const [token, logprob] = [logprobs!.topTokens[4], logprobs!.topLogprobs[4]];
    const sampling = { ...GREEDY, allowedTokens: [token] };
    const bound = await run([generateRequest(1, prompts[0], { maxTokens: 1, logprobs: 5, sampling })]);
    const [event] = bound.events.flatMap((e) => (e.kind === 'token' ? [e] : []));
    assert.equal(event.token, token);
    assert.deepEqual(event.logprobs, { ...logprobs!, logprob });
  });

  test('a bad word is not written, its beginning may be', async () => {
    const free = await tokensOf(prompts[0], { maxTokens: 12 });
    for (const loop of ['plain', 'overlapped'] as const) {
      for (const word of [free.slice(0, 1), free.slice(4, 6), free.slice(6, 9)]) {
        const sampling = { ...GREEDY, badWords: [word] };
        const sink = await run([generateRequest(1, prompts[0], { maxTokens: 12, sampling })], newEngine(loop));
        const tokens = sink.tokensOf(1);
        const same = free.join().indexOf(word.join());
        assert.ok(
          same >= 0 && !` ${tokens.join(' ')} `.includes(` ${word.join(' ')} `),
          `${word.join()} in ${tokens.join()}`,
        );
        // Up to its last token the answer is the same.
        const end = free.findIndex((_, i) => word.every((token, k) => free[i + k] === token)) + word.length - 1;
        assert.deepEqual(tokens.slice(0, end), free.slice(0, end));
        assert.notEqual(tokens[end], free[end]);
      }
    }
  });

  test('a seed gives the same answer in any company: alone, beside 8 and beside 32', async () => {
    const drawn = { ...GREEDY, temperature: 1, topP: 0.95, seed: 12345 };
    const request = generateRequest(1, prompts[1], { maxTokens: 12, sampling: drawn, logprobs: 2 });
    const answer = (sink: Collector): object[] => sink.events.filter(({ id, kind }) => id === 1 && kind !== 'begun');
    const expected = answer(await run([request]));
    const commands: Partial<GenerateCommand>[] = [
      { sampling: { ...drawn, seed: 1, temperature: 0.5 } },
      { sampling: { ...drawn, seed: 2, presencePenalty: 1, minP: 0.1 }, promptLogprobs: 2 },
      { sampling: { ...GREEDY, badWords: [[7, 8]], logitBias: [[9, 3]] }, logprobs: 5 },
      { sampling: { ...drawn, seed: 12345, allowedTokens: prompts[0] }, maxTokens: 9 },
    ];
    for (const [company, loop] of [
      [7, 'plain'],
      [31, 'plain'],
      [31, 'overlapped'],
    ] as const) {
      const others = Array.from({ length: company }, (_, i) =>
        generateRequest(i + 2, prompts[i % prompts.length], { maxTokens: 1 + ((5 * i) % 14), ...commands[i % 4] }),
      );
      // Its place among them is another one each time.
      const mixed = others.toSpliced((company * 5) % 8, 0, request);
      assert.deepEqual(answer(await run(mixed, newEngine(loop))), expected, `${company} others, ${loop}`);
    }
  });
});
