import { tensor, type InferenceRequest, type InferenceResponse, type Model } from '@rose/server/backend';

/** The corners of the colour cube, in the order of colors.txt: red is bit 0 of the index, green bit 1, blue bit 2. */
const COLORS = Array.from({ length: 8 }, (_, i) => [i & 1, (i >> 1) & 1, (i >> 2) & 1]);

/** SCORES are the softmax over the negative distances between an image's mean and each colour. */
export default class DominantColor implements Model {
  execute(requests: readonly InferenceRequest[]): InferenceResponse[] {
    return requests.map((request) => {
      const { shape, data } = request.input('IMAGE', 'FP32');
      const size = data.length / shape[0];
      const scores = Array.from({ length: shape[0] }, (_, i) => score(data.subarray(i * size, (i + 1) * size)));
      return { outputs: { SCORES: tensor('FP32', [shape[0], COLORS.length], Float32Array.from(scores.flat())) } };
    });
  }
}

/** @param image red, green and blue of one pixel after the other, each from 0 to 255 */
function score(image: ArrayLike<number>): number[] {
  const mean = [0, 0, 0];
  for (let i = 0; i < image.length; i++) mean[i % 3] += (3 * image[i]) / 255 / image.length;
  const weights = COLORS.map((color) => Math.exp(-8 * Math.hypot(...color.map((value, i) => value - mean[i]))));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}
