import type { Random } from './random.ts';

/** Short and common: most tokenizers have each as one token. */
const WORDS = (
  'a and bear bird blue book boy but came cat day did dog door find fish for friend from fun game girl go good had ' +
  'happy he her him his home house in is it key kind like little long look lost made mom new not of off old on one out ' +
  'park play ran red run said saw she so sun that the then there they time to took toy tree two up very walk want was ' +
  'water we went what when will with you'
).split(' ');

/** So many words, the first of them rarely the same twice: prompts share no beginning by chance. */
export function randomText(random: Random, words: number): string {
  return Array.from({ length: words }, () => WORDS[random.below(WORDS.length)]).join(' ');
}

/** How many tokens a server makes of so many words: a line through two probes. */
export interface WordCount {
  readonly tokensPerWord: number;
  /** Tokens of a request without any text: its template. */
  readonly overhead: number;
}

/** Where a server does not tell: a word for a token. */
export const WORD_FOR_TOKEN: WordCount = { tokensPerWord: 1, overhead: 0 };

export function wordCount(few: number, fewTokens: number, many: number, manyTokens: number): WordCount {
  const tokensPerWord = Math.max(0.1, (manyTokens - fewTokens) / (many - few));
  return { tokensPerWord, overhead: Math.max(0, fewTokens - few * tokensPerWord) };
}

/** Words that make up so many tokens, at least one. */
export function wordsFor(tokens: number, { tokensPerWord, overhead }: WordCount): number {
  return Math.max(1, Math.round((tokens - overhead) / tokensPerWord));
}
