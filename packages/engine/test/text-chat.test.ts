import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ChatEncoder } from '../src/text/chat.ts';
import { Codec } from '../src/text/codec.ts';
import { Encoder } from '../src/text/encoder.ts';
import { readTokenizerFiles, type TokenizerFiles } from '../src/text/files.ts';
import { ChatTemplate } from '../src/text/template.ts';
import type { ChatMessage, Prompt } from '../src/text/text.ts';
import { readTokens } from '../src/text/tokens.ts';
import { bundled, byteLevelBpe, libraryOf, random, sentencePieceBpe } from './tokenizers.ts';

type Messages = Extract<Prompt, { kind: 'messages' }>;

interface Family {
  readonly files: TokenizerFiles;
  /** Text that control tokens of this family are made of, and text its template looks for. */
  readonly hostile: readonly string[];
  readonly roles: readonly string[];
  /** The template repeats every text as it is, but for white space at its ends. */
  readonly faithful: boolean;
}

const chatml = ['<|im_start|>', '<|im_end|>', '<|endoftext|>'];
const thinking = [
  { content: '<think>', special: false },
  { content: '</think>', special: false },
];
const added = (...contents: string[]): { content: string }[] => contents.map((content) => ({ content }));

/** Templates in the manner of the families that Rose serves, and some that try to be difficult. */
const families: Record<string, Family> = {
  'tiny-chat': {
    files: await readTokenizerFiles(bundled('tiny-chat')),
    hostile: chatml,
    roles: ['system', 'user', 'assistant', 'tool'],
    faithful: true,
  },
  'Llama 3': {
    files: byteLevelBpe({
      added: added('<|begin_of_text|>', '<|start_header_id|>', '<|end_header_id|>', '<|eot_id|>'),
      config: { bos_token: '<|begin_of_text|>', eos_token: '<|eot_id|>' },
      template: `{%- set loop_messages = messages -%}
{%- for message in loop_messages -%}
{%- set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' -%}
{%- if loop.index0 == 0 -%}{%- set content = bos_token + content -%}{%- endif -%}
{{- content -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}`,
    }),
    hostile: ['<|begin_of_text|>', '<|start_header_id|>', '<|end_header_id|>', '<|eot_id|>'],
    roles: ['system', 'user', 'assistant', 'ipython'],
    faithful: true,
  },
  'Qwen 3': {
    files: byteLevelBpe({
      added: [...added(...chatml), ...thinking],
      template: `{%- for message in messages -%}
{%- set content = message.content if message.content is string else '' -%}
{%- if message.role == 'assistant' -%}
{%- set reasoning = '' -%}
{%- if '</think>' in content -%}
{%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') -%}
{%- set content = content.split('</think>')[-1].lstrip('\\n') -%}
{%- endif -%}
{%- if loop.last and reasoning -%}{%- set content = '<think>\\n' + reasoning + '\\n</think>\\n\\n' + content -%}{%- endif -%}
{%- endif -%}
{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and enable_thinking is false -%}{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}
{%- endif -%}`,
    }),
    hostile: [...chatml, '<think>', '</think>', '<|im_</think>end|>', '</think><|im_end|>'],
    roles: ['system', 'user', 'assistant'],
    faithful: false,
  },
  Mistral: {
    files: sentencePieceBpe({
      added: added('[INST]', '[/INST]'),
      config: { bos_token: '<s>', eos_token: '</s>' },
      template: `{{- bos_token -}}
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}{{- ' ' + message['content'] | trim + eos_token -}}
{%- else -%}{{- '[INST] ' + message['content'].strip() + ' [/INST]' -}}{%- endif -%}
{%- endfor -%}`,
    }),
    hostile: ['<s>', '</s>', '[INST]', '[/INST]', '<unk>', '<0x0A>'],
    roles: ['user', 'assistant'],
    faithful: true,
  },
  'Phi, which makes tokens of roles': {
    files: byteLevelBpe({
      added: [
        ...added('<|endoftext|>'),
        ...['<|system|>', '<|user|>', '<|assistant|>', '<|end|>'].map((content) => ({ content, rstrip: true })),
      ],
      template: `{%- for message in messages -%}
{{- '<|' + message.role + '|>' + '\\n' + message.content + '<|end|>' + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}`,
    }),
    hostile: ['<|endoftext|>', '<|system|>', '<|user|>', '<|assistant|>', '<|end|>', 'endoftext', '<|', '|>'],
    roles: ['system', 'user', 'assistant'],
    faithful: true,
  },
  'a template that takes text apart': {
    files: byteLevelBpe({
      added: added(...chatml),
      template: `{%- for message in messages -%}
{%- set content = message.content | replace('X', '') -%}
{{- '<|im_start|>' + message.role + '\\n' + content.split('Y')[0] + content.split('Y')[-1] + (content | lower) -}}
{{- content[1:] + (content | upper) + (content | tojson) + (content | length | string) + '<|im_end|>\\n' -}}
{%- if message.name -%}{{- '<' + message.name + '>' -}}{%- endif -%}
{%- if content.startswith('<|im_') -%}{{- '!' -}}{%- endif -%}
{%- endfor -%}`,
    }),
    hostile: [...chatml, '<|im_Xend|>', '<|imY_end|>', '<|IM_END|>', '|im_end|', '<|ım_end|>', '<|im_', 'end|>'],
    roles: ['user', 'assistant'],
    faithful: false,
  },
  'a template that sets texts side by side': {
    files: byteLevelBpe({
      added: added(...chatml, '<|end|>'),
      template: `{%- for message in messages -%}
{{- message.name ~ message.content ~ message.name ~ '<|im' ~ message.content ~ message.content ~ 'end|>' -}}
{{- '<|im_end|>' ~ (('<|' ~ message.content ~ '|>') | lower) -}}
{%- for key, value in extra.items() -%}{{- '<|' ~ key ~ '|>' ~ value ~ '<' ~ value ~ '>' -}}{%- endfor -%}
{%- endfor -%}`,
    }),
    hostile: [...chatml, '|im_end|', 'im_end', 'end|>', '<|im_', '<', '|>', 'endoftext', '_', 'END'],
    roles: ['user', 'assistant'],
    faithful: false,
  },
};

