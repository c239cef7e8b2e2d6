import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { test } from 'node:test';
import { create, fromBinary, toBinary, type DescMessage } from '@bufbuild/protobuf';
import { RoseError } from '@rose/engine';
import { readInferRequest as readGrpcRequest } from '../src/grpc/infer-request.ts';
import { loadOverride } from '../src/grpc/describe.ts';
import {
  LogSettingsRequestSchema,
  ModelInferRequestSchema,
  RepositoryModelLoadRequestSchema,
  TraceSettingRequestSchema,
} from '../src/grpc/proto/inference_pb.js';
import { ServerReflectionRequestSchema } from '../src/grpc/proto/reflection_pb.js';
import { decompress } from '../src/http/compression.ts';
import { readLogChange, wrongJsonType } from '../src/logging/settings.ts';
import { checkConfig } from '../src/repository/check-config.ts';
import { completeConfig, parseConfig, parseConfigOverride } from '../src/repository/config.ts';
import { SharedMemoryRegions } from '../src/shared-memory/regions.ts';
import { readTraceChange } from '../src/trace/settings.ts';
import { classify } from '../src/triton/classify.ts';
import { TritonError } from '../src/triton/errors.ts';
import { readGenerateBody } from '../src/triton/generate-request.ts';
import { headLengthOf, readInferRequest, readObject } from '../src/triton/infer-request.ts';
import { JsonObject, JsonSyntaxError, parseJson, type JsonValue } from '../src/triton/json.ts';
import type { ModelSignature } from '../src/triton/model.ts';
import { takeParameters } from '../src/triton/parameters.ts';
import { numbersOf, printElements, type Tensor } from '../src/triton/tensor.ts';
import { checkRequest } from '../src/triton/validate.ts';
import { Mutator } from './mutate.ts';

/** So many messages of each kind; with ROSE_FUZZ_SECONDS instead as many as fit that time, all kinds together. */
const ROUNDS = 40_000;
const SECONDS = Number(process.env.ROSE_FUZZ_SECONDS ?? 0);
/** Another seed, other messages. */
const SEED = Number(process.env.ROSE_FUZZ_SEED ?? 1);
const KINDS = 8;
const LIMIT = 1_000_000;

/** A model with inputs of every kind. */
const MODEL: ModelSignature = {
  name: 'm',
  maxBatchSize: 4,
  decoupled: false,
  inputs: [
    { name: 'NUMBERS', datatypes: ['INT64'], dims: [-1], optional: false },
    { name: 'REALS', datatypes: ['FP32', 'FP16'], dims: [2, -1], optional: true },
    { name: 'FLAGS', datatypes: ['BOOL'], dims: [2], optional: true },
    { name: 'TEXTS', datatypes: ['BYTES'], dims: [1], optional: true },
  ],
  outputs: [
    { name: 'OUT', datatype: 'FP32', dims: [-1] },
    { name: 'NAMES', datatype: 'BYTES', dims: [-1] },
  ],
};
const TEXTS_ONLY: ModelSignature = { ...MODEL, inputs: [MODEL.inputs[3]] };
const regions = new SharedMemoryRegions(true);

/**
 * Feed a decoder with mutants, which it must read or refuse: with an error for the client, never with a fault.
 * @param make a mutant of the round
 * @param decode reads it; what it throws is looked at
 * @returns how many were read
 */
function fuzz<T>(
  name: string,
  make: (mutator: Mutator) => T,
  decode: (mutant: T) => unknown,
  show: (mutant: T) => string,
  rounds: number = ROUNDS,
): number {
  const mutator = new Mutator(SEED);
  const until = performance.now() + (1000 * SECONDS) / KINDS;
  let read = 0;
  for (let round = 0; SECONDS > 0 ? performance.now() < until : round < rounds; round++) {
    const mutant = make(mutator);
    try {
      decode(mutant);
      read++;
    } catch (error) {
      const place = `${name}, seed ${SEED}, round ${round}: ${show(mutant)}`;
      const expected =
        error instanceof TritonError ||
        error instanceof JsonSyntaxError ||
        (error instanceof RoseError && error.code !== 'internal');
      assert.ok(expected, `${place}\n${error instanceof Error ? error.stack : String(error)}`);
      assert.ok(error.message.length > 5 && error.message.length < 100_000, `${place}: a message that helps nobody`);
    }
  }
  return read;
}

