import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventsOf, serve } from './serving.ts';

const CHAT = '/v1/chat/completions';
const COMPLETIONS = '/v1/completions';
const EMBEDDINGS = '/v1/embeddings';
const RERANK = '/v1/rerank';
const MESSAGES = [{ role: 'user', content: 'a' }];

/** Path, body, status, the field at fault, and part of the message. */
const BAD: readonly [string, unknown, number, string | null, string][] = [
  [CHAT, '{', 400, null, 'not valid JSON'],
  [CHAT, '', 400, null, 'not valid JSON'],
  [CHAT, '[]', 400, null, 'expected object'],
  [CHAT, {}, 400, 'messages', 'messages: '],
  [CHAT, { messages: [] }, 400, 'messages', 'must hold at least one message'],
  [CHAT, { messages: [{ role: 'user' }] }, 400, 'messages[0].content', 'messages[0].content is missing'],
  [
    CHAT,
    { messages: [{ role: 'user', content: 5 }] },
    400,
    'messages[0].content',
    'a string or an array of content parts',
  ],
  [CHAT, { messages: [{ content: 'a' }] }, 400, 'messages[0].role', 'messages[0].role'],
  [CHAT, { messages: [...MESSAGES, { role: 'tool', content: 'a' }] }, 400, 'messages[1].tool_call_id', 'is missing'],
  [CHAT, { messages: [{ role: 'function', content: 'a' }] }, 400, 'messages[0].role', "use 'tool'"],
  [
    CHAT,
    { messages: [{ role: 'assistant', content: '', tool_calls: [{}] }] },
    400,
    'messages[0].tool_calls[0].id',
    'expected string',
  ],
  [
    CHAT,
    { messages: [{ role: 'assistant', tool_calls: [{ id: 'a', function: { name: 'f', arguments: '{' } }] }] },
    400,
    'messages[0].tool_calls[0].function.arguments',
    'is not valid JSON',
  ],
  [
    CHAT,
    { messages: [{ role: 'assistant', tool_calls: [{ id: 'a', function: { name: 'f', arguments: '5' } }] }] },
    400,
    'messages[0].tool_calls[0].function.arguments',
    'must be the JSON text of an object',
  ],
  [
    CHAT,
    { messages: [{ role: 'user', content: 'a', tool_calls: [{ id: 'a', function: { name: 'f' } }] }] },
    400,
    'messages[0].tool_calls',
    "only an assistant's message",
  ],
  [
    CHAT,
    {
      messages: [
        {
          role: 'user',
          content: [
            { type: 'text', text: 'a' },
            { type: 'image_url', image_url: { url: 'x' } },
          ],
        },
      ],
    },
    400,
    'messages[0].content[1]',
    "of type 'image_url': only text is supported",
  ],
  [CHAT, { messages: [{ role: 'user', content: [{ type: 'text' }] }] }, 400, 'messages[0].content[0].text', 'missing'],
  [CHAT, { model: 'nope', messages: MESSAGES }, 404, 'model', "the model 'nope' does not exist; loaded: 'chat'"],
  [CHAT, { model: 'embed', messages: MESSAGES }, 400, 'model', "the model 'embed' does not generate text"],
  [CHAT, { model: 7, messages: MESSAGES }, 400, 'model', 'model: '],
  [CHAT, { messages: MESSAGES, temperature: 'hot' }, 400, 'temperature', 'expected number'],
  [CHAT, { messages: MESSAGES, temperature: -1 }, 400, 'temperature', 'temperature is below 0'],
  [CHAT, { messages: MESSAGES, seed: 2 ** 70 }, 400, 'seed', 'a whole number from -2^63 to 2^64 - 1'],
  [COMPLETIONS, { prompt: 'a', seed: -(2 ** 63) - 2 ** 11 }, 400, 'seed', 'from -2^63'],
  [CHAT, { messages: MESSAGES, seed: 0.5 }, 400, 'seed', 'a whole number'],
  [CHAT, { messages: MESSAGES, max_tokens: 1.5 }, 400, 'max_tokens', 'max_tokens: '],
  [CHAT, { messages: MESSAGES, n: 1e9 }, 400, 'n', 'n is 1000000000'],
  [CHAT, { messages: MESSAGES, stop: 5 }, 400, 'stop', 'a string or an array of strings'],
  [CHAT, { messages: MESSAGES, logit_bias: { the: 1 } }, 400, 'logit_bias.the', 'token ids'],
  [CHAT, { messages: MESSAGES, top_logprobs: 2 }, 400, 'top_logprobs', 'needs logprobs'],
  [CHAT, { messages: MESSAGES, stream_options: {} }, 400, 'stream_options', 'only allowed when stream is true'],
  [CHAT, { messages: MESSAGES, tools: [{ type: 'function' }] }, 400, 'tools[0].function', 'expected object'],
  [CHAT, { messages: MESSAGES, tools: [{ type: 'web' }] }, 400, 'tools[0].type', "only tools of the type 'function'"],
  [
    CHAT,
    { messages: MESSAGES, tools: [{ type: 'function', function: { name: 'a b' } }] },
    400,
    'tools[0].function.name',
    'must be 1 to 64',
  ],
  [
    CHAT,
    { messages: MESSAGES, tools: ['a', 'b', 'a'].map((name) => ({ type: 'function', function: { name } })) },
    400,
    'tools[2].function.name',
    "another tool has the name 'a'",
  ],
  [
    CHAT,
    { messages: MESSAGES, tool_choice: { type: 'function', function: { name: 'a' } } },
    400,
    'tool_choice',
    'there are no tools',
  ],
  [COMPLETIONS, { prompt: 'a', tools: [{}] }, 400, 'tools', 'tools is not supported'],
  [CHAT, { messages: MESSAGES, tool_choice: 'required' }, 400, 'tool_choice', 'there are no tools'],
  [CHAT, { messages: MESSAGES, tool_choice: 'sometimes' }, 400, 'tool_choice', "is none of 'auto'"],
  [CHAT, { messages: MESSAGES, response_format: { type: 'json_schema' } }, 400, 'response_format.json_schema', ''],
  [COMPLETIONS, { prompt: 'a', structured_outputs: { jsn: {} } }, 400, 'structured_outputs', 'jsn'],
  [CHAT, { messages: MESSAGES, modalities: ['text', 'audio'] }, 400, 'modalities', 'not supported'],
  [CHAT, { messages: [{ role: 'user', content: '!early' }] }, 400, 'prompt', 'the prompt is too long'],
  [CHAT, { messages: [{ role: 'user', content: '!full' }] }, 429, null, 'the queue is full'],
  [CHAT, { messages: [{ role: 'user', content: '!early' }], stream: true }, 400, 'prompt', 'the prompt is too long'],
  [COMPLETIONS, {}, 400, 'prompt', 'must be a string, an array of strings, an array of token ids'],
  [COMPLETIONS, { prompt: [] }, 400, 'prompt', 'empty array'],
  [COMPLETIONS, { prompt: ['a', 5] }, 400, 'prompt', 'must be a string'],
  [COMPLETIONS, { prompt: [2 ** 40] }, 400, 'prompt[0]', 'Too big'],
  [CHAT, { messages: MESSAGES, temprature: 1 }, 400, 'temprature', "there is no parameter 'temprature'"],
  [CHAT, { messages: MESSAGES, prompt: 'a' }, 400, 'prompt', "there is no parameter 'prompt'"],
  [CHAT, { messages: MESSAGES, echo: true }, 400, 'echo', 'echo is not supported'],
  [CHAT, { messages: MESSAGES, prompt_logprobs: 1, stream: true }, 400, 'prompt_logprobs', 'cannot be streamed'],
  [
    CHAT,
    { messages: MESSAGES, stream: true, stream_options: { continuous_usage_stats: true } },
    400,
    'stream_options.continuous_usage_stats',
    'not supported',
  ],
  [COMPLETIONS, { prompt: 'a', messages: MESSAGES }, 400, 'messages', "there is no parameter 'messages'"],
  [COMPLETIONS, { prompt: 'a', bad_words: 'x' }, 400, 'bad_words', 'expected array'],
  [COMPLETIONS, { prompt: 'a', n: 2, best_of: 3 }, 400, 'best_of', 'not supported'],
  ['/tokenize', {}, 400, 'prompt', 'expected string'],
  ['/tokenize', { prompt: 'a', model: 'nope' }, 404, 'model', "the model 'nope' does not exist"],
  ['/tokenize', { prompt: 'a', trim: true }, 400, 'trim', "there is no parameter 'trim'"],
  ['/tokenize', { prompt: 'a', messages: MESSAGES }, 400, 'prompt', 'prompt and messages cannot be given together'],
  ['/tokenize', { messages: [] }, 400, 'messages', 'at least one message'],
  ['/tokenize', { messages: MESSAGES, model: 'embed' }, 400, 'messages', 'has no conversations'],
  ['/tokenize', { messages: MESSAGES, continue_final_message: true }, 400, 'continue_final_message', 'not supported'],
  ['/detokenize', { tokens: [65, 257] }, 400, 'tokens', 'tokens[1] is 257: the vocabulary has 257 tokens'],
  ['/detokenize', { tokens: 'a' }, 400, 'tokens', 'expected array'],
  [COMPLETIONS, { prompt: 'a', suffix: 'b' }, 400, 'suffix', 'suffix is not supported'],
  [COMPLETIONS, { prompt: 'a', best_of: 2 }, 400, 'best_of', 'not supported'],
  [COMPLETIONS, { prompt: ['a', '!early'], stream: true }, 400, 'prompt', 'the prompt is too long'],
  [EMBEDDINGS, {}, 400, 'input', 'must be a string'],
  [EMBEDDINGS, { input: [] }, 400, 'input', 'empty array'],
  [EMBEDDINGS, { input: 'a', encoding_format: 'int8' }, 400, 'encoding_format', 'float'],
  [EMBEDDINGS, { model: 'chat', input: 'a' }, 400, 'model', "the model 'chat' does not compute embeddings"],
  [EMBEDDINGS, { input: '!full' }, 429, null, 'the queue is full'],
  [RERANK, { query: 'a', documents: ['b'] }, 400, 'model', 'you must provide a model parameter'],
  [RERANK, { model: 'rerank', query: 'a', documents: [] }, 400, 'documents', 'must hold at least one document'],
  [RERANK, { model: 'rerank', query: 'a', documents: [5] }, 400, 'documents[0]', 'a string or an object with a text'],
  [RERANK, { model: 'rerank', query: 'a', documents: ['b'], top_n: 0 }, 400, 'top_n', 'at least 1'],
  [RERANK, { model: 'org/topics', query: 'a', documents: ['b'] }, 400, 'model', '2 labels (sea, land)'],
];

