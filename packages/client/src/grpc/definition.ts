import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import { fromBinary, toBinary, type DescMessage, type Message } from '@bufbuild/protobuf';
import { GRPCInferenceService } from './proto/inference_pb.js';

/** The service's methods as grpc-js takes them, from what protoc-gen-es wrote. */
export const inferenceService: ServiceDefinition = Object.fromEntries(
  GRPCInferenceService.methods.map((method): [string, MethodDefinition<Message, Message>] => {
    const streams = method.methodKind === 'bidi_streaming';
    return [
      method.name,
      {
        path: `/${GRPCInferenceService.typeName}/${method.name}`,
        requestStream: streams,
        responseStream: streams,
        requestSerialize: (message) => serialize(method.input, message),
        requestDeserialize: (bytes) => fromBinary(method.input, bytes),
        responseSerialize: (message) => serialize(method.output, message),
        responseDeserialize: (bytes) => fromBinary(method.output, bytes),
      },
    ];
  }),
);

function serialize(schema: DescMessage, message: Message): Buffer {
  const { buffer, byteOffset, byteLength } = toBinary(schema, message);
  return Buffer.from(buffer, byteOffset, byteLength);
}
