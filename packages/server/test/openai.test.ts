import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import OpenAI from 'openai';
import { eventsOf, serve, type Serving } from './serving.ts';

async function client(t: TestContext): Promise<Serving & { openai: OpenAI }> {
  const serving = await serve(t);
  return { ...serving, openai: new OpenAI({ baseURL: `${serving.url}/v1`, apiKey: 'none', maxRetries: 0 }) };
}

const user = (content: string) => [{ role: 'user' as const, content }];

test('models are listed and found, also those with a slash in their name', async (t) => {
  const { openai, get } = await client(t);
  const ids = (await openai.models.list()).data.map(({ id }) => id);
  assert.deepEqual(ids, ['chat', 'embed', 'rerank', 'org/topics']);
  const model = await openai.models.retrieve('org/topics');
  assert.deepEqual([model.id, model.object, model.created], ['org/topics', 'model', 1_700_000_000]);
  assert.equal((await (await get('/v1/models/org/topics')).json()).id, 'org/topics');
  await assert.rejects(openai.models.retrieve('nope'), (error: InstanceType<typeof OpenAI.NotFoundError>) => {
    assert.deepEqual([error.status, error.code, error.param], [404, 'model_not_found', 'model']);
    return true;
  });
});

test('a chat, whole', async (t) => {
  const { openai } = await client(t);
  const reply = await openai.chat.completions.create({ model: 'chat', messages: user('hey') });
  assert.match(reply.id, /^chatcmpl-\w{32}$/);
  assert.equal(reply.object, 'chat.completion');
  assert.equal(reply.system_fingerprint, 'rose-0.0.1');
  assert.deepEqual(reply.choices[0].message, { role: 'assistant', content: 'echo: hey', refusal: null });
  assert.equal(reply.choices[0].finish_reason, 'stop');
  assert.deepEqual(reply.usage, {
    prompt_tokens: 3,
    completion_tokens: 10,
    total_tokens: 13,
    prompt_tokens_details: { cached_tokens: 1 },
  });
});

test('a chat, streamed, with usage', async (t) => {
  const { openai } = await client(t);
  const stream = await openai.chat.completions.create({
    model: 'chat',
    messages: user('héy'),
    n: 2,
    stream: true,
    stream_options: { include_usage: true },
  });
  const texts = ['', ''];
  const reasons: (string | null)[] = [];
  const roles: unknown[] = [];
  let usage;
  for await (const chunk of stream) {
    assert.equal(chunk.object, 'chat.completion.chunk');
    for (const choice of chunk.choices) {
      texts[choice.index] += choice.delta.content ?? '';
      if (choice.delta.role !== undefined) roles.push(choice.delta.role);
      if (choice.finish_reason !== null) reasons[choice.index] = choice.finish_reason;
    }
    if (chunk.choices.length > 0) assert.equal(chunk.usage, null);
    else usage = chunk.usage;
  }
  assert.deepEqual(texts, ['echo: héy', 'echo: héy (1)']);
  assert.deepEqual(reasons, ['stop', 'stop']);
  assert.deepEqual(roles, ['assistant', 'assistant']);
  // A byte is a token.
  assert.equal(usage?.prompt_tokens, 4);
});

test('the stream on the wire: data lines, then [DONE]; no usage unless asked', async (t) => {
  const { post } = await client(t);
  const response = await post('/v1/chat/completions', { messages: user('a'), stream: true });
  assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8');
  const events = await eventsOf(response);
  assert.equal(events.at(-1), '[DONE]');
  const chunks = events.slice(0, -1).map((event) => JSON.parse(event));
  assert.deepEqual(chunks[0].choices[0].delta, { role: 'assistant', content: '' });
  assert.deepEqual(chunks.at(-1).choices[0], {
    index: 0,
    delta: {},
    logprobs: null,
    finish_reason: 'stop',
    stop_reason: null,
  });
  assert.ok(chunks.every((chunk) => !('usage' in chunk)));
});

test('messages: roles, names, text parts', async (t) => {
  const { openai, hub } = await client(t);
  await openai.chat.completions.create({
    model: 'chat',
    messages: [
      { role: 'developer', content: 'be brief' },
      {
        role: 'user',
        name: 'ann',
        content: [
          { type: 'text', text: 'a' },
          { type: 'text', text: 'b' },
        ],
      },
      { role: 'assistant', content: '' },
    ],
  });
  assert.deepEqual(hub.seen.generate?.prompt, {
    kind: 'messages',
    messages: [
      { role: 'system', content: 'be brief' },
      { role: 'user', content: 'a\nb', name: 'ann' },
      { role: 'assistant', content: '' },
    ],
  });
});