test('what cannot be served is refused in OpenAI shape, with the field and the reason', async (t) => {
  const { post, log } = await serve(t);
  for (const [path, body, status, param, message] of BAD) {
    const response = await post(path, body);
    const { error } = await response.json();
    const shown = `${path} ${JSON.stringify(body)}: ${JSON.stringify(error)}`;
    assert.deepEqual([response.status, error.param], [status, param], shown);
    assert.ok(error.message.includes(message), shown);
    assert.equal(error.type, status === 429 ? 'rate_limit_error' : 'invalid_request_error', shown);
    assert.ok('code' in error, shown);
    assert.equal(response.headers.get('retry-after'), status === 429 ? '7' : null, shown);
  }
  assert.deepEqual(log, []);
});

const JSON_TYPE = { 'content-type': 'application/json' };

test('each API key is a tenant of its own, and the key itself goes no further', async (t) => {
  const { post, hub } = await serve(t);
  const ask = async (headers: Record<string, string>): Promise<string | undefined> => {
    await post(CHAT, { messages: [{ role: 'user', content: 'a' }] }, { headers: { ...JSON_TYPE, ...headers } });
    return hub.seen.generate?.tenant;
  };
  const [none, one, again, two, other] = [
    await ask({}),
    await ask({ authorization: 'Bearer one' }),
    await ask({ authorization: 'Bearer one' }),
    await ask({ authorization: 'Bearer two' }),
    await ask({ 'x-api-key': 'one' }),
  ];
  assert.equal(none, '');
  assert.equal(one, again);
  assert.equal(new Set([none, one, two, other]).size, 4);
  assert.ok(!one!.includes('one'));
});

