const f = Math.fround;

/**
 * A logit after the penalties: divided by the repetition penalty, or multiplied where it is not positive, and lowered by the
 * presence penalty and once more by the frequency penalty for each occurrence in the answer. Each operation is rounded to
 * float32, so that every device has the same bits.
 *
 * @param count occurrences in the answer; 0: the token is in the prompt alone
 */
export function penalised(
  logit: number,
  count: number,
  repetition: number,
  presence: number,
  frequency: number,
): number {
  const scaled = f(logit > 0 ? logit / repetition : logit * repetition);
  return count > 0 ? f(scaled - f(presence + f(frequency * count))) : scaled;
}
