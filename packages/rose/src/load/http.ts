import { Agent as HttpAgent, request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { text } from 'node:stream/consumers';
import { CommandError, ExitCode } from '../errors.ts';

export type Headers = Readonly<Record<string, string>>;

/** Connections are kept, and as many are opened as there are requests: none waits for another one's. */
const agents = {
  'http:': new HttpAgent({ keepAlive: true, maxSockets: Infinity }),
  'https:': new HttpsAgent({ keepAlive: true, maxSockets: Infinity }),
};

/** Starts a POST with a JSON body. */
export function post(url: URL, headers: Headers, body: object): ClientRequest {
  const bytes = Buffer.from(JSON.stringify(body));
  const request = requestOf(url, 'POST', {
    'content-type': 'application/json',
    'content-length': String(bytes.length),
    ...headers,
  });
  request.end(bytes);
  return request;
}

/**
 * Asks a server about itself.
 * @returns its JSON, or the status if that is not 200
 * @throws CommandError if there is no such server
 */
export async function ask(url: URL, headers: Headers, timeoutMs: number): Promise<{ status: number; json: unknown }> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const request = requestOf(url, 'GET', headers);
    request.on('response', resolve).on('error', reject);
    request.setTimeout(timeoutMs, () => request.destroy(new Error(`no answer in ${timeoutMs / 1000} s`)));
    request.end();
  }).catch((error: unknown) => {
    throw unreachable(url, error);
  });
  const body = await text(response).catch((error: unknown) => {
    throw unreachable(url, error);
  });
  return { status: response.statusCode ?? 0, json: parsed(body) };
}

/** An error's name as the system has it (`ECONNREFUSED`), else its message. */
export function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code ?? message;
}

function unreachable(url: URL, error: unknown): CommandError {
  const message = `there is no server at ${url.origin} (${reasonOf(error)}). Start it, or correct the URL.`;
  return new CommandError(ExitCode.address, message, { cause: error });
}

function requestOf(url: URL, method: string, headers: Headers): ClientRequest {
  return url.protocol === 'https:'
    ? httpsRequest(url, { method, headers, agent: agents['https:'] })
    : httpRequest(url, { method, headers, agent: agents['http:'] });
}

/** JSON, or the text as it is. */
export function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return body;
  }
}
