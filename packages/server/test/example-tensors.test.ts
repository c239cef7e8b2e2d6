import assert from 'node:assert/strict';
import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { crc32, deflateSync } from 'node:zlib';
import { GRPCInferenceService } from '../src/grpc/proto/inference_pb.js';
import { serveGrpc } from './grpc-client.ts';
import { makeRepository, write } from './repository-kit.ts';
import { serve } from './serving.ts';

const DIRECTORY = fileURLToPath(new URL('../../../examples/model-repository', import.meta.url));
const explicit = (...loadModels: string[]): object => ({
  repository: { directories: [DIRECTORY], mode: 'explicit', loadModels },
});

test('models that answer with their input, of every type that tests of Triton ask for', async (t) => {
  const asked: [string, string, number[], number][] = [
    ['identity_fp16', 'FP16', [1, 3], 2],
    ['identity_bf16', 'BF16', [2, 3], 2],
    ['identity_int64', 'INT64', [1, 2], 8],
    ['custom_identity_int32', 'INT32', [1, 16], 4],
    ['onnx_zero_1_float32', 'FP32', [2, 4], 4],
    ['pt_identity', 'FP32', [3, 8], 4],
  ];
  const { post } = await serve(t, explicit(...asked.map(([name]) => name)));
  for (const [name, datatype, shape, size] of asked) {
    const bytes = Buffer.from(Array.from({ length: size * shape[0] * shape[1] }, (_, i) => (7 * i) % 120));
    const header = JSON.stringify({
      inputs: [{ name: 'INPUT0', datatype, shape, parameters: { binary_data_size: bytes.length } }],
      outputs: [{ name: 'OUTPUT0', parameters: { binary_data: true } }],
    });
    const headers = { 'inference-header-content-length': String(header.length) };
    const response = await post(`/v2/models/${name}/infer`, Buffer.concat([Buffer.from(header), bytes]), { headers });
    const body = Buffer.from(await response.arrayBuffer());
    assert.equal(response.status, 200, `${name}: ${body.toString()}`);
    assert.deepEqual(body.subarray(-bytes.length), bytes, name);
  }
  const large = '{"inputs":[{"name":"INPUT0","datatype":"INT64","shape":[1,1],"data":[9007199254740993]}]}';
  assert.match(await (await post('/v2/models/identity_int64/infer', large)).text(), /"data":\[9007199254740993\]/);
});

test('square_int32 answers as often as it is told; the last may be empty or fail', async (t) => {
  const directory = makeRepository(t, {});
  for (const [name, fails, empty] of [
    ['plain', 0, 0],
    ['empty', 0, 2],
    ['failing', 1, 0],
  ] as const) {
    cpSync(join(DIRECTORY, 'square_int32'), join(directory, name), { recursive: true });
    const text = readFileSync(join(DIRECTORY, 'square_int32/config.pbtxt'), 'utf8')
      .replace('name: "square_int32"', '')
      .replace(/(CUSTOM_FAIL_COUNT" value { string_value: ")0/, `$1${fails}`)
      .replace(/(CUSTOM_EMPTY_COUNT" value { string_value: ")0/, `$1${empty}`);
    write(directory, { [`${name}/config.pbtxt`]: text });
  }
  const { stream, call } = await serveGrpc(t, GRPCInferenceService, { repository: { directories: [directory] } });
  const answers = async (model: string, count: number): Promise<(number | string)[]> => {
    const open = stream();
    const rawInputContents = [new Uint8Array(Int32Array.of(count).buffer)];
    open.send({ modelName: model, inputs: [{ name: 'IN', datatype: 'INT32', shape: [1n] }], rawInputContents });
    return (await open.end()).map(({ errorMessage, inferResponse }) => {
      if (errorMessage !== '') return errorMessage;
      return inferResponse?.outputs.length === 0 ? 'empty' : inferResponse!.rawOutputContents[0][0];
    });
  };
  assert.deepEqual(await answers('plain', 3), [3, 3, 3]);
  assert.deepEqual(await answers('plain', 0), []);
  assert.deepEqual(await answers('empty', 3), [3, 'empty', 'empty']);
  assert.deepEqual(await answers('failing', 2), [2, 'response 1 of 2 was to fail']);
  const { modelStats } = await call(GRPCInferenceService, 'ModelStatistics', { name: 'empty' });
  const { 0: first, 2: last } = modelStats[0].responseStats;
  assert.deepEqual([first.success.count, last.emptyResponse.count, last.success.count], [1n, 1n, 0n]);
});

/** A PNG of one colour; lines are told by all the filters in turn. */
function png(width: number, height: number, [red, green, blue]: readonly number[]): Buffer {
  const chunk = (kind: string, content: Uint8Array): Buffer => {
    const body = Buffer.concat([Buffer.from(kind), content]);
    const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(content.length);
    check.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, check]);
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const colour = [red, green, blue];
  const line = (y: number): number[] => {
    const filter = y === 0 ? 1 : y % 5;
    const value = (x: number): number => {
      const own = colour[x % 3];
      const left = x < 3 ? 0 : own;
      // Above every pixel but those of the first line stands its own colour.
      if (filter === 0) return own;
      if (filter === 1) return own - left;
      if (filter === 2) return 0;
      return filter === 3 ? own - ((left + own) >> 1) : 0;
    };
    return [filter, ...Array.from({ length: 3 * width }, (_, x) => value(x) & 255)];
  };
  const lines = Buffer.from(Array.from({ length: height }, (_, y) => line(y)).flat());
  const signature = Buffer.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(lines)),
    chunk('IEND', Buffer.of()),
  ]);
}

test('images: a file through an ensemble to its class, and pixels to theirs', async (t) => {
  const { post } = await serve(t, explicit('preprocess_inception_ensemble', 'densenet_onnx'));
  const ask = async (files: readonly Buffer[]): Promise<{ status: number; text: string }> => {
    const parts = files.map((file) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(file.length);
      return Buffer.concat([length, file]);
    });
    const bytes = Buffer.concat(parts);
    const input = { name: 'INPUT', datatype: 'BYTES', shape: [files.length, 1] };
    const header = JSON.stringify({
      inputs: [{ ...input, parameters: { binary_data_size: bytes.length } }],
      outputs: [{ name: 'OUTPUT', parameters: { classification: 1 } }],
    });
    const headers = { 'inference-header-content-length': String(header.length) };
    const body = Buffer.concat([Buffer.from(header), bytes]);
    const response = await post('/v2/models/preprocess_inception_ensemble/infer', body, { headers });
    return { status: response.status, text: await response.text() };
  };
  const { status, text } = await ask([png(40, 33, [250, 10, 20]), png(7, 50, [5, 0, 255])]);
  assert.equal(status, 200, text);
  assert.match(text, /"data":\["0\.\d+:1:red","0\.\d+:4:blue"\]/);
  const wrong = await ask([Buffer.from('GIF89a')]);
  assert.equal(wrong.status, 400);
  assert.match(wrong.text, /FILE is no PNG that can be read: it does not begin as one/);

  const bright = {
    name: 'data_0',
    datatype: 'FP32',
    shape: [3, 224, 224],
    data: Array.from({ length: 150_528 }).fill(0),
  };
  const outputs = [{ name: 'fc6_1', parameters: { classification: 1 } }];
  const classes = await (await post('/v2/models/densenet_onnx/infer', { inputs: [bright], outputs })).json();
  assert.match(classes.outputs[0].data[0], /^-?0\.0000\d\d:500:class 500$/);
});
