import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { start, type Running } from './rose.ts';

interface Choice {
  readonly index: number;
  readonly logprobs: {
    readonly token_logprobs: readonly (number | null)[];
    readonly top_logprobs: readonly (Readonly<Record<string, number>> | null)[];
  };
}

const golden = JSON.parse(readFileSync(new URL('../../../models/tiny-chat/golden.json', import.meta.url), 'utf8')) as {
  readonly logprob: { readonly input_ids: number[]; readonly total_logprob: number };
};

/** The requests of lm-evaluation-harness's `local-completions` model, and how it reads the answers. */
describe('an evaluation harness', () => {
  let running: Running;
  let url: string;
  before(async () => {
    running = start(['serve', '--port', '0', 'tiny-chat']);
    [, url] = await running.until(/listening on (\S+)/);
  });
  after(async () => {
    running.process.kill('SIGTERM');
    await running.ended;
  });

  async function post<T>(path: string, body: object): Promise<T> {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) });
    assert.equal(response.status, 200, await response.clone().text());
    return (await response.json()) as T;
  }

  async function encode(prompt: string): Promise<number[]> {
    return (await post<{ tokens: number[] }>('/tokenize', { prompt, add_special_tokens: false })).tokens;
  }

  async function loglikelihoods(
    prompts: readonly number[][],
    contexts: readonly number[],
  ): Promise<{ logprob: number; isGreedy: boolean }[]> {
    const body = { model: 'tiny-chat', prompt: prompts, temperature: 0, max_tokens: 1, logprobs: 1, seed: 1234 };
    const { choices } = await post<{ choices: Choice[] }>('/v1/completions', { ...body, echo: true });
    const sorted = choices.toSorted((a, b) => a.index - b.index);
    return sorted.map(({ logprobs }, i) => {
      const tokens = logprobs.token_logprobs.slice(contexts[i], -1) as number[];
      const tops = logprobs.top_logprobs.slice(contexts[i], -1).map((top) => Math.max(...Object.values(top!)));
      return { logprob: tokens.reduce((a, b) => a + b), isGreedy: tokens.every((token, k) => token === tops[k]) };
    });
  }

  test('finds the tokenizer: its end token, its reading of text and back', async () => {
    const info = (await (await fetch(`${url}/tokenizer_info`)).json()) as Record<string, unknown>;
    assert.equal(info['eos_token'], '<|im_end|>');
    assert.match(String(info['chat_template']), /im_start/);
    assert.deepEqual(await encode('<|im_end|>'), [2]);
    const text = 'Once upon a time, é <|im_start|>user';
    const tokens = await encode(text);
    assert.equal((await post<{ prompt: string }>('/detokenize', { tokens })).prompt, text);
    const messages = [{ role: 'user', content: 'Hi' }];
    const chat = await post<{ count: number; tokens: number[] }>('/tokenize', { messages });
    const rendered = '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n';
    assert.deepEqual(chat.tokens, await encode(rendered));
    const ended = await post<{ tokens: number[] }>('/tokenize', { messages, add_generation_prompt: false });
    assert.deepEqual(ended.tokens, await encode('<|im_start|>user\nHi<|im_end|>\n'));
    // As plain text, a control token is its characters.
    const plain = await post<{ tokens: number[] }>('/tokenize', { prompt: '<|im_end|>', parse_special: false });
    assert.ok(plain.tokens.length > 1);
  });

  test('gets the likelihoods of continuations, the same one by one and together', async () => {
    const context = await encode('Once upon a time');
    const words = await Promise.all([', there was a little girl', ' xylophone', '.'].map(encode));
    const prompts = [...words.map((word) => [...context, ...word]), golden.logprob.input_ids];
    const contexts = [context.length, context.length, context.length, 1];
    const together = await loglikelihoods(prompts, contexts);
    for (const [i, prompt] of prompts.entries()) {
      assert.deepEqual(await loglikelihoods([prompt], [contexts[i]]), [together[i]]);
    }
    assert.deepEqual(
      together.map(({ isGreedy }) => isGreedy),
      [true, false, false, false],
    );
    // What transformers computes in float32 for these weights.
    assert.ok(Math.abs(together[3].logprob - golden.logprob.total_logprob) < 0.4, String(together[3].logprob));
  });
});
