import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, fromBinary, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { decodeInferRequest } from '../src/grpc/decode-request.ts';
import { encodeInferResponse, encodeStreamInferResponse, type InferAnswer } from '../src/grpc/encode-response.ts';
import {
  ModelInferRequestSchema,
  ModelInferResponseSchema,
  ModelStreamInferResponseSchema,
  type InferParameter,
  type ModelInferRequest,
} from '../src/grpc/proto/inference_pb.js';
import type { ParameterValue } from '../src/triton/model.ts';
import { Mutator } from './mutate.ts';

const SECONDS = Number(process.env.ROSE_FUZZ_SECONDS ?? 0);
const SEED = Number(process.env.ROSE_FUZZ_SEED ?? 1);
const ROUNDS = 100_000;

type Choice = InferParameter['parameterChoice'];

const parameter = (parameterChoice: Choice): { parameterChoice: Choice } => ({ parameterChoice });

const REQUESTS: readonly MessageInitShape<typeof ModelInferRequestSchema>[] = [
  {},
  {
    modelName: 'simple',
    inputs: [
      { name: 'INPUT0', datatype: 'INT32', shape: [1n, 16n] },
      { name: 'INPUT1', datatype: 'INT32', shape: [1n, 300n, 2n ** 20n] },
    ],
    outputs: [{ name: 'OUTPUT0', parameters: { classification: parameter({ case: 'int64Param', value: 3n }) } }],
    rawInputContents: [Buffer.alloc(64, 1), new Uint8Array()],
  },
  {
    modelName: 'modèle \u{1f339}',
    modelVersion: '12',
    id: '\ufeffx'.repeat(80),
    parameters: {
      sequence_id: parameter({ case: 'uint64Param', value: 2n ** 64n - 1n }),
      sequence_start: parameter({ case: 'boolParam', value: true }),
      sequence_end: parameter({ case: 'boolParam', value: false }),
      ä: parameter({ case: 'stringParam', value: 'ü\0' }),
      temperature: parameter({ case: 'doubleParam', value: -0.5 }),
      minus: parameter({ case: 'int64Param', value: -3n }),
      none: parameter({ case: undefined }),
    },
    inputs: [
      {
        name: 'NUMBERS',
        datatype: 'INT64',
        shape: [1n, -1n, 2n ** 62n],
        contents: { int64Contents: [1n, -(2n ** 62n)], uintContents: [7, 2 ** 32 - 1] },
      },
      { name: 'REALS', datatype: 'FP32', contents: { fp32Contents: [0.5, -2], fp64Contents: [1 / 3] } },
      { name: 'FLAGS', datatype: 'BOOL', contents: { boolContents: [true, false], intContents: [-1, 5] } },
      { name: 'TEXTS', datatype: 'BYTES', contents: { bytesContents: [Buffer.from('abc'), new Uint8Array()] } },
    ],
    outputs: [{ name: '' }, { name: 'O', parameters: { a: parameter({ case: 'stringParam', value: 'b' }) } }],
  },
];
const MESSAGES = REQUESTS.map((request) => toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, request)));

/** All that a message says, in a form that compares; undefined: it cannot be read. */
function said(read: () => ModelInferRequest): string | undefined {
  let message: ModelInferRequest;
  try {
    message = read();
  } catch (error) {
    assert.ok(error instanceof Error);
    return undefined;
  }
  return JSON.stringify(message, (key, value: unknown) => {
    // What nobody knows, nobody asks for.
    if (key === '$unknown') return undefined;
    if (typeof value === 'bigint') return `${value}n`;
    if (typeof value === 'number' && !Number.isInteger(value)) return `real ${Object.is(value, -0) ? '-0' : value}`;
    if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
    // `toJSON` of a buffer has been here before.
    if (typeof value === 'object' && value !== null && 'type' in value && 'data' in value && value.type === 'Buffer') {
      return Buffer.from(value.data as number[]).toString('base64');
    }
    return value;
  });
}

