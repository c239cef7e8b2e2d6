import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventsOf, serve } from './serving.ts';

const GENERATE = '/v2/models/chat/generate';
const STREAM = '/v2/models/chat/generate_stream';

test('generate prepends the prompt unless told not to, keys in alphabetical order', async (t) => {
  const { post, hub } = await serve(t);
  const response = await post(GENERATE, { text_input: 'hi', id: '42' });
  assert.equal(hub.seen.generate?.continues, true);
  assert.equal(response.headers.get('content-type'), 'application/json');
  assert.equal(await response.text(), '{"id":"42","model_name":"chat","model_version":"1","text_output":"hiecho: hi"}');
  const excluded = await post(GENERATE, { text_input: ['hi'], exclude_input_in_output: true, id: '' });
  assert.deepEqual(await excluded.json(), { model_name: 'chat', model_version: '1', text_output: 'echo: hi' });
  assert.equal(hub.seen.generate?.continues, undefined);
});

test('the outputs of the vLLM backend, on request', async (t) => {
  const { post } = await serve(t);
  const response = await post(GENERATE, {
    text_input: 'a',
    return_finish_reason: true,
    return_cumulative_logprob: true,
    return_logprobs: true,
    return_num_input_tokens: true,
    return_num_output_tokens: true,
    sampling_parameters: '{"max_tokens": "2", "logprobs": 2, "temperature": "0.5"}',
  });
  const text = await response.text();
  const reply = JSON.parse(text);
  assert.deepEqual(Object.keys(reply), Object.keys(reply).toSorted());
  assert.equal(reply.finish_reason, 'length');
  assert.match(text, /"cumulative_logprob":-1\.0,/);
  assert.deepEqual([reply.num_input_tokens, reply.num_output_tokens], [1, 2]);
  const drawn =
    '{"101":{"logprob":-0.5,"rank":1,"decoded_token":"e"},"102":{"logprob":-1.5,"rank":2,"decoded_token":"f"}}';
  assert.ok(reply.logprobs.startsWith(`[${drawn},`), reply.logprobs);
});

test('log-probabilities are null without a number of candidates; with 0 only the drawn token is described', async (t) => {
  const { post } = await serve(t);
  const body = { text_input: 'a', return_logprobs: true, max_tokens: 1 };
  assert.equal((await (await post(GENERATE, body)).json()).logprobs, 'null');
  const { logprobs } = await (await post(GENERATE, { ...body, parameters: { logprobs: 0 } })).json();
  assert.equal(logprobs, '[{"101":{"logprob":-0.5,"rank":1,"decoded_token":"e"}}]');
});

test('the end of an answer comes with its last token', async (t) => {
  const { post } = await serve(t);
  const body = {
    text_input: 'a',
    stream: true,
    max_tokens: 3,
    return_finish_reason: true,
    return_num_output_tokens: true,
  };
  const events = (await eventsOf(await post(STREAM, body))).map((event) => JSON.parse(event));
  const seen = events.map(({ text_output, finish_reason, num_output_tokens }) => [
    text_output,
    finish_reason,
    num_output_tokens,
  ]);
  assert.deepEqual(seen, [
    ['e', 'None', 1],
    ['c', 'None', 1],
    ['h', 'length', 1],
  ]);
});

test('sampling: JSON text, then parameters, then tensors of their own', async (t) => {
  const { post, hub } = await serve(t);
  await post(GENERATE, {
    text_input: 'x',
    sampling_parameters: '{"temperature": 1, "top_k": "3", "stop": "1", "seed": -1, "logit_bias": {"5": 2}}',
    parameters: { temperature: 2, min_p: 0.25, stream: false, ignore_eos: 'true', timeout: 2_000_000 },
    top_p: 0.5,
    stop_words: ['2', '3'],
    bad_words: ['4'],
    max_tokens: 5,
  });
  const { sampling, stop, badWords, maxTokens, ignoreEos, timeoutMs, prompt } = hub.seen.generate!;
  assert.deepEqual(badWords, ['4']);
  assert.deepEqual(sampling, {
    temperature: 2,
    topK: 3,
    topP: 0.5,
    minP: 0.25,
    logitBias: [[5, 2]],
    seed: 2 ** 53 - 1,
  });
  assert.deepEqual(stop, ['2', '3']);
  assert.deepEqual({ maxTokens, ignoreEos, timeoutMs }, { maxTokens: 5, ignoreEos: true, timeoutMs: 2000 });
  assert.deepEqual(prompt, { kind: 'text', text: 'x', parseSpecial: false });
});

