import { ModelError, type DataType, type ErrorCode, type InferenceResponse, type Outcome, type Tensor } from './api.ts';
import { elementCount, isElementType, TYPED_ARRAYS } from './elements.ts';
import type { WireError, WireOutcome } from './protocol.ts';
import { fromWire, typedToWire } from './wire.ts';

const CODES: readonly ErrorCode[] = ['INVALID_ARG', 'NOT_FOUND', 'UNAVAILABLE', 'UNSUPPORTED', 'CANCELLED', 'INTERNAL'];

/** What a model returned, for the server. What is no outcome becomes an error that says so. */
export function outcomeOf(outcome: Outcome): WireOutcome {
  if (outcome instanceof Error) return { error: errorOf(outcome) };
  try {
    if (typeof outcome?.outputs !== 'object') throw new ModelError('a response must be { outputs } or an Error');
    const { outputs, parameters = {} } = outcome;
    const tensors = Object.entries(outputs).map(([name, tensor]) => typedToWire(name, checkTensor(name, tensor)));
    return { response: { outputs: tensors, parameters } };
  } catch (error) {
    return { error: errorOf(error) };
  }
}

export function errorOf(error: unknown): WireError {
  const message = error instanceof Error ? error.message : String(error);
  const { code } = error as { code?: unknown };
  return { code: CODES.find((known) => known === code) ?? 'INTERNAL', message };
}

/** What the server answered to a model's call. */
export function responseOf(outcome: WireOutcome): InferenceResponse {
  if ('error' in outcome) throw new ModelError(outcome.error.message, outcome.error.code);
  const { outputs, parameters } = outcome.response;
  return { outputs: Object.fromEntries(outputs.map((wire) => [wire.name, fromWire(wire)])), parameters };
}

/** Models may make tensors without `tensor()`; a wrong one must not reach a client. */
function checkTensor(name: string, made: Tensor): Tensor {
  const { datatype, shape, data } = made ?? {};
  const known: DataType | undefined = datatype === 'BYTES' || isElementType(datatype) ? datatype : undefined;
  if (known === undefined) throw new ModelError(`output '${name}' is no tensor: its datatype is '${datatype}'`);
  const elements = elementCount(shape);
  const fits =
    known === 'BYTES'
      ? Array.isArray(data) && data.every((element) => element instanceof Uint8Array)
      : data instanceof TYPED_ARRAYS[known];
  if (!fits) throw new ModelError(`output '${name}' is ${known}, but its data is not an array of that type`);
  if (data.length !== elements) {
    throw new ModelError(
      `output '${name}' of shape [${shape.join(',')}] needs ${elements} elements, not ${data.length}`,
    );
  }
  return made;
}
