import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Dialect } from '@rose/engine';
import OpenAI from 'openai';
import { fakeHub } from './fake-hub.ts';
import { serve, type Serving } from './serving.ts';

const reasoning = { open: '<think>', close: '</think>' };

async function client(t: TestContext, dialect: Partial<Dialect> = {}): Promise<Serving & { openai: OpenAI }> {
  const serving = await serve(t, {}, fakeHub(dialect));
  return { ...serving, openai: new OpenAI({ baseURL: `${serving.url}/v1`, apiKey: 'none', maxRetries: 0 }) };
}

const say = (text: string) => [{ role: 'user' as const, content: `!say ${text}` }];
const tools: OpenAI.ChatCompletionFunctionTool[] = [
  {
    type: 'function',
    function: {
      name: 'weather',
      description: 'The weather of a place',
      parameters: { type: 'object', properties: { city: { type: 'string' } } },
    },
  },
];
const CALLS = `<think>
Two places.
</think>

Let me see.
<tool_call>
{"name": "weather", "arguments": {"city": "Köln"}}
</tool_call>
<tool_call>
{"name": "weather", "arguments": {"city": "Bonn"}}
</tool_call>`;

test('calls and reasoning, whole', async (t) => {
  const { openai, hub } = await client(t, { reasoning });
  const reply = await openai.chat.completions.create({ model: 'chat', messages: say(CALLS), tools });
  const [{ message, finish_reason }] = reply.choices;
  assert.equal(finish_reason, 'tool_calls');
  assert.equal(message.content, 'Let me see.');
  assert.equal((message as { reasoning_content?: string }).reasoning_content, 'Two places.');
  const calls = message.tool_calls ?? [];
  assert.deepEqual(
    calls.map((call) => call.type === 'function' && call.function),
    [
      { name: 'weather', arguments: '{"city": "Köln"}' },
      { name: 'weather', arguments: '{"city": "Bonn"}' },
    ],
  );
  assert.ok(calls.every(({ id }) => /^call_\w{24}$/.test(id)));
  assert.notEqual(calls[0].id, calls[1].id);
  const { prompt, keepSpecial } = hub.seen.generate!;
  assert.deepEqual(prompt.kind === 'messages' && prompt.tools, tools);
  assert.deepEqual(keepSpecial, ['<tool_call>', '</tool_call>', '<think>', '</think>']);
});

test('calls and reasoning, streamed, say the same', async (t) => {
  const { openai } = await client(t, { reasoning });
  const request = { model: 'chat', messages: say(CALLS), tools, n: 2 };
  const whole = await openai.chat.completions.create(request);
  const stream = openai.chat.completions.stream(request);
  const reasonings = ['', ''];
  const pieces = [0, 0];
  stream.on('chunk', ({ choices }) => {
    for (const { index, delta } of choices) {
      reasonings[index] += (delta as { reasoning_content?: string }).reasoning_content ?? '';
      for (const call of delta.tool_calls ?? []) {
        pieces[index]++;
        assert.equal(call.id === undefined, call.function?.name === undefined);
        assert.equal(typeof call.function?.arguments, 'string');
      }
    }
  });
  const streamed = await stream.finalChatCompletion();
  const plain = ({ choices }: OpenAI.ChatCompletion) =>
    choices.map(({ message, finish_reason }) => ({
      content: message.content,
      calls: message.tool_calls?.map(
        (call) => call.type === 'function' && [call.function.name, call.function.arguments],
      ),
      finish_reason,
    }));
  assert.deepEqual(plain(streamed), plain(whole));
  assert.deepEqual(reasonings, ['Two places.', 'Two places.']);
  assert.ok(
    pieces.every((count) => count > 10),
    'arguments come as they are written',
  );
});

test('an answer of calls alone has no content; one that is cut off says so', async (t) => {
  const { openai } = await client(t);
  const call = '<tool_call>{"name": "weather", "arguments": {"city": "x"}}</tool_call>';
  const request = { model: 'chat', messages: say(call), tools };
  const [{ message }] = (await openai.chat.completions.create(request)).choices;
  assert.equal(message.content, null);
  const cut = await openai.chat.completions.create({ ...request, max_tokens: 50 });
  assert.equal(cut.choices[0].finish_reason, 'length');
  assert.deepEqual(cut.choices[0].message.tool_calls?.[0], {
    id: cut.choices[0].message.tool_calls?.[0].id,
    type: 'function',
    function: { name: 'weather', arguments: '{"city' },
  });
});

