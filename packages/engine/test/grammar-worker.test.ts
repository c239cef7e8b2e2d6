import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { RoseError } from '../src/errors.ts';
import { WorkerGrammars, type TokenMask } from '../src/grammar/grammars.ts';
import { grammarOf, type GrammarSource } from '../src/grammar/structure.ts';
import { bundled } from './tokenizers.ts';

const DATA = { directory: bundled('tiny-chat'), vocabSize: 6144, endTokens: [2] };
/** So long that a small grammar is compiled in it on a machine that does much else. */
const COMPILE_MS = 2000;

const sourceOf = (pattern: string, param: string): GrammarSource =>
  grammarOf({ form: { kind: 'regex', pattern }, param });
const failureOf = async (opening: Promise<TokenMask>): Promise<RoseError> => {
  const outcome: unknown = await opening.catch((error: unknown) => error);
  assert.ok(outcome instanceof RoseError, 'it was compiled');
  return outcome;
};
const lowest = (mask: Int32Array): number => {
  const word = mask.findIndex((bits) => bits !== 0);
  return 32 * word + (31 - Math.clz32(mask[word] & -mask[word]));
};
/** Draw the lowest token that may come; returns the mask that it was drawn from. */
const draw = (mask: TokenMask): number[] => {
  const bits = mask.wait();
  assert.ok(bits !== undefined, mask.fault?.message ?? 'no mask');
  const copy = [...bits];
  mask.advance(lowest(bits));
  return copy;
};

describe('a grammar worker that is replaced', () => {
  let grammars: WorkerGrammars;
  beforeEach(() => {
    const worker = new URL('./stalling-grammar.worker.ts', import.meta.url);
    grammars = new WorkerGrammars(DATA, { compileMs: COMPILE_MS, maskMs: 1500, worker });
  });
  afterEach(() => grammars.close());

  /** Answers to two grammars, some tokens in, and what their masks will be. */
  const begin = async (): Promise<{ answers: TokenMask[]; expected: number[][][] }> => {
    const sources = [sourceOf('(ab|[0-9]+é?){20}', 'a'), sourceOf('[a-c🙂]{30}', 'b')];
    const expected: number[][][] = [];
    for (const source of sources) {
      const mask = await grammars.open(source);
      expected.push(
        Array.from({ length: 12 }, () => {
          const drawn = draw(mask);
          grammars.flush();
          return drawn;
        }),
      );
      mask.close();
    }
    const answers = await Promise.all(sources.map((source) => grammars.open(source)));
    for (let i = 0; i < 5; i++) {
      answers.forEach((mask, a) => assert.deepEqual(draw(mask), expected[a][i]));
      // The last tokens are not sent yet when the worker goes.
      if (i < 4) grammars.flush();
    }
    return { answers, expected };
  };
  const goOn = ({ answers, expected }: Awaited<ReturnType<typeof begin>>): void => {
    for (let i = 5; i < 12; i++) {
      grammars.flush();
      answers.forEach((mask, a) => assert.deepEqual(draw(mask), expected[a][i], `mask ${i} of answer ${a}`));
    }
    for (const mask of answers) mask.close();
  };

  test('one that compiles for too long is refused; those before and behind it go on', async () => {
    const begun = await begin();
    const stalled = grammars.open(sourceOf('x', 'stall'));
    const behind = [grammars.open(sourceOf('[xy]', 'behind')), grammars.open(sourceOf('x', 'stall'))];
    assert.equal(begun.answers[0].soon, false);
    const first = await failureOf(stalled);
    assert.deepEqual([first.code, first.param], ['invalid', 'stall']);
    assert.match(first.message, /^stall: the grammar takes longer than 2 s to compile$/);
    assert.ok((await behind[0]).wait());
    // The second stalls again, and the answers survive it a second time.
    assert.equal((await failureOf(behind[1])).param, 'stall');
    (await behind[0]).close();
    while (grammars.compiling) await new Promise((resolve) => setTimeout(resolve, 10));
    goOn(begun);
    assert.equal(grammars.sessions, 0);
  });

  test('one that the worker dies of fails alone', async () => {
    const begun = await begin();
    const error = await failureOf(grammars.open(sourceOf('x', 'die')));
    assert.equal(error.code, 'internal');
    assert.match(error.message, /lost: a fault of the library/);
    goOn(begun);
  });

  test('one whose masks do not come fails alone', async () => {
    const begun = await begin();
    const hanging = await grammars.open(sourceOf('x{9}', 'hang'));
    draw(hanging);
    grammars.flush();
    // Whoever waits for a mask finds out.
    goOn(begun);
    assert.equal(hanging.wait(), undefined);
    assert.match(hanging.fault?.message ?? '', /a mask of the grammar took more than 1.5 s/);
  });
});
