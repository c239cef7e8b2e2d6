import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { readTokenizerFiles } from '../src/text/files.ts';
import { ChatTemplate } from '../src/text/template.ts';
import type { ChatMessage } from '../src/text/text.ts';
import { byteLevelBpe } from './tokenizers.ts';

const hello: ChatMessage[] = [{ role: 'user', content: 'Hello' }];

function render(
  template: string | undefined,
  messages: ChatMessage[] = hello,
  templateArguments: Record<string, unknown> = {},
  config: Record<string, unknown> = {},
): string {
  const files = { ...byteLevelBpe({ config }), template };
  return new ChatTemplate(files).render({ messages, addGenerationPrompt: true, templateArguments });
}

describe('chat templates', () => {
  it('see messages, the generation prompt, named tokens and arguments', () => {
    const template =
      '{{ bos_token }}{{ messages[0].content }}{{ add_generation_prompt }}{{ pad_token }}{{ flag }}{% if tools is not defined %}-{% endif %}';
    const config = { bos_token: { content: '<s>', lstrip: false }, pad_token: null };
    assert.equal(render(template, hello, { flag: 'x' }, config), '<s>Hellotruex-');
  });

  it('refuse with their own words', () => {
    const template =
      "{% if messages[0].role != 'system' %}{{ raise_exception('a system message, please') }}{% endif %}";
    assert.throws(() => render(template), {
      name: 'RoseError',
      code: 'invalid',
      message: "the model's chat template cannot render these messages: a system message, please",
    });
  });

  it('cannot be given the names that they rely on', () => {
    for (const name of ['messages', 'raise_exception', 'strftime_now', 'true', 'bos_token', 'add_generation_prompt']) {
      assert.throws(() => render('{{ 1 }}', hello, { [name]: 'x' }, { bos_token: '<s>' }), {
        code: 'invalid',
        param: name,
        message: new RegExp(`'${name}'`),
      });
    }
    assert.equal(render('{{ toString }}', hello, { toString: 'x' }), 'x');
  });

  it('that are missing or cannot be parsed are an error of the conversation', () => {
    assert.throws(() => render(undefined), { code: 'invalid', message: /no chat template.*completions/ });
    assert.throws(() => render('{% if %}'), {
      code: 'invalid',
      message: /^the chat template of \/model cannot be read: /,
    });
    assert.throws(() => render("{{ 'a %s' % 'b' }}"), { code: 'invalid', message: /chat template.*%/ });
  });

  it('strip as Python does', () => {
    const strip = (call: string, content: string): string =>
      render(`{{ messages[0].content.${call} }}`, [{ role: 'user', content }]);
    assert.equal(strip("lstrip('\\n')", '\n\n  a \n'), '  a \n');
    assert.equal(strip("rstrip('\\n ')", '\n a \n \n'), '\n a');
    assert.equal(strip("strip('ab')", 'abcab'), 'c');
    assert.equal(strip('strip()', ' \x1c\u00a0a\ufeff\n'), 'a\ufeff');
    assert.equal(strip('strip()', ' \n'), '');
    assert.equal(strip("split('b')[0].strip()", ' a b c'), 'a');
    assert.throws(() => render('{{ nothing.strip() }}'), { code: 'invalid' });
  });
});

describe('tokenizer files', () => {
  let directory = '';
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'rose-text-'));
    const { tokenizer } = byteLevelBpe();
    await write('tokenizer.json', tokenizer);
    await write('tokenizer_config.json', {});
  });
  afterEach(() => rm(directory, { recursive: true }));
  const write = (file: string, value: unknown): Promise<void> =>
    writeFile(join(directory, file), typeof value === 'string' ? value : JSON.stringify(value));

  it('have the template in the configuration, in a list of it, or in a file that wins', async () => {
    const template = async (): Promise<string | undefined> => (await readTokenizerFiles(directory)).template;
    assert.equal(await template(), undefined);
    await write('tokenizer_config.json', { chat_template: 'one' });
    assert.equal(await template(), 'one');
    const list = [
      { name: 'tool_use', template: 'no' },
      { name: 'default', template: 'two' },
    ];
    await write('tokenizer_config.json', { chat_template: list });
    assert.equal(await template(), 'two');
    await write('chat_template.json', { chat_template: 'three' });
    assert.equal(await template(), 'three');
    await write('chat_template.jinja', 'four');
    assert.equal(await template(), 'four');
  });

  it('are named when they are missing or wrong', async () => {
    const fails = (message: RegExp): Promise<void> =>
      assert.rejects(readTokenizerFiles(directory), (error: Error) => {
        assert.equal(error.name, 'RoseError');
        assert.ok(error.message.startsWith(directory));
        assert.match(error.message, message);
        return true;
      });
    await write('tokenizer_config.json', '{');
    await fails(/tokenizer_config\.json: not valid JSON/);
    await rm(join(directory, 'tokenizer_config.json'));
    await fails(/tokenizer_config\.json: no such file/);
    await write('tokenizer.json', { model: {}, added_tokens: [{ id: -1, content: 'a' }] });
    await fails(/tokenizer\.json: .*"added_tokens\.0\.id".*"model\.vocab": is missing/);
    await rm(join(directory, 'tokenizer.json'));
    await fails(/tokenizer\.json: no such file/);
  });
});