test('sixteen tokens unless told otherwise, as with the vLLM backend', async (t) => {
  const { post, hub } = await serve(t);
  await post(GENERATE, { text_input: 'x' });
  assert.equal(hub.seen.generate?.maxTokens, 16);
});

test('generate_stream: one data line an event, deltas only, no end marker', async (t) => {
  const { post } = await serve(t);
  const response = await post(STREAM, { text_input: 'é', stream: true, max_tokens: 100 });
  assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8');
  const events = (await eventsOf(response)).map((event) => JSON.parse(event));
  assert.equal(events.map((event) => event.text_output).join(''), 'echo: é');
  assert.deepEqual(Object.keys(events[0]), ['model_name', 'model_version', 'text_output']);
});

test('generate_stream: reasons and counts add up', async (t) => {
  const { post } = await serve(t);
  const body = { text_input: 'a', stream: true, return_finish_reason: true, return_num_output_tokens: true };
  const events = (await eventsOf(await post(STREAM, body))).map((event) => JSON.parse(event));
  const sum = events.reduce((total, event) => total + event.num_output_tokens, 0);
  assert.equal(sum, 'echo: a'.length + 1);
  assert.deepEqual(events.map((event) => event.finish_reason).slice(-2), ['None', 'stop']);
});

test('several answers are one array', async (t) => {
  const { post } = await serve(t);
  const body = { text_input: 'a', n: 2, max_tokens: 100, exclude_input_in_output: true };
  assert.deepEqual((await (await post(GENERATE, body)).json()).text_output, ['echo: a', 'echo: a (1)']);
});

test('an error after the first event is an event, and the stream ends', async (t) => {
  const { post, log } = await serve(t);
  const response = await post(STREAM, { text_input: '!late', stream: true });
  assert.equal(response.status, 200);
  const events = await eventsOf(response);
  assert.equal(events.at(-1), '{"error":"the device failed"}');
  assert.equal(events.length, 4);
  assert.equal(log.length, 1);
});

test('models without streams answer generate too', async (t) => {
  const { post } = await serve(t);
  const reply = await (await post('/v2/models/embed/generate', { TEXT: 'ab', dimensions: 1 })).text();
  assert.equal(reply, '{"EMBEDDING":1.0,"model_name":"embed","model_version":"1"}');
  const ids = await (await post('/v2/models/rerank/generate', { INPUT_IDS: [1, 2, 3] })).json();
  assert.deepEqual(Object.keys(ids), ['LOGITS', 'SCORE', 'model_name', 'model_version']);
  const stream = await eventsOf(await post('/v2/models/embed/generate_stream', { TEXT: 'ab' }));
  assert.equal(stream.length, 1);
});

