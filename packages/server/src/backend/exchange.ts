import type { Job } from '../scheduling/job.ts';
import type { ModelRequest, ModelResponse } from '../triton/model.ts';
import type { PacketReader, PacketWriter } from './packet.ts';
import type { ExecuteTimes, Parameters, WireError, WireOutcome, WireRequest } from './protocol.ts';

/** What stands in packets, in which order: each function that writes has one that reads. */

export function writeRequest(writer: PacketWriter, { number, request, sequence, hidden }: Job): void {
  const { id, inputs, outputs, parameters } = request;
  writer.add(number, id, outputs?.size);
  for (const name of outputs ?? []) writer.addWord(name);
  writer.add(parametersOf(parameters), sequence, inputs.size + hidden.length);
  for (const tensor of inputs.values()) writer.addTensor(tensor);
  for (const tensor of hidden) writer.addTensor(tensor);
}

export function readRequest(reader: PacketReader): WireRequest {
  return {
    number: reader.value(),
    id: reader.value(),
    outputs: readNames(reader),
    parameters: reader.value(),
    sequence: reader.value(),
    inputs: reader.tensors(),
  };
}

function readNames(reader: PacketReader): string[] | undefined {
  const count = reader.value<number | undefined>();
  return count === undefined ? undefined : Array.from({ length: count }, () => reader.word());
}

/** In front of the outcomes of a batch. */
export function writeTimes(writer: PacketWriter, { begun, computeStart, computeEnd }: ExecuteTimes): void {
  writer.add(begun, computeStart, computeEnd);
}

export function readTimes(reader: PacketReader): ExecuteTimes {
  return { begun: reader.value(), computeStart: reader.value(), computeEnd: reader.value() };
}

export function writeError(writer: PacketWriter, { code, message }: WireError): void {
  writer.add(code, message);
}

/** In front of a response's tensors. */
export function writeResponseHead(writer: PacketWriter, parameters: Parameters | undefined, outputs: number): void {
  writer.add('', parameters, outputs);
}

export function writeResponse(writer: PacketWriter, { outputs, parameters = new Map() }: ModelResponse): void {
  writer.whole(() => {
    writeResponseHead(writer, parametersOf(parameters), outputs.length);
    for (const tensor of outputs) writer.addTensor(tensor);
  });
}

export function readOutcome(reader: PacketReader): WireOutcome {
  const code = reader.value<WireError['code'] | ''>();
  if (code !== '') return { error: { code, message: reader.value() } };
  return { response: { parameters: reader.value(), outputs: reader.tensors() } };
}

function parametersOf(parameters: ModelRequest['parameters']): Parameters | undefined {
  return parameters.size === 0 ? undefined : Object.fromEntries(parameters);
}