const base64 = (bytes: Uint8Array): string => `base64 ${Buffer.from(bytes).toString('base64')}`;
const plain = (text: string): string => JSON.stringify(text);

const INFER = JSON.stringify({
  id: '1',
  parameters: { sequence_id: 5, sequence_start: true, priority: 1, timeout: 1000, binary_data_output: true, own: 'x' },
  inputs: [
    {
      name: 'NUMBERS',
      shape: [2, 3],
      datatype: 'INT64',
      data: [
        [1, 2, 9007199254740991],
        [-4, 5, 6],
      ],
    },
    { name: 'REALS', shape: [2, 2, 1], datatype: 'FP32', data: [0.5, -1e-3, 1e30, 4] },
    { name: 'FLAGS', shape: [2, 2], datatype: 'BOOL', data: [true, false, true, false] },
    { name: 'TEXTS', shape: [2, 1], datatype: 'BYTES', data: ['a\u00e4\ud83d\ude00', 'line\n'] },
  ],
  outputs: [
    { name: 'OUT', parameters: { classification: 2 } },
    { name: 'NAMES', parameters: { binary_data: true } },
  ],
});
const SHARED = JSON.stringify({
  inputs: [
    {
      name: 'NUMBERS',
      shape: [1, 2],
      datatype: 'INT64',
      parameters: { shared_memory_region: 'r', shared_memory_byte_size: 16, shared_memory_offset: 8 },
    },
  ],
  outputs: [{ name: 'OUT', parameters: { shared_memory_region: 'r', shared_memory_byte_size: 16 } }],
});

/** Look at what was read, as a model would. */
function use(
  model: ModelSignature,
  inputs: readonly Tensor[],
  outputs: readonly string[] | undefined,
  id: string,
): void {
  checkRequest(model, inputs, outputs, id);
  for (const tensor of inputs) {
    if (tensor.datatype === 'BYTES') printElements(tensor);
    else numbersOf(tensor);
  }
}

