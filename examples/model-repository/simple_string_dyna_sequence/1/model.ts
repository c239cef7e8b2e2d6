import {
  tensor,
  texts,
  type InferenceRequest,
  type InferenceResponse,
  type Model,
  type ModelError,
} from '@rose/server/backend';

/** OUTPUT = the sum of the sequence's inputs so far; at its end its id, a decimal text, is added. */
export default class SimpleStringDynaSequence implements Model {
  /** A sequence's requests all come to the same instance. */
  readonly #sums: Map<string, number> = new Map();

  execute(requests: readonly InferenceRequest[]): (InferenceResponse | ModelError)[] {
    return requests.map((request) => {
      const { shape, data } = request.input('INPUT', 'INT32');
      const [id] = texts(request.input('CORRID', 'BYTES'));
      const starts = request.input('START', 'INT32').data[0] === 1;
      const ends = request.input('END', 'INT32').data[0] === 1;
      const sum = (starts ? 0 : (this.#sums.get(id) ?? 0)) + data[0];
      if (ends) this.#sums.delete(id);
      else this.#sums.set(id, sum);
      return { outputs: { OUTPUT: tensor('INT32', shape, Int32Array.of(ends ? sum + Number(id) : sum)) } };
    });
  }
}
