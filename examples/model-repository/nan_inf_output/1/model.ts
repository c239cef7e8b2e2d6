import { tensor, type InferenceRequest, type InferenceResponse, type Model } from '@rose/server/backend';

/** OUTPUT0 = NaN, Infinity, -Infinity, 1, 2, 3, whatever INPUT0 is. */
export default class NanInfOutput implements Model {
  execute(requests: readonly InferenceRequest[]): InferenceResponse[] {
    const numbers = Float32Array.of(Number.NaN, Infinity, -Infinity, 1, 2, 3);
    return requests.map(() => ({ outputs: { OUTPUT0: tensor('FP32', [6], numbers) } }));
  }
}
