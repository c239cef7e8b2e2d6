import assert from 'node:assert/strict';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { GRPCInferenceService } from '../src/grpc/proto/inference_pb.js';
import { classify } from '../src/triton/classify.ts';
import type { DataType, NumericType } from '../src/triton/datatype.ts';
import type { ModelSignature } from '../src/triton/model.ts';
import { numbers as vector, texts, type Tensor } from '../src/triton/tensor.ts';
import { serveGrpc, textsOf } from './grpc-client.ts';
import { IDENTITY, makeRepository } from './repository-kit.ts';
import { serve, type Reply, type Serving } from './serving.ts';

function classes(tensor: Tensor, count: number, labels?: string[], maxBatchSize = 0): string[] {
  const output = { name: tensor.name, datatype: tensor.datatype, dims: [-1], labels };
  const model: ModelSignature = { name: 'm', maxBatchSize, decoupled: false, inputs: [], outputs: [output] };
  return classify(tensor, count, model).data.map(String);
}

const of = (datatype: NumericType, ...values: number[]): Tensor => vector('OUT', datatype, values);

test('values are printed as C prints them, the largest first', () => {
  assert.deepEqual(classes(of('FP32', 0.1, 2, -1), 3), ['2.000000:1', '0.100000:0', '-1.000000:2']);
  assert.deepEqual(classes(of('INT32', -5, 7), 9), ['7:1', '-5:0']);
  assert.deepEqual(classes(of('UINT8', 200, 7, 200), 2), ['200:0', '200:2']);
  assert.deepEqual(classes(of('FP64', 1e21, 123_456_789.123_456_7), 2), [
    '1000000000000000000000.000000:0',
    '123456789.123457:1',
  ]);
  assert.deepEqual(classes(of('FP32', Number.NaN, -Infinity, Infinity, -0), 4), [
    'inf:2',
    '-0.000000:3',
    '-inf:1',
    'nan:0',
  ]);
  // Two six-digit decimals are equally near: the even one is taken.
  assert.deepEqual(classes(of('FP64', 1 / 128, 3 / 128, -1 / 128), 3), ['0.023438:1', '0.007812:0', '-0.007812:2']);
  const large = { name: 'OUT', datatype: 'INT64', shape: [2], data: Buffer.alloc(16) } as const;
  large.data.writeBigInt64LE(2n ** 62n + 1n, 0);
  large.data.writeBigInt64LE(2n ** 62n + 3n, 8);
  assert.deepEqual(classes(large, 2), ['4611686018427387907:1', '4611686018427387905:0']);
});

test('labels stand behind the index where there are any', () => {
  assert.deepEqual(classes(of('FP32', 1, 2, 3), 3, ['a', 'b']), ['3.000000:2', '2.000000:1:b', '1.000000:0:a']);
  assert.deepEqual(classes(of('FP32', 1, 2), 2, ['x:y', '']), ['2.000000:1', '1.000000:0:x:y']);
});

test('each row of a batch has classes of its own', () => {
  const tensor = { ...of('INT16', 1, 2, 3, 6, 5, 4), shape: [2, 3] };
  assert.deepEqual(classes(tensor, 2, undefined, 8), ['3:2', '2:1', '6:0', '5:1']);
  assert.deepEqual(classes(tensor, 2), ['6:3', '5:4']);
});

test('types without classes, and what is too large', () => {
  for (const datatype of ['FP16', 'BF16', 'BOOL'] satisfies DataType[]) {
    const tensor: Tensor = { name: 'OUT', datatype, shape: [1], data: new Uint8Array(2) };
    assert.throws(() => classes(tensor, 1), new RegExp(`unsupported type '${datatype}'`));
  }
  assert.throws(() => classes(texts('OUT', ['a']), 1), /unsupported type 'BYTES'/);
  const huge: Tensor = { name: 'OUT', datatype: 'INT8', shape: [1_000_001], data: new Uint8Array(1_000_001) };
  assert.throws(() => classes(huge, 1), /too large/);
});

const CONFIG = `max_batch_size: 4
input { name: "IN" data_type: TYPE_FP32 dims: -1 }
output { name: "OUT" data_type: TYPE_FP32 dims: -1 label_filename: "labels.txt" }`;
const FILES = { 'm/config.pbtxt': CONFIG, 'm/labels.txt': 'cat\r\ndog\nbird\n', 'm/1/model.ts': IDENTITY };

