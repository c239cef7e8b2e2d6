import { tensor, type InferenceRequest, type InferenceResponse, type Model } from '@rose/server/backend';

/** OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1. Integers wrap around as 8 bits do. */
export default class SimpleInt8 implements Model {
  execute(requests: readonly InferenceRequest[]): InferenceResponse[] {
    return requests.map((request) => {
      const a = request.input('INPUT0', 'INT8');
      const b = request.input('INPUT1', 'INT8');
      return {
        outputs: {
          OUTPUT0: tensor(
            'INT8',
            a.shape,
            a.data.map((x, i) => x + b.data[i]),
          ),
          OUTPUT1: tensor(
            'INT8',
            a.shape,
            a.data.map((x, i) => x - b.data[i]),
          ),
        },
      };
    });
  }
}
