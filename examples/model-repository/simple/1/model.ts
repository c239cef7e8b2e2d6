import { tensor, type InferenceRequest, type InferenceResponse, type Model } from '@rose/server/backend';

/** OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1. Integers wrap around as 32 bits do. */
export default class Simple implements Model {
  execute(requests: readonly InferenceRequest[]): InferenceResponse[] {
    return requests.map((request) => {
      const a = request.input('INPUT0', 'INT32');
      const b = request.input('INPUT1', 'INT32');
      return {
        outputs: {
          OUTPUT0: tensor(
            'INT32',
            a.shape,
            a.data.map((x, i) => x + b.data[i]),
          ),
          OUTPUT1: tensor(
            'INT32',
            a.shape,
            a.data.map((x, i) => x - b.data[i]),
          ),
        },
      };
    });
  }
}
