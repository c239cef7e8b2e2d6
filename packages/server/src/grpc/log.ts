import type { Metadata, status } from '@grpc/grpc-js';
import type { ServerContext } from '../context.ts';
import { REQUEST_ID, requestIdOf } from '../http/request-id.ts';

interface AnyCall {
  readonly metadata: Metadata;
  getPath(): string;
}

/** The log's name of a call: the client's own, if its metadata has one. */
export function callId({ metadata }: Pick<AnyCall, 'metadata'>): string {
  return requestIdOf(metadata.get(REQUEST_ID)[0]);
}

/** The line of a call that has ended. */
export function logCall({ log }: ServerContext, call: AnyCall, requestId: string, code: status, begun: number): void {
  const ms = Math.round((performance.now() - begun) * 1000) / 1000;
  log.logger.debug({ requestId, method: call.getPath(), code, ms }, 'gRPC call');
}
