import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { create } from '@bufbuild/protobuf';
import {
  GRPCInferenceService,
  InferParameterSchema,
  type InferParameter,
  type ModelInferResponse,
} from '../src/grpc/proto/inference_pb.js';
import { rawTexts, serveGrpc, textsOf, type GrpcServing } from './grpc-client.ts';

const DIRECTORY = fileURLToPath(new URL('../../../examples/model-repository', import.meta.url));
const SERVICE = GRPCInferenceService;

/** A server with some of the example models. */
function serveExamples(t: TestContext, ...loadModels: string[]): Promise<GrpcServing> {
  return serveGrpc(t, SERVICE, { repository: { directories: [DIRECTORY], mode: 'explicit', loadModels } });
}

const int32 = (...values: number[]): Uint8Array<ArrayBuffer> => new Uint8Array(Int32Array.from(values).buffer);
const int32Of = (response: ModelInferResponse, at = 0): number[] => [
  ...new Int32Array(Uint8Array.from(response.rawOutputContents[at]).buffer),
];
const choice = (parameterChoice: InferParameter['parameterChoice']): InferParameter =>
  create(InferParameterSchema, { parameterChoice });
const upTo16 = Array.from({ length: 16 }, (_, i) => i);

test('simple: JSON, binary tensors, a batch, and gRPC', async (t) => {
  const { post, call } = await serveExamples(t, 'simple', 'simple_int8', 'simple_bls');
  const input = (name: string, data: number[], shape: number[]): object => ({ name, datatype: 'INT32', shape, data });
  const ones = upTo16.map(() => 1);
  const json = await post('/v2/models/simple/infer', {
    id: '1',
    inputs: [input('INPUT0', [...upTo16, ...ones], [2, 16]), input('INPUT1', [...ones, ...ones], [2, 16])],
    outputs: [{ name: 'OUTPUT1' }, { name: 'OUTPUT0', parameters: { binary_data: true } }],
  });
  const bytes = Buffer.from(await json.arrayBuffer());
  const split = Number(json.headers.get('inference-header-content-length'));
  const head = JSON.parse(bytes.toString('utf8', 0, split));
  assert.deepEqual(head.outputs[0].data.slice(0, 17), [...upTo16.map((x) => x - 1), 0]);
  assert.equal(head.outputs[1].parameters.binary_data_size, 128);
  assert.deepEqual([...bytes.subarray(split, split + 5)], [1, 0, 0, 0, 2]);

  const two = (datatype: string): object[] =>
    ['INPUT0', 'INPUT1'].map((name) => ({ name, datatype, shape: [1n, 16n], contents: { intContents: upTo16 } }));
  const sum = await call(SERVICE, 'ModelInfer', { modelName: 'simple', inputs: two('INT32') });
  assert.deepEqual(
    int32Of(sum),
    upTo16.map((x) => 2 * x),
  );
  const small = await call(SERVICE, 'ModelInfer', { modelName: 'simple_int8', inputs: two('INT8') });
  assert.deepEqual(
    [...small.rawOutputContents[0]],
    upTo16.map((x) => 2 * x),
  );
  const asked = await post('/v2/models/simple_bls/infer', {
    inputs: [input('INPUT0', upTo16, [1, 16]), input('INPUT1', ones, [1, 16])],
  });
  assert.deepEqual(
    (await asked.json()).outputs[0].data,
    upTo16.map((x) => x * x - 1),
  );

  // As the published examples of model control do it.
  await call(SERVICE, 'RepositoryModelLoad', {
    modelName: 'simple',
    parameters: { config: { parameterChoice: { case: 'stringParam', value: '{"max_batch_size":"16"}' } } },
  });
  const { config } = await call(SERVICE, 'ModelConfig', { name: 'simple' });
  assert.deepEqual([config.maxBatchSize, config.input.length], [16, 2]);
});

