import assert from 'node:assert/strict';
import {
  ServerInterceptingCall,
  ServerListenerBuilder,
  ResponderBuilder,
  status,
  type ServerInterceptor,
} from '@grpc/grpc-js';
import type { Access, Category, HeaderReader } from '../access/access.ts';
import { readMetadata } from './header.ts';
import { CallError } from './status.ts';

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

/** Why a call of the category may not be; undefined: it may. */
export function refusalOf(access: Access, category: Category, header: HeaderReader): CallError | undefined {
  if (access.open) return undefined;
  if (!access.hasKey(category, header)) {
    const text = "an API key is needed: send it as metadata 'authorization: Bearer KEY' or 'x-api-key: KEY'";
    return new CallError(status.UNAUTHENTICATED, text);
  }
  const missing = access.missingHeader(category, header);
  if (missing === undefined) return undefined;
  return new CallError(status.UNAVAILABLE, `This protocol is restricted, expecting header '${missing}'`);
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
            const refusal = refusalOf(access, category, readMetadata(metadata));
            if (refusal === undefined) mdNext(metadata);
            else call.sendStatus(refusal);
          })
          .build();
        next(listener);
      })
      .build();
    return new ServerInterceptingCall(call, responder);
  };
}
