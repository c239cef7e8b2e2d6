import type { Job } from '../scheduling/job.ts';
import type { ModelRequest, ModelResponse } from '../triton/model.ts';
import type { PacketReader, PacketWriter } from './packet.ts';
import type { ExecuteTimes, Parameters, WireError, WireOutcome, WireRequest } from './protocol.ts';

/** What stands in packets, in which order: each function that writes has one that reads. */

export function writeRequest(writer: PacketWriter, { number, request, sequence, hidden }: Job): void {
  const { id, inputs, outputs, parameters, owned } = request;
  // One of a sequence may be executed more than once.
  const give = owned === true && sequence === undefined;
  writer.add(number);
  writer.addWord(id);
  writer.add(outputs?.size ?? ALL);
  for (const name of outputs ?? []) writer.addWord(name);
  writer.addValue(parametersOf(parameters));
  writer.addValue(sequence);
  writer.add(inputs.size + hidden.length);
  for (const tensor of inputs.values()) writer.addTensor(tensor, give);
  for (const tensor of hidden) writer.addTensor(tensor);
}

/** Whether memory of the request's inputs went to the thread with it: it cannot be written once more. */
export function gaveAway({ request: { inputs } }: Job): boolean {
  return inputs.values().some(({ data }) => data instanceof Uint8Array && (data.buffer as ArrayBuffer).detached);
}

export function readRequest(reader: PacketReader): WireRequest {
  return {
    number: reader.number(),
    id: reader.word(),
    outputs: readNames(reader),
    parameters: reader.value(),
    sequence: reader.value(),
    inputs: reader.tensors(),
  };
}

/** In the place of a number of outputs: the request does not say which it wants. */
const ALL = -1;

function readNames(reader: PacketReader): string[] | undefined {
  const count = reader.number();
  return count === ALL ? undefined : Array.from({ length: count }, () => reader.word());
}

/** In front of the outcomes of a batch. */
export function writeTimes(writer: PacketWriter, { begun, computeStart, computeEnd }: ExecuteTimes): void {
  writer.add(begun);
  writer.add(computeStart);
  writer.add(computeEnd);
}

export function readTimes(reader: PacketReader): ExecuteTimes {
  return { begun: reader.number(), computeStart: reader.number(), computeEnd: reader.number() };
}

export function writeError(writer: PacketWriter, { code, message }: WireError): void {
  writer.addWord(code);
  writer.addWord(message);
}

/** In front of a response's tensors. */
export function writeResponseHead(writer: PacketWriter, parameters: Parameters | undefined, outputs: number): void {
  writer.addWord('');
  writer.addValue(parameters);
  writer.add(outputs);
}

export function writeResponse(writer: PacketWriter, { outputs, parameters = new Map() }: ModelResponse): void {
  writer.whole(() => {
    writeResponseHead(writer, parametersOf(parameters), outputs.length);
    for (const tensor of outputs) writer.addTensor(tensor);
  });
}

export function readOutcome(reader: PacketReader): WireOutcome {
  const code = reader.word() as WireError['code'] | '';
  if (code !== '') return { error: { code, message: reader.word() } };
  return { response: { parameters: reader.value(), outputs: reader.tensors() } };
}

function parametersOf(parameters: ModelRequest['parameters']): Parameters | undefined {
  return parameters.size === 0 ? undefined : Object.fromEntries(parameters);
}
