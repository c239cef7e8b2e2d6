import type { Random } from './random.ts';

/** Tokens of one request, as asked for. */
export interface Lengths {
  readonly input: number;
  readonly output: number;
}

export type LengthSource = (random: Random) => Lengths;

/**
 * Lengths like those of ShareGPT's conversations: log-normal, with the means that the vLLM paper gives for that data set
 * (Kwon et al. 2023, section 6.1: 161 tokens in, 338 out). The deviations of the logarithms (1.2 and 0.9) are ours: they
 * put the medians at 78 and 226, and one prompt in a hundred above 1270.
 */
export function shareGptLike(context: number): LengthSource {
  return (random) => fit(logNormal(random, 161, 1.2), logNormal(random, 338, 0.9), context);
}

function logNormal(random: Random, mean: number, deviation: number): number {
  return Math.round(Math.exp(Math.log(mean) - deviation ** 2 / 2 + deviation * random.normal()));
}

/** What is too long for the model is cut: the prompt to half of the context, the answer to what is left. */
export function fit(input: number, output: number, context: number): Lengths {
  const fitted = Math.min(Math.max(input, LEAST), Math.floor(context / 2));
  return { input: fitted, output: Math.min(Math.max(output, LEAST), context - fitted) };
}

const LEAST = 4;
