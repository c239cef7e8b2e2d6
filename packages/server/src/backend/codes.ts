import type { ErrorCode } from './api.ts';

const STATUS: Readonly<Record<ErrorCode, number>> = {
  INVALID_ARG: 400,
  NOT_FOUND: 404,
  UNAVAILABLE: 503,
  UNSUPPORTED: 501,
  CANCELLED: 400,
  INTERNAL: 500,
};

/** The HTTP status that a model's error has for the client. */
export function statusOf(code: ErrorCode): number {
  return STATUS[code];
}

/** What a status means to a model that called another one. */
export function codeOf(status: number): ErrorCode {
  const known = (Object.keys(STATUS) as ErrorCode[]).find((code) => STATUS[code] === status);
  return known ?? 'INTERNAL';
}