const infer = ({ post }: Serving, parameters: object): Promise<Reply> =>
  post('/v2/models/m/infer', {
    inputs: [{ name: 'IN', datatype: 'FP32', shape: [2, 3], data: [1, 3, 2, 0.5, 0.25, 0.125] }],
    outputs: [{ name: 'OUT', parameters }],
  });

test('over HTTP: as texts, or as bytes', async (t) => {
  const serving = await serve(t, { repository: { directories: [makeRepository(t, FILES)] } });
  assert.deepEqual((await (await infer(serving, { classification: 2 })).json()).outputs, [
    {
      name: 'OUT',
      datatype: 'BYTES',
      shape: [2, 2],
      data: ['3.000000:1:dog', '2.000000:2:bird', '0.500000:0:cat', '0.250000:1:dog'],
    },
  ]);
  const binary = await infer(serving, { classification: 1, binary_data: true });
  const header = Number(binary.headers.get('inference-header-content-length'));
  const bytes = Buffer.from(await binary.arrayBuffer()).subarray(header);
  assert.equal(bytes.toString('latin1'), '\u000e\0\0\x003.000000:1:dog\u000e\0\0\x000.500000:0:cat');
  const whole = (await (await infer(serving, { classification: 0 })).json()).outputs[0];
  assert.deepEqual([whole.datatype, whole.data.length], ['FP32', 6]);
  for (const classification of [-1, 1.5, '1', null, true]) {
    const refused = await infer(serving, { classification });
    assert.equal(refused.status, 500);
    assert.match((await refused.json()).error, /^Unable to set 'classification': attempt to access JSON/);
  }
  assert.ok((await (await serving.get('/v2')).json()).extensions.includes('classification'));
});

test("over gRPC, and with a classifier's own labels", async (t) => {
  const { call } = await serveGrpc(t, GRPCInferenceService);
  const inputs = ['QUERY', 'TEXT'].map((name) => ({
    name,
    datatype: 'BYTES',
    shape: [1n, 1n],
    contents: { bytesContents: [Buffer.from('sea')] },
  }));
  const ask = (value: object): Promise<never> =>
    call(GRPCInferenceService, 'ModelInfer', {
      modelName: 'org/topics',
      inputs,
      outputs: [{ name: 'LOGITS', parameters: { classification: { parameterChoice: value } } }],
    }) as Promise<never>;
  const answer = await ask({ case: 'int64Param', value: 5n });
  const [first, second] = textsOf(answer, 'LOGITS');
  assert.match(first, /^-?\d+\.\d{6}:[01]:(sea|land)$/);
  assert.ok(Number(first.split(':')[0]) >= Number(second.split(':')[0]));
  await assert.rejects(ask({ case: 'int64Param', value: 0n }), /INVALID_ARGUMENT: invalid value for 'classification'/);
  await assert.rejects(ask({ case: 'stringParam', value: '1' }), /invalid value type for 'classification' parameter/);
});

test('a label file that is missing, or lies elsewhere, is told at the load', async (t) => {
  const refusal = async (files: Record<string, string>, prepare?: (directory: string) => void): Promise<string> => {
    const directory = makeRepository(t, files);
    prepare?.(directory);
    const error = await serve(t, { repository: { directories: [directory] } }).then(
      () => assert.fail('it was loaded'),
      (reason: Error) => reason,
    );
    return error.message;
  };
  const { 'm/labels.txt': labels, ...unlabelled } = FILES;
  assert.match(await refusal(unlabelled), /cannot read label_filename 'labels.txt' of output 'OUT' of m: there is no/);
  const outside = CONFIG.replace('labels.txt', '../secret.txt');
  assert.match(
    await refusal({ ...FILES, 'm/config.pbtxt': outside, 'secret.txt': labels }),
    /label_filename '\.\.\/secret.txt' must stay within the model's directory/,
  );
  const linked = await refusal({ ...unlabelled, 'secret.txt': labels }, (directory) =>
    symlinkSync(join(directory, 'secret.txt'), join(directory, 'm/labels.txt')),
  );
  assert.match(linked, /label_filename 'labels.txt' .* must stay within the model directory/);
});
