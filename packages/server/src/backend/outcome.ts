import { inspect } from 'node:util';
import { ModelError, type DataType, type ErrorCode, type InferenceResponse, type Outcome, type Tensor } from './api.ts';
import { elementCount, isElementType, TYPED_ARRAYS } from './elements.ts';
import { writeError, writeResponseHead } from './exchange.ts';
import { typedOf, type PacketWriter } from './packet.ts';
import type { WireError, WireOutcome } from './protocol.ts';

/** gRPC has messages in headers, whose size is limited. */
const LONGEST_MESSAGE = 4000;
const CODES: readonly ErrorCode[] = ['INVALID_ARG', 'NOT_FOUND', 'UNAVAILABLE', 'UNSUPPORTED', 'CANCELLED', 'INTERNAL'];

/** Write what a model returned, for the server. What is no outcome becomes an error that says so. */
export function writeOutcome(writer: PacketWriter, outcome: Outcome): 'response' | 'error' {
  try {
    if (outcome instanceof Error) throw outcome;
    const { outputs, parameters } = outcome ?? {};
    if (typeof outputs !== 'object' || outputs === null || Array.isArray(outputs)) {
      throw new ModelError(
        'a response must be { outputs } or an Error, and outputs an object of tensors by their names',
      );
    }
    checkParameters(parameters);
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

/** What a model threw, or returned as an error: it may be anything. */
export function errorOf(error: unknown): WireError {
  try {
    const { code } = (error ?? {}) as { code?: unknown };
    return { code: CODES.find((known) => known === code) ?? 'INTERNAL', message: messageOf(error) };
  } catch {
    return { code: 'INTERNAL', message: 'the model threw something that cannot be told' };
  }
}

function messageOf(error: unknown): string {
  const { message } = (error ?? {}) as { message?: unknown };
  const text = typeof error === 'string' ? error : typeof message === 'string' ? message : inspect(error);
  return text.length <= LONGEST_MESSAGE ? text : `${text.slice(0, LONGEST_MESSAGE)}...`;
}

function checkParameters(parameters: InferenceResponse['parameters']): void {
  if (parameters === undefined) return;
  if (typeof parameters !== 'object' || parameters === null) throw new ModelError('parameters must be an object');
  for (const [name, value] of Object.entries(parameters)) {
    const scalar = ['string', 'number', 'boolean', 'bigint'].includes(typeof value);
    if (!scalar) throw new ModelError(`parameter '${name}' must be a string, a number, a boolean or a bigint`);
    if (typeof value === 'bigint' && (value < -(2n ** 63n) || value >= 2n ** 64n)) {
      throw new ModelError(`parameter '${name}' is ${value}, which no 64-bit integer holds`);
    }
  }
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
  const dims: unknown = shape;
  if (!Array.isArray(dims) || !dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0)) {
    throw new ModelError(`output '${name}' has no shape: that is an array of whole numbers, each at least 0`);
  }
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