test('sampling fields reach the engine, those of vLLM too', async (t) => {
  const { post, hub } = await client(t);
  const response = await post('/v1/chat/completions', {
    messages: user('abc stop def'),
    temperature: 0.7,
    top_p: 0.9,
    top_k: -1,
    min_p: 0.1,
    repetition_penalty: 1.1,
    presence_penalty: 0.5,
    frequency_penalty: 0.25,
    logit_bias: { '5': -100 },
    seed: 7,
    max_tokens: 400,
    max_completion_tokens: 300,
    min_tokens: 2,
    stop: ' stop',
    stop_token_ids: [9],
    include_stop_str_in_output: false,
    ignore_eos: true,
    skip_special_tokens: false,
    add_generation_prompt: false,
    chat_template_kwargs: { enable_thinking: false },
    user: 'ann',
    metadata: { anything: 1 },
    tools: [],
    tool_choice: 'none',
    response_format: { type: 'text' },
    n: null,
  });
  const { choices } = await response.json();
  assert.deepEqual(
    [choices[0].message.content, choices[0].finish_reason, choices[0].stop_reason],
    ['echo: abc', 'stop', ' stop'],
  );
  const { signal: _, tenant: __, prompt, ...request } = hub.seen.generate!;
  assert.deepEqual(request, {
    sampling: {
      temperature: 0.7,
      topP: 0.9,
      topK: 0,
      minP: 0.1,
      repetitionPenalty: 1.1,
      presencePenalty: 0.5,
      frequencyPenalty: 0.25,
      logitBias: [[5, -100]],
      seed: 7,
    },
    maxTokens: 300,
    minTokens: 2,
    stop: [' stop'],
    stopTokens: [9],
    includeStop: false,
    ignoreEos: true,
    keepSpecial: true,
  });
  assert.equal(prompt.kind === 'messages' && prompt.addGenerationPrompt, false);
  assert.deepEqual(prompt.kind === 'messages' && prompt.templateArguments, { enable_thinking: false });
});

test('what a request leaves out is left to the engine', async (t) => {
  const { post, hub } = await client(t);
  await post('/v1/chat/completions', { messages: user('a') });
  const { signal: _, prompt: __, tenant: ___, ...request } = hub.seen.generate!;
  assert.deepEqual(request, { sampling: {} });
});

test('log-probabilities of a chat', async (t) => {
  const { openai } = await client(t);
  const options = { model: 'chat', messages: user('é'), logprobs: true, top_logprobs: 2 };
  const { choices } = await openai.chat.completions.create(options);
  const content = choices[0].logprobs?.content ?? [];
  assert.equal(content.length, Buffer.from('echo: é').length);
  assert.deepEqual(content[0], {
    token: 'e',
    logprob: -0.5,
    bytes: [101],
    top_logprobs: [
      { token: 'e', logprob: -0.5, bytes: [101] },
      { token: 'f', logprob: -1.5, bytes: [102] },
    ],
  });
  assert.deepEqual(
    content.slice(-2).flatMap(({ bytes }) => bytes),
    [...Buffer.from('é')],
  );
});

test('completions: texts, token ids, several answers each', async (t) => {
  const { openai, hub } = await client(t);
  const one = await openai.completions.create({ model: 'chat', prompt: 'hi' });
  assert.deepEqual(
    [one.object, one.choices[0].text, one.choices[0].finish_reason],
    ['text_completion', 'echo: hi', 'stop'],
  );
  assert.equal(hub.seen.generate?.maxTokens, 16);
  const many = await openai.completions.create({ model: 'chat', prompt: ['a', 'b'], n: 2 });
  assert.deepEqual(
    many.choices.map(({ index, text }) => [index, text]),
    [
      [0, 'echo: a'],
      [1, 'echo: a (1)'],
      [2, 'echo: b'],
      [3, 'echo: b (1)'],
    ],
  );
  assert.equal(many.usage?.prompt_tokens, 2);
  const ids = await openai.completions.create({ model: 'chat', prompt: [97, 98] });
  assert.equal(ids.choices[0].text, 'echo: ab');
  const lists = await openai.completions.create({ model: 'chat', prompt: [[97], [98]] });
  assert.deepEqual(
    lists.choices.map(({ text }) => text),
    ['echo: a', 'echo: b'],
  );
});

