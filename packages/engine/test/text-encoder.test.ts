import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Encoder } from '../src/text/encoder.ts';
import { readTokenizerFiles, type TokenizerFiles } from '../src/text/files.ts';
import { readTokens } from '../src/text/tokens.ts';
import { bundled, byteLevelBpe, libraryOf, random, sentencePieceBpe, unigram, wordPiece } from './tokenizers.ts';

const chat = [
  { content: '<|im_start|>' },
  { content: '<|im_end|>' },
  { content: '<|user|>', lstrip: true, rstrip: true },
  { content: '<think>', special: false, normalized: false },
  { content: '</think>', special: false, normalized: true },
  { content: '   ', special: false, normalized: false },
];

const tokenizers: Record<string, TokenizerFiles> = {
  'tiny-chat': await readTokenizerFiles(bundled('tiny-chat')),
  'tiny-embed': await readTokenizerFiles(bundled('tiny-embed')),
  'byte-level BPE': byteLevelBpe({ added: chat }),
  'sentencepiece BPE': sentencePieceBpe({ added: chat }),
  Unigram: unigram({ added: chat }),
  WordPiece: wordPiece({ added: chat }),
};

const ordinary = [
  'hello',
  ' ',
  '\n',
  '\n\n',
  'The end',
  ', ',
  'é',
  'e\u0301',
  '日本',
  '🙂',
  '42',
  "it's",
  '  ',
  '\t',
  '<',
  '|',
  '>',
];
const added = [
  ...chat.map(({ content }) => content),
  '<s>',
  '</s>',
  '[SEP]',
  '[CLS]',
  '<pad>',
  '<|endoftext|>',
  '▁</s>',
];

function text(rng: ReturnType<typeof random>, parts: readonly string[]): string {
  return Array.from({ length: rng.below(12) }, () => rng.pick(parts)).join('');
}

describe('encoding', () => {
  for (const [name, files] of Object.entries(tokenizers)) {
    const tokens = readTokens(files);
    const encoder = new Encoder(files, tokens);
    const library = libraryOf(files);
    const reference = (input: string): number[] => library.encode(input, { add_special_tokens: false }).ids;
    const controls = new Set(tokens.controls.map(({ id }) => id));
    if (tokens.unknown !== undefined) controls.delete(tokens.unknown);

    it(`${name}: a text with its control tokens has the library's ids`, () => {
      const rng = random(1);
      const parts = [...ordinary, ...ordinary, ...added];
      for (let i = 0; i < 1000; i++) {
        const input = text(rng, parts);
        assert.deepEqual(encoder.encodeSections(encoder.sections(input)), reference(input), JSON.stringify(input));
      }
    });

    it(`${name}: ordinary text has the library's ids as plain text`, () => {
      const rng = random(2);
      for (let i = 0; i < 1000; i++) {
        const input = text(rng, ordinary);
        assert.deepEqual(encoder.encode(input), reference(input), JSON.stringify(input));
      }
    });

    it(`${name}: plain text never has a control token`, () => {
      const rng = random(3);
      const parts = [
        ...ordinary,
        ...added,
        ...added,
        '＜|im_end|＞',
        '<|IM_END|>',
        '[sep]',
        '<|im_',
        'end|>',
        '</',
        's>',
      ];
      let spelled = 0;
      for (let i = 0; i < 1000; i++) {
        const input = text(rng, parts);
        if (reference(input).some((id) => controls.has(id))) spelled++;
        const ids = encoder.encode(input);
        assert.ok(!ids.some((id) => controls.has(id)), JSON.stringify(input));
      }
      assert.ok(spelled > 100, 'the texts did spell control tokens');
    });
  }

  it('counts a token that only tokenizer_config.json names as control', () => {
    const files = byteLevelBpe({ added: [{ content: '<|stop|>', special: false }], config: { eos_token: '<|stop|>' } });
    const tokens = readTokens(files);
    assert.deepEqual(
      tokens.controls.map(({ content }) => content),
      ['<|stop|>'],
    );
    const encoder = new Encoder(files, tokens);
    assert.ok(!encoder.encode('a<|stop|>').includes(tokens.controls[0].id));
  });

  it('reads each ideograph as a word for BERT, rare ones too', async () => {
    const files = await readTokenizerFiles(bundled('tiny-embed'));
    const encoder = new Encoder(files, readTokens(files));
    assert.deepEqual(encoder.encode('a\u{20000}a'), encoder.encode('a \u{20000} a'));
    assert.deepEqual(encoder.encode('a\u4E00a'), encoder.encode('a \u4E00 a'));
  });

  it('leaves tokens that are not control tokens to everyone', () => {
    const files = byteLevelBpe({ added: chat });
    const tokens = readTokens(files);
    const think = tokens.plain.find(({ content }) => content === '<think>');
    assert.deepEqual(new Encoder(files, tokens).encode('<think>'), [think?.id]);
  });

  it('refuses a file with a part it does not know, and says which', () => {
    const files = byteLevelBpe({ tokenizer: { pre_tokenizer: { type: 'Magic' } } });
    assert.throws(() => new Encoder(files, readTokens(files)), {
      name: 'RoseError',
      code: 'unsupported',
      message: /tokenizer\.json: .*Magic/,
    });
  });
});
