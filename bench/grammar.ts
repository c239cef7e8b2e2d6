/**
 * What structured output costs: compiling a grammar, and a mask and an accepted token at vocabularies of 32,000 and 151,936
 * tokens, in the grammar worker's thread. The worker makes masks while a step's rows are computed: what matters is that
 * they are shorter than a step. Answers are drawn at random from what the grammar allows, which is harder than what a
 * model writes.
 *
 *     node --conditions=development bench/grammar.ts [--tokens 1500]
 */
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { GrammarCompilers } from '../packages/engine/src/grammar/matcher.ts';
import { sessionWords, Word } from '../packages/engine/src/grammar/protocol.ts';
import { grammarOf, type StructureForm } from '../packages/engine/src/grammar/structure.ts';
import { GrammarVocabulary } from '../packages/engine/src/grammar/vocabulary.ts';
import type { TokenizerFiles } from '../packages/engine/src/text/files.ts';
import { circumstances, writeResult } from './measure/report.ts';

const { values: options } = parseArgs({ options: { tokens: { type: 'string', default: '1500' } } });
const tokens = Number(options.tokens);

const person = {
  type: 'object',
  properties: {
    name: { type: 'string' },
    age: { type: 'integer', minimum: 0, maximum: 120 },
    tags: { type: 'array', items: { type: 'string' }, maxItems: 8 },
    note: { type: 'string' },
  },
  required: ['name', 'age', 'tags', 'note'],
};
const FORMS: Readonly<Record<string, StructureForm>> = {
  schema: { kind: 'json', schema: person },
  'json object': { kind: 'json', schema: { type: 'object' } },
  'string of 50': { kind: 'json', schema: { type: 'string', minLength: 40, maxLength: 50 } },
  regex: { kind: 'regex', pattern: '([a-z]+ ){5,9}\\d{4}-\\d{2}' },
};

let state = 1;
function below(n: number): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * n);
}

/** A byte-level vocabulary: single bytes, words with and without a space before them, marks, other scripts. */
function files(size: number): TokenizerFiles {
  const alphabet = byteAlphabet();
  const spell = (text: string): string => Array.from(new TextEncoder().encode(text), (byte) => alphabet[byte]).join('');
  const vocab: Record<string, number> = {};
  const add = (token: string): void => {
    if (!Object.hasOwn(vocab, token)) vocab[token] = Object.keys(vocab).length;
  };
  alphabet.forEach(add);
  const letters = 'etaoinshrdlucmfwypvbgkjqxz';
  const marks = '{}[]":,.\\/()<>-_!?;\'\n\t 0123456789';
  let count = 256;
  while (count < size - 1) {
    const kind = below(10);
    const length = 2 + below(kind < 7 ? 8 : 3);
    const from = kind < 7 ? letters : kind < 9 ? marks : 'あいうえおかきくけこ中文字体国语한국어абвгдежз';
    const word = Array.from({ length }, () => [...from][below([...from].length)]).join('');
    const token = spell(kind < 4 ? ` ${word}` : word);
    if (Object.hasOwn(vocab, token)) continue;
    vocab[token] = count++;
  }
  const end = { id: size - 1, content: '<end>', lstrip: false, rstrip: false, special: true };
  const tokenizer = { added_tokens: [end], decoder: { type: 'ByteLevel' }, model: { type: 'BPE', vocab } };
  return { directory: '', tokenizer, config: {}, template: undefined };
}

function byteAlphabet(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(printable ? byte : next++);
  });
}

function percentiles(times: number[]): object {
  times.sort((a, b) => a - b);
  const at = (share: number): number => Math.round(1000 * times[Math.floor(share * (times.length - 1))]);
  return { median: at(0.5), p90: at(0.9), p99: at(0.99), most: at(1) };
}

const figures: object[] = [];
for (const size of [32_000, 151_936]) {
  const tokenizer = files(size);
  const started = performance.now();
  const vocabulary = new GrammarVocabulary(tokenizer, size);
  const compilers = await GrammarCompilers.open(vocabulary, [size - 1]);
  const openMs = Math.round(performance.now() - started);
  for (const [form, structure] of Object.entries(FORMS)) {
    const source = grammarOf({ form: structure, param: form });
    const words = sessionWords(size);
    const compile = performance.now();
    let session = await compilers.session(source, [], words);
    const compileMs = Math.round(performance.now() - compile);
    const times: number[] = [];
    while (times.length < tokens) {
      const token = draw(words, size);
      if (token === size - 1) {
        session.close();
        session = await compilers.session(source, [], words);
        continue;
      }
      const start = performance.now();
      await session.advance(token);
      times.push(performance.now() - start);
    }
    session.close();
    figures.push({ vocabulary: size, openMs, form, compileMs, microseconds: percentiles(times) });
    console.log(JSON.stringify(figures.at(-1)));
  }
}
// On a machine that others use too, the upper percentiles are theirs.
await writeResult('grammar', { ...(await circumstances()), loadAverage: loadavg(), tokens, figures });

/** A token that the mask allows; the end only where nothing else is. */
function draw(words: Int32Array, size: number): number {
  const first = below(size);
  for (let i = 0; i < size; i++) {
    const token = (first + i) % size;
    if (token !== size - 1 && ((words[Word.MASK + (token >> 5)] >>> (token & 31)) & 1) === 1) return token;
  }
  return size - 1;
}