test('completions, streamed, of several prompts at once', async (t) => {
  const { openai } = await client(t);
  const stream = await openai.completions.create({
    model: 'chat',
    prompt: ['a', 'b'],
    stream: true,
    stream_options: { include_usage: true },
  });
  const texts = ['', ''];
  let usage;
  for await (const chunk of stream) {
    for (const choice of chunk.choices) texts[choice.index] += choice.text;
    usage = chunk.usage ?? usage;
  }
  assert.deepEqual(texts, ['echo: a', 'echo: b']);
  assert.deepEqual(usage, {
    prompt_tokens: 2,
    completion_tokens: 16,
    total_tokens: 18,
    prompt_tokens_details: { cached_tokens: 2 },
  });
});

test('log-probabilities of completions: offsets in code points, parts of characters by their bytes', async (t) => {
  const { openai } = await client(t);
  const { choices } = await openai.completions.create({ model: 'chat', prompt: 'é!', logprobs: 1, max_tokens: 50 });
  const { tokens, token_logprobs, top_logprobs, text_offset } = choices[0].logprobs!;
  assert.deepEqual(tokens?.slice(-4), [' ', String.raw`bytes:\xc3`, String.raw`bytes:\xa9`, '!']);
  assert.deepEqual(text_offset?.slice(-4), [5, 6, 6, 7]);
  assert.deepEqual(token_logprobs?.[0], -0.5);
  assert.deepEqual(top_logprobs?.[0], { e: -0.5 });
});

test('control tokens in a prompt are text, unless the request says otherwise', async (t) => {
  const { post, hub } = await client(t);
  await post('/v1/completions', { prompt: '<end>' });
  assert.deepEqual(hub.seen.generate?.prompt, { kind: 'text', text: '<end>', parseSpecial: false });
  await post('/v1/completions', { prompt: '<end>', parse_special: true });
  assert.deepEqual(hub.seen.generate?.prompt, { kind: 'text', text: '<end>', parseSpecial: true });
});

test('embeddings: floats, and base64 of the same bits', async (t) => {
  const { openai, post, hub } = await client(t);
  const body = { model: 'embed', input: ['ab', 'c'] };
  const floats = await openai.embeddings.create({ ...body, encoding_format: 'float' });
  assert.deepEqual(
    floats.data.map(({ index }) => index),
    [0, 1],
  );
  assert.deepEqual(floats.usage, { prompt_tokens: 3, total_tokens: 3 });
  // The client asks for base64 by itself and decodes it.
  const decoded = await openai.embeddings.create(body);
  assert.deepEqual(decoded.data, floats.data);
  const raw = await (await post('/v1/embeddings', { ...body, encoding_format: 'base64' })).json();
  assert.equal(typeof raw.data[0].embedding, 'string');
  const short = await openai.embeddings.create({ model: 'embed', input: 'x', dimensions: 2 });
  assert.equal(short.data[0].embedding.length, 2);
  await openai.embeddings.create({ model: 'embed', input: [97, 98] });
  assert.deepEqual(hub.seen.embed?.inputs, [[97, 98]]);
  await post('/v1/embeddings', { input: 'x', truncate_prompt_tokens: -1 });
  assert.equal(hub.seen.embed?.truncate, true);
});

test('rerank: best first, ties in the order given', async (t) => {
  const { post } = await client(t);
  const request = { model: 'rerank', query: 'a b', documents: ['x', { text: 'a' }, 'a b', 'y'] };
  const all = await (await post('/v1/rerank', request)).json();
  assert.deepEqual(
    all.results.map(({ index }: { index: number }) => index),
    [2, 1, 0, 3],
  );
  assert.ok(Math.abs(all.results[0].relevance_score - 1 / (1 + Math.exp(-1))) < 1e-6);
  assert.deepEqual([all.model, 'document' in all.results[0], all.usage.total_tokens], ['rerank', false, 4]);
  const top = await (await post('/rerank', { ...request, top_n: 2, return_documents: true })).json();
  assert.deepEqual(
    top.results.map(({ document }: { document: unknown }) => document),
    [{ text: 'a b' }, { text: 'a' }],
  );
});
