import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { GRPCInferenceService } from '../src/grpc/proto/inference_pb.js';
import { checkConfig } from '../src/repository/check-config.ts';
import { completeConfig, parseConfig } from '../src/repository/config.ts';
import { serveGrpc } from './grpc-client.ts';
import { config, makeRepository, model, numbers, write } from './repository-kit.ts';
import { until } from './serving.ts';

const SERVICE = GRPCInferenceService;
/** A busy machine may be silent for longer than a second. */
const IDLE = 'max_sequence_idle_microseconds: 60000000';
const sum = (more = '', dims = '1', type = 'TYPE_INT32'): string =>
  `state { input_name: "SUM_IN" output_name: "SUM_OUT" data_type: ${type} dims: ${dims} ${more} }`;

/** OUT is the sum so far; -1 fails after it has set the state. */
const SUMS = model(`{ OUT: (() => {
  const sum = request.input('SUM_IN', 'INT32').data[0] + request.input('IN', 'INT32').data[0];
  const { shape } = request.input('SUM_IN');
  request.setState('SUM_OUT', tensor('INT32', shape, Int32Array.of(sum)));
  if (request.input('IN').data[0] === -1) throw new ModelError('no', 'INVALID_ARG');
  return tensor('INT32', shape, Int32Array.of(sum));
})() }`).replace(
  /Promise\.all\(requests\.map\((.*)\)\)/s,
  'Promise.all(requests.map((request) => ($1)(request).catch((error) => error)))',
);

async function serveModel(t: TestContext, text: string, source: string, files: Record<string, string> = {}) {
  const directory = makeRepository(t, { 'm/config.pbtxt': text, 'm/1/model.ts': source, ...files });
  const repository = { directories: [directory], mode: 'explicit' as const, loadModels: ['m'] };
  const serving = await serveGrpc(t, SERVICE, { repository });
  const infer = async (id: number | string, flags: string, shape: number[], ...data: number[]): Promise<unknown> => {
    const parameters = { sequence_id: id, sequence_start: flags.includes('s'), sequence_end: flags.includes('e') };
    const body = { parameters, inputs: [{ name: 'IN', datatype: 'INT32', shape, data }] };
    const reply = await (await serving.post('/v2/models/m/infer', body)).json();
    return reply.error ?? reply.outputs[0].data;
  };
  const load = async (): Promise<string> => {
    const response = await serving.post('/v2/repository/models/m/load', '');
    return response.status === 200 ? '' : (await response.json()).error;
  };
  return { ...serving, directory, infer, load };
}

test('the server keeps states for each sequence', async (t) => {
  const { infer } = await serveModel(
    t,
    config('TYPE_INT32', `instance_group { count: 2 } sequence_batching { ${IDLE} ${sum()} }`),
    SUMS,
  );
  assert.deepEqual(await infer(1, 's', [1], 5), [5]);
  assert.deepEqual(await infer('a', 's', [1], 100), [100]);
  assert.deepEqual(await infer(1, '', [1], 6), [11]);
  // What fails leaves the state as it was.
  assert.equal(await infer(1, '', [1], -1), 'no');
  assert.deepEqual(await infer(1, '', [1], 1), [12]);
  assert.deepEqual(await infer('a', 'e', [1], 1), [101]);
  // A start on a sequence under way begins it anew, and so does the id after its end.
  assert.deepEqual(await infer(1, 's', [1], 7), [7]);
  assert.deepEqual(await infer('a', 's', [1], 2), [2]);
});

test('states with a batch dimension, of many sequences in one batch, and from files', async (t) => {
  const text = (more: string): string =>
    config(
      'TYPE_INT32',
      `max_batch_size: 4 sequence_batching { ${IDLE} oldest { max_candidate_sequences: 8 max_queue_delay_microseconds: 2000 } ${sum(more)} }`,
    );
  const initial = (what: string): string => `initial_state { name: "i" data_type: TYPE_INT32 dims: 1 ${what} }`;
  const files = { 'm/initial_state/ten': '\x0a\0\0\0rest', 'm/initial_state/short': 'a' };
  const { infer, load, directory } = await serveModel(t, text(initial('data_file: "ten"')), SUMS, files);
  const all = await Promise.all([1, 2, 3, 4, 5, 6].map((id) => infer(id, 's', [1, 1], id)));
  assert.deepEqual(all, [[11], [12], [13], [14], [15], [16]]);
  assert.deepEqual(await Promise.all([3, 1, 2].map((id) => infer(id, 'e', [1, 1], 1))), [[14], [12], [13]]);
  write(directory, { 'm/initial_state/ten': '\x14\0\0\0' });
  assert.equal(await load(), '');
  assert.deepEqual(await infer(1, 's', [1, 1], 1), [21]);
  write(directory, { 'm/config.pbtxt': text(initial('zero_data: true')) });
  assert.equal(await load(), '');
  assert.deepEqual(await infer(1, 's', [1, 1], 1), [1]);
  const refused: [string, RegExp][] = [
    [initial('data_file: "short"'), /expects 4 bytes, but the data provided from short only has 1 bytes\./],
    [initial('data_file: "../1/model.ts"'), /it must stay within the model directory/],
    [initial('data_file: "none"'), /cannot read 'initial_state\/none' for the initial state of 'SUM_IN': there is no/],
    [initial(''), /initial_state setting expects state 'SUM_IN' to have state_data set/],
  ];
  for (const [more, pattern] of refused) {
    write(directory, { 'm/config.pbtxt': text(more) });
    assert.match(await load(), pattern);
  }
});

