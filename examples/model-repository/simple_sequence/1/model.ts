import { tensor, type InferenceRequest, type InferenceResponse, type Model } from '@rose/server/backend';

/** OUTPUT = INPUT, and one more at the start of a sequence. */
export default class SimpleSequence implements Model {
  execute(requests: readonly InferenceRequest[]): InferenceResponse[] {
    return requests.map((request) => {
      const { shape, data } = request.input('INPUT', 'INT32');
      const [start] = request.input('START', 'INT32').data;
      return {
        outputs: {
          OUTPUT: tensor(
            'INT32',
            shape,
            data.map((x) => x + start),
          ),
        },
      };
    });
  }
}
