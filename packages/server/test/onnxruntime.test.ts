import assert from 'node:assert/strict';
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { ONNX, onnxFile } from './onnx-file.ts';
import { makeRepository } from './repository-kit.ts';
import { serve, type Serving } from './serving.ts';

/** Where onnxruntime-node is installed: for Rose, or for the benchmarks. */
function installed(): string | undefined {
  for (const from of ['../package.json', '../../../bench/package.json']) {
    try {
      const found = createRequire(new URL(from, import.meta.url)).resolve('onnxruntime-node/package.json');
      return dirname(found);
    } catch {
      continue;
    }
  }
  return undefined;
}

const runtime = installed();
const skip = runtime === undefined && 'onnxruntime-node is not installed';

const pair = (shape: (number | string)[]): Buffer =>
  onnxFile(
    [
      { name: 'A', type: ONNX.FLOAT, shape },
      { name: 'B', type: ONNX.FLOAT, shape },
    ],
    [
      { name: 'SUM', type: ONNX.FLOAT, shape },
      { name: 'PRODUCT', type: ONNX.FLOAT, shape },
    ],
    [
      { op: 'Add', inputs: ['A', 'B'], outputs: ['SUM'] },
      { op: 'Mul', inputs: ['A', 'B'], outputs: ['PRODUCT'] },
    ],
  );
const identity = (type: number, shape: (number | string)[]): Buffer =>
  onnxFile(
    [{ name: 'IN', type, shape }],
    [{ name: 'OUT', type, shape }],
    [{ op: 'Identity', inputs: ['IN'], outputs: ['OUT'] }],
  );

/** A server over a repository with model files, which finds onnxruntime from there. */
async function serveOnnx(
  t: TestContext,
  configs: Record<string, string>,
  models: Record<string, Buffer>,
): Promise<Serving> {
  const directory = makeRepository(
    t,
    Object.fromEntries(Object.entries(configs).map(([name, text]) => [`${name}/config.pbtxt`, text])),
  );
  for (const [name, bytes] of Object.entries(models)) {
    mkdirSync(join(directory, name, '1'), { recursive: true });
    writeFileSync(join(directory, name, '1', 'model.onnx'), bytes);
  }
  if (runtime !== undefined) {
    mkdirSync(join(directory, 'node_modules'));
    symlinkSync(runtime, join(directory, 'node_modules', 'onnxruntime-node'));
  }
  return serve(t, { repository: { directories: [directory], mode: 'explicit' } });
}

async function load({ post }: Serving, name: string): Promise<string> {
  const response = await post(`/v2/repository/models/${name}/load`, '');
  return response.status === 200 ? '' : (await response.json()).error;
}

test(
  'the configuration is completed from the file; requests are batched, and answered as alone',
  { skip },
  async (t) => {
    const serving = await serveOnnx(t, {}, { pair: pair(['n', 4]) });
    assert.equal(await load(serving, 'pair'), '');
    const { get, post } = serving;
    const config = await (await get('/v2/models/pair/config')).json();
    assert.deepEqual([config.backend, config.max_batch_size, config.input[0].dims], ['onnxruntime', 4, [4]]);
    assert.ok(config.dynamic_batching);
    const rows = (from: number, count: number): number[] => Array.from({ length: 4 * count }, (_, i) => from + i / 8);
    const infer = async (from: number, count: number, more: object = {}): Promise<unknown> => {
      const input = (name: string, first: number): object => {
        return { name, datatype: 'FP32', shape: [count, 4], data: rows(first, count) };
      };
      const response = await post('/v2/models/pair/infer', { inputs: [input('A', from), input('B', 1)], ...more });
      const reply = await response.json();
      assert.equal(response.status, 200, reply.error);
      return reply.outputs;
    };
    const asked = [1, 2, 1, 3, 1, 1, 2, 4];
    const alone = [];
    for (const [i, count] of asked.entries()) alone.push(await infer(i, count));
    assert.deepEqual(await Promise.all(asked.map((count, i) => infer(i, count))), alone);
    const first = (alone[0] as { name: string; shape: number[]; data: number[] }[]).map(({ name, shape, data }) => [
      name,
      shape,
      data,
    ]);
    const b = rows(1, 1);
    assert.deepEqual(first, [
      ['SUM', [1, 4], rows(0, 1).map((x, i) => x + b[i])],
      ['PRODUCT', [1, 4], rows(0, 1).map((x, i) => Math.fround(x * b[i]))],
    ]);
    const only = (await infer(0, 1, { outputs: [{ name: 'PRODUCT' }] })) as { name: string }[];
    assert.deepEqual(
      only.map(({ name }) => name),
      ['PRODUCT'],
    );
    const { model_stats } = await (await get('/v2/models/pair/stats')).json();
    const [{ inference_count, execution_count }] = model_stats;
    assert.equal(inference_count, 2 * asked.reduce((sum, count) => sum + count) + 1);
    assert.ok(execution_count < 17, `${execution_count} executions`);
    const wrong = await post('/v2/models/pair/infer', { inputs: [] });
    assert.equal(wrong.status, 400);
  },
);

