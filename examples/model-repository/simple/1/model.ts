import {
  tensor,
  type InferenceRequest,
  type InferenceResponse,
  type Model,
  type ModelConfig,
} from '@rose/server/backend';

/** OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1. Integers wrap around as 32 bits do. */
export default class Simple implements Model {
  /** Asked where the configuration names no tensors, as one does that a client brings to change a single field. */
  static autoCompleteConfig(config: ModelConfig): ModelConfig {
    const tensorOf = (name: string) => ({ name, data_type: 'TYPE_INT32', dims: [16] });
    return {
      ...config,
      input: ['INPUT0', 'INPUT1'].map(tensorOf),
      output: ['OUTPUT0', 'OUTPUT1'].map(tensorOf),
    };
  }

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
