import { connect, constants } from 'node:http2';
import type { Connection } from './connection.ts';

/** A message as it travels in a stream: not compressed, with its length in front. */
export function grpcFrame(message: Uint8Array): Buffer {
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  return frame;
}

/**
 * A connection of HTTP/2 with one call at a time that sends the same message again and again: much cheaper than a
 * client of a library.
 * @param tail what every answer must end with
 */
export function grpcConnection(
  host: string,
  port: number,
  path: string,
  message: Buffer,
  tail: Buffer,
): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const session = connect(`http://${host}:${port}`, { settings: { initialWindowSize: 2 ** 24 } });
    session.on('error', reject);
    const headers = {
      [constants.HTTP2_HEADER_METHOD]: 'POST',
      [constants.HTTP2_HEADER_PATH]: path,
      te: 'trailers',
      'content-type': 'application/grpc',
      'grpc-accept-encoding': 'identity',
    };
    session.on('connect', () => {
      session.setLocalWindowSize(2 ** 24);
      resolve({
        request(done) {
          const call = session.request(headers);
          let last: Buffer = Buffer.alloc(0);
          let status: string | string[] | undefined;
          let text: string | string[] | undefined;
          const take = (fields: Record<string, unknown>): void => {
            status = fields['grpc-status'] as string | undefined;
            text = fields['grpc-message'] as string | undefined;
          };
          call.on('response', take);
          call.on('trailers', take);
          call.on('data', (chunk: Buffer) => {
            last = chunk.length >= tail.length ? chunk : Buffer.concat([last.subarray(-tail.length), chunk]);
          });
          call.on('end', () => {
            const good = status === '0' && last.subarray(last.length - tail.length).equals(tail);
            done(good ? undefined : new Error(`wrong answer: status ${String(status)} ${String(text)}`));
          });
          call.on('error', done);
          call.end(message);
        },
        close: () => session.destroy(),
      });
    });
  });
}
