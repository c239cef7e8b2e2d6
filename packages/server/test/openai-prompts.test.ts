import assert from 'node:assert/strict';
import { test } from 'node:test';
import { END_TOKEN } from './fake-hub.ts';
import { eventsOf, serve } from './serving.ts';

// The fake model's tokens are bytes; its prompt's i-th token (from 1 on) has the log-probability -i and the rank i.

test('a prompt is echoed before each of its answers, its tokens before theirs', async (t) => {
  const { post } = await serve(t);
  const body = {
    prompt: [
      [97, 98],
      [99, 100, 101],
    ],
    echo: true,
    logprobs: 1,
    max_tokens: 1,
    n: 2,
  };
  const { choices, usage } = await (await post('/v1/completions', body)).json();
  assert.deepEqual(
    choices.map(({ index, text }: { index: number; text: string }) => [index, text]),
    [
      [0, 'abe'],
      [1, 'abe'],
      [2, 'cdee'],
      [3, 'cdee'],
    ],
  );
  assert.deepEqual(choices[2].logprobs, {
    tokens: ['c', 'd', 'e', 'e'],
    token_logprobs: [null, -1, -2, -0.5],
    top_logprobs: [null, { d: -1 }, { e: -2 }, { e: -0.5 }],
    text_offset: [0, 1, 2, 3],
  });
  assert.equal(usage.prompt_tokens, 5);
  assert.equal(usage.completion_tokens, 4);
});

test('nothing but the prompt, judged: what evaluation harnesses ask for', async (t) => {
  const { post, hub } = await serve(t);
  const body = { prompt: [[65, 66, 67]], echo: true, logprobs: 1, max_tokens: 0 };
  const { choices } = await (await post('/v1/completions', body)).json();
  assert.equal(choices[0].text, 'ABC');
  assert.deepEqual(choices[0].logprobs.token_logprobs, [null, -1, -2]);
  assert.equal(choices[0].finish_reason, 'length');
  assert.equal(hub.seen.generate?.promptLogprobs, 1);
  assert.equal(hub.seen.generate?.maxTokens, 0);
});

test('an echo without log-probabilities, and log-probabilities without an echo', async (t) => {
  const { post, hub } = await serve(t);
  const echoed = await (await post('/v1/completions', { prompt: 'é', echo: true, max_tokens: 1 })).json();
  assert.equal(echoed.choices[0].text, 'ée');
  assert.equal(echoed.choices[0].logprobs, null);
  assert.equal(hub.seen.generate?.promptLogprobs, undefined);
  assert.equal(hub.seen.generate?.continues, true);
  const told = await (await post('/v1/completions', { prompt: 'ab', logprobs: 0, max_tokens: 2 })).json();
  assert.equal(told.choices[0].text, 'ec');
  assert.deepEqual(told.choices[0].logprobs.tokens, ['e', 'c']);
  // The drawn token stands among the likeliest ones even if none of them is asked for.
  assert.deepEqual(told.choices[0].logprobs.top_logprobs, [{ e: -0.5 }, { c: -0.5 }]);
});

test('a streamed echo: the prompt first, as a piece of each choice', async (t) => {
  const { post } = await serve(t);
  const body = { prompt: 'ab', echo: true, logprobs: 0, max_tokens: 2, n: 2, stream: true };
  const events = (await eventsOf(await post('/v1/completions', body))).slice(0, -1).map((event) => JSON.parse(event));
  const [first, second] = events.map(({ choices }) => choices[0]);
  assert.deepEqual([first.index, first.text, first.logprobs.token_logprobs], [0, 'ab', [null, -1]]);
  assert.deepEqual([second.index, second.text], [1, 'ab']);
  const texts = ['', ''];
  const offsets: number[][] = [[], []];
  for (const { choices } of events) {
    texts[choices[0].index] += choices[0].text;
    offsets[choices[0].index].push(...(choices[0].logprobs?.text_offset ?? []));
  }
  assert.deepEqual(texts, ['abec', 'abec']);
  assert.deepEqual(offsets, [
    [0, 1, 2, 3],
    [0, 1, 2, 3],
  ]);
});