test('messages of clients are read as the generated code reads them', () => {
  for (const bytes of MESSAGES) {
    assert.deepEqual(decodeInferRequest(bytes), fromBinary(ModelInferRequestSchema, bytes));
    // grpc-js hands over a part of a larger buffer.
    const part = Buffer.concat([Buffer.from([10]), bytes, Buffer.from([1])]).subarray(1, -1);
    assert.equal(
      said(() => decodeInferRequest(part)),
      said(() => fromBinary(ModelInferRequestSchema, bytes)),
    );
  }
});

test('fields that clients do not write so are read as the generated code reads them', () => {
  const field = (tag: number, ...rest: number[]): Buffer => Buffer.from([tag, ...rest]);
  const text = (number: number, value: string): Buffer =>
    Buffer.concat([field((number << 3) | 2, Buffer.byteLength(value)), Buffer.from(value)]);
  const part = (number: number, ...parts: Buffer[]): Buffer => {
    const whole = Buffer.concat(parts);
    return Buffer.concat([field((number << 3) | 2, whole.length), whole]);
  };
  const cases: Record<string, Buffer> = {
    'last of several': Buffer.concat([text(1, 'a'), text(1, 'b')]),
    'shape not packed': part(5, field(24, 1), field(24, 16), field(26, 2, 3, 4)),
    'contents in parts': part(5, part(5, field(16, 1)), part(5, field(16, 2))),
    'value before key': part(4, part(2, field(8, 1)), text(1, 'k')),
    'no key': part(4, part(2, field(8, 1))),
    'no value': part(4, text(1, 'k')),
    'value in parts': part(4, text(1, 'k'), part(2, field(8, 1)), part(2, field(16, 3))),
    'last of a oneof': part(4, text(1, 'k'), part(2, field(8, 1), field(16, 3))),
    'a flag of two': part(4, text(1, 'k'), part(2, field(8, 2))),
    'same key again': Buffer.concat([1, 2].map((n) => part(4, text(1, 'k'), part(2, field(16, n))))),
    'key __proto__': part(4, text(1, '__proto__'), part(2, field(8, 1))),
    'unknown fields': Buffer.concat([
      text(9, 'x'),
      field(80, 1),
      text(1, 'a'),
      Buffer.from([0xa1, 6, 1, 2, 3, 4, 5, 6, 7, 8]),
    ]),
    'a group': Buffer.concat([field(0x53), text(1, 'a'), field(0x54), text(1, 'b')]),
    'a group without end': Buffer.concat([field(0x53), text(1, 'a')]),
    'a long number': part(5, field(24, 0x81, 0x80, 0x80, 0x80, 0x80, 0)),
    'a long tag': Buffer.concat([field(0x8a, 0), text(1, 'a').subarray(1)]),
    'part beyond its whole': Buffer.concat([field((5 << 3) | 2, 3), text(1, 'abc')]),
    'not UTF-8': Buffer.from([10, 2, 0xc3, 0x28]),
    'half a surrogate': Buffer.from([10, 3, 0xed, 0xa0, 0x80]),
    'ends in a length': Buffer.from([10]),
    'ends in a text': Buffer.from([10, 5, 97]),
    'wrong wire type': Buffer.from([8, 1, 97]),
    'field 0': Buffer.from([2, 0]),
  };
  let refused = 0;
  for (const [name, bytes] of Object.entries(cases)) {
    const expected = said(() => fromBinary(ModelInferRequestSchema, bytes));
    if (expected === undefined) refused++;
    assert.equal(
      said(() => decodeInferRequest(bytes)),
      expected,
      name,
    );
  }
  assert.ok(refused >= 5 && refused < 15, String(refused));
});

test('mutated requests are read or refused as by the generated code', { timeout: 120_000 + 1000 * SECONDS }, () => {
  const mutator = new Mutator(SEED);
  const until = performance.now() + 1000 * SECONDS;
  let read = 0;
  for (let round = 0; round < ROUNDS || performance.now() < until; round++) {
    const bytes = mutator.bytes(mutator.pick(MESSAGES), MESSAGES);
    const expected = said(() => fromBinary(ModelInferRequestSchema, bytes));
    if (expected !== undefined) read++;
    const got = said(() => decodeInferRequest(bytes));
    if (got !== expected)
      assert.fail(`seed ${SEED}, round ${round}: ${bytes.toString('base64')}: ${got}, not ${expected}`);
  }
  assert.ok(read > ROUNDS / 10, String(read));
});