test('simple_string and simple_identity: texts and bytes', async (t) => {
  const { post, call } = await serveExamples(t, 'simple_string', 'simple_identity');
  const texts = upTo16.map(String);
  const inputs = ['INPUT0', 'INPUT1'].map((name) => ({ name, datatype: 'BYTES', shape: [1, 16], data: texts }));
  const sum = await (await post('/v2/models/simple_string/infer', { inputs })).json();
  assert.deepEqual(
    sum.outputs[0].data,
    upTo16.map((x) => String(2 * x)),
  );
  inputs[1].data = [...texts.slice(1), 'x'];
  const wrong = await post('/v2/models/simple_string/infer', { inputs });
  assert.deepEqual([wrong.status, /'x', which is no decimal integer/.test(await wrong.text())], [400, true]);
  const odd = ['a\0b', '', 'ü'];
  const same = await call(SERVICE, 'ModelInfer', {
    modelName: 'simple_identity',
    inputs: [{ name: 'INPUT0', datatype: 'BYTES', shape: [1n, 3n] }],
    rawInputContents: [rawTexts(...odd)],
  });
  assert.deepEqual(textsOf(same, 'OUTPUT0'), odd);
});

test('sequences keep to their instance and order, and are refused without a start', async (t) => {
  const names = ['simple_sequence', 'simple_dyna_sequence', 'simple_string_dyna_sequence'];
  const { stream, call, post } = await serveExamples(t, ...names);
  const values = [20, 11, 7, 5, 3, 2, 0, 1];
  const send = (model: string, ids: readonly (bigint | string)[]): Promise<number[][]> => {
    const open = stream();
    values.forEach((value, i) => {
      for (const id of ids) {
        open.send({
          modelName: model,
          id: String(id),
          parameters: {
            sequence_id:
              typeof id === 'string'
                ? choice({ case: 'stringParam', value: id })
                : choice({ case: 'int64Param', value: id }),
            sequence_start: choice({ case: 'boolParam', value: i === 0 }),
            sequence_end: choice({ case: 'boolParam', value: i === values.length - 1 }),
          },
          inputs: [{ name: 'INPUT', datatype: 'INT32', shape: [1n, 1n] }],
          rawInputContents: [int32(value)],
        });
      }
    });
    return open.end().then((responses) =>
      ids.map((id) =>
        responses
          .map(({ inferResponse }) => inferResponse as ModelInferResponse)
          .filter((response) => response.id === String(id))
          .map((response) => int32Of(response)[0]),
      ),
    );
  };
  const started = [21, ...values.slice(1)];
  assert.deepEqual(await send('simple_sequence', [1n, 2n, 'text']), [started, started, started]);
  const ending = (id: number): number[] => [...started.slice(0, -1), 1 + id];
  assert.deepEqual(await send('simple_dyna_sequence', [1000n, 1001n]), [ending(1000), ending(1001)]);
  assert.deepEqual(await send('simple_string_dyna_sequence', ['1002', '1003']), [
    [20, 31, 38, 43, 46, 48, 48, 1051],
    [20, 31, 38, 43, 46, 48, 48, 1052],
  ]);

  const infer = (parameters: object, rows = 1): Promise<{ status: number; text(): Promise<string> }> =>
    post('/v2/models/simple_sequence/infer', {
      parameters,
      inputs: [{ name: 'INPUT', datatype: 'INT32', shape: [rows, 1], data: Array.from({ length: rows }, () => 1) }],
    });
  const refusals: [object, number, RegExp][] = [
    [{ sequence_id: 42 }, 1, /for sequence 42 to model 'simple_sequence' must specify the START flag on the first/],
    [{}, 1, /must specify a non-zero or non-empty correlation ID/],
    [{ sequence_id: 42, sequence_start: true }, 2, /must specify batch-size 1 due to requirements of sequence batcher/],
  ];
  for (const [parameters, rows, pattern] of refusals) {
    const response = await infer(parameters, rows);
    assert.equal(response.status, 400);
    assert.match(await response.text(), pattern);
  }
  // What follows the last request of a sequence begins anew; a start in the middle does too.
  assert.equal((await infer({ sequence_id: 7, sequence_start: true, sequence_end: true })).status, 200);
  assert.equal((await infer({ sequence_id: 7 })).status, 400);
  const { config } = await call(SERVICE, 'ModelConfig', { name: 'simple_dyna_sequence' });
  assert.equal(config.schedulingChoice.value.maxSequenceIdleMicroseconds, 10_000_000n);
});