test('a fault of the engine is 500 and goes to the log', async (t) => {
  const { post, log } = await serve(t);
  const response = await post(EMBEDDINGS, { input: '!fault' });
  assert.equal(response.status, 500);
  assert.equal((await response.json()).error.type, 'server_error');
  assert.equal(log.length, 1);
});

test('an error after the first event is an event, and no [DONE] follows', async (t) => {
  const { post } = await serve(t);
  const late = [{ role: 'user', content: '!late' }];
  const events = await eventsOf(await post(CHAT, { messages: late, stream: true }));
  assert.equal(JSON.parse(events.at(-1)!).error.message, 'the device failed');
  assert.equal(events.includes('[DONE]'), false);
});

test('one prompt that fails ends the others', async (t) => {
  const { post, hub } = await serve(t);
  const response = await post(COMPLETIONS, { prompt: ['!endless', '!late'] });
  assert.equal(response.status, 500);
  assert.deepEqual([hub.active, hub.aborted], [0, 1]);
});

test('wrong content types, methods, paths and sizes', async (t) => {
  const { post, url } = await serve(t, { maxBodyBytes: 1000 });
  const form = await post(CHAT, '{}', { headers: { 'content-type': 'application/x-www-form-urlencoded' } });
  assert.equal(form.status, 415);
  assert.match((await form.json()).error.message, /Content-Type: application\/json/);
  const charset = await post(
    EMBEDDINGS,
    { input: 'a' },
    { headers: { 'content-type': 'application/json; charset=utf-8' } },
  );
  assert.equal(charset.status, 200);
  const large = await post(CHAT, { messages: [{ role: 'user', content: 'x'.repeat(2000) }] });
  assert.equal(large.status, 413);
  assert.match((await large.json()).error.message, /1000 bytes/);
  const method = await fetch(url + CHAT);
  assert.deepEqual([method.status, method.headers.get('allow')], [405, 'POST']);
  const path = await post('/v1/chat/completion', {});
  assert.deepEqual([path.status, (await path.json()).error.code], [404, 'unknown_url']);
});
