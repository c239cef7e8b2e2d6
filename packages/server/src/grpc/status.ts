import { Metadata, status } from '@grpc/grpc-js';
import { RoseError, type ErrorCode } from '@rose/engine';
import type { ServerContext } from '../context.ts';
import { requestError } from '../http/errors.ts';
import { REQUEST_ID } from '../http/request-id.ts';
import { TritonError } from '../triton/errors.ts';

const OF_CODE: Readonly<Record<ErrorCode, status>> = {
  invalid: status.INVALID_ARGUMENT,
  not_found: status.NOT_FOUND,
  too_large: status.INVALID_ARGUMENT,
  overloaded: status.UNAVAILABLE,
  unsupported: status.UNIMPLEMENTED,
  unavailable: status.UNAVAILABLE,
  deadline: status.UNAVAILABLE,
  cancelled: status.CANCELLED,
  internal: status.INTERNAL,
};

/** Of the statuses that Triton's own answers have over HTTP. */
const OF_HTTP: Readonly<Record<number, status>> = {
  400: status.INVALID_ARGUMENT,
  404: status.NOT_FOUND,
  500: status.INTERNAL,
  501: status.UNIMPLEMENTED,
  503: status.UNAVAILABLE,
};

/** How a call fails, as grpc-js takes it, too. */
export class CallError extends Error {
  readonly code: status;
  readonly details: string;
  readonly metadata: Metadata;

  constructor(code: status, details: string, metadata: Metadata = new Metadata()) {
    super(details);
    this.code = code;
    this.details = details;
    this.metadata = metadata;
  }
}

/**
 * Any error of a call, with the status that Triton's clients expect. Faults of Rose go to the log.
 * @param requestId the log's name of the call
 */
export function serviceError(error: unknown, context: ServerContext, requestId: string): CallError {
  const known = error instanceof TritonError ? error : requestError(error, context, requestId);
  const code = known instanceof RoseError ? OF_CODE[known.code] : (OF_HTTP[known.status] ?? status.UNKNOWN);
  const metadata = new Metadata();
  metadata.set(REQUEST_ID, requestId);
  if (known instanceof RoseError && known.retryAfterSeconds !== undefined) {
    metadata.set('retry-after', String(known.retryAfterSeconds));
  }
  return new CallError(code, known.message, metadata);
}
