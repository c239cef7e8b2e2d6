import type { ServerHttp2Stream } from 'node:http2';
import type { ServerUnaryCall } from '@grpc/grpc-js';

// Why what is over is taken apart: V8 puts a function that is assigned to a property where it is made
// (`this.f = () => ...`) among its old objects at once, and each of Node.js's writable streams has one (`onwrite`). What it
// reaches outlives young collections until a full one. Without this that is all of a call, 5.5 kB and the message.

/** Take a stream apart once it is closed, and all who listen to its end have heard of it. */
export function releaseWhenClosed(stream: ServerHttp2Stream): void {
  stream.once('close', () => setImmediate(release, stream));
}

function release(stream: ServerHttp2Stream): void {
  stream.removeAllListeners();
  stream.on('error', ignore);
}

function ignore(): void {}

/**
 * Do so with a closed stream whose listeners hold nothing but it: Node.js's own of `finish` is what keeps it then. (Measured: of 600
 * calls a young collection leaves 0.4 MB in place of 1.7.)
 */
export function releaseListened(stream: ServerHttp2Stream): void {
  // While somebody listens to removals, they leave what they remove where it was.
  stream.removeAllListeners('removeListener');
  stream.removeAllListeners('finish');
}

/** Take a call apart whose answer is with grpc-js, which holds its own parts of it by itself. */
export function releaseCall<Request, Response>(call: ServerUnaryCall<Request, Response>): void {
  Object.assign(call, { call: undefined, request: undefined, metadata: undefined });
  call.removeAllListeners();
}
