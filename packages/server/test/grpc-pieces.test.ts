import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { MOST_TINY_PIECES, Pieces, TINY_BYTES } from '../src/grpc/pieces.ts';
import { GRPCInferenceService } from '../src/grpc/proto/inference_pb.js';
import { serveGrpc } from './grpc-client.ts';
import { until } from './serving.ts';

/** A message with its head, as it travels. */
function framed(bytes: number): Buffer {
  const message = Buffer.alloc(5 + bytes, 7);
  message[0] = 0;
  message.writeUInt32BE(bytes, 1);
  return message;
}

function cut(bytes: Buffer, size: number): Buffer[] {
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
}

test('a message in too many tiny pieces is refused, and only such a one', () => {
  const takes = (pieces: readonly Buffer[]): number => {
    const counted = new Pieces();
    const refused = pieces.findIndex((piece) => !counted.take(piece));
    return refused < 0 ? pieces.length : refused;
  };
  assert.equal(takes(cut(framed(100_000), 1)), MOST_TINY_PIECES);
  assert.equal(takes(cut(framed(10_000_000), TINY_BYTES - 1)), MOST_TINY_PIECES);
  const large = cut(framed(10_000_000), TINY_BYTES);
  assert.ok(large.length > 4 * MOST_TINY_PIECES);
  assert.equal(takes(large), large.length);
  // Whole messages are no pieces, whether they come one by one, several together, or each in two.
  const small = framed(20);
  const many = Array.from({ length: 3 * MOST_TINY_PIECES }, () => small);
  assert.equal(takes(many), many.length);
  const twos = many.flatMap((message) => [message.subarray(0, 5), message.subarray(5)]);
  assert.equal(takes(twos), twos.length);
  const sevens = cut(Buffer.concat(many), 7);
  assert.equal(takes(sevens), sevens.length);
  const empty = Array.from({ length: 3 * MOST_TINY_PIECES }, () => framed(0));
  assert.equal(takes(empty), empty.length);
  // The next message counts anew, from the piece that its beginning came in.
  const rest = cut(framed(100_000), 1);
  const [first, ...others] = rest;
  assert.equal(takes([...cut(framed(5000), 1), ...rest]), 5005 + MOST_TINY_PIECES);
  assert.equal(takes([Buffer.concat([small, small, first]), ...others]), MOST_TINY_PIECES);
});

const [DATA, HEADERS, RST_STREAM, SETTINGS] = [0, 1, 3, 4];
const [END_STREAM, END_HEADERS] = [1, 4];
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** Headers of a call in HPACK, plain (RFC 7541, 6.1 and 6.2.2). */
function callHeaders(path: string): Buffer {
  const text = (value: string): Buffer => Buffer.concat([Buffer.from([value.length]), Buffer.from(value)]);
  return Buffer.concat([
    // :method POST and :scheme http of the static table, then values with names of its own.
    ...[Buffer.from([0x83, 0x86, 0x04]), text(path), Buffer.from([0x01]), text('x')],
    ...[Buffer.from([0x0f, 0x10]), text('application/grpc')],
  ]);
}

test('a call whose message comes byte by byte ends with the reason, and the connection goes on', async (t) => {
  const { address, call, log, hub } = await serveGrpc(t, GRPCInferenceService);
  const socket: Socket = connect(Number(address.split(':')[1]), '127.0.0.1');
  t.after(() => socket.destroy());
  const path = '/inference.GRPCInferenceService/';
  let heard = Buffer.alloc(0);
  socket.on('data', (data: Buffer) => (heard = Buffer.concat([heard, data])));
  /** Frames of a stream that came so far. */
  const frames = (stream: number): { type: number; flags: number; payload: Buffer }[] => {
    const found: { type: number; flags: number; payload: Buffer }[] = [];
    for (let at = 0; at + 9 <= heard.length;) {
      const end = at + 9 + heard.readUIntBE(at, 3);
      if (heard.readUInt32BE(at + 5) === stream && end <= heard.length) {
        found.push({ type: heard[at + 3], flags: heard[at + 4], payload: heard.subarray(at + 9, end) });
      }
      at = end;
    }
    return found;
  };
  const isOver = (stream: number): boolean =>
    frames(stream).some(({ type, flags }) => type === RST_STREAM || (type === HEADERS && (flags & END_STREAM) !== 0));
  const byByte = (stream: number, of: string): Buffer =>
    Buffer.concat([
      frame(HEADERS, END_HEADERS, stream, callHeaders(path + of)),
      // No more than the windows let through.
      ...cut(framed(1_000_000).subarray(0, 20_000), 1).map((byte) => frame(DATA, 0, stream, byte)),
    ]);
  socket.write(Buffer.concat([PREFACE, frame(SETTINGS, 0, 0, Buffer.alloc(0)), byByte(1, 'ModelInfer')]));
  await until(() => isOver(1), 'the call ends');
  const [first] = frames(1).filter(({ type }) => type === HEADERS);
  assert.equal(first.flags & END_STREAM, END_STREAM);
  socket.write(byByte(3, 'ModelStreamInfer'));
  await until(() => isOver(3), 'the stream ends');
  socket.write(
    Buffer.concat([
      frame(HEADERS, END_HEADERS, 5, callHeaders(`${path}ServerLive`)),
      frame(DATA, END_STREAM, 5, framed(0)),
    ]),
  );
  await until(() => isOver(5), 'another call is answered');
  assert.ok(frames(5).some(({ type, payload }) => type === DATA && payload.equals(Buffer.from([0, 0, 0, 0, 2, 8, 1]))));
  assert.equal((await call(GRPCInferenceService, 'ServerLive')).live, true);
  assert.equal(hub.active, 0);
  assert.deepEqual(log, []);
});

test('the client is told why', async (t) => {
  const { address } = await serveGrpc(t, GRPCInferenceService);
  const client = connectHttp2(`http://${address}`);
  t.after(() => client.destroy());
  const path = '/inference.GRPCInferenceService/ModelInfer';
  const call = client.request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' });
  const answer = once(call, 'response') as Promise<[Record<string, string>]>;
  const message = framed(1_000_000);
  let at = 0;
  // A turn for each byte: what is written in one goes in one frame.
  const next = (): void => {
    if (call.closed || call.destroyed || at === message.length) return;
    call.write(message.subarray(at, ++at));
    setImmediate(next);
  };
  call.on('error', () => {});
  next();
  const [headers] = await answer;
  assert.equal(headers['grpc-status'], String(status.RESOURCE_EXHAUSTED));
  assert.equal(
    decodeURIComponent(headers['grpc-message']),
    'Received a message in more than 8192 pieces of less than 256 bytes on average',
  );
});
