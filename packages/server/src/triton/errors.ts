import { RoseError, type ErrorCode } from '@rose/engine';

/** An answer in Triton's own words: its status and text are what Triton's clients and its tests look at. */
export class TritonError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Triton knows fewer statuses than Rose has codes. */
const STATUS: Readonly<Record<ErrorCode, number>> = {
  invalid: 400,
  not_found: 404,
  too_large: 400,
  overloaded: 503,
  unsupported: 501,
  unavailable: 503,
  deadline: 503,
  cancelled: 400,
  internal: 500,
};

export function tritonStatus(error: unknown): number {
  return error instanceof TritonError ? error.status : STATUS[RoseError.from(error).code];
}

/** The body of every error. */
export function tritonErrorBody(error: unknown): string {
  return JSON.stringify({ error: error instanceof Error ? error.message : String(error) });
}

/** A request that cannot be served as written. */
export function invalid(message: string): TritonError {
  return new TritonError(400, message);
}

/**
 * A body whose JSON is broken or has a value of the wrong type. Triton answers these with 500, and its clients
 * compare statuses.
 */
export function malformed(message: string): TritonError {
  return new TritonError(500, message);
}

export function refuseRepositoryName(): TritonError {
  return new TritonError(501, "'repository_name' specification is not supported");
}
