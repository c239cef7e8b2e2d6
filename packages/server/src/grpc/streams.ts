import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Http2Session, ServerHttp2Stream } from 'node:http2';

/** Node.js tells of each stream of HTTP/2 here, before its server does. */
const STARTED = 'http2.server.stream.start';

/**
 * Shows `watch` each stream that begins on a port, before grpc-js sees it, which keeps its streams to itself.
 * @returns ends it
 */
export function watchStreams(port: number, watch: (stream: ServerHttp2Stream) => void): () => void {
  const ours = new WeakMap<Http2Session, boolean>();
  const started = (message: unknown): void => {
    const { stream } = message as { readonly stream: ServerHttp2Stream };
    const { session } = stream;
    if (session === undefined) return;
    let served = ours.get(session);
    if (served === undefined) {
      served = session.socket.localPort === port;
      ours.set(session, served);
    }
    if (served) watch(stream);
  };
  subscribe(STARTED, started);
  return () => unsubscribe(STARTED, started);
}