test('prompt_logprobs, by token, in a completion and in a chat', async (t) => {
  const { post, hub } = await serve(t);
  const expected = [
    null,
    {
      '66': { logprob: -1, rank: 1, decoded_token: 'B' },
    },
    {
      '67': { logprob: -2, rank: 2, decoded_token: 'C' },
      '68': { logprob: -3, rank: 2, decoded_token: 'D' },
    },
  ];
  const body = { prompt: 'AB', prompt_logprobs: 1, max_tokens: 1 };
  const completion = await (await post('/v1/completions', body)).json();
  assert.deepEqual(completion.choices[0].prompt_logprobs, expected.slice(0, 2));
  assert.equal(completion.choices[0].text, 'e');
  const chat = { messages: [{ role: 'user', content: 'ABC' }], prompt_logprobs: 2, max_tokens: 1 };
  const answer = await (await post('/v1/chat/completions', chat)).json();
  assert.deepEqual(answer.prompt_logprobs[2], expected[2]);
  // Together with an echo the larger wish decides what is computed, and each gets what it asked for.
  const both = { prompt: 'AB', prompt_logprobs: 2, echo: true, logprobs: 0, max_tokens: 0 };
  const { choices } = await (await post('/v1/completions', both)).json();
  assert.equal(hub.seen.generate?.promptLogprobs, 2);
  assert.equal(Object.keys(choices[0].prompt_logprobs[1]).length, 2);
  assert.deepEqual(choices[0].logprobs.top_logprobs, [null, { B: -1 }]);
});

test('allowed tokens and bad words reach the engine', async (t) => {
  const { post, hub } = await serve(t);
  const words = { allowed_token_ids: [65, 66], bad_words: ['a b'] };
  assert.equal((await post('/v1/completions', { prompt: 'a', ...words })).status, 200);
  assert.deepEqual(hub.seen.generate?.sampling?.allowedTokens, [65, 66]);
  assert.deepEqual(hub.seen.generate?.badWords, ['a b']);
});

test('labels change nothing, and what asks for nothing is let pass', async (t) => {
  const { post } = await serve(t);
  const nothing = {
    user: 'u',
    metadata: { a: 'b' },
    safety_identifier: 's',
    prompt_cache_key: 'k',
    store: false,
    service_tier: 'auto',
    verbosity: 'medium',
    best_of: 1,
    suffix: null,
    use_beam_search: false,
    length_penalty: 1,
    documents: [],
    structured_outputs: null,
  };
  assert.equal((await post('/v1/completions', { prompt: 'a', ...nothing })).status, 200);
  const messages = [{ role: 'user', content: 'a' }];
  assert.equal((await post('/v1/chat/completions', { messages, ...nothing })).status, 200);
});

test('tokenize: a text, a conversation, with names; detokenize; the tokenizer’s configuration', async (t) => {
  const { post, get, hub } = await serve(t);
  const text = await (await post('/tokenize', { prompt: 'hi', return_token_strs: true })).json();
  assert.deepEqual(text, { count: 2, max_model_len: 512, tokens: [104, 105], token_strs: ['<104>', '<105>'] });
  const chat = await (await post('/tokenize', { messages: [{ role: 'user', content: 'é' }] })).json();
  assert.deepEqual(chat, { count: 2, max_model_len: 512, tokens: [195, 169], token_strs: null });
  const encoder = await (await post('/tokenize', { model: 'embed', prompt: 'a' })).json();
  assert.deepEqual(encoder.tokens, [97]);
  const back = await (await post('/detokenize', { tokens: [104, 105, END_TOKEN] })).json();
  assert.deepEqual(back, { prompt: 'hi' });
  assert.deepEqual(await (await get('/tokenizer_info')).json(), { eos_token: '<end>', chat_template: null });
  assert.equal((await get('/tokenizer_info?model=nope')).status, 404);
  assert.equal((await get('/tokenize')).status, 405);
  assert.equal(hub.active, 0);
});