test(
  'JSON: what JSON.parse reads is read alike; all else is refused where it is wrong',
  { timeout: 120_000 },
  async () => {
    const sources = [
      INFER,
      SHARED,
      '[1,-2.5e3,"\\u00e4\\n",{"a":[],"b":{}},null,true]',
      '{"a":{"a":1,"b":[2]},"c":"d"}',
    ];
    const read = fuzz(
      'JSON',
      (mutator) => {
        const text = mutator.json(mutator.pick(sources));
        return mutator.below(3) > 0 ? Buffer.from(text) : mutator.bytes(Buffer.from(text));
      },
      (bytes) => {
        let expected: unknown;
        try {
          expected = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
        } catch {
          parseJson(bytes);
          return;
        }
        const text = bytes.toString();
        // Numbers that no double holds, halves of characters and deep nesting are refused here.
        if (/\d{3,}[eE]|[eE][+-]?\d{3}|\d{300}|\\u[dD][89a-fA-F]|[[{]{100}|(\{"a":){100}/.test(text)) parseJson(bytes);
        else assert.deepEqual(simple(parseJson(bytes)), expected);
      },
      base64,
    );
    assert.ok(read > ROUNDS / 10 || SECONDS > 0, String(read));
  },
);

/** As `JSON.parse` gives it: of two members with one key the last counts, and numbers are doubles. */
function simple(value: JsonValue): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (Array.isArray(value)) return value.map(simple);
  if (!(value instanceof JsonObject)) return value;
  const object = JSON.parse('{}') as Record<string, unknown>;
  for (const [key, member] of value.members) {
    Object.defineProperty(object, key, { value: simple(member), enumerable: true, writable: true, configurable: true });
  }
  return object;
}

test('infer over HTTP, as JSON', { timeout: 120_000 + 1000 * SECONDS }, () => {
  const read = fuzz(
    'infer JSON',
    (mutator) => mutator.json(mutator.pick([INFER, INFER, SHARED])),
    (text) => {
      const { inputs, outputs, id } = readInferRequest(Buffer.from(text), undefined, MODEL, LIMIT, regions.use());
      use(
        MODEL,
        inputs,
        outputs?.map(({ name }) => name),
        id,
      );
    },
    plain,
  );
  assert.ok(read > ROUNDS / 100 || SECONDS > 0, String(read));
});

/** A request with raw tensors, and the length of its JSON. */
function binaryInfer(): { body: Buffer; header: number } {
  const input = (name: string, shape: number[], datatype: string, size: number): object => ({
    name,
    shape,
    datatype,
    parameters: { binary_data_size: size },
  });
  const json = Buffer.from(
    JSON.stringify({
      inputs: [
        input('NUMBERS', [1, 2], 'INT64', 16),
        input('REALS', [1, 2, 1], 'FP16', 4),
        input('TEXTS', [1, 1], 'BYTES', 7),
      ],
      outputs: [{ name: 'OUT', parameters: { binary_data: true } }],
    }),
  );
  const tensors = Buffer.from([...Array.from({ length: 20 }, (_, i) => i), 3, 0, 0, 0, 97, 98, 99]);
  return { body: Buffer.concat([json, tensors]), header: json.length };
}

test('infer over HTTP, with raw tensors', { timeout: 120_000 + 1000 * SECONDS }, () => {
  const { body, header } = binaryInfer();
  const lengths = ['0', '-1', '1e3', ' 5', '2147483648', 'x', '', String(header - 1), String(body.length)];
  const read = fuzz(
    'infer binary',
    (mutator) => {
      const json = mutator.json(body.subarray(0, header).toString());
      const changed = Buffer.concat([Buffer.from(json), body.subarray(header)]);
      const mutant = mutator.below(2) === 0 ? mutator.bytes(body) : changed;
      const length = mutant === changed ? String(Buffer.byteLength(json)) : String(header);
      return { mutant, length: mutator.below(8) === 0 ? mutator.pick(lengths) : length };
    },
    ({ mutant, length }) => {
      const model = length === '0' ? TEXTS_ONLY : MODEL;
      const { inputs, outputs, id } = readInferRequest(
        mutant,
        headLengthOf(length, mutant.length),
        model,
        LIMIT,
        regions.use(),
      );
      use(
        model,
        inputs,
        outputs?.map(({ name }) => name),
        id,
      );
    },
    ({ mutant, length }) => `header ${length}, ${base64(mutant)}`,
  );
  assert.ok(read > ROUNDS / 50 || SECONDS > 0, String(read));
});

test('generate', { timeout: 120_000 + 1000 * SECONDS }, () => {
  const source =
    '{"id":"g","TEXTS":"a","NUMBERS":[1,2],"FLAGS":[true,false],"stream":false,"parameters":{"n":1,"REALS":[1,2]},"timeout":5}';
  const read = fuzz(
    'generate',
    (mutator) => mutator.json(source),
    (text) => {
      const { inputs, parameters, id } = readGenerateBody(Buffer.from(text), MODEL, LIMIT);
      use(MODEL, inputs, undefined, id);
      takeParameters(parameters);
    },
    plain,
  );
  assert.ok(read > ROUNDS / 50 || SECONDS > 0, String(read));
});

const INT64 = { parameterChoice: { case: 'int64Param', value: 2n } } as const;
const MESSAGES: readonly Uint8Array[] = [
  {
    modelName: 'm',
    modelVersion: '1',
    id: 'i',
    parameters: { sequence_id: INT64, own: { parameterChoice: { case: 'doubleParam', value: 0.5 } as const } },
    inputs: [
      { name: 'NUMBERS', datatype: 'INT64', shape: [1n, 2n], contents: { int64Contents: [1n, -(2n ** 62n)] } },
      { name: 'REALS', datatype: 'FP32', shape: [1n, 2n, 1n], contents: { fp32Contents: [0.5, Number.NaN] } },
      { name: 'FLAGS', datatype: 'BOOL', shape: [1n, 2n], contents: { boolContents: [true, false] } },
      { name: 'TEXTS', datatype: 'BYTES', shape: [1n, 1n], contents: { bytesContents: [Buffer.from('abc')] } },
    ],
    outputs: [{ name: 'OUT', parameters: { classification: INT64 } }],
  },
  {
    modelName: 'm',
    inputs: [
      { name: 'NUMBERS', datatype: 'INT64', shape: [1n, 1n] },
      { name: 'TEXTS', datatype: 'BYTES', shape: [1n, 1n] },
    ],
    rawInputContents: [Buffer.alloc(8, 1), Buffer.from([3, 0, 0, 0, 97, 98, 99])],
  },
].map((message) => toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, message)));

