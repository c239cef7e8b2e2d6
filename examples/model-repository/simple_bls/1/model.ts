import {
  tensor,
  type InferenceRequest,
  type Model,
  type ModelContext,
  type Outcome,
  type Tensor,
} from '@rose/server/backend';

/** OUTPUT0 = (INPUT0 + INPUT1) (INPUT0 - INPUT1), of which another model computes both. */
export default class SimpleBls implements Model {
  #context: ModelContext | undefined;

  initialize(context: ModelContext): void {
    this.#context = context;
  }

  execute(requests: readonly InferenceRequest[]): Promise<readonly Outcome[]> {
    return Promise.all(requests.map((request) => this.#answer(request).catch((error: Error) => error)));
  }

  async #answer(request: InferenceRequest): Promise<Outcome> {
    const inputs = { INPUT0: request.input('INPUT0'), INPUT1: request.input('INPUT1') };
    const answer = await this.#context!.infer({ model: 'simple', inputs, signal: request.signal });
    const sum = answer.outputs.OUTPUT0 as Tensor<'INT32'>;
    const difference = answer.outputs.OUTPUT1 as Tensor<'INT32'>;
    return {
      outputs: {
        OUTPUT0: tensor(
          'INT32',
          sum.shape,
          sum.data.map((x, i) => x * difference.data[i]),
        ),
      },
    };
  }
}