const BAD: readonly [string, unknown, number, string][] = [
  ['no body', '', 400, 'expected number of inputs between 1 and 43 but got 0 inputs'],
  ['no input', { stream: false }, 400, "but missing required input(s) ['text_input']"],
  ['text of the wrong type', { text_input: 5 }, 500, 'attempt to access JSON non-string as string'],
  ['flag of the wrong type', { text_input: 'a', stream: 'yes' }, 500, 'attempt to access JSON non-boolean as boolean'],
  ['first bad key', '{"stream": 1, "text_input": 1}', 500, 'non-boolean'],
  ['duplicates', '{"text_input": "a", "text_input": "b"}', 400, "input 'text_input' already exists in request"],
  ['structured key', { text_input: 'a', x: {} }, 400, "parameter 'x' has invalid type. It should be"],
  ['parameters no object', { text_input: 'a', parameters: 1 }, 400, "Expected JSON object for keyword: 'parameters'"],
  [
    'nested parameters',
    { text_input: 'a', parameters: { nested: { a: 1 } } },
    400,
    "Converting keyword: 'parameters': parameter 'nested' has invalid type.",
  ],
  [
    'two texts',
    { text_input: ['a', 'b'] },
    400,
    "The schema can not convert input 'text_input' to tensor with proper shape",
  ],
  ['unknown sampling', { text_input: 'a', temprature: 1 }, 400, "unexpected sampling parameter 'temprature'"],
  ['sampling of the wrong type', { text_input: 'a', parameters: { min_p: 'hot' } }, 400, "parameter 'min_p'"],
  ['out of range', { text_input: 'a', temperature: -1 }, 400, 'temperature is below 0'],
  ['a billion answers', { text_input: 'a', n: 1e9 }, 400, 'n is 1000000000'],
  ['sampling text', { text_input: 'a', sampling_parameters: '{' }, 400, "input 'sampling_parameters' is not JSON"],
  ['beams', { text_input: 'a', beam_width: 2 }, 501, "input 'beam_width' is 2: there is no beam search, only 1"],
  ['lora', { text_input: 'a', lora_name: 'x' }, 400, 'LoRA'],
  ['streaming with prompt', { text_input: 'a', stream: true, exclude_input_in_output: false }, 400, 'is not allowed'],
  ['engine refuses', { text_input: '!early' }, 400, 'the prompt is too long'],
  ['queue is full', { text_input: '!full' }, 503, 'Exceeds maximum queue size'],
];

test('generate and generate_stream refuse what does not fit', async (t) => {
  const { post } = await serve(t);
  for (const [what, body, status, message] of BAD) {
    for (const path of [GENERATE, STREAM]) {
      const response = await post(path, body);
      assert.equal(response.headers.get('content-type'), 'application/json');
      const { error } = await response.json();
      assert.equal(response.status, status, `${what}: ${error}`);
      assert.ok(error.includes(message), `${what}: ${error}`);
      assert.equal(response.headers.get('retry-after'), status === 503 ? '7' : null, what);
    }
  }
});

test('generate wants exactly one response, and no compressed body', async (t) => {
  const { post, hub } = await serve(t);
  const many = await post(GENERATE, { text_input: '!endless', stream: true });
  assert.equal(many.status, 400);
  assert.match((await many.json()).error, /^generate expects model to produce exactly 1 response/);
  assert.equal(hub.active, 0);
  const init = { headers: { 'content-encoding': 'gzip' } };
  const compressed = await post(GENERATE, { text_input: 'a' }, init);
  assert.deepEqual(
    [compressed.status, await compressed.json()],
    [400, { error: "Unsupported content-encoding, only 'identity' is supported." }],
  );
});

test('structured output: an object as JSON text, and inside sampling_parameters', async (t) => {
  const { post, hub } = await serve(t);
  const schema = { type: 'object', properties: { n: { type: 'integer' } } };
  await post(GENERATE, { text_input: 'x', guided_json: JSON.stringify(schema) });
  assert.deepEqual(hub.seen.generate?.structure, { form: { kind: 'json', schema }, param: 'guided_json' });
  await post(GENERATE, {
    text_input: 'x',
    sampling_parameters: JSON.stringify({ structured_outputs: { regex: '12' } }),
  });
  const regex = { form: { kind: 'regex', pattern: '12' }, param: 'structured_outputs.regex' };
  assert.deepEqual(hub.seen.generate?.structure, regex);
  await post(GENERATE, { text_input: 'x', guided_choice: '["a", "b"]' });
  assert.deepEqual(hub.seen.generate?.structure?.form, { kind: 'choice', choices: ['a', 'b'] });
  const refused = await post(GENERATE, { text_input: 'x', guided_json: '{' });
  assert.equal(refused.status, 400);
  assert.match((await refused.json()).error, /guided_json is not JSON/);
});