test('parallel_tool_calls: false keeps the first call', async (t) => {
  const { openai } = await client(t, { reasoning });
  const request = { model: 'chat', messages: say(CALLS), tools, parallel_tool_calls: false };
  const { choices } = await openai.chat.completions.create(request);
  assert.equal(choices[0].message.tool_calls?.length, 1);
  assert.equal(choices[0].finish_reason, 'tool_calls');
});

test('without tools, or with tool_choice none, an answer is text', async (t) => {
  const { openai, hub } = await client(t);
  const call = '<tool_call>{"name": "weather"}</tool_call>';
  for (const extra of [{}, { tools, tool_choice: 'none' as const }]) {
    const { choices } = await openai.chat.completions.create({ model: 'chat', messages: say(call), ...extra });
    assert.equal(choices[0].message.content, call);
    assert.equal(choices[0].finish_reason, 'stop');
    const { prompt } = hub.seen.generate!;
    assert.equal(prompt.kind === 'messages' && 'tools' in prompt, false);
  }
});

test('reasoning that the prompt has begun', async (t) => {
  const { openai } = await client(t, { reasoning });
  const messages = [{ role: 'user' as const, content: '!opened !say Hm.</think>Yes.' }];
  const { choices } = await openai.chat.completions.create({ model: 'chat', messages });
  assert.deepEqual(choices[0].message, {
    role: 'assistant',
    content: 'Yes.',
    refusal: null,
    reasoning_content: 'Hm.',
  } as unknown);
});

test('log-probabilities come with every token, also with those that say nothing yet', async (t) => {
  const { openai } = await client(t, { reasoning });
  const request = { model: 'chat', messages: say(CALLS), tools, logprobs: true };
  const stream = await openai.chat.completions.create({ ...request, stream: true });
  let tokens = 0;
  for await (const { choices } of stream) tokens += choices[0]?.logprobs?.content?.length ?? 0;
  assert.equal(tokens, Buffer.byteLength(CALLS));
});

test('a conversation with calls and their results reaches the template', async (t) => {
  const { openai, hub } = await client(t, { tools: 'mistral' });
  await openai.chat.completions.create({
    model: 'chat',
    messages: [
      { role: 'user', content: 'a' },
      {
        role: 'assistant',
        content: null,
        tool_calls: [{ id: 'abcdefghi', type: 'function', function: { name: 'weather', arguments: '{"city":"x"}' } }],
      },
      { role: 'tool', tool_call_id: 'abcdefghi', content: [{ type: 'text', text: 'rain' }] },
    ],
    tools,
  });
  const { prompt } = hub.seen.generate!;
  assert.deepEqual(prompt.kind === 'messages' && prompt.messages, [
    { role: 'user', content: 'a' },
    {
      role: 'assistant',
      content: '',
      tool_calls: [{ id: 'abcdefghi', type: 'function', function: { name: 'weather', arguments: { city: 'x' } } }],
    },
    { role: 'tool', content: 'rain', tool_call_id: 'abcdefghi' },
  ]);
  const { choices } = await openai.chat.completions.create({
    model: 'chat',
    messages: say('[TOOL_CALLS][{"name": "weather", "arguments": {}}]'),
    tools,
  });
  assert.match(choices[0].message.tool_calls?.[0].id ?? '', /^[a-z\d]{9}$/);
});

test('tools that the model cannot be given, or whose calls cannot be read, are refused', async (t) => {
  for (const [dialect, message] of [
    [{ takesTools: false }, 'its chat template does not show them'],
    [{ tools: undefined }, 'rose serve --tool-format'],
  ] as const) {
    const { post } = await client(t, dialect);
    const response = await post('/v1/chat/completions', { messages: say('a'), tools });
    const { error } = await response.json();
    assert.deepEqual([response.status, error.param], [400, 'tools']);
    assert.ok(error.message.includes(message), error.message);
  }
});
