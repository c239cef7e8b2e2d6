/**
 * What Node.js and the machine take without Rose: the same bytes over the same sockets from a server that knows nothing.
 * `simple` is answered without being read, `echo` gets its tensor back, and a token's event is one write to its socket
 * every two milliseconds. Over HTTP/2 every call is one of `simple`. Says on which ports it listens, HTTP's first.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { setTimeout } from 'node:timers/promises';

const GAP_MS = 2;

const binary = (name: string, datatype: string, shape: number[], bytes: number): object => ({
  ...{ name, datatype, shape },
  parameters: { binary_data_size: bytes },
});
const simple = Buffer.concat(
  [1, -1].map((sign) => Buffer.from(Int32Array.from({ length: 16 }, (_, i) => i + sign).buffer)),
);
const simpleJson = head('simple', [binary('OUTPUT0', 'INT32', [1, 16], 64), binary('OUTPUT1', 'INT32', [1, 16], 64)]);
const SIMPLE = simpleJson + simple.toString('latin1');

function head(model: string, outputs: object[]): string {
  return JSON.stringify({ model_name: model, model_version: '1', outputs });
}

function writeHead(response: ServerResponse, length: number, json: string): void {
  const lengths = ['content-length', String(length), 'inference-header-content-length', String(json.length)];
  response.writeHead(200, ['content-type', 'application/octet-stream', ...lengths]);
}

/** The chunks of a body behind its first bytes. */
function rest(chunks: readonly Buffer[], bytes: number): Buffer[] {
  let left = bytes;
  return chunks.flatMap((chunk) => {
    const kept = chunk.subarray(left);
    left = Math.max(0, left - chunk.length);
    return kept.length > 0 ? [kept] : [];
  });
}

async function tokens({ socket }: ServerResponse, count: number): Promise<void> {
  socket?.write('HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n');
  for (let i = 0; i < count; i++) {
    await setTimeout(GAP_MS);
    const text = `{"model_name":"chat","model_version":"1","text_output":"${process.hrtime.bigint()}"}`;
    const event = `data: ${text}\n\n`;
    socket?.write(`${event.length.toString(16)}\r\n${event}\r\n`, 'latin1');
  }
  socket?.end('0\r\n\r\n');
}

function answer({ url = '', headers }: IncomingMessage, chunks: Buffer[], response: ServerResponse): void {
  if (url.endsWith('/generate_stream')) {
    const { max_tokens } = JSON.parse(String(Buffer.concat(chunks))) as { max_tokens: number };
    void tokens(response, max_tokens);
  } else if (url.includes('/echo/')) {
    const tensor = rest(chunks, Number(headers['inference-header-content-length']));
    const bytes = tensor.reduce((sum, { length }) => sum + length, 0);
    const json = head('echo', [binary('OUTPUT0', 'FP32', [bytes / 4], bytes)]);
    writeHead(response, json.length + bytes, json);
    response.cork();
    response.write(json);
    for (const chunk of tensor) response.write(chunk);
    response.end();
  } else {
    writeHead(response, SIMPLE.length, simpleJson);
    response.end(SIMPLE, 'latin1');
  }
}

const server = createServer({ noDelay: true }, (request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => answer(request, chunks, response));
});

/** A ModelInferResponse that has the tensors alone: fields 6, all shorter than 128 bytes. */
const tensors = [simple.subarray(0, 64), simple.subarray(64)].flatMap((tensor) => [
  Buffer.from([(6 << 3) | 2, tensor.length]),
  tensor,
]);
const GRPC_SIMPLE = Buffer.concat([Buffer.from([0, 0, 0, 0, 132]), ...tensors]);
const GRPC_HEADERS = [':status', '200', 'content-type', 'application/grpc'];
const GRPC_OPTIONS = { waitForTrailers: true, sendDate: false };

const grpcServer = createHttp2Server();
grpcServer.on('stream', (stream: ServerHttp2Stream) => {
  stream.resume();
  stream.on('end', () => {
    stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': 0 }));
    stream.respond(GRPC_HEADERS, GRPC_OPTIONS);
    stream.end(GRPC_SIMPLE);
  });
});

const ports: number[] = [];
for (const one of [server, grpcServer]) {
  await once(one.listen(0, '127.0.0.1'), 'listening');
  ports.push((one.address() as AddressInfo).port);
}
console.log(...ports);
