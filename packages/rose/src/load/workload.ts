import { fit, type LengthSource } from './lengths.ts';
import { Random } from './random.ts';
import { randomText, wordsFor, type WordCount } from './text.ts';

/** One request as the generator wants it. */
export interface Order {
  readonly prompt: string;
  /** Tokens of the answer, at most. */
  readonly output: number;
  /** Hang up after so many events of the answer; undefined: listen to the end. */
  readonly cancelAfter: number | undefined;
}

/** What a request asks, before anything is put in front of it. */
export type PromptSource = (random: Random) => { readonly prompt: string; readonly output: number };

export interface WorkloadOptions {
  readonly seed: number;
  readonly source: PromptSource;
  /** Texts of which each prompt begins with one; empty: none does. */
  readonly prefixes: readonly string[];
  /** Share of the requests that hang up on the way, 0 to 1. */
  readonly cancel: number;
}

/** Request i of a workload; the same for the same options, however many run together. */
export function orderOf({ seed, source, prefixes, cancel }: WorkloadOptions, i: number): Order {
  const random = new Random(seed, i);
  const hangsUp = random.uniform() < cancel;
  const part = random.uniform();
  const prefix = prefixes.length > 0 ? `${prefixes[random.below(prefixes.length)]} ` : '';
  const { prompt, output } = source(random);
  const cancelAfter = hangsUp ? 1 + Math.floor(part * (output - 1)) : undefined;
  return { prompt: prefix + prompt, output, cancelAfter };
}

/** Random words that come to the lengths wanted. */
export function randomPrompts(lengths: LengthSource, words: WordCount): PromptSource {
  return (random) => {
    const { input, output } = lengths(random);
    return { prompt: randomText(random, wordsFor(input, words)), output };
  };
}

/** The beginnings that prompts share: other words for each, the same in every run with this seed. */
export function sharedPrefixes(seed: number, count: number, tokens: number, { tokensPerWord }: WordCount): string[] {
  if (tokens === 0) return [];
  const words = Math.max(1, Math.round(tokens / tokensPerWord));
  return Array.from({ length: count }, (_, i) => randomText(new Random(seed, -2 - i), words));
}

/**
 * First questions and answers of the conversations in a file of ShareGPT's shape, a JSON array of
 * `{ conversations: [{ from, value }, ...] }`, drawn at random. An answer's length is that of the recorded one.
 * @throws Error that says what is wrong with the file's content
 */
export function conversations(json: string, context: number, { tokensPerWord }: WordCount): PromptSource {
  const list: unknown = JSON.parse(json);
  if (!Array.isArray(list)) throw new Error('it is not a JSON array of conversations');
  const pairs = list.flatMap((entry: { conversations?: { value?: unknown }[] } | null) => {
    const [question, answer] = entry?.conversations ?? [];
    if (typeof question?.value !== 'string' || typeof answer?.value !== 'string') return [];
    const tokens = (text: string): number => Math.ceil(text.split(/\s+/).length * tokensPerWord);
    const { input, output } = fit(tokens(question.value), tokens(answer.value), context);
    // Longer than the model takes: not what was asked in the conversation, so it is left out.
    return input < tokens(question.value) ? [] : [{ prompt: question.value, output }];
  });
  if (pairs.length === 0) {
    throw new Error(`none of its ${list.length} entries has conversations[0].value and [1].value that fit the model`);
  }
  return (random) => pairs[random.below(pairs.length)];
}