test('repeat_int32 and mock_llm: any number of responses', async (t) => {
  const { stream, post } = await serveExamples(t, 'repeat_int32', 'mock_llm');
  const repeat = (values: number[], delays: number[]): object => ({
    modelName: 'repeat_int32',
    inputs: [
      { name: 'IN', datatype: 'INT32', shape: [BigInt(values.length)] },
      { name: 'DELAY', datatype: 'UINT32', shape: [BigInt(delays.length)] },
      { name: 'WAIT', datatype: 'UINT32', shape: [1n] },
    ],
    rawInputContents: [int32(...values), int32(...delays), int32(0)],
  });
  const open = stream();
  open.send(repeat([5, 6, 7], [1, 1, 1]));
  open.send(repeat([], []));
  open.send(repeat([1], [1, 1]));
  const responses = await open.end();
  const errors = responses.flatMap(({ errorMessage }) => (errorMessage === '' ? [] : errorMessage));
  assert.deepEqual(errors, ['expected IN and DELAY shape to match, got [1] and [2]']);
  const values = responses.flatMap(({ errorMessage, inferResponse }) =>
    errorMessage === '' ? [int32Of(inferResponse as ModelInferResponse)] : [],
  );
  assert.deepEqual(values, [[5], [6], [7]]);

  const generate = (path: string, parameters: object, stream: boolean): Promise<string> =>
    post(`/v2/models/mock_llm/${path}`, { PROMPT: 'hello', STREAM: stream, parameters }).then((r) => r.text());
  assert.equal(await generate('generate', {}, false), '{"TEXT":"hello","model_name":"mock_llm","model_version":"1"}');
  const event = 'data: {"TEXT":"hello","model_name":"mock_llm","model_version":"1"}\n\n';
  assert.equal(await generate('generate_stream', { REPETITION: 3 }, true), event.repeat(3));
  const failing = await generate('generate_stream', { REPETITION: 1, FAIL_LAST: true }, true);
  assert.equal(failing, `${event}data: {"error":"An Error Occurred"}\n\n`);
  const empty = await generate('generate', { OUTPUT_0_DIM: true }, false);
  assert.match(empty, /"TEXT":\[\]/);
});

test('the models that are there for odd cases', async (t) => {
  const names = ['nan_inf_output', 'parameter', 'input_optional', 'input_all_required', 'identity_fp32'];
  const { post } = await serveExamples(t, ...names);
  const fp32 = (name: string, shape = [1]): object => ({ name, datatype: 'FP32', shape, data: [1.5] });
  const infer = async (model: string, inputs: object[], parameters = {}): Promise<string> =>
    (await post(`/v2/models/${model}/infer`, { inputs, parameters })).text();
  assert.match(await infer('nan_inf_output', [fp32('INPUT0')]), /\[NaN,Infinity,-Infinity,1.0,2.0,3.0\]/);
  const echo = JSON.parse(await infer('parameter', [fp32('INPUT0')], { a: 'x', b: 2 }));
  assert.deepEqual(
    echo.outputs.map(({ data }: { data: string[] }) => data),
    [
      ['a', 'b'],
      ['x', '2'],
    ],
  );
  assert.match(
    await infer('input_optional', [fp32('INPUT0')]),
    /expected number of inputs between 3 and 4 but got 1 inputs for model 'input_optional'/,
  );
  assert.match(
    await infer('input_all_required', [fp32('INPUT0')]),
    /expected 3 inputs but got 1 inputs .* but missing required input\(s\) \['INPUT1','INPUT2'\]/,
  );
  const three = ['INPUT0', 'INPUT1', 'INPUT2'].map((name) => fp32(name));
  const some = await post('/v2/models/input_optional/infer', {
    inputs: three,
    outputs: [{ name: 'OUTPUT3' }, { name: 'OUTPUT1' }],
  });
  assert.deepEqual(
    (await some.json()).outputs.map(({ name }: { name: string }) => name),
    ['OUTPUT1'],
  );
  const identity = JSON.parse(await infer('identity_fp32', [fp32('INPUT0', [1, 1])]));
  assert.deepEqual(identity.parameters, {
    param0: 'an example string parameter',
    param1: 42,
    param2: false,
    param3: 123.123,
  });
});

test('running_sum: the server keeps the sums', async (t) => {
  const { post } = await serveExamples(t, 'running_sum');
  const add = async (id: number, value: number, start: boolean): Promise<unknown> => {
    const body = {
      parameters: { sequence_id: id, sequence_start: start },
      inputs: [{ name: 'INPUT', datatype: 'INT32', shape: [1, 1], data: [value] }],
    };
    return (await (await post('/v2/models/running_sum/infer', body)).json()).outputs[0].data[0];
  };
  assert.deepEqual(
    [await add(1, 5, true), await add(2, 100, true), await add(1, 6, false), await add(2, 1, false)],
    [5, 100, 11, 101],
  );
});
