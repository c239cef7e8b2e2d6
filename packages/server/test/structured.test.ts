import assert from 'node:assert/strict';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openModels } from '@rose/engine';
import { startServer } from '@rose/server';
import OpenAI, { BadRequestError } from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { oneThread } from './one-thread.ts';

/** Shows tools as Hermes' models are shown them. */
const TEMPLATE = `{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}{# <tool_call> #}{% for message in messages %}{{ message.content }}{% endfor %}`;

/** tiny-chat, once as it is and once with a template that shows tools. */
async function models(): Promise<{ directory: string; tools: string }> {
  const directory = fileURLToPath(new URL('../../../models/tiny-chat', import.meta.url));
  const tools = await mkdtemp(join(tmpdir(), 'rose-tools-'));
  await cp(directory, tools, { recursive: true });
  const file = join(tools, 'tokenizer_config.json');
  const config = JSON.parse(await readFile(file, 'utf8')) as object;
  await writeFile(file, JSON.stringify({ ...config, chat_template: TEMPLATE }));
  return { directory, tools };
}

describe('structured answers of a real model', async () => {
  const { directory, tools: toolsDirectory } = await models();
  const sources = [
    { name: 'chat', directory },
    { name: 'tools', directory: toolsDirectory },
  ];
  const hub = await openModels({ models: sources, ...oneThread });
  const server = await startServer(hub, { host: '127.0.0.1', port: 0, version: '0.0.1', log: { write: () => {} } });
  after(async () => {
    await server.close(0);
    await hub.close();
    await rm(toolsDirectory, { recursive: true });
  });
  const openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
  const messages = [{ role: 'user' as const, content: 'Tell me a story' }];
  const common = { messages, temperature: 1.5, seed: 3, max_tokens: 200 };

  test('response_format, parsed by the client', async () => {
    const Person = z.object({
      name: z.string().max(10),
      age: z.int().min(0).max(120),
      pet: z.enum(['cat', 'dog']).nullable(),
    });
    const format = zodResponseFormat(Person, 'person');
    const reply = await openai.chat.completions.parse({ ...common, model: 'chat', response_format: format, n: 3 });
    assert.equal(reply.choices.length, 3);
    for (const { message, finish_reason } of reply.choices) {
      assert.equal(finish_reason, 'stop');
      Person.parse(message.parsed);
    }
  });

  test('json_object, streamed', async () => {
    const stream = await openai.chat.completions.create({
      ...common,
      model: 'chat',
      temperature: 0,
      stream: true,
      response_format: { type: 'json_object' },
    });
    let text = '';
    let reason: string | null = null;
    for await (const { choices } of stream) {
      text += choices[0]?.delta.content ?? '';
      reason = choices[0]?.finish_reason ?? reason;
    }
    assert.ok(text.startsWith('{'), text);
    if (reason === 'stop') assert.equal(typeof JSON.parse(text), 'object');
  });

  test("vLLM's fields, in chat and completions", async () => {
    const ask = async (path: string, fields: object): Promise<string> => {
      const body = { model: 'chat', temperature: 1.5, seed: 1, max_tokens: 100, ...fields };
      const prompt = path === 'completions' ? { prompt: 'Once' } : { messages };
      const reply = await fetch(`${server.url}/v1/${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ ...body, ...prompt }),
      });
      const { choices, error } = (await reply.json()) as {
        choices?: { text?: string; message?: { content: string } }[];
        error?: { message: string; param: string };
      };
      if (error !== undefined) return `${reply.status} ${error.param}: ${error.message}`;
      return choices![0].text ?? choices![0].message!.content;
    };
    for (const path of ['completions', 'chat/completions']) {
      assert.match(await ask(path, { guided_regex: '[a-c]{3}-\\d{1,5}!' }), /^[a-c]{3}-\d{1,5}!$/);
      assert.match(await ask(path, { structured_outputs: { regex: '(é|ü){4}' } }), /^(é|ü){4}$/);
      assert.match(await ask(path, { guided_choice: ['yes', 'größer'] }), /^(yes|größer)$/);
      assert.match(await ask(path, { structured_outputs: { grammar: 'root ::= "a" root | "b"' } }), /^a*b$/);
      assert.equal(typeof JSON.parse(await ask(path, { guided_json: '{"type": "boolean"}' })), 'boolean');
      assert.match(await ask(path, { guided_json: { not: {} } }), /^400 guided_json: .*"not" is not supported/);
      assert.match(await ask(path, { guided_grammar: 'root ::= foo' }), /^400 guided_grammar: .*"foo" is not defined/);
      assert.match(await ask(path, { guided_regex: 'a', guided_choice: ['b'] }), /^400 guided_choice: /);
      assert.match(await ask(path, { guided_regex: 'a', ignore_eos: true }), /^400 ignore_eos: /);
      assert.match(
        await ask(path, { response_format: { type: 'xml' } }),
        /^400 response_format.type: .*not a known kind/,
      );
      const text = { type: 'json_schema', json_schema: { name: 'x', schema: '{}' } };
      assert.match(
        await ask(path, { response_format: text }),
        /^400 response_format.json_schema.schema: .*a JSON schema/,
      );
    }
  });

  const tool = (name: string, strict: boolean): OpenAI.ChatCompletionFunctionTool => ({
    type: 'function',
    function: {
      name,
      strict,
      parameters: {
        type: 'object',
        properties: { city: { type: 'string', maxLength: 8 }, days: { type: 'integer', minimum: 1, maximum: 7 } },
        required: ['city', 'days'],
        additionalProperties: false,
      },
    },
  });
  const tools = [tool('weather', true), tool('news', true)];
  const Arguments = z.strictObject({ city: z.string().max(8), days: z.int().min(1).max(7) });

  test('tool_choice required, a name, and one call at a time', async () => {
    const ask = async (fields: Partial<OpenAI.ChatCompletionCreateParamsNonStreaming>) => {
      const request = { ...common, model: 'tools', tools, max_tokens: 400, ...fields };
      const { choices } = await openai.chat.completions.create(request);
      const [{ message, finish_reason }] = choices;
      if (finish_reason === 'length') return undefined;
      assert.equal(finish_reason, 'tool_calls');
      const calls = message.tool_calls!.map((call) => (call.type === 'function' ? call.function : undefined)!);
      for (const call of calls) Arguments.parse(JSON.parse(call.arguments));
      return calls.map(({ name }) => name);
    };
    const required = await ask({ tool_choice: 'required', parallel_tool_calls: false });
    assert.equal(required?.length, 1);
    assert.ok(['weather', 'news'].includes(required[0]));
    const named = { type: 'function', function: { name: 'news' } } as const;
    assert.deepEqual(await ask({ tool_choice: named }), ['news']);
    const several = await ask({ tool_choice: 'required' });
    assert.ok(several === undefined || several.length >= 1);
  });

  test('a strict tool leaves the model free to answer in text', async () => {
    const { choices } = await openai.chat.completions.create({ ...common, model: 'tools', tools, max_tokens: 30 });
    assert.ok((choices[0].message.content ?? '').length > 0);
  });

  test('what cannot be is refused', async () => {
    const refused = async (fields: object, message: RegExp): Promise<void> => {
      const request = { ...common, model: 'tools', ...fields };
      await assert.rejects(openai.chat.completions.create(request), (error) => {
        assert.ok(error instanceof BadRequestError, String(error));
        assert.match(error.message, message);
        return true;
      });
    };
    await refused({ tool_choice: 'required' }, /there are no tools/);
    await refused({ tools, tool_choice: { type: 'function', function: { name: 'x' } } }, /none of the tools/);
    await refused({ tools, tool_choice: 'sometimes' }, /is none of/);
    await refused({ tools, model: 'chat', tool_choice: 'required' }, /cannot be given tools/);
    const [{ function: declared }] = tools;
    const wrong = { type: 'function', function: { ...declared, parameters: { type: 'object', minProperties: 1 } } };
    await refused({ tools: [wrong] }, /"minProperties" is not supported/);
  });
});
