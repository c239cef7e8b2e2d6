import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Codec } from '../src/text/codec.ts';
import { readTokenizerFiles } from '../src/text/files.ts';
import { bundled, byteLevelBpe, libraryOf, sentencePieceBpe, unigram, wordPiece } from './tokenizers.ts';

const embed = new Codec(await readTokenizerFiles(bundled('tiny-embed')));
const [CLS, SEP] = [2, 3];
const whole = { maxTokens: 1000, truncate: false };

describe('encoder inputs', () => {
  it('adds the special tokens that the post-processor says, as the library does', () => {
    for (const files of [wordPiece(), unigram(), sentencePieceBpe(), byteLevelBpe()]) {
      const codec = new Codec(files);
      const library = libraryOf(files);
      const [query, text] = ['the end', 'hello world, again'];
      const [single] = codec.encodeTexts([text], whole);
      const [pair] = codec.encodePairs([{ query, text }], whole);
      assert.deepEqual([...single.tokens], library.encode(text).ids);
      assert.deepEqual([...pair.tokens], library.encode(query, { text_pair: text }).ids);
      assert.deepEqual(single.types, new Int32Array(single.tokens.length));
    }
  });

  it('gives token types: 0 and 1 for BERT, none for RoBERTa', () => {
    const types = (codec: Codec): string =>
      codec.encodePairs([{ query: 'a b', text: 'c' }], whole).map((input) => input.types.join(''))[0];
    assert.equal(types(new Codec(wordPiece())), '000011');
    assert.match(types(new Codec(unigram())), /^0+$/);
    assert.equal(types(new Codec(sentencePieceBpe())), '00000111');
  });

  it('takes control tokens in a text for text', () => {
    const [{ tokens }] = embed.encodeTexts(['red [SEP] ball [CLS]'], whole);
    assert.equal(tokens.filter((id) => id === SEP).length, 1);
    assert.equal(tokens.filter((id) => id === CLS).length, 1);
  });

  it('shortens the text and keeps the special tokens', () => {
    const text = 'a little girl found a red ball in the park';
    const [full] = embed.encodeTexts([text], whole);
    const [short] = embed.encodeTexts([text], { maxTokens: 6, truncate: true });
    assert.deepEqual([...short.tokens], [...full.tokens.slice(0, 5), SEP]);
    assert.deepEqual(short.types, new Int32Array(6));
    const [exact] = embed.encodeTexts([text], { maxTokens: full.tokens.length, truncate: false });
    assert.deepEqual(exact, full);
  });

  it('shortens the text of a pair, never its query', () => {
    const pair = { query: 'a red ball', text: 'a little girl found a red ball in the park' };
    const [full] = embed.encodePairs([pair], whole);
    const [short] = embed.encodePairs([pair], { maxTokens: 8, truncate: true });
    assert.deepEqual([...short.tokens], [...full.tokens.slice(0, 7), SEP]);
    assert.deepEqual([...short.types], [0, 0, 0, 0, 0, 1, 1, 1]);
  });

  it('says which input is too long, by how much, and what to do', () => {
    assert.throws(() => embed.encodeTexts(['a', 'a a a a'], { maxTokens: 5, truncate: false }), {
      name: 'RoseError',
      code: 'invalid',
      message: 'input 1 has 6 tokens; the model reads at most 5: shorten it or ask for truncation',
    });
    const pair = { query: 'a a a a', text: 'a a' };
    assert.throws(() => embed.encodePairs([pair], { maxTokens: 7, truncate: true }), {
      code: 'invalid',
      message: 'input 0 has 7 tokens that may not be cut; the model reads at most 7: shorten the query',
    });
    assert.throws(() => embed.encodePairs([pair], { maxTokens: 8, truncate: false }), /input 0 has 9 tokens/);
  });
});

describe('prompts', () => {
  it('begin with what the post-processor puts there, and nothing is put at the end', () => {
    const begins = new Codec(sentencePieceBpe());
    assert.deepEqual([...begins.encodePrompt({ kind: 'text', text: '' })], [1]);
    const ends = new Codec(unigram());
    assert.deepEqual([...ends.encodePrompt({ kind: 'text', text: '' })], [0]);
    const neither = new Codec(byteLevelBpe());
    assert.deepEqual([...neither.encodePrompt({ kind: 'text', text: '' })], []);
  });

  it('have control tokens only on request', () => {
    const codec = new Codec(byteLevelBpe({ added: [{ content: '<|im_end|>' }] }));
    const text = 'a<|im_end|>';
    const ids = (parseSpecial: boolean): number[] => [...codec.encodePrompt({ kind: 'text', text, parseSpecial })];
    const id = ids(true).at(-1);
    assert.equal(codec.decode(Int32Array.of(id ?? -1), { keepSpecial: true }), '<|im_end|>');
    assert.ok(!ids(false).includes(id ?? -1));
    assert.equal(codec.decode(Int32Array.from(ids(false)), {}), text);
    assert.deepEqual([...codec.encodePrompt({ kind: 'text', text })], ids(false));
  });

  it('may be ids', () => {
    const codec = new Codec(byteLevelBpe());
    assert.deepEqual(codec.encodePrompt({ kind: 'tokens', tokens: [3, 1, 2] }), Int32Array.of(3, 1, 2));
  });
});
