/**
 * What went wrong, in terms a protocol can translate into its own status:
 *
 * | code | HTTP | meaning |
 * | --- | --- | --- |
 * | invalid | 400 | the request cannot be served as written |
 * | not_found | 404 | no such model or file |
 * | too_large | 413 | the body or a tensor is over a limit |
 * | overloaded | 429 | the queue is full: try again later |
 * | unsupported | 501 | understood, but Rose does not do it |
 * | unavailable | 503 | the model or its device cannot answer now |
 * | deadline | 504 | the request's own deadline passed |
 * | cancelled | 499 | the client went away or asked to stop |
 * | internal | 500 | a fault of Rose |
 */
export type ErrorCode =
  | 'invalid'
  | 'not_found'
  | 'too_large'
  | 'overloaded'
  | 'unsupported'
  | 'unavailable'
  | 'deadline'
  | 'cancelled'
  | 'internal';

/** An error whose message is meant for the person who sent the request or started the server. */
export class RoseError extends Error {
  readonly code: ErrorCode;
  /** Name of the offending field of the request, if there is one. */
  readonly param: string | undefined;
  /** For `overloaded` and `unavailable`: when it is worth trying again. */
  readonly retryAfterSeconds: number | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options?: { param?: string; retryAfterSeconds?: number; cause?: unknown },
  ) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'RoseError';
    this.code = code;
    this.param = options?.param;
    this.retryAfterSeconds = options?.retryAfterSeconds;
  }

  /** The error as a plain object, for crossing a channel. */
  toJSON(): SerializedError {
    const { code, message, param, retryAfterSeconds } = this;
    return { code, message, param, retryAfterSeconds };
  }

  /** Any thrown value as a RoseError; what is not one already becomes `internal`. */
  static from(error: unknown): RoseError {
    if (error instanceof RoseError) return error;
    const message = error instanceof Error ? error.message : String(error);
    return new RoseError('internal', message, { cause: error });
  }

  static deserialize(error: SerializedError): RoseError {
    const { code, message, param, retryAfterSeconds } = error;
    return new RoseError(code, message, {
      ...(param !== undefined && { param }),
      ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
    });
  }
}

export interface SerializedError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly param: string | undefined;
  readonly retryAfterSeconds: number | undefined;
}

/** Any thrown value as an Error. */
export function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

/** An invariant of ours: its failure is a bug, never a user's mistake. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new RoseError('internal', `internal error: ${message}`);
}
