import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compileDecoder } from '../src/text/decoder.ts';
import { Encoder } from '../src/text/encoder.ts';
import { readTokenizerFiles, type TokenizerFiles } from '../src/text/files.ts';
import type { Detokenizer } from '../src/text/text.ts';
import { readTokens } from '../src/text/tokens.ts';
import { TableVocabulary } from '../src/text/vocabulary.ts';
import { bundled, byteLevelBpe, libraryOf, random, sentencePieceBpe, unigram, wordPiece } from './tokenizers.ts';

const added = [{ content: '<|im_end|>' }, { content: '<think>', special: false }, { content: 'é 日▁', special: false }];

const tokenizers: Record<string, TokenizerFiles> = {
  'tiny-chat': await readTokenizerFiles(bundled('tiny-chat')),
  'tiny-embed': await readTokenizerFiles(bundled('tiny-embed')),
  'byte-level BPE': byteLevelBpe({ added }),
  'sentencepiece BPE': sentencePieceBpe({ added }),
  'sentencepiece BPE without Strip': sentencePieceBpe({
    added,
    tokenizer: {
      decoder: {
        type: 'Sequence',
        decoders: [
          { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
          { type: 'ByteFallback' },
          { type: 'Fuse' },
        ],
      },
    },
  }),
  Unigram: unigram({ added }),
  WordPiece: wordPiece({ added }),
  'no decoder': byteLevelBpe({ added, tokenizer: { decoder: null } }),
};

function stream(detokenizer: Detokenizer, ids: readonly number[]): string[] {
  return [...ids.map((id) => detokenizer.push(id)), detokenizer.flush()];
}

describe('detokenizing', () => {
  for (const [name, files] of Object.entries(tokenizers)) {
    const tokens = readTokens(files);
    const tables = compileDecoder(files, tokens);
    const vocabulary = new TableVocabulary(tables);
    const library = libraryOf(files);
    const known = tokens.texts.flatMap((text, id) => (text === undefined ? [] : [id]));

    for (const keepSpecial of [false, true]) {
      it(`${name}: streams what the library decodes at once, ${keepSpecial ? 'with' : 'without'} control tokens`, () => {
        const rng = random(21);
        for (let i = 0; i < 500; i++) {
          // The first ids of a byte alphabet are bytes, so that this is mostly ill-formed UTF-8.
          const among = i % 2 === 0 ? known : known.slice(0, 264);
          const ids = Array.from({ length: 1 + rng.below(12) }, () => rng.pick(among));
          const options = { skip_special_tokens: !keepSpecial, clean_up_tokenization_spaces: false };
          const expected = library.decode(ids, options);
          assert.equal(stream(vocabulary.detokenizer({ keepSpecial }), ids).join(''), expected, ids.join(' '));
        }
      });
    }

    it(`${name}: gives characters whole and as soon as they are`, () => {
      const encoder = new Encoder(files, tokens);
      const ids = encoder.encode('Hello, wörld: 日本語 🙂 e\u0301 \uFEFF\n the end');
      const detokenizer = vocabulary.detokenizer();
      let text = '';
      ids.forEach((id, i) => {
        const piece = detokenizer.push(id);
        assert.equal(piece.toWellFormed(), piece);
        assert.ok(!piece.includes('\uFFFD'));
        text += piece;
        // What is out is what the ids so far decode to, but for a character that is not whole.
        const whole = stream(vocabulary.detokenizer(), ids.slice(0, i + 1)).join('');
        assert.match(whole.slice(text.length), /^\uFFFD*$/);
        assert.ok(whole.startsWith(text));
      });
      assert.equal(detokenizer.flush(), '');
    });

    it(`${name}: a token's bytes are its part of the text`, () => {
      const rng = random(22);
      for (let i = 0; i < 100; i++) {
        const ids = Array.from({ length: 10 }, () => rng.pick(known));
        const [, ...rest] = ids;
        const detokenizer = vocabulary.detokenizer({ keepSpecial: true });
        // The first token may lose its space.
        const first = stream(vocabulary.detokenizer({ keepSpecial: true }), [ids[0]]).join('');
        if (/^ ?$/.test(first) || first.includes('\uFFFD')) continue;
        const bytes = Buffer.concat(rest.map((id) => vocabulary.tokenBytes(id)));
        assert.equal(
          stream(detokenizer, ids).join(''),
          first + new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes),
        );
        assert.equal(vocabulary.tokenText(rest[0]), Buffer.from(vocabulary.tokenBytes(rest[0])).toString());
      }
      assert.equal(vocabulary.tokenText(vocabulary.size), '');
      assert.equal(vocabulary.detokenizer().push(-1), '');
    });
  }

  it('names control tokens, and joins a character across them', () => {
    const files = byteLevelBpe({ added });
    const tokens = readTokens(files);
    const vocabulary = new TableVocabulary(compileDecoder(files, tokens));
    const control = tokens.controls[0];
    assert.equal(vocabulary.tokenText(control.id), '<|im_end|>');
    const euro = [...Buffer.from('€')];
    const ids = [euro[0], control.id, euro[1], euro[2]];
    assert.deepEqual(stream(vocabulary.detokenizer(), ids), ['', '', '', '€', '']);
    assert.deepEqual(
      stream(vocabulary.detokenizer({ keepSpecial: true }), ids).join(''),
      '\uFFFD<|im_end|>\uFFFD\uFFFD',
    );
    assert.deepEqual(stream(vocabulary.detokenizer(), euro.slice(0, 2)), ['', '', '\uFFFD']);
  });

  it('refuses a decoder it does not know, and says which', () => {
    for (const decoder of [
      { type: 'CTC' },
      { type: 'Sequence' },
      { type: 'Sequence', decoders: [{ type: 'Fuse' }, { type: 'Strip', content: ' ', start: 1, stop: 1 }] },
      { type: 'Sequence', decoders: [{ type: 'Fuse' }, { type: 'Replace', pattern: { String: '▁' }, content: ' ' }] },
    ]) {
      const files = byteLevelBpe({ tokenizer: { decoder } });
      const type = new RegExp(`decoder .*"${decoder.type}"`);
      assert.throws(() => compileDecoder(files, readTokens(files)), { code: 'unsupported', message: type });
    }
  });
});
