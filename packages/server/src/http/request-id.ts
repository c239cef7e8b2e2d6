import type { IncomingMessage } from 'node:http';

export const REQUEST_ID = 'x-request-id';

/** What a client may call its request in the log: visible characters, and not too many of them. */
const ACCEPTABLE = /^[\x21-\x7e]{1,128}$/;

let last = 0;

/** The log's name of a request: the client's own, if it gave one, or a number. */
export function requestIdOf(given: unknown): string {
  return typeof given === 'string' && ACCEPTABLE.test(given) ? given : String(++last);
}

export function httpRequestId({ headers }: IncomingMessage): string {
  return requestIdOf(headers[REQUEST_ID]);
}
