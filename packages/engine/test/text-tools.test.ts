import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { dialectOf } from '../src/answer/dialect.ts';
import { Codec } from '../src/text/codec.ts';
import type { ChatMessage, MessagesPrompt, Tool } from '../src/text/text.ts';
import { TableVocabulary, decodeAll } from '../src/text/vocabulary.ts';
import { byteLevelBpe } from './tokenizers.ts';

const added = ['<|im_start|>', '<|im_end|>', '[TOOL_CALLS]'].map((content) => ({ content }));
const template = `{%- if tools -%}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}Answer with <tool_call>{"name": NAME, "arguments": ARGUMENTS}</tool_call><|im_end|>
{% endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\n' + message.content -}}
{%- for call in message.tool_calls or [] -%}
{%- set call = call.function -%}
{{- '<tool_call>{"name": "' + call.name + '", "arguments": ' + (call.arguments | tojson) + '}</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}
{%- if enable_thinking is not defined or enable_thinking -%}{{- '<think>\n' -}}{%- else -%}{{- '<think>\n\n</think>\n\n' -}}{%- endif -%}
{%- endif -%}`;
const codec = new Codec(byteLevelBpe({ added, template }));
const vocabulary = new TableVocabulary(codec.tables);
const weather: Tool = {
  type: 'function',
  function: { name: 'weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } },
};
const messages: ChatMessage[] = [
  { role: 'user', content: 'Hello' },
  {
    role: 'assistant',
    content: '',
    tool_calls: [{ id: 'a', type: 'function', function: { name: 'weather', arguments: { city: 'Bonn' } } }],
  },
  { role: 'tool', content: 'rain', tool_call_id: 'a' },
];

describe('tools in a conversation', () => {
  it('are shown to the model, and so are calls and their results', () => {
    const prompt: MessagesPrompt = { kind: 'messages', messages, tools: [weather] };
    const text = `<|im_start|>system
{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
Answer with <tool_call>{"name": NAME, "arguments": ARGUMENTS}</tool_call><|im_end|>
<|im_start|>user
Hello<|im_end|>
<|im_start|>assistant
<tool_call>{"name": "weather", "arguments": {"city": "Bonn"}}</tool_call><|im_end|>
<|im_start|>tool
rain<|im_end|>
<|im_start|>assistant
<think>
`;
    assert.equal(codec.render(prompt), text);
    const tokens = codec.encodePrompt(prompt);
    assert.equal(decodeAll(vocabulary.detokenizer({ keepSpecial: true }), tokens), text);
    assert.equal(codec.encodePrompt({ kind: 'messages', messages }).length < tokens.length, true);
  });

  it('cannot write control tokens, in no place', () => {
    const hostile = '<|im_end|>';
    const tool: Tool = {
      type: 'function',
      function: { name: hostile, description: hostile, parameters: { [hostile]: [hostile] } },
    };
    const call = {
      id: hostile,
      type: 'function' as const,
      function: { name: hostile, arguments: { [hostile]: hostile } },
    };
    const calls = (name: string): MessagesPrompt => ({
      kind: 'messages',
      messages: [{ role: 'assistant', content: '', tool_calls: [call], name }],
      tools: [tool],
    });
    const end = vocabulary.size - 2;
    assert.equal(vocabulary.tokenText(end), hostile);
    const tokens = codec.encodePrompt(calls('x'));
    // The template's own: after the tools, and after the message.
    assert.equal(tokens.filter((token) => token === end).length, 2);
    assert.equal(decodeAll(vocabulary.detokenizer({ keepSpecial: true }), tokens), codec.render(calls('x')));
  });

  it('cannot be set past the field for them', () => {
    const prompt: MessagesPrompt = { kind: 'messages', messages, templateArguments: { tools: [] } };
    assert.throws(() => codec.encodePrompt(prompt), { code: 'invalid', param: 'tools' });
  });
});

describe('control tokens in an answer', () => {
  it('have a text where they are named', () => {
    const tokens = Int32Array.of(vocabulary.size - 1, 65, vocabulary.size - 2);
    const text = (keepSpecial?: boolean | string[]): string =>
      decodeAll(vocabulary.detokenizer(keepSpecial === undefined ? {} : { keepSpecial }), tokens);
    const letter = vocabulary.tokenText(65);
    assert.equal(text(), letter);
    assert.equal(text(true), `[TOOL_CALLS]${letter}<|im_end|>`);
    assert.equal(text(['[TOOL_CALLS]', 'no token']), `[TOOL_CALLS]${letter}`);
    assert.equal(text(['no token']), letter);
  });
});

describe('a dialect', () => {
  const think = { open: '<think>', close: '</think>' };
  const toolsVariable = new Set(['tools']);

  it('is read off the chat template', () => {
    assert.deepEqual(codec.dialect, { takesTools: true, tools: 'hermes', reasoning: think });
    const llama = `<|start_header_id|> {"name": function name, "parameters": ...}`;
    assert.equal(dialectOf(llama, toolsVariable).tools, 'llama3');
    assert.equal(dialectOf('[TOOL_CALLS] [THINK][/THINK]', toolsVariable).tools, 'mistral');
    assert.equal(dialectOf('[THINK][/THINK]', toolsVariable).reasoning?.open, '[THINK]');
    assert.deepEqual(dialectOf('{{ x }}', new Set()), { takesTools: false, tools: undefined, reasoning: undefined });
  });

  it('is not guessed where a template writes something else between the tags', () => {
    assert.equal(dialectOf('<tool_call>\n<function=NAME>', toolsVariable).tools, undefined);
  });

  it('can be told', () => {
    const dialect = dialectOf('', toolsVariable, { toolFormat: 'mistral', reasoningFormat: 'think' });
    assert.deepEqual(dialect, { takesTools: true, tools: 'mistral', reasoning: think });
    const none = dialectOf(template, toolsVariable, { toolFormat: 'none', reasoningFormat: 'none' });
    assert.deepEqual(none, { takesTools: true, tools: undefined, reasoning: undefined });
  });
});
