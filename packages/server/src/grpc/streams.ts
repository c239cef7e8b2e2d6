import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Http2Server, IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';

/** Node.js tells here of each server that has begun to listen. */
const LISTENING = 'tracing:net.server.listen:asyncEnd';

/**
 * The servers that listen on a port, which grpc-js keeps to itself.
 * @param bind has them listen, and resolves with their port
 */
export async function serversBehind(bind: () => Promise<number>): Promise<{ port: number; servers: Http2Server[] }> {
  const listening: Http2Server[] = [];
  const heard = (message: unknown): void => void listening.push((message as { readonly server: Http2Server }).server);
  subscribe(LISTENING, heard);
  try {
    const port = await bind();
    const servers = listening.filter((server) => {
      const address = server.address();
      return typeof address === 'object' && address?.port === port;
    });
    return { port, servers };
  } finally {
    unsubscribe(LISTENING, heard);
  }
}

type Listener = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void;

/**
 * Have a server's streams offered to `take` first.
 * @param take returns whether it serves the stream; the server's own listeners get the others
 */
export function takeStreams(server: Http2Server, take: (...of: Parameters<Listener>) => boolean): void {
  const theirs = server.listeners('stream') as unknown as Listener[];
  server.removeAllListeners('stream');
  server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    if (!take(stream, headers)) for (const listener of theirs) listener.call(server, stream, headers);
  });
}

/** As long as a timer waits, 24 days: connections do not end for silence. */
const NEVER_MS = 2 ** 31 - 1;

/** Ends connections that have had no call for so long, be it that they never had one. */
export function endIdle(server: Http2Server, limitMs: number): void {
  if (limitMs >= NEVER_MS) return;
  server.on('session', (session) => {
    let calls = 0;
    const timer = setTimeout(() => {
      if (calls === 0) session.close();
    }, limitMs).unref();
    session.on('stream', (stream) => {
      calls++;
      stream.once('close', () => {
        if (--calls === 0 && !session.closed) timer.refresh();
      });
    });
    session.on('close', () => clearTimeout(timer));
  });
}
