import type { TestContext } from 'node:test';
import { startServer, type RunningServer, type ServerOptions } from '@rose/server';
import { fakeHub, type FakeHub } from './fake-hub.ts';

// What a server answers is what tests are about: they look into it without a type.
// oxlint-disable-next-line typescript/no-explicit-any
type Json = any;

export interface Reply extends Omit<Response, 'json'> {
  json(): Promise<Json>;
}

export interface Serving {
  readonly hub: FakeHub;
  readonly server: RunningServer;
  readonly url: string;
  /** Lines of the server's log. */
  readonly log: string[];
  readonly get: (path: string, init?: RequestInit) => Promise<Reply>;
  /** POST a JSON value, or text and bytes as they are. */
  readonly post: (path: string, body: unknown, init?: RequestInit) => Promise<Reply>;
}

/** A server over the fake hub, on a free port, for the time of one test. */
export async function serve(
  t: TestContext,
  options: Partial<ServerOptions> = {},
  hub: FakeHub = fakeHub(),
): Promise<Serving> {
  const log: string[] = [];
  const fixed = { host: '127.0.0.1', port: 0, version: '0.0.1', metrics: { onHttp: true } };
  const quiet = { info: false, write: (line: string) => void log.push(line) };
  const server = await startServer(hub, {
    ...fixed,
    ...options,
    log: options.log?.file === undefined ? { ...quiet, ...options.log } : options.log,
  });
  t.after(() => server.close(0));
  return {
    hub,
    server,
    url: server.url,
    log,
    get: (path, init) => fetch(server.url + path, init),
    post: (path, body, init = {}) =>
      fetch(server.url + path, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: typeof body === 'string' || body instanceof Uint8Array ? (body as string) : JSON.stringify(body),
        ...init,
      }),
  };
}

/** Waits for something that happens soon, on another turn of the event loop. */
export async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 2000; i++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`never happened: ${what}`);
}

/** The `data` of all server-sent events of a response; throws when the framing is not exactly `data: ...\n\n`. */
export async function eventsOf(response: Reply): Promise<string[]> {
  const text = await response.text();
  if (text === '') return [];
  if (!text.endsWith('\n\n')) throw new Error(`the stream does not end with an empty line: ${text.slice(-20)}`);
  return text
    .slice(0, -2)
    .split('\n\n')
    .map((event) => {
      if (!event.startsWith('data: ') || event.includes('\n')) throw new Error(`not one data line: ${event}`);
      return event.slice(6);
    });
}
