import { ModelError, type DataType, type ErrorCode, type InferenceResponse, type Outcome, type Tensor } from './api.ts';
import { elementCount, isElementType, TYPED_ARRAYS } from './elements.ts';
import { writeError, writeResponseHead } from './exchange.ts';
import { typedOf, type PacketWriter } from './packet.ts';
import type { WireError, WireOutcome } from './protocol.ts';

const CODES: readonly ErrorCode[] = ['INVALID_ARG', 'NOT_FOUND', 'UNAVAILABLE', 'UNSUPPORTED', 'CANCELLED', 'INTERNAL'];

/** Write what a model returned, for the server. What is no outcome becomes an error that says so. */
export function writeOutcome(writer: PacketWriter, outcome: Outcome): 'response' | 'error' {
  try {
    if (outcome instanceof Error) throw outcome;
    if (typeof outcome?.outputs !== 'object') throw new ModelError('a response must be { outputs } or an Error');
    const { outputs, parameters } = outcome;
    const names = Object.keys(outputs);
    for (const name of names) checkTensor(name, outputs[name]);
    writer.whole(() => {
      writeResponseHead(writer, parameters, names.length);
      for (const name of names) writer.addTyped(name, outputs[name]);
    });
    return 'response';
  } catch (error) {
    writeError(writer, errorOf(error));
    return 'error';
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
  const { outputs, parameters = {} } = outcome.response;
  return { outputs: Object.fromEntries(outputs.map((wire) => [wire.name, typedOf(wire)])), parameters };
}

/** Models may make tensors without `tensor()`; a wrong one must not reach a client. */
export function checkTensor(name: string, made: Tensor): void {
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
}