/** What the decoder refuses, gRPC answers itself. */
function fromWire<Schema extends DescMessage>(
  schema: Schema,
  bytes: Uint8Array,
): ReturnType<typeof fromBinary<Schema>> {
  try {
    return fromBinary(schema, bytes);
  } catch (error) {
    // The library's words for broken wire format and text that is not UTF-8.
    if (error instanceof Error && !(error instanceof ReferenceError))
      throw new TritonError(400, `${error.name}: ${error.message}`);
    throw error;
  }
}

test('infer over gRPC', { timeout: 120_000 + 1000 * SECONDS }, () => {
  const read = fuzz(
    'infer protobuf',
    (mutator) => mutator.bytes(mutator.pick(MESSAGES), MESSAGES),
    (bytes) => {
      const message = fromWire(ModelInferRequestSchema, bytes);
      const { inputs, outputs, id, classes } = readGrpcRequest(message, MODEL, regions.use());
      use(MODEL, inputs, outputs, id);
      const made: Tensor = { name: 'OUT', datatype: 'FP32', shape: [1, 2], data: new Uint8Array(8) };
      for (const count of classes.values()) classify(made, count, MODEL);
    },
    base64,
  );
  assert.ok(read > ROUNDS / 100 || SECONDS > 0, String(read));
});

test('the other messages of gRPC', { timeout: 120_000 + 1000 * SECONDS }, () => {
  const kinds = [
    toBinary(
      TraceSettingRequestSchema,
      create(TraceSettingRequestSchema, {
        modelName: 'm',
        settings: { trace_rate: { value: ['5'] }, trace_level: { value: ['TIMESTAMPS'] } },
      }),
    ),
    toBinary(
      LogSettingsRequestSchema,
      create(LogSettingsRequestSchema, {
        settings: { log_info: { parameterChoice: { case: 'boolParam', value: true } } },
      }),
    ),
    toBinary(
      RepositoryModelLoadRequestSchema,
      create(RepositoryModelLoadRequestSchema, {
        modelName: 'm',
        parameters: {
          config: { parameterChoice: { case: 'stringParam', value: '{}' } },
          'file:1/x': { parameterChoice: { case: 'bytesParam', value: Buffer.from('x') } },
        },
      }),
    ),
    toBinary(
      ServerReflectionRequestSchema,
      create(ServerReflectionRequestSchema, { messageRequest: { case: 'fileContainingSymbol', value: 'a.b' } }),
    ),
  ];
  fuzz(
    'settings protobuf',
    (mutator) => {
      const kind = mutator.below(kinds.length);
      return { kind, bytes: mutator.bytes(kinds[kind], kinds) };
    },
    ({ kind, bytes }) => {
      if (kind === 0) {
        const { settings } = fromWire(TraceSettingRequestSchema, bytes);
        readTraceChange(Object.entries(settings).map(([name, { value }]) => [name, value]));
      } else if (kind === 1) {
        const { settings } = fromWire(LogSettingsRequestSchema, bytes);
        const values = Object.entries(settings).map(([name, value]) => [name, value.parameterChoice.value] as const);
        readLogChange(values, wrongJsonType);
      } else if (kind === 2) loadOverride(fromWire(RepositoryModelLoadRequestSchema, bytes));
      else fromWire(ServerReflectionRequestSchema, bytes);
    },
    ({ kind, bytes }) => `kind ${kind}, ${base64(bytes)}`,
  );
});

test('settings and configurations in JSON', { timeout: 120_000 + 1000 * SECONDS }, () => {
  const settings = '{"log_info":false,"log_verbose_level":1,"log_format":"ISO8601"}';
  const override = JSON.stringify({
    name: 'm',
    backend: 'typescript',
    max_batch_size: 8,
    input: [{ name: 'IN', data_type: 'TYPE_FP32', dims: ['-1'], reshape: { shape: [1, -1] } }],
    output: [{ name: 'OUT', data_type: 'TYPE_INT8', dims: [2], label_filename: 'labels.txt' }],
    instance_group: [{ count: 2, kind: 'KIND_CPU' }],
    dynamic_batching: { preferred_batch_size: [2, 4], default_queue_policy: { max_queue_size: 5 } },
    parameters: { p: { string_value: 'v' } },
    version_policy: { specific: { versions: [1, 2] } },
  });
  fuzz(
    'configuration JSON',
    (mutator) => ({ isConfig: mutator.below(4) > 0, text: mutator.json(mutator.below(4) > 0 ? override : settings) }),
    ({ isConfig, text }) => {
      if (isConfig) checkConfig(completeConfig(parseConfigOverride(text), 'm', 'typescript'));
      else readLogChange(readObject(Buffer.from(text)).members, wrongJsonType);
    },
    ({ text }) => plain(text),
  );
});

