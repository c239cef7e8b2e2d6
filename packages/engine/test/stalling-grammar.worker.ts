/**
 * The grammar worker, but for sources that say what shall go wrong with them: those of the parameter `stall` are never
 * compiled, those of `die` end the worker, and the masks of `hang` do not come after the first.
 */
import { GrammarCompilers, type GrammarSession } from '../src/grammar/matcher.ts';
import type { GrammarSource } from '../src/grammar/structure.ts';

const { session: own } = Object.getOwnPropertyDescriptors(GrammarCompilers.prototype);
GrammarCompilers.prototype.session = async function (
  source: GrammarSource,
  tokens: readonly number[],
  words: Int32Array,
): Promise<GrammarSession> {
  if (source.param === 'stall') waitForever();
  if (source.param === 'die') throw new Error('a fault of the library');
  const session = await own.value!.call(this, source, tokens, words);
  if (source.param === 'hang') session.advance = async () => waitForever();
  return session;
};

function waitForever(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

await import('../src/grammar/grammar.worker.ts');
