/**
 * Scores of one input from a classifier's label logits: the sigmoid of a single label, as rerankers are trained with,
 * and the softmax over several.
 */
export function scoresOf(logits: Float32Array): Float32Array {
  if (logits.length === 1) return logits.map((x) => 1 / (1 + Math.exp(-x)));
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = logits.map((x) => Math.exp(x - most));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((x) => x / sum);
}
