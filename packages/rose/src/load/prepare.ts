import { CommandError, ExitCode } from '../errors.ts';
import { Random } from './random.ts';
import type { RequestRecord } from './record.ts';
import { send, type SendOptions } from './send.ts';
import type { Target } from './target.ts';
import { randomText, WORD_FOR_TOKEN, wordCount, type WordCount } from './text.ts';

const FEW_WORDS = 20;
const MANY_WORDS = 120;

/**
 * Two short requests before any load: whether the server streams at all, and how many tokens it makes of a word.
 * @throws CommandError with what the server said, if it does not answer them
 */
export async function probe(target: Target, seed: number, options: SendOptions): Promise<WordCount> {
  const few = await ask(FEW_WORDS);
  const many = await ask(MANY_WORDS);
  if (!few.usage?.inputTokens || !many.usage?.inputTokens) return WORD_FOR_TOKEN;
  return wordCount(FEW_WORDS, few.usage.inputTokens, MANY_WORDS, many.usage.inputTokens);

  async function ask(words: number): Promise<RequestRecord> {
    const prompt = randomText(new Random(seed, -1000 - words), words);
    const order = { prompt, output: 4, cancelAfter: undefined };
    const record = await send(target, order, performance.now(), options);
    const { outcome } = record;
    if (outcome.kind !== 'failed') return record;
    throw new CommandError(
      CODES[outcome.reason] ?? ExitCode.usage,
      `the first request to ${target.url.href} failed (${outcome.reason}): ${outcome.message}`,
    );
  }
}

const CODES: Readonly<Record<string, number>> = {
  'HTTP 404': ExitCode.model,
  ECONNREFUSED: ExitCode.address,
  ECONNRESET: ExitCode.address,
  timeout: ExitCode.address,
  interrupted: ExitCode.interrupted,
};
