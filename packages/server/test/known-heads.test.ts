import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SharedMemoryRegions } from '../src/shared-memory/regions.ts';
import { readInferRequest, type InferRequest } from '../src/triton/infer-request.ts';
import { KnownHeads } from '../src/triton/known-heads.ts';
import type { ModelSignature } from '../src/triton/model.ts';
import { checkRequest } from '../src/triton/validate.ts';

const regions = new SharedMemoryRegions(false);

function model(...datatypes: ('INT32' | 'BYTES')[]): ModelSignature {
  const inputs = datatypes.map((datatype, i) => ({
    name: `INPUT${i}`,
    datatypes: [datatype] as const,
    dims: [-1],
    optional: false,
  }));
  return { name: 'm', maxBatchSize: 0, decoupled: false, inputs, outputs: [] };
}

const binary = (i: number, datatype: string, size: number, bytes: number): object => ({
  ...{ name: `INPUT${i}`, datatype, shape: [size] },
  parameters: { binary_data_size: bytes },
});

function bodyOf(json: object, tensors: Uint8Array): { body: Buffer; headLength: number } {
  const head = Buffer.from(JSON.stringify(json));
  return { body: Buffer.concat([head, tensors]), headLength: head.length };
}

function read(of: ModelSignature, body: Buffer, headLength: number): InferRequest {
  const request = readInferRequest(body, headLength, of, 1000, regions.use());
  checkRequest(of, request.inputs, undefined, request.id);
  return request;
}

const elements = (first: number, count: number): Uint8Array =>
  new Uint8Array(Int32Array.from({ length: count }, (_, i) => first + i).buffer);

test('a head that came before gives what reading it gives, with the elements of the new body', () => {
  const heads = new KnownHeads();
  const of = model('INT32', 'INT32');
  const inputs = [binary(0, 'INT32', 2, 8), binary(1, 'INT32', 1, 4)];
  const json = { id: 'a', parameters: { custom: 1 }, inputs };
  const first = bodyOf(json, elements(1, 3));
  assert.equal(heads.find(of, first.body, first.headLength), undefined);
  heads.keep(of, first.body, first.headLength, read(of, first.body, first.headLength));
  const second = bodyOf(json, elements(7, 3));
  assert.deepEqual(heads.find(of, second.body, second.headLength), read(of, second.body, second.headLength));
});

test('a head is known to its model alone, and only with every byte and the length of the body', () => {
  const heads = new KnownHeads();
  const of = model('INT32');
  const { body, headLength } = bodyOf({ inputs: [binary(0, 'INT32', 2, 8)] }, elements(1, 2));
  heads.keep(of, body, headLength, read(of, body, headLength));
  assert.ok(heads.find(of, body, headLength));
  assert.equal(heads.find(model('INT32'), body, headLength), undefined);
  assert.equal(heads.find(of, Buffer.concat([body, Buffer.alloc(1)]), headLength), undefined);
  assert.equal(heads.find(of, body.subarray(0, -1), headLength), undefined);
  assert.equal(heads.find(of, body, headLength - 1), undefined);
  const other = bodyOf({ inputs: [binary(0, 'INT32', 3, 8)] }, elements(1, 2));
  assert.equal(other.headLength, headLength);
  assert.equal(heads.find(of, other.body, headLength), undefined);
});

test('a body without JSON is known by its length', () => {
  const heads = new KnownHeads();
  const of = model('INT32');
  const body = Buffer.from(elements(1, 2));
  heads.keep(of, body, 0, read(of, body, 0));
  const found = heads.find(of, Buffer.from(elements(5, 2)), 0);
  assert.deepEqual(found?.inputs, [{ name: 'INPUT0', datatype: 'INT32', shape: [2], data: elements(5, 2) }]);
  assert.equal(found?.parameters.binaryOutput, true);
  assert.equal(heads.find(of, Buffer.from(elements(5, 3)), 0), undefined);
});

test('texts and JSON tensors are read anew each time', () => {
  const heads = new KnownHeads();
  const texts = model('BYTES');
  const text = bodyOf({ inputs: [binary(0, 'BYTES', 1, 5)] }, Buffer.from([1, 0, 0, 0, 97]));
  heads.keep(texts, text.body, text.headLength, read(texts, text.body, text.headLength));
  assert.equal(heads.find(texts, text.body, text.headLength), undefined);
  const numbers = model('INT32');
  const { body, headLength } = bodyOf(
    { inputs: [{ name: 'INPUT0', datatype: 'INT32', shape: [1], data: [3] }] },
    Buffer.alloc(0),
  );
  heads.keep(numbers, body, headLength, read(numbers, body, headLength));
  assert.equal(heads.find(numbers, body, headLength), undefined);
});
