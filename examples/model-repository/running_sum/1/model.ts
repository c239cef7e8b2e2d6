import { tensor, type InferenceRequest, type InferenceResponse, type Model } from '@rose/server/backend';

/** OUTPUT = SUM + INPUT, and SUM of the sequence's next request is OUTPUT. */
export default class RunningSum implements Model {
  execute(requests: readonly InferenceRequest[]): InferenceResponse[] {
    return requests.map((request) => {
      const { shape, data } = request.input('INPUT', 'INT32');
      const before = request.input('SUM', 'INT32').data;
      const sum = tensor(
        'INT32',
        shape,
        data.map((x, i) => x + before[i]),
      );
      request.setState('NEXT_SUM', sum);
      return { outputs: { OUTPUT: sum } };
    });
  }
}
