import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import { fromBinary, toBinary, type DescMessage, type DescService, type Message } from '@bufbuild/protobuf';
import { decodeInferRequest } from './decode-request.ts';
import { encodeStreamInferResponse } from './encode-response.ts';
import { GRPCInferenceService } from './proto/inference_pb.js';

/** A service's methods as grpc-js takes them, from what protoc-gen-es wrote. */
export function serviceDefinition(service: DescService): ServiceDefinition {
  return Object.fromEntries(
    service.methods.map((method): [string, MethodDefinition<Message, Message>] => [
      method.name,
      {
        path: `/${service.typeName}/${method.name}`,
        requestStream: method.methodKind === 'bidi_streaming' || method.methodKind === 'client_streaming',
        responseStream: method.methodKind === 'bidi_streaming' || method.methodKind === 'server_streaming',
        ...codec('request', method.input),
        ...codec('response', method.output),
      },
    ]),
  );
}

/**
 * The inference service as grpc-js serves it: without its busiest method, which Rose serves itself. The other one of those messages
 * has codecs of its own, too.
 */
export function inferenceDefinition(): ServiceDefinition {
  const { ModelInfer: _, ...service } = serviceDefinition(GRPCInferenceService);
  return {
    ...service,
    ModelStreamInfer: {
      ...service.ModelStreamInfer,
      requestDeserialize: decodeInferRequest,
      responseSerialize: encodeStreamInferResponse,
    },
  };
}

type Codec<Side extends 'request' | 'response'> = Pick<
  MethodDefinition<Message, Message>,
  `${Side}Serialize` | `${Side}Deserialize`
>;

function codec<Side extends 'request' | 'response'>(side: Side, schema: DescMessage): Codec<Side> {
  return {
    [`${side}Serialize`]: (message: Message) => {
      const bytes = toBinary(schema, message);
      return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    },
    [`${side}Deserialize`]: (bytes: Buffer) => fromBinary(schema, bytes),
  } as Codec<Side>;
}
