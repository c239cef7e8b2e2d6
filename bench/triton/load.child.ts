/** A load on a server, from a process of its own: what is asked for stands in the argument, the figures come as JSON. */
import { closedLoop, type Connection } from './connection.ts';
import { grpcConnection, grpcFrame } from './grpc-connection.ts';
import { httpConnection, httpRequest } from './http-connection.ts';
import { streamDelays } from './stream-delays.ts';

export interface LoadOrder {
  readonly kind: 'http' | 'http-json' | 'grpc' | 'http-large' | 'stream';
  readonly host: string;
  readonly port: number;
  readonly connections: number;
  readonly warmUpSeconds: number;
  readonly seconds: number;
  /** Of a large tensor. */
  readonly bytes: number;
}

const order = JSON.parse(process.argv[2]) as LoadOrder;
const { host, port } = order;

const a = Int32Array.from({ length: 16 }, (_, i) => i);
const b = Int32Array.from({ length: 16 }, () => 1);
const sum = a.map((x, i) => x + b[i]);
const difference = a.map((x, i) => x - b[i]);

function bytesOf({ buffer, byteOffset, byteLength }: Int32Array | Float32Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

function binaryRequest(model: string, inputs: Record<string, [string, number[], Buffer]>, outputs: string[]): Buffer {
  const json = Buffer.from(
    JSON.stringify({
      inputs: Object.entries(inputs).map(([name, [datatype, shape, bytes]]) => ({
        ...{ name, datatype, shape },
        parameters: { binary_data_size: bytes.length },
      })),
      outputs: outputs.map((name) => ({ name, parameters: { binary_data: true } })),
    }),
  );
  const body = Buffer.concat([json, ...Object.values(inputs).map(([, , bytes]) => bytes)]);
  const headers = { 'Content-Type': 'application/octet-stream', 'Inference-Header-Content-Length': json.length };
  return httpRequest(`/v2/models/${model}/infer`, headers, body);
}

function open(): Promise<Connection> {
  if (order.kind === 'http') {
    const inputs: Record<string, [string, number[], Buffer]> = {
      INPUT0: ['INT32', [1, 16], bytesOf(a)],
      INPUT1: ['INT32', [1, 16], bytesOf(b)],
    };
    const request = binaryRequest('simple', inputs, ['OUTPUT0', 'OUTPUT1']);
    return httpConnection(host, port, request, Buffer.concat([bytesOf(sum), bytesOf(difference)]));
  }
  if (order.kind === 'http-json') {
    const tensor = (name: string, data: Int32Array): object => ({
      name,
      datatype: 'INT32',
      shape: [1, 16],
      data: [...data],
    });
    const body = Buffer.from(JSON.stringify({ inputs: [tensor('INPUT0', a), tensor('INPUT1', b)] }));
    const request = httpRequest('/v2/models/simple/infer', { 'Content-Type': 'application/json' }, body);
    return httpConnection(host, port, request, Buffer.from(`"data":[${difference.join(',')}]}]}`));
  }
  if (order.kind === 'http-large') {
    const values = Float32Array.from({ length: order.bytes / 4 }, (_, i) => i);
    const bytes = bytesOf(values);
    const request = binaryRequest('echo', { INPUT0: ['FP32', [values.length], bytes] }, ['OUTPUT0']);
    return httpConnection(host, port, request, bytes.subarray(-1024));
  }
  const input = (name: string): Buffer =>
    message([1, Buffer.from(name)], [2, Buffer.from('INT32')], [3, Buffer.from([1, 16])]);
  const request = message(
    ...([
      [1, Buffer.from('simple')],
      [5, input('INPUT0')],
      [5, input('INPUT1')],
    ] as const),
    ...([
      [7, bytesOf(a)],
      [7, bytesOf(b)],
    ] as const),
  );
  const answer = message([6, bytesOf(sum)], [6, bytesOf(difference)]);
  const path = '/inference.GRPCInferenceService/ModelInfer';
  return grpcConnection(host, port, path, grpcFrame(request), answer);
}

/** A protobuf message of fields that are strings, bytes, messages or packed numbers, all shorter than 128 bytes. */
function message(...fields: readonly (readonly [number: number, bytes: Buffer])[]): Buffer {
  return Buffer.concat(fields.flatMap(([number, bytes]) => [Buffer.from([(number << 3) | 2, bytes.length]), bytes]));
}

if (order.kind === 'stream') {
  console.log(JSON.stringify(await streamDelays(host, port, order.connections, Math.ceil(500 * order.seconds))));
  process.exit();
}
const connections = await Promise.all(Array.from({ length: order.connections }, open));
console.log(JSON.stringify(await closedLoop(connections, order)));
process.exit();