test("configurations in protobuf's text format", { timeout: 120_000 + 1000 * SECONDS }, () => {
  const source = `name: "m" # a comment
max_batch_size: 8
input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1, 3 ] optional: true } ]
output { name: "OUT" data_type: TYPE_STRING dims: 1 label_filename: "x" }
instance_group [ { count: 1 kind: KIND_CPU } ]
sequence_batching { oldest { max_candidate_sequences: 4 } control_input [ { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] } ] }
parameters { key: "k" value: { string_value: "v" } }`;
  fuzz(
    'configuration text',
    (mutator) => (mutator.below(2) === 0 ? mutator.json(source) : mutator.bytes(Buffer.from(source)).toString()),
    (text) => checkConfig(completeConfig(parseConfig(text, 'config.pbtxt'), 'm', 'typescript')),
    plain,
    // Only operators write these, and finding the line of a mistake takes several times longer than reading.
    4000,
  );
});

test('compressed bodies', { timeout: 120_000 }, async () => {
  const source = gzipSync(INFER);
  const mutator = new Mutator(SEED);
  // Each goes through a thread of the system's pool.
  for (let round = 0; round < 1500; round++) {
    const mutant = mutator.bytes(source);
    const encoding = mutator.below(10) === 0 ? 'deflate' : 'gzip';
    await decompress(mutant, encoding, 2000).catch((error: unknown) => {
      assert.ok(error instanceof RoseError && ['invalid', 'too_large'].includes(error.code), base64(mutant));
    });
  }
});

test('large messages of the worst shapes take no more than a moment', { timeout: 60_000 }, () => {
  const million = 1_000_000;
  const input = '{"name":"NUMBERS","shape":[1,1],"datatype":"INT64","data":[1]}';
  const bodies = [
    '['.repeat(million),
    '{"a":'.repeat(million / 5),
    `{"inputs":[${Array.from({ length: 20_000 }, () => input).join(',')}]}`,
    `{${Array.from({ length: 100_000 }, (_, i) => `"k${i}":0`).join(',')}}`,
    `{"inputs":[${input}],"outputs":[${Array.from({ length: 30_000 }, () => '{"name":"OUT"}').join(',')}]}`,
    `{"inputs":[${input.replace('[1]', `[${'0,'.repeat(400_000)}0]`)}]}`,
    `{"inputs":[${input.replace('[1,1]', `[${'1,'.repeat(300_000)}1]`)}]}`,
    `{"id":"${String.raw`\u0041`.repeat(150_000)}","inputs":[]}`,
    `{"id":"${'\\'.repeat(million)}"}`,
    `{"inputs":[{"name":"${'x'.repeat(million)}","shape":[1],"datatype":"INT64","data":[1]}]}`,
    `{"inputs":[],"parameters":{"sequence_id":${'9'.repeat(million)}}}`,
    `{"inputs":[],"parameters":{"sequence_id":1${'0'.repeat(300)}}}`,
    `{"inputs":[],"parameters":{"x":0.${'1'.repeat(million)}}}`,
    ' '.repeat(million),
  ];
  for (const body of bodies) {
    for (const read of [
      () => {
        const request = readInferRequest(Buffer.from(body), undefined, MODEL, LIMIT, regions.use());
        use(
          MODEL,
          request.inputs,
          request.outputs?.map(({ name }) => name),
          request.id,
        );
      },
      () => takeParameters(readGenerateBody(Buffer.from(body), MODEL, LIMIT).parameters),
    ]) {
      try {
        read();
      } catch (error) {
        assert.ok(
          error instanceof TritonError,
          `${body.slice(0, 80)}: ${String((error as Error).stack).slice(0, 500)}`,
        );
      }
    }
  }
});
