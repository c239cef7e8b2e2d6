import { connect } from 'node:net';
import type { Connection } from './connection.ts';

/** HTTP/2's frame types and flags that a unary call needs (RFC 9113, section 6). */
const DATA = 0;
const HEADERS = 1;
const RST_STREAM = 3;
const SETTINGS = 4;
const PING = 6;
const GOAWAY = 7;
const WINDOW_UPDATE = 8;
const END_STREAM = 1;
const ACK = 1;
const END_HEADERS = 4;
const FRAME_HEAD = 9;

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** A message as it travels in a stream: not compressed, with its length in front. */
export function grpcFrame(message: Uint8Array): Buffer {
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  return frame;
}

/**
 * A connection of HTTP/2 with one unary call at a time that sends the same message again and again. It speaks just the
 * frames that this takes: Node's own client costs more than the server that is to be measured.
 * @param message as `grpcFrame` makes it
 * @param tail what every answer's data must end with
 */
export function grpcConnection(
  host: string,
  port: number,
  path: string,
  message: Buffer,
  tail: Buffer,
): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const headers = requestHeaders(host, path);
    // HEADERS and DATA of a call, but for the stream's number.
    const request = Buffer.concat([frame(HEADERS, END_HEADERS, 0, headers), frame(DATA, END_STREAM, 0, message)]);
    const dataAt = FRAME_HEAD + headers.length;
    const socket = connect({ host, port, noDelay: true });
    let done: (error?: Error) => void = () => {};
    let stream = -1;
    let rest: Buffer = Buffer.alloc(0);
    let last: Buffer = Buffer.alloc(0);
    const take = (type: number, flags: number, of: number, payload: Buffer): void => {
      if (type === SETTINGS && (flags & ACK) === 0) socket.write(frame(SETTINGS, ACK, 0, Buffer.alloc(0)));
      else if (type === PING && (flags & ACK) === 0) socket.write(frame(PING, ACK, 0, payload));
      else if (type === GOAWAY || type === RST_STREAM) done(new Error(`the server ended the call: frame ${type}`));
      else if (of === stream) {
        if (type === DATA) last = payload;
        if ((flags & END_STREAM) === 0 || (type !== DATA && type !== HEADERS)) return;
        // A call that failed ends without data.
        const good = last.subarray(last.length - tail.length).equals(tail);
        done(good ? undefined : new Error(`wrong answer: ${last.length} bytes of data`));
      }
    };
    socket.on('data', (chunk: Buffer) => {
      const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      let at = 0;
      while (bytes.length - at >= FRAME_HEAD) {
        const length = bytes.readUIntBE(at, 3);
        const end = at + FRAME_HEAD + length;
        if (end > bytes.length) break;
        take(bytes[at + 3], bytes[at + 4], bytes.readUInt32BE(at + 5), bytes.subarray(at + FRAME_HEAD, end));
        at = end;
      }
      rest = bytes.subarray(at);
    });
    socket.on('error', (error) => {
      reject(error);
      done(error);
    });
    socket.on('close', () => done(new Error('the server closed the connection')));
    socket.on('connect', () => {
      // As large a window as there is: none of it is given back.
      const window = Buffer.alloc(4);
      window.writeUInt32BE(2 ** 31 - 1 - 65_535);
      socket.write(
        Buffer.concat([PREFACE, frame(SETTINGS, 0, 0, Buffer.alloc(0)), frame(WINDOW_UPDATE, 0, 0, window)]),
      );
      resolve({
        request(callback) {
          done = callback;
          stream += 2;
          last = Buffer.alloc(0);
          request.writeUInt32BE(stream, 5);
          request.writeUInt32BE(stream, dataAt + 5);
          socket.write(request);
        },
        close() {
          done = () => {};
          socket.destroy();
        },
      });
    });
  });
}

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(FRAME_HEAD);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** A call's headers in HPACK, plain and without its table of recent ones (RFC 7541, sections 6.1 and 6.2.2). */
function requestHeaders(host: string, path: string): Buffer {
  const text = (value: string): Buffer => Buffer.concat([Buffer.from([value.length]), Buffer.from(value)]);
  return Buffer.concat([
    // :method POST and :scheme http, from the static table.
    Buffer.from([0x83, 0x86]),
    ...[Buffer.from([0x04]), text(path)],
    ...[Buffer.from([0x01]), text(host)],
    ...[Buffer.from([0x0f, 0x10]), text('application/grpc')],
    ...[Buffer.from([0x00]), text('te'), text('trailers')],
  ]);
}