function generated({ parameters, outputs, ...rest }: InferAnswer): MessageInitShape<typeof ModelInferResponseSchema> {
  const choice = (value: ParameterValue): Choice => {
    if (typeof value === 'boolean') return { case: 'boolParam', value };
    if (typeof value === 'string') return { case: 'stringParam', value };
    if (typeof value === 'number' && !Number.isSafeInteger(value)) return { case: 'doubleParam', value };
    const exact = BigInt(value);
    return exact < 2n ** 63n ? { case: 'int64Param', value: exact } : { case: 'uint64Param', value: exact };
  };
  return {
    ...rest,
    rawOutputContents: rest.rawOutputContents.map((bytes) => Buffer.from(bytes)),
    parameters: Object.fromEntries([...parameters].map(([name, value]) => [name, parameter(choice(value))])),
    outputs: outputs.map(({ name, datatype, shape }) => ({ name, datatype, shape: shape.map(BigInt) })),
  };
}

const TEXTS = [
  '',
  'simple',
  'OUTPUT0',
  'INT32',
  'ä',
  '\u{1f339}',
  'x'.repeat(127),
  'é'.repeat(70),
  'y'.repeat(17_000),
  '\ud800',
];
const NUMBERS = [0, -0, 1, 127, 128, 16_384, 2 ** 31, 2 ** 35, 2 ** 53 - 1, -1, -(2 ** 31), 0.5, 1e300, Number.NaN];
const INTEGERS = [0n, 1n, -1n, 2n ** 53n + 1n, 2n ** 63n - 1n, -(2n ** 63n), 2n ** 63n, 2n ** 64n - 1n];
const DIMENSIONS = NUMBERS.filter((number) => Number.isSafeInteger(number));

test('responses are the bytes that the generated code writes', () => {
  const mutator = new Mutator(SEED);
  const list = <T>(most: number, make: () => T): T[] => Array.from({ length: mutator.below(most + 1) }, make);
  const text = (): string => mutator.pick(TEXTS);
  const value = (): ParameterValue => mutator.pick<ParameterValue>([...NUMBERS, ...INTEGERS, ...TEXTS, true, false]);
  for (let round = 0; round < 5000; round++) {
    const answer: InferAnswer = {
      ...{ modelName: text(), modelVersion: text(), id: text() },
      parameters: new Map(list(3, () => [text(), value()])),
      outputs: list(3, () => ({ name: text(), datatype: text(), shape: list(4, () => mutator.pick(DIMENSIONS)) })),
      rawOutputContents: list(3, () => Buffer.alloc(mutator.pick([0, 1, 64, 127, 128, 17_000]), round)),
    };
    const inferResponse = generated(answer);
    const whole = toBinary(ModelInferResponseSchema, create(ModelInferResponseSchema, inferResponse));
    assert.ok(encodeInferResponse(answer).equals(whole), `seed ${SEED}, round ${round}`);
    const errorMessage = text();
    const message = create(ModelStreamInferResponseSchema, { errorMessage, inferResponse });
    const streamed = encodeStreamInferResponse({ errorMessage, inferResponse: answer });
    assert.ok(streamed.equals(toBinary(ModelStreamInferResponseSchema, message)), `seed ${SEED}, round ${round}`);
  }
});

test('a number that has no place in 64 bits is not written', () => {
  for (const value of [2n ** 64n, -(2n ** 63n) - 1n]) {
    const answer: InferAnswer = {
      ...{ modelName: 'm', modelVersion: '1', id: '', outputs: [], rawOutputContents: [] },
      parameters: new Map([['p', value]]),
    };
    assert.throws(() => encodeInferResponse(answer), RangeError);
  }
});
