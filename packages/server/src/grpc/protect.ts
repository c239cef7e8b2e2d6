import assert from 'node:assert/strict';
import {
  Metadata,
  ServerInterceptingCall,
  ServerListenerBuilder,
  ResponderBuilder,
  status,
  type ServerInterceptor,
} from '@grpc/grpc-js';
import type { Access, Category } from '../access/access.ts';

/** What each call of the inference service belongs to. */
const OF_CALL: Readonly<Record<string, Category>> = {
  ServerLive: 'health',
  ServerReady: 'health',
  ModelReady: 'health',
  ServerMetadata: 'metadata',
  ModelMetadata: 'metadata',
  ModelInfer: 'inference',
  ModelStreamInfer: 'inference',
  ModelConfig: 'model-config',
  ModelStatistics: 'statistics',
  RepositoryIndex: 'model-repository',
  RepositoryModelLoad: 'model-repository',
  RepositoryModelUnload: 'model-repository',
  SystemSharedMemoryStatus: 'shared-memory',
  SystemSharedMemoryRegister: 'shared-memory',
  SystemSharedMemoryUnregister: 'shared-memory',
  CudaSharedMemoryStatus: 'shared-memory',
  CudaSharedMemoryRegister: 'shared-memory',
  CudaSharedMemoryUnregister: 'shared-memory',
  TraceSetting: 'trace',
  LogSettings: 'logging',
};

const OF_SERVICE: Readonly<Record<string, Category>> = {
  'grpc.health.v1.Health': 'health',
  'grpc.reflection.v1.ServerReflection': 'metadata',
  'grpc.reflection.v1alpha.ServerReflection': 'metadata',
};

/** @param path `/SERVICE/CALL` */
export function categoryOfCall(path: string): Category {
  const [, service, call] = path.split('/');
  const category = OF_SERVICE[service] ?? OF_CALL[call];
  assert(category, `the call ${path} belongs to no category`);
  return category;
}

/** Lets only those calls through that may; the messages of others are not read. Undefined: all may. */
export function protectingInterceptor(access: Access): ServerInterceptor | undefined {
  if (access.open) return undefined;
  return ({ path }, call) => {
    const category = categoryOfCall(path);
    const responder = new ResponderBuilder()
      .withStart((next) => {
        const listener = new ServerListenerBuilder()
          .withOnReceiveMetadata((metadata, mdNext) => {
            const header = (name: string): string | undefined => metadata.get(name)[0]?.toString();
            const refuse = (code: status, details: string): void =>
              call.sendStatus({ code, details, metadata: new Metadata() });
            if (!access.hasKey(category, header)) {
              refuse(
                status.UNAUTHENTICATED,
                "an API key is needed: send it as metadata 'authorization: Bearer KEY' or 'x-api-key: KEY'",
              );
              return;
            }
            const missing = access.missingHeader(category, header);
            if (missing === undefined) mdNext(metadata);
            else refuse(status.UNAVAILABLE, `This protocol is restricted, expecting header '${missing}'`);
          })
          .build();
        next(listener);
      })
      .build();
    return new ServerInterceptingCall(call, responder);
  };
}