test('states of texts that grow, large ones, and states that do not fit', async (t) => {
  const states =
    sum('', '-1', 'TYPE_STRING') +
    'state { input_name: "BIG_IN" output_name: "BIG_OUT" data_type: TYPE_FP32 dims: -1 }';
  const source = model(`{ OUT: (() => {
    const seen = texts(request.input('SUM_IN', 'BYTES'));
    const big = request.input('BIG_IN', 'FP32').data;
    const [value] = request.input('IN', 'INT32').data;
    if (value === 7) request.setState('NONE', request.input('IN'));
    if (value === 8) request.setState('BIG_OUT', request.input('IN'));
    if (value === 9) request.setState('BIG_OUT', tensor('FP32', [1, 1], Float32Array.of(1)));
    const next = [...seen.filter((text) => text !== ''), String(value)];
    if (value < 7) {
      request.setState('SUM_OUT', tensor('BYTES', [next.length], next));
      request.setState('BIG_OUT', tensor('FP32', [10_000], new Float32Array(10_000).fill(value)));
    }
    return tensor('INT32', [3], Int32Array.of(seen.length, big.length, big.at(-1)));
  })() }`);
  const { infer } = await serveModel(t, config('TYPE_INT32', `sequence_batching { ${IDLE} ${states} }`), source);
  assert.deepEqual(await infer(1, 's', [1], 3), [1, 1, 0]);
  assert.deepEqual(await infer(1, '', [1], 4), [1, 10_000, 3]);
  assert.deepEqual(await infer(1, '', [1], 5), [2, 10_000, 4]);
  assert.match(String(await infer(1, '', [1], 7)), /there is no state 'NONE': the model has SUM_OUT, BIG_OUT/);
  assert.match(
    String(await infer(1, '', [1], 8)),
    /state 'BIG_OUT' of model 'm' is INT32; its configuration says FP32/,
  );
  assert.match(
    String(await infer(1, '', [1], 9)),
    /state 'BIG_OUT' of model 'm' has shape \[1,1\]; its configuration says \[-1\]/,
  );
  assert.deepEqual(await infer(1, '', [1], 6), [3, 10_000, 5]);
});

test('states that make no sense are refused with the reason', () => {
  const refused: [string, RegExp][] = [
    [sum() + sum(), /state input 'SUM_IN' is specified more than once for m/],
    [
      sum('use_same_buffer_for_input_output: true use_growable_memory: true'),
      /can only work with KIND_GPU model instances right now/,
    ],
    [sum('initial_state { } initial_state { }'), /must contain exactly one or zero element\. Found '2' elements/],
    [
      sum('initial_state { data_type: TYPE_FP32 }'),
      /for state 'SUM_IN' does not match|of state 'SUM_IN' does not match the state data type/,
    ],
    [
      sum('initial_state { data_type: TYPE_INT32 }'),
      /Field 'name' must be set when using initial_state for state input 'SUM_IN'/,
    ],
    [
      sum('initial_state { name: "i" data_type: TYPE_INT32 }'),
      /Number of dimensions in 'initial_state' doesn't match.* 0 != 1/,
    ],
    [sum('initial_state { name: "i" data_type: TYPE_INT32 dims: -1 }'), /'SUM_IN' contains variable dimensions/],
    [
      sum('initial_state { name: "i" data_type: TYPE_INT32 dims: 2 }'),
      /doesn't match 'state' dim description\. 2 != 1/,
    ],
    ['direct { minimum_slot_utilization: 1.5 }', /minimum slot utilization must be in range \(0\.0, 1\.0\] for m/],
    [
      'control_input { name: "START" control { kind: CONTROL_SEQUENCE_START } }',
      /with exactly 2 entries for CONTROL_SEQUENCE_START for m$/,
    ],
  ];
  for (const [text, pattern] of refused) {
    const whole = config('TYPE_INT32', `sequence_batching { ${text} }`);
    assert.throws(() => checkConfig(completeConfig(parseConfig(whole, 'f'), 'm', '')), pattern);
  }
});