const ordinary = [
  'Hello',
  ' ',
  '\n',
  '  two',
  'é',
  'e\u0301',
  '日本',
  '🙂',
  ' 42',
  "it's",
  '{"a": [1]}',
  '\t',
  'ﬁ',
  'İ',
];
const private_ = ['\uE000', '\uE001\uE005', '\uF8FF', '\uFDD0', '\u{F0000}', '\uD800'];

describe('conversations', () => {
  for (const [name, { files, hostile, roles, faithful }] of Object.entries(families)) {
    const tokens = readTokens(files);
    const encoder = new Encoder(files, tokens);
    const template = new ChatTemplate(files);
    const chat = new ChatEncoder(encoder, template, tokens);
    const library = libraryOf(files);

    const render = ({ messages, addGenerationPrompt = true, templateArguments = {} }: Messages): string =>
      template.render({ messages, addGenerationPrompt, templateArguments });
    const conversation = (rng: ReturnType<typeof random>, parts: readonly string[]): Messages => {
      const text = (): string => Array.from({ length: 1 + rng.below(8) }, () => rng.pick(parts)).join('');
      const messages = Array.from({ length: 1 + rng.below(4) }, (): ChatMessage => ({
        role: rng.pick(roles),
        content: text(),
        name: text(),
      }));
      const templateArguments = { extra: { [text()]: text(), note: text() }, enable_thinking: rng.below(2) === 0 };
      return { kind: 'messages', messages, templateArguments, addGenerationPrompt: rng.below(2) === 0 };
    };
    /** The same conversation in words that mean nothing. */
    const harmless = ({ messages, templateArguments, ...rest }: Messages): Messages => ({
      ...rest,
      messages: messages.map(({ role }) => ({ role, content: 'ok', name: 'ok' })),
      templateArguments: { ...templateArguments, extra: { a: 'ok', note: 'ok' } },
    });
    const controls = (prompt: Messages): string[] =>
      chat.sections(prompt).flatMap((section) => (typeof section === 'string' ? [] : [section.content]));

    it(`${name}: ordinary words have the library's ids of the rendered text`, () => {
      const rng = random(11);
      for (let i = 0; i < 150; i++) {
        const prompt = conversation(rng, [...ordinary, ...(i % 2 === 0 ? private_.slice(0, 5) : [])]);
        const rendered = render(prompt);
        const expected = library.encode(rendered, { add_special_tokens: false }).ids;
        assert.deepEqual(chat.encode(prompt), expected, JSON.stringify(prompt));
      }
    });

    it(`${name}: no text adds, removes or moves a control token`, () => {
      const rng = random(12);
      const pieces = hostile.flatMap((token) => [token, token, token.slice(0, -2), token.slice(2), ` ${token} `]);
      for (let i = 0; i < 400; i++) {
        const prompt = conversation(rng, [...pieces, ...ordinary, ...(i % 4 === 0 ? private_ : [])]);
        const expected = controls(harmless(prompt));
        assert.deepEqual(controls(prompt), expected, JSON.stringify(prompt));
        const ids = new Set(tokens.controls.map(({ id }) => id).filter((id) => id !== tokens.unknown));
        const written = chat.encode(prompt).filter((id) => ids.has(id));
        assert.equal(written.length, expected.length, JSON.stringify(prompt));
      }
    });

    it(`${name}: hostile text comes through as it was written`, () => {
      const rng = random(13);
      for (let i = 0; i < 150; i++) {
        const prompt = conversation(rng, [...hostile, ...ordinary, ...private_]);
        const sections = chat
          .sections(prompt)
          .map((section) => (typeof section === 'string' ? section : section.content));
        if (faithful) assert.equal(sections.join(''), render(prompt));
        else assert.doesNotMatch(sections.join('').replaceAll(/[\uE000\uE001\uE005\uF8FF]/g, ''), /[\uE000-\uF8FF]/);
      }
    });
  }

  const setUp = (files: TokenizerFiles): ChatEncoder => {
    const tokens = readTokens(files);
    return new ChatEncoder(new Encoder(files, tokens), new ChatTemplate(files), tokens);
  };

  it('shows a template that looks for text the text it looks for', () => {
    const chat = setUp(families['Qwen 3'].files);
    const content = '<think>\nsecret\n</think>\n\n  It is <|im_end|> that ends a turn.';
    const text = (messages: ChatMessage[]): string =>
      chat
        .sections({ kind: 'messages', messages, addGenerationPrompt: false })
        .map((section) => (typeof section === 'string' ? section : `[${section.content}]`))
        .join('');
    const said = text([
      { role: 'assistant', content },
      { role: 'user', content: 'Why?' },
    ]);
    const expected = '[<|im_start|>]assistant\n  It is <|im_end|> that ends a turn.[<|im_end|>]\n';
    assert.equal(said, `${expected}[<|im_start|>]user\nWhy?[<|im_end|>]\n`);
  });

  it('lets well-known roles complete a control token, and no others', () => {
    const chat = setUp(families['Phi, which makes tokens of roles'].files);
    const roleOf = (role: string): unknown =>
      chat.sections({ kind: 'messages', messages: [{ role, content: 'Hi' }], addGenerationPrompt: false })[0];
    assert.equal((roleOf('user') as { content: string }).content, '<|user|>');
    assert.equal(roleOf('endoftext'), '<|endoftext|>\nHi');
    assert.equal(roleOf('end'), '<|end|>\nHi');
  });

  it('comes back from its ids word for word', async () => {
    const codec = await Codec.open(bundled('tiny-chat'));
    const rng = random(14);
    const parts = [...chatml, '<|im_', 'end|>', ...ordinary, ...private_];
    for (let i = 0; i < 100; i++) {
      const content = Array.from({ length: rng.below(8) }, () => rng.pick(parts)).join('');
      const ids = codec.encodePrompt({ kind: 'messages', messages: [{ role: content, content }] });
      const [role, said] = [content, content].map((text) => text.normalize('NFC').toWellFormed());
      const expected = `<|im_start|>${role}\n${said}<|im_end|>\n<|im_start|>assistant\n`;
      assert.equal(codec.decode(ids, { keepSpecial: true }), expected);
      assert.equal(codec.decode(ids, {}), `${role}\n${said}\nassistant\n`);
    }
  });

  it('refuses a conversation that uses up the private-use characters', () => {
    const chat = setUp(families['tiny-chat'].files);
    const content = Array.from({ length: 6400 }, (_, i) => String.fromCharCode(0xe000 + i)).join('');
    const encode = (text: string): unknown =>
      chat.encode({ kind: 'messages', messages: [{ role: 'user', content: text }] });
    assert.throws(() => encode(content), { code: 'invalid', message: /private-use/ });
    assert.ok(encode(content.slice(0, 6000)));
  });
});
