import { connect, type Socket } from 'node:net';
import type { Connection } from './connection.ts';

/** Bytes of a request to `path`, ready to be sent. */
export function httpRequest(path: string, headers: Readonly<Record<string, string | number>>, body: Buffer): Buffer {
  const lines = [
    `POST ${path} HTTP/1.1`,
    'Host: localhost',
    ...Object.entries({ ...headers, 'Content-Length': body.length }).map(([name, value]) => `${name}: ${value}`),
  ];
  return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`), body]);
}

/**
 * A connection of HTTP/1.1 kept alive that sends the same bytes again and again: much cheaper than a client of any
 * library, so that the server is what is measured.
 * @param tail what every answer's body must end with
 */
export function httpConnection(host: string, port: number, request: Buffer, tail: Buffer): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect({ host, port, noDelay: true });
    let done: (error?: Error) => void = () => {};
    let head = '';
    /** Bytes of the answer's body that are still to come; -1: its head is. */
    let missing = -1;
    let last: Buffer = Buffer.alloc(0);
    const finish = (): void => {
      missing = -1;
      head = '';
      const good = last.subarray(last.length - tail.length).equals(tail);
      done(good ? undefined : new Error(`wrong answer: ${last.subarray(-200).toString('latin1')}`));
    };
    socket.on('data', (chunk: Buffer) => {
      let at = 0;
      if (missing < 0) {
        head += chunk.toString('latin1', 0, 2048);
        const end = head.indexOf('\r\n\r\n');
        if (end < 0) return;
        if (!head.startsWith('HTTP/1.1 200')) return done(new Error(head));
        missing = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1]);
        at = end + 4;
      }
      missing -= chunk.length - at;
      // The end of a large answer may come in pieces.
      last =
        chunk.length - at >= tail.length
          ? chunk.subarray(at)
          : Buffer.concat([last.subarray(-tail.length), chunk.subarray(at)]);
      if (missing === 0) finish();
    });
    socket.on('error', (error) => {
      reject(error);
      done(error);
    });
    socket.on('close', () => done(new Error('the server closed the connection')));
    socket.on('connect', () =>
      resolve({
        request(callback) {
          done = callback;
          last = Buffer.alloc(0);
          socket.write(request);
        },
        close() {
          done = () => {};
          socket.destroy();
        },
      }),
    );
  });
}
