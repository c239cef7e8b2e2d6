import { ModelError, tensor, type InferenceRequest, type Model, type Outcome } from '@rose/server/backend';
import { decodePng, type Image } from './png.ts';

const SIZE = 32;

/** FILE holds images as PNG; IMAGE is each of them in 32 x 32 pixels, every one the nearest of the file's. */
export default class ImagePreprocess implements Model {
  execute(requests: readonly InferenceRequest[]): Outcome[] {
    return requests.map((request) => {
      const { shape, data } = request.input('FILE', 'BYTES');
      try {
        const pixels = data.flatMap((file) => resized(decodePng(file)));
        return { outputs: { IMAGE: tensor('FP32', [shape[0], SIZE, SIZE, 3], Float32Array.from(pixels)) } };
      } catch (error) {
        return new ModelError(`FILE is no PNG that can be read: ${(error as Error).message}`, 'INVALID_ARG');
      }
    });
  }
}

function resized({ width, height, rgb }: Image): number[] {
  return Array.from({ length: SIZE * SIZE }, (_, i) => {
    const y = Math.floor((Math.floor(i / SIZE) * height) / SIZE);
    const x = Math.floor(((i % SIZE) * width) / SIZE);
    return [...rgb.subarray(3 * (y * width + x), 3 * (y * width + x) + 3)];
  }).flat();
}