test('types, shapes and instances as the configuration and the file say', { skip }, async (t) => {
  const group =
    'backend: "onnxruntime" instance_group { count: 2 } parameters { key: "intra_op_thread_count" value { string_value: "1" } }';
  const serving = await serveOnnx(
    t,
    { whole: group, texts: 'platform: "onnxruntime_onnx" max_batch_size: 8' },
    {
      whole: identity(ONNX.INT64, [2, 2]),
      texts: identity(ONNX.STRING, ['n', 1]),
      half: identity(ONNX.FLOAT16, ['n', 'm']),
    },
  );
  const { get, post } = serving;
  for (const name of ['whole', 'texts', 'half']) assert.equal(await load(serving, name), '');
  const whole = { name: 'IN', datatype: 'INT64', shape: [2, 2], data: [1, -2, 3, 4] };
  const text = await (await post('/v2/models/whole/infer', { inputs: [whole] })).text();
  assert.match(text, /"data":\[1,-2,3,4\]/);
  const metadata = await (await get('/v2/models/texts')).json();
  assert.deepEqual([metadata.platform, metadata.inputs[0].shape], ['onnxruntime_onnx', [-1, 1]]);
  const words = { name: 'IN', datatype: 'BYTES', shape: [2, 1], data: ['ä', ''] };
  assert.deepEqual((await (await post('/v2/models/texts/infer', { inputs: [words] })).json()).outputs[0].data, [
    'ä',
    '',
  ]);
  const header = JSON.stringify({
    inputs: [{ name: 'IN', datatype: 'FP16', shape: [1, 2], parameters: { binary_data_size: 4 } }],
    outputs: [{ name: 'OUT', parameters: { binary_data: true } }],
  });
  const halves = await post('/v2/models/half/infer', Buffer.concat([Buffer.from(header), Buffer.of(0, 60, 1, 0)]), {
    headers: { 'inference-header-content-length': String(header.length) },
  });
  const bytes = Buffer.from(await halves.arrayBuffer());
  assert.deepEqual([...bytes.subarray(-4)], [0, 60, 1, 0], bytes.toString());
});

