import {
  ModelError,
  tensor,
  texts,
  type InferenceRequest,
  type InferenceResponse,
  type Model,
} from '@rose/server/backend';

/** OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1, of decimal integers of any length. */
export default class SimpleString implements Model {
  execute(requests: readonly InferenceRequest[]): (InferenceResponse | ModelError)[] {
    return requests.map((request) => {
      try {
        const { shape } = request.input('INPUT0');
        const a = integers(request, 'INPUT0');
        const b = integers(request, 'INPUT1');
        return {
          outputs: {
            OUTPUT0: tensor(
              'BYTES',
              shape,
              a.map((x, i) => String(x + b[i])),
            ),
            OUTPUT1: tensor(
              'BYTES',
              shape,
              a.map((x, i) => String(x - b[i])),
            ),
          },
        };
      } catch (error) {
        // One request's mistake must not fail the others of its batch.
        return error instanceof ModelError ? error : new ModelError(String(error));
      }
    });
  }
}

function integers(request: InferenceRequest, name: string): bigint[] {
  return texts(request.input(name, 'BYTES')).map((text) => {
    if (/^-?\d+$/.test(text)) return BigInt(text);
    throw new ModelError(`input '${name}' holds '${text}', which is no decimal integer`, 'INVALID_ARG');
  });
}
