import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  connect,
  constants,
  createServer,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { deflateSync, gzipSync } from 'node:zlib';
import { status } from '@grpc/grpc-js';
import { create, fromBinary, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { timeoutOf } from '../src/grpc/deadline.ts';
import {
  GRPCInferenceService,
  ModelInferRequestSchema,
  ModelInferResponseSchema,
} from '../src/grpc/proto/inference_pb.js';
import { SlowCalls } from '../src/grpc/slow-calls.ts';
import { CallError } from '../src/grpc/status.ts';
import { serveUnary, type UnaryMethod } from '../src/grpc/unary-call.ts';
import { rawTexts, serveGrpc, type GrpcServing } from './grpc-client.ts';
import { until } from './serving.ts';

const PATH = '/inference.GRPCInferenceService/ModelInfer';

type Request = MessageInitShape<typeof ModelInferRequestSchema>;

function embed(text: string): Buffer {
  const request: Request = {
    modelName: 'embed',
    inputs: [{ name: 'TEXT', datatype: 'BYTES', shape: [1n, 1n] }],
    rawInputContents: [rawTexts(text)],
  };
  return message(request);
}

function message(request: Request): Buffer {
  return Buffer.from(toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, request)));
}

/** A message as it travels. */
function framed(bytes: Buffer, flag = 0): Buffer {
  const head = Buffer.alloc(5);
  head[0] = flag;
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

interface Answer {
  readonly headers: IncomingHttpHeaders;
  readonly trailers: IncomingHttpHeaders | undefined;
  readonly data: Buffer;
}

interface Raw extends GrpcServing {
  /** One call whose data come in these pieces, each in a frame of its own. */
  readonly exchange: (pieces: readonly Buffer[], headers?: Record<string, string>) => Promise<Answer>;
  readonly begin: (headers?: Record<string, string>) => ClientHttp2Stream;
}

/** A server, and calls of ModelInfer that no client library makes. */
async function serveRaw(
  t: TestContext,
  ...options: Parameters<typeof serveGrpc> extends [unknown, unknown, ...infer R] ? R : never
): Promise<Raw> {
  const serving = await serveGrpc(t, GRPCInferenceService, ...options);
  const client = connect(`http://${serving.address}`);
  t.after(() => client.destroy());
  const begin: Raw['begin'] = (headers = {}) => {
    const usual = { ':method': 'POST', ':path': PATH, 'content-type': 'application/grpc', te: 'trailers' };
    return client.request({ ...usual, ...headers }).on('error', () => {});
  };
  return {
    ...serving,
    begin,
    exchange: async (pieces, headers) => {
      const call = begin(headers);
      const answer = answerOf(call);
      for (const piece of pieces) await new Promise((resolve) => call.write(piece, resolve));
      call.end();
      return answer;
    },
  };
}

async function answerOf(call: ClientHttp2Stream): Promise<Answer> {
  const data: Buffer[] = [];
  let trailers: IncomingHttpHeaders | undefined;
  call.on('data', (piece: Buffer) => data.push(piece));
  call.on('trailers', (given: IncomingHttpHeaders) => (trailers = given));
  const [headers] = (await once(call, 'response')) as [IncomingHttpHeaders];
  if (!call.closed) await once(call, 'close');
  return { headers, trailers, data: Buffer.concat(data) };
}

/** @returns the code and the decoded message of a call that failed, which says so in headers alone */
function failureOf({ headers, trailers, data }: Answer): [code: number, details: string] {
  assert.equal(headers[':status'], 200);
  assert.equal(headers['content-type'], 'application/grpc+proto');
  assert.deepEqual([trailers, data.length, headers.date], [undefined, 0, undefined]);
  return [Number(headers['grpc-status']), decodeURIComponent(String(headers['grpc-message']))];
}

function assertAnswered({ headers, trailers, data }: Answer): void {
  assert.equal(headers[':status'], 200);
  assert.equal(headers['content-type'], 'application/grpc+proto');
  assert.equal(headers['grpc-encoding'], 'identity');
  assert.deepEqual([trailers?.['grpc-status'], trailers?.['grpc-message']], ['0', 'OK']);
  assert.deepEqual([data[0], data.readUInt32BE(1)], [0, data.length - 5]);
  assert.equal(fromBinary(ModelInferResponseSchema, data.subarray(5)).outputs[0].name, 'EMBEDDING');
}

test('a message is answered however it is cut, and whatever stands behind it that is no message', async (t) => {
  const { exchange } = await serveRaw(t);
  const whole = framed(embed('a'));
  const cuts = [
    [whole],
    [whole.subarray(0, 3), whole.subarray(3)],
    [whole.subarray(0, 5), whole.subarray(5)],
    [whole.subarray(0, 5), Buffer.alloc(0), whole.subarray(5, 9), whole.subarray(9)],
    [...whole].map((byte) => Buffer.from([byte])),
    [Buffer.concat([whole, Buffer.from([0, 0])])],
    [whole, Buffer.from([0, 0, 0, 0, 9, 1])],
  ];
  for (const pieces of cuts) assertAnswered(await exchange(pieces));
  assertAnswered(await exchange([whole], { 'content-type': 'application/grpc+proto' }));
  assertAnswered(await exchange([whole], { 'grpc-timeout': '99999999H' }));
});

test('a call with no message, half of one, or two is refused', async (t) => {
  const { exchange } = await serveRaw(t);
  const whole = framed(embed('a'));
  const none = [status.UNIMPLEMENTED, `Received no request message for unary method ${PATH}`];
  assert.deepEqual(failureOf(await exchange([])), none);
  assert.deepEqual(failureOf(await exchange([whole.subarray(0, 4)])), none);
  assert.deepEqual(failureOf(await exchange([whole.subarray(0, -1)])), none);
  const two = [status.UNIMPLEMENTED, `Received a second request message for unary method ${PATH}`];
  assert.deepEqual(failureOf(await exchange([whole, framed(Buffer.alloc(0))])), two);
  assert.deepEqual(failureOf(await exchange([Buffer.concat([whole, whole])])), two);
});

test('compressed messages are unpacked, others are refused with what is wrong with them', async (t) => {
  const { exchange } = await serveRaw(t, { grpc: { port: 0, maxMessageBytes: 10_000 } });
  const bytes = embed('a');
  for (const [encoding, packed] of [
    ['gzip', gzipSync(bytes)],
    ['deflate', deflateSync(bytes)],
    ['identity', bytes],
  ] as const) {
    assertAnswered(await exchange([framed(packed, 1)], { 'grpc-encoding': encoding }));
    // What the stream may use, a message need not.
    assertAnswered(await exchange([framed(bytes)], { 'grpc-encoding': encoding }));
  }
  const sent = async (data: Buffer, encoding: string): Promise<[number, string]> =>
    failureOf(await exchange([framed(data, 1)], { 'grpc-encoding': encoding }));
  const unknown = 'Received message compressed with unsupported encoding "snappy"';
  assert.deepEqual(await sent(bytes, 'snappy'), [status.UNIMPLEMENTED, unknown]);
  assert.deepEqual(await sent(bytes, 'gzip'), [status.INTERNAL, 'Failed to decompress message']);
  const grown = 'Received message that decompresses to a size larger than 10000';
  assert.deepEqual(await sent(gzipSync(Buffer.alloc(10_001)), 'gzip'), [status.RESOURCE_EXHAUSTED, grown]);
  assertAnswered(await exchange([framed(bytes)]));
});

test('a message above the limit is refused as soon as its head is here, and no more of it is taken', async (t) => {
  const { begin, exchange } = await serveRaw(t, { grpc: { port: 0, maxMessageBytes: 10_000 } });
  const call = begin();
  const answer = answerOf(call);
  call.write(framed(Buffer.alloc(10_001)).subarray(0, 6));
  assert.deepEqual(failureOf(await answer), [
    status.RESOURCE_EXHAUSTED,
    'Received message larger than max (10001 vs 10000)',
  ]);
  assert.equal(call.rstCode, constants.NGHTTP2_NO_ERROR);
  assert.deepEqual(failureOf(await exchange([framed(Buffer.alloc(10_000))])), [
    status.INTERNAL,
    'Error deserializing request',
  ]);
});

test('an error has its text in any script, the name of the request, and its place in the log where that is wanted', async (t) => {
  const { exchange, log } = await serveRaw(t, { log: { verbose: 1 } });
  const answer = await exchange([framed(message({ modelName: 'ü 100 %\n', id: 'x' }))], {
    'x-request-id': 'mine',
  });
  assert.deepEqual(failureOf(answer), [status.NOT_FOUND, "Request for unknown model: 'ü 100 %\n' is not found"]);
  assert.match(String(answer.headers['grpc-message']), /^[\x21-\x7e]+$/);
  assert.equal(answer.headers['x-request-id'], 'mine');
  const lines = log.map((line) => JSON.parse(line) as Record<string, unknown>).filter(({ msg }) => msg === 'gRPC call');
  assert.deepEqual(
    lines.map(({ requestId, method, code }) => ({ requestId, method, code })),
    [{ requestId: 'mine', method: PATH, code: status.NOT_FOUND }],
  );
});

test('what is not gRPC is refused by its type', async (t) => {
  const { exchange } = await serveRaw(t);
  for (const type of ['application/json', '']) {
    const { headers } = await exchange([framed(embed('a'))], { 'content-type': type });
    assert.equal(headers[':status'], 415);
  }
});

test('a timeout that is none is refused; one that passes ends the work, and so does a client that goes', async (t) => {
  const { begin, exchange, hub } = await serveRaw(t);
  const wrong = failureOf(await exchange([framed(embed('a'))], { 'grpc-timeout': 'soon' }));
  assert.deepEqual(wrong, [status.INTERNAL, 'Invalid grpc-timeout value "soon"']);
  assert.deepEqual(failureOf(await exchange([framed(embed('!hang'))], { 'grpc-timeout': '50m' })), [
    status.DEADLINE_EXCEEDED,
    'Deadline exceeded',
  ]);
  await until(() => hub.active === 0 && hub.aborted === 1, 'the work ends');
  // It counts from the beginning of the call, whether or not its message ever comes.
  const silent = answerOf(begin({ 'grpc-timeout': '50000u' }));
  assert.equal(failureOf(await silent)[0], status.DEADLINE_EXCEEDED);
  const leaving = begin({ 'grpc-timeout': '1H' });
  leaving.end(framed(embed('!hang')));
  await until(() => hub.active === 1, 'it runs');
  leaving.close(constants.NGHTTP2_CANCEL);
  await until(() => hub.active === 0 && hub.aborted === 2, 'the work ends');
  assertAnswered(await exchange([framed(embed('a'))]));
});

test('a request that does not come, and a response that is not taken, are given up', async (t) => {
  const { begin, exchange, address } = await serveRaw(t, { receiveTimeoutMs: 300, sendTimeoutMs: 300 });
  const silent = begin();
  const refused = answerOf(silent);
  silent.write(framed(embed('a')).subarray(0, 7));
  assert.deepEqual(failureOf(await refused), [status.DEADLINE_EXCEEDED, 'The request did not come completely in time']);
  // No window: nothing of an answer can be sent.
  const closed = connect(`http://${address}`, { settings: { initialWindowSize: 0 } });
  t.after(() => closed.destroy());
  const unread = closed.request({
    ':method': 'POST',
    ':path': PATH,
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  unread.on('error', () => {});
  unread.end(framed(embed('a')));
  await once(unread, 'close');
  assert.equal(unread.rstCode, constants.NGHTTP2_CANCEL);
  assertAnswered(await exchange([framed(embed('a'))]));
});

test('a fault that nobody foresaw is told as one, and ends the call', async (t) => {
  const faults: unknown[] = [];
  const method: UnaryMethod = {
    ...{ path: PATH, maxMessageBytes: 100, receiveTimeoutMs: 10_000, sendTimeoutMs: 10_000 },
    slow: new SlowCalls(),
    refusal: () => undefined,
    answer: () => Promise.reject(new TypeError('of undefined')),
    failure: (error) => {
      faults.push(error);
      return new CallError(status.INTERNAL, 'a fault');
    },
  };
  const server = createServer().on('stream', (stream, headers) =>
    serveUnary(stream as ServerHttp2Stream, headers, method),
  );
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const client = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  t.after(() => (client.destroy(), server.close()));
  const call = client.request({ ':method': 'POST', ':path': PATH, 'content-type': 'application/grpc' });
  const answer = answerOf(call);
  call.end(framed(Buffer.alloc(1)));
  assert.deepEqual(failureOf(await answer), [status.INTERNAL, 'a fault']);
  assert.deepEqual(faults.map(String), ['TypeError: of undefined']);
});

test('timeouts are read as gRPC writes them', () => {
  const read = ['1H', '2M', '3S', '4m', '5000u', '6000000n', '0S', '99999999m', '99999999S'].map(timeoutOf);
  assert.deepEqual(read, [3_600_000, 120_000, 3000, 4, 5, 6, 0, 99_999_999, Infinity]);
  for (const wrong of ['', '1', 'S', '-1S', '1.5S', '123456789S', '1s', '1H1M'])
    assert.equal(timeoutOf(wrong), undefined);
});

test('a connection with a call of ModelInfer is not idle', async (t) => {
  const { begin, exchange, hub, address } = await serveRaw(t, { grpc: { port: 0, maxConnectionIdleMs: 300 } });
  const idle = connect(`http://${address}`);
  t.after(() => idle.destroy());
  const busy = begin();
  busy.end(framed(embed('!hang')));
  await until(() => hub.active === 1, 'it runs');
  await once(idle, 'close');
  assert.equal(hub.active, 1);
  // Over the same connection.
  assertAnswered(await exchange([framed(embed('a'))]));
  const over = once(busy.session as never, 'close');
  busy.close(constants.NGHTTP2_CANCEL);
  await over;
});
