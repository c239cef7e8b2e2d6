import { status } from '@grpc/grpc-js';
import type { HeaderReader } from '../access/access.ts';
import type { ServerContext } from '../context.ts';
import { REQUEST_ID, requestIdOf } from '../http/request-id.ts';
import { serviceError } from './status.ts';

/** The log's name of a call: the client's own, if its metadata has one. */
export function callId(header: HeaderReader): string {
  return requestIdOf(header(REQUEST_ID));
}

/**
 * A call's answer. The log tells of the call where that is wanted, and of faults of Rose.
 * @param path of its method
 * @throws CallError of whatever `answer` throws
 */
export async function loggedCall<Response>(
  context: ServerContext,
  path: string,
  header: HeaderReader,
  answer: () => Promise<Response>,
): Promise<Response> {
  const { verbose } = context.log.settings;
  const begun = performance.now();
  // Most calls are never named.
  let requestId = verbose > 0 ? callId(header) : undefined;
  let code = status.OK;
  try {
    return await answer();
  } catch (error) {
    requestId ??= callId(header);
    const failure = serviceError(error, context, requestId);
    code = failure.code;
    throw failure;
  } finally {
    if (verbose > 0) logCall(context, path, requestId ?? '', code, begun);
  }
}

/** The line of a call that has ended. */
export function logCall({ log }: ServerContext, path: string, requestId: string, code: status, begun: number): void {
  const ms = Math.round((performance.now() - begun) * 1000) / 1000;
  log.logger.debug({ requestId, method: path, code, ms }, 'gRPC call');
}