test('what does not fit the file is refused by name', { skip }, async (t) => {
  const input = (name: string, type: string, dims: string): string =>
    `backend: "onnxruntime" input { name: "${name}" data_type: ${type} dims: ${dims} } output { name: "OUT" data_type: TYPE_FP32 dims: 2 }`;
  const serving = await serveOnnx(
    t,
    {
      name: input('INPUT', 'TYPE_FP32', '2'),
      type: input('IN', 'TYPE_INT32', '2'),
      shape: input('IN', 'TYPE_FP32', '3'),
      batch: 'backend: "onnxruntime" max_batch_size: 4',
      threads: 'backend: "onnxruntime" parameters { key: "intra_op_thread_count" value { string_value: "many" } }',
      gpu: 'backend: "onnxruntime" optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }',
      broken: 'backend: "onnxruntime"',
    },
    {
      ...Object.fromEntries(
        ['name', 'type', 'shape', 'batch', 'threads', 'gpu'].map((name) => [name, identity(ONNX.FLOAT, [2])]),
      ),
      broken: Buffer.from('no model'),
    },
  );
  const expected: Record<string, RegExp> = {
    name: /the file has no input 'INPUT'; it has IN/,
    type: /input 'IN' is TYPE_INT32, but TYPE_FP32 in the file/,
    shape: /input 'IN' has the shape \[3\], but \[2\] in the file/,
    batch: /'IN' has no dimension of any size for a batch/,
    threads: /'intra_op_thread_count' must be a number of threads, not 'many'/,
    gpu: /execution_accelerators of model 'gpu' is not supported by Rose/,
    broken: /failed to load 'broken'/,
  };
  for (const [name, pattern] of Object.entries(expected)) assert.match(await load(serving, name), pattern);
});

test('without onnxruntime a model says how to install it', async (t) => {
  const require = createRequire(new URL('../package.json', import.meta.url));
  const found = ((): boolean => {
    try {
      return existsSync(require.resolve('onnxruntime-node'));
    } catch {
      return false;
    }
  })();
  if (found) return t.skip('it is installed for Rose itself');
  const directory = makeRepository(t, { 'm/1/model.onnx': 'anything' });
  const serving = await serve(t, { repository: { directories: [directory], mode: 'explicit' } });
  assert.match(await load(serving, 'm'), /onnxruntime is not installed: npm install onnxruntime-node/);
});

test('a model of sequences: controls are inputs, and states come back', { skip }, async (t) => {
  const shape = ['n', 1];
  const of = (name: string) => ({ name, type: ONNX.FLOAT, shape });
  // OUT = SUM + IN + START, which is the next SUM.
  const file = onnxFile(
    [of('IN'), of('SUM'), of('START')],
    [of('OUT'), of('NEXT')],
    [
      { op: 'Add', inputs: ['IN', 'SUM'], outputs: ['both'] },
      { op: 'Add', inputs: ['both', 'START'], outputs: ['OUT'] },
      { op: 'Identity', inputs: ['OUT'], outputs: ['NEXT'] },
    ],
  );
  const sequences = `max_batch_size: 4 sequence_batching { max_sequence_idle_microseconds: 60000000 oldest { max_candidate_sequences: 8 }
    control_input { name: "START" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 0.5 ] } }
    state { input_name: "SUM" output_name: "NEXT" data_type: TYPE_FP32 dims: 1 } }`;
  const serving = await serveOnnx(t, { sums: sequences }, { sums: file });
  assert.equal(await load(serving, 'sums'), '');
  const { get, post } = serving;
  const metadata = await (await get('/v2/models/sums')).json();
  const names = (tensors: { name: string }[]): string[] => tensors.map(({ name }) => name);
  assert.deepEqual([names(metadata.inputs), names(metadata.outputs)], [['IN'], ['OUT']]);
  const add = async (id: number, value: number, start: boolean): Promise<number> => {
    const parameters = { sequence_id: id, sequence_start: start };
    const inputs = [{ name: 'IN', datatype: 'FP32', shape: [1, 1], data: [value] }];
    return (await (await post('/v2/models/sums/infer', { parameters, inputs })).json()).outputs[0].data[0];
  };
  assert.deepEqual(await Promise.all([1, 2, 3].map((id) => add(id, id, true))), [1.5, 2.5, 3.5]);
  assert.deepEqual(await Promise.all([3, 1, 2].map((id) => add(id, 10, false))), [13.5, 11.5, 12.5]);
  assert.equal(await add(2, 1, true), 1.5);
});
