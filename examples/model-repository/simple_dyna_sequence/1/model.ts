import { tensor, type InferenceRequest, type InferenceResponse, type Model } from '@rose/server/backend';

/** OUTPUT = INPUT, one more at the start of a sequence, and the sequence's id more at its end. */
export default class SimpleDynaSequence implements Model {
  execute(requests: readonly InferenceRequest[]): InferenceResponse[] {
    return requests.map((request) => {
      const { shape, data } = request.input('INPUT', 'INT32');
      const [start] = request.input('START', 'INT32').data;
      const [end] = request.input('END', 'INT32').data;
      const [id] = request.input('CORRID', 'UINT64').data;
      const more = start + (end === 1 ? Number(id) : 0);
      return {
        outputs: {
          OUTPUT: tensor(
            'INT32',
            shape,
            data.map((x) => x + more),
          ),
        },
      };
    });
  }
}
