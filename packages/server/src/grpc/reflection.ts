import {
  create,
  toBinary,
  type DescFile,
  type DescMessage,
  type DescService,
  type MessageInitShape,
} from '@bufbuild/protobuf';
import { nestedTypes } from '@bufbuild/protobuf/reflect';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { status, type handleBidiStreamingCall, type Server } from '@grpc/grpc-js';
import { serviceDefinition } from './definition.ts';
import {
  ServerReflection,
  ServerReflectionResponseSchema,
  type ServerReflectionRequest,
  type ServerReflectionResponse,
} from './proto/reflection_pb.js';
import {
  ServerReflection as AlphaReflection,
  ServerReflectionResponseSchema as AlphaResponseSchema,
} from './proto/reflection_v1alpha_pb.js';

type Answer = NonNullable<MessageInitShape<typeof ServerReflectionResponseSchema>['messageResponse']>;

/**
 * gRPC's reflection service, under both its names: tools ask it what services there are and what their messages look
 * like.
 * @param services those to tell of, beside the service itself
 */
export function addReflection(server: Server, services: readonly DescService[]): void {
  const index = new DescriptorIndex([...services, ServerReflection, AlphaReflection]);
  server.addService(serviceDefinition(ServerReflection), {
    ServerReflectionInfo: handler(index, ServerReflectionResponseSchema),
  });
  server.addService(serviceDefinition(AlphaReflection), {
    // Its messages have the same fields.
    ServerReflectionInfo: handler(index, AlphaResponseSchema as unknown as typeof ServerReflectionResponseSchema),
  });
}

function handler(
  index: DescriptorIndex,
  schema: typeof ServerReflectionResponseSchema,
): handleBidiStreamingCall<ServerReflectionRequest, ServerReflectionResponse> {
  return (call) => {
    call.on('data', (request: ServerReflectionRequest) => {
      const messageResponse = index.answer(request.messageRequest);
      const more = call.write(create(schema, { validHost: request.host, originalRequest: request, messageResponse }));
      if (more) return;
      // A client that does not read is asked nothing more.
      call.pause();
      call.once('drain', () => call.resume());
    });
    call.on('end', () => call.end());
  };
}

/** Files by their names and by what they define. */
class DescriptorIndex {
  readonly #services: readonly string[];
  readonly #files: Map<string, DescFile> = new Map();
  readonly #symbols: Map<string, DescFile> = new Map();

  constructor(services: readonly DescService[]) {
    this.#services = services.map(({ typeName }) => typeName).sort();
    for (const { file } of services) this.#add(file);
  }

  answer(request: ServerReflectionRequest['messageRequest']): Answer {
    switch (request.case) {
      case 'listServices':
        return { case: 'listServicesResponse', value: { service: this.#services.map((name) => ({ name })) } };
      case 'fileByFilename':
        return this.#fileAnswer(this.#files.get(request.value), `file ${request.value}`);
      case 'fileContainingSymbol':
        return this.#fileAnswer(this.#symbols.get(request.value), `symbol ${request.value}`);
      case 'fileContainingExtension':
        return notFound(`extension ${request.value.extensionNumber} of ${request.value.containingType}`);
      case 'allExtensionNumbersOfType': {
        const baseTypeName = request.value;
        if (!this.#symbols.has(baseTypeName)) return notFound(`type ${baseTypeName}`);
        return { case: 'allExtensionNumbersResponse', value: { baseTypeName } };
      }
      default:
        return failed(status.INVALID_ARGUMENT, 'the request asks for nothing');
    }
  }

  /** The file and all that it needs. */
  #fileAnswer(file: DescFile | undefined, what: string): Answer {
    if (file === undefined) return notFound(what);
    const files = new Set<DescFile>();
    const take = (one: DescFile): void => {
      if (files.has(one)) return;
      files.add(one);
      one.dependencies.forEach(take);
    };
    take(file);
    const fileDescriptorProto = [...files].map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
    return { case: 'fileDescriptorResponse', value: { fileDescriptorProto } };
  }

  #add(file: DescFile): void {
    if (this.#files.has(file.proto.name)) return;
    this.#files.set(file.proto.name, file);
    for (const type of nestedTypes(file)) {
      this.#symbols.set(type.typeName, file);
      if (type.kind === 'message') this.#addMembers(type);
      if (type.kind === 'enum')
        for (const { name } of type.values) this.#symbols.set(`${scopeOf(type.typeName)}${name}`, file);
    }
    for (const service of file.services) {
      this.#symbols.set(service.typeName, file);
      for (const { name } of service.methods) this.#symbols.set(`${service.typeName}.${name}`, file);
    }
    file.dependencies.forEach((dependency) => this.#add(dependency));
  }

  #addMembers({ typeName, fields, oneofs, file }: DescMessage): void {
    for (const { name } of [...fields, ...oneofs]) this.#symbols.set(`${typeName}.${name}`, file);
  }
}

/** Values of an enum are named beside it, not in it. */
function scopeOf(typeName: string): string {
  return typeName.slice(0, typeName.lastIndexOf('.') + 1);
}

function notFound(what: string): Answer {
  return failed(status.NOT_FOUND, `the server does not know the ${what}`);
}

function failed(errorCode: status, errorMessage: string): Answer {
  return { case: 'errorResponse', value: { errorCode, errorMessage } };
}
