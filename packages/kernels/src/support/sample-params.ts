/**
 * What `sample` is told of each row, in words of 32 bits: the first words of its `step` tensor, 20 a row. Lists stand behind
 * them, and in `history`; their places are words from the beginning of the tensor.
 */
export const SAMPLE_WORDS = 20;

/** Word of each field. */
export const SampleField = {
  /** float32 `weightScale` of the temperature; 0: the most likely token. */
  SCALE: 0,
  /** How many of the most likely tokens; 0: all. */
  TOP_K: 1,
  /** float32; from 1 on: all. */
  TOP_P: 2,
  /** float32 */
  MIN_P: 3,
  /** The lower 32 bits of the seed, and those above. */
  SEED: 4,
  SEED_HIGH: 5,
  /** Position of the token to be drawn. */
  POSITION: 6,
  /** float32: repetition, presence and frequency penalty. */
  REPETITION: 7,
  PRESENCE: 8,
  FREQUENCY: 9,
  /** Tokens that have been, each once: pairs (token, how often in the answer) in `history`, and more of them in `step`. */
  HISTORY_AT: 10,
  HISTORY_COUNT: 11,
  MORE_AT: 12,
  MORE_COUNT: 13,
  /** Pairs (token, float32) in `step`, each token once: what is added to logits. */
  BIAS_AT: 14,
  BIAS_COUNT: 15,
  /** Tokens in `step` that are not drawn. */
  FORBIDDEN_AT: 16,
  FORBIDDEN_COUNT: 17,
  /** Words of `masks` with a bit for each token that may be drawn: of the request and of its grammar; -1: none. */
  MASK_AT: 18,
  GRAMMAR_AT: 19,
} as const;

/** Most tokens that `sample_logprobs` reports of a row. */
export const SAMPLE_TOP = 20;
/** Words of a row of `sample_logprobs`'s facts. */
export const SAMPLE_FACTS = 8;
/** Word of each fact. */
export const SampleFact = {
  /** float32: the token's logit, and the largest one. */
  LOGIT: 0,
  MAXIMUM: 1,
  /** Sum of all weights at temperature 1, in 2^-35: lower and upper 32 bits. */
  SUM: 2,
  SUM_HIGH: 3,
  /** The token's place among all, the most likely one's being 1; 0: the row has no finite maximum. */
  RANK: 4,
} as const;