/** Answers IN times, each time in another execution: how many are left, and with how many it was executed. */
const COUNTDOWN = `import { tensor } from '@rose/server/backend';

export default class {
  async execute(requests) {
    await new Promise((go) => setTimeout(go, 2));
    for (const request of requests) {
      const start = request.input('START', 'INT32').data[0] === 1;
      const left = start ? request.input('IN', 'INT32').data[0] : request.input('LEFT_IN', 'INT32').data[0];
      if (left === 29) throw new Error('enough');
      if (left > 0) void request.sender.send({ outputs: { OUT: tensor('INT32', [1, 1], Int32Array.of(left)) }, parameters: { together: requests.length } });
      request.setState('LEFT_OUT', tensor('INT32', [1, 1], Int32Array.of(left - 1)));
      if (left > 1) request.reschedule();
      else request.sender.end();
    }
  }
}`;
const ITERATIVE = (more: string): string => `sequence_batching { iterative_sequence: true ${more}
  control_input { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }
  state { input_name: "LEFT_IN" output_name: "LEFT_OUT" data_type: TYPE_INT32 dims: 1 } }`;

test('iterative sequences: requests are executed again and again, with others, until they are done', async (t) => {
  const text = config(
    'TYPE_INT32',
    `max_batch_size: 4 model_transaction_policy { decoupled: true } ${ITERATIVE('oldest { max_candidate_sequences: 4 }')}`,
  );
  const { stream, get } = await serveModel(t, text, COUNTDOWN);
  const ask = (count: number, id: string) => ({
    ...{ modelName: 'm', id },
    inputs: [{ name: 'IN', datatype: 'INT32', shape: [1n, 1n], contents: { intContents: [count] } }],
  });
  const call = stream();
  const wanted = [5, 20, 1, 8, 3];
  wanted.forEach((count, i) => call.send(ask(count, String(i))));
  const responses = await call.end();
  assert.deepEqual(
    responses.map(({ errorMessage }) => errorMessage).filter((text) => text !== ''),
    [],
  );
  const values = wanted.map((_, i) =>
    responses
      .filter(({ inferResponse }) => inferResponse?.id === String(i))
      .map(({ inferResponse }) => Buffer.from(inferResponse!.rawOutputContents[0]).readInt32LE()),
  );
  assert.deepEqual(
    values,
    wanted.map((count) => Array.from({ length: count }, (_, i) => count - i)),
  );
  const together = responses.map(({ inferResponse }) =>
    Number(inferResponse!.parameters.together.parameterChoice.value),
  );
  assert.ok(together.some((count) => count > 1) && together.every((count) => count <= 4));
  // One request is one success, however often it was executed.
  const [of] = (await (await get('/v2/models/m/stats')).json()).model_stats;
  assert.deepEqual(
    [of.inference_stats.success.count, of.inference_stats.compute_infer.count, of.inference_count],
    [5, 5, 5],
  );
  const batches = of.batch_stats.map(
    (one: { batch_size: number; compute_infer: { count: number } }) => one.batch_size * one.compute_infer.count,
  );
  assert.equal(
    batches.reduce((a: number, b: number) => a + b, 0),
    5 + 20 + 1 + 8 + 3,
  );
  assert.match(await (await get('/metrics')).text(), /nv_inference_pending_request_count\{model="m",version="1"\} 0\n/);
  // An error ends it, and what is cancelled gives its slot away.
  const failing = stream();
  failing.send(ask(30, 'x'));
  const last = (await failing.end()).at(-1);
  assert.equal(last?.errorMessage, 'enough');
  const gone = stream();
  gone.call.on('error', () => {});
  for (let i = 0; i < 4; i++) gone.send(ask(1_000_000, String(i)));
  await until(() => gone.responses.length > 8, 'they are under way');
  gone.call.cancel();
  const after = stream();
  after.send(ask(2, 'y'));
  assert.equal((await after.end()).length, 2);
});

test('a model that is not decoupled may be iterative too; others cannot reschedule', async (t) => {
  const doubling = model(`{ OUT: (() => {
    const before = request.input('LEFT_IN', 'INT32').data[0];
    const now = before + request.input('IN', 'INT32').data[0];
    if (now === 15) throw new Error('fifteen');
    request.setState('LEFT_OUT', tensor('INT32', [1], Int32Array.of(now)));
    if (now < 100) request.reschedule();
    return tensor('INT32', [1], Int32Array.of(now));
  })() }`);
  const { infer, post, get } = await serveModel(t, config('TYPE_INT32', ITERATIVE('')), doubling);
  const ask = async (value: number): Promise<unknown> => {
    const reply = await (await post('/v2/models/m/infer', numbers(value))).json();
    return reply.error ?? reply.outputs[0].data[0];
  };
  assert.deepEqual(await Promise.all([30, 7, 100].map(ask)), [120, 105, 100]);
  assert.equal(await ask(5), 'fifteen');
  // Ids of clients are other sequences than those that requests get by themselves.
  assert.deepEqual(await infer(1, 's', [1], 60), [120]);
  const [of] = (await (await get('/v2/models/m/stats')).json()).model_stats;
  assert.deepEqual([of.inference_stats.success.count, of.execution_count], [4, 4 + 15 + 1 + 3 + 2]);
  const other = await serveModel(
    t,
    config('TYPE_INT32'),
    model("{ OUT: (request.reschedule(), request.input('IN')) }"),
  );
  const refused = await (await other.post('/v2/models/m/infer', numbers(1))).json();
  assert.equal(refused.error, 'only models with iterative_sequence can reschedule requests');
});
