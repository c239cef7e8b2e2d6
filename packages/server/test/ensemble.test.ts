import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { status } from '@grpc/grpc-js';
import { GRPCInferenceService } from '../src/grpc/proto/inference_pb.js';
import { serveGrpc, type GrpcServing } from './grpc-client.ts';
import { config, ensemble, IDENTITY, model, modelFiles, numbers, step, type Models } from './repository-kit.ts';
import { until } from './serving.ts';

const SERVICE = GRPCInferenceService;
const EXAMPLES = fileURLToPath(new URL('../../../examples/model-repository', import.meta.url));

function serveModels(t: TestContext, models: Models, ...loadModels: string[]): Promise<GrpcServing> {
  const mode = loadModels.length > 0 ? { mode: 'explicit' as const, loadModels } : {};
  return serveGrpc(t, SERVICE, { repository: { directories: [modelFiles(t, models)], ...mode } });
}

async function stats({ get }: GrpcServing, name: string) {
  const [of] = (await (await get(`/v2/models/${name}/stats`)).json()).model_stats;
  return of;
}

const add = (more: number): string =>
  model(`{ OUT: tensor('INT32', request.input('IN').shape, request.input('IN').data.map((x) => x + ${more})) }`);
const FAIL = "const fail = () => { throw new ModelError('too odd', 'INVALID_ARG'); };\nexport";
const chain = ensemble(
  step('first', { IN: 'IN' }, { OUT: 'between' }) + step('second', { IN: 'between' }, { OUT: 'OUT' }),
);

test('the example over both protocols, all of it and a part of it, with exact statistics', async (t) => {
  const options = { directories: [EXAMPLES], mode: 'explicit' as const, loadModels: ['simple_ensemble'] };
  const serving = await serveGrpc(t, SERVICE, { repository: options });
  const { get, post, call } = serving;
  const upTo16 = Array.from({ length: 16 }, (_, i) => i);
  const input = (name: string, data: number[]): object => ({ name, datatype: 'INT32', shape: [2, 16], data });
  const inputs = [
    input('INPUT0', [...upTo16, ...upTo16]),
    input(
      'INPUT1',
      Array.from({ length: 32 }, () => 3),
    ),
  ];
  const whole = await (await post('/v2/models/simple_ensemble/infer', { id: 'a', inputs })).json();
  const outputs = Object.fromEntries(
    whole.outputs.map(({ name, data }: { name: string; data: number[] }) => [name, data]),
  );
  assert.deepEqual(
    outputs.DOUBLE0.slice(16),
    upTo16.map((x) => 2 * x),
  );
  assert.deepEqual(outputs.DOUBLE1.slice(0, 2), [6, 6]);
  assert.deepEqual(outputs.PRODUCT.slice(0, 4), [0, 12, 24, 36]);
  assert.deepEqual([whole.id, whole.model_name, whole.model_version], ['a', 'simple_ensemble', '1']);
  // As Triton tells of every ensemble's response.
  assert.deepEqual(whole.parameters, { sequence_id: 0, sequence_start: false, sequence_end: false });
  // The second step and the business logic's own call both go to `simple`.
  const counts = async (name: string): Promise<unknown[]> => {
    const {
      inference_count: rows,
      execution_count: executions,
      inference_stats: of,
      batch_stats: batches,
    } = await stats(serving, name);
    const times = [of.success, of.queue, of.compute_input, of.compute_infer, of.compute_output];
    return [
      rows,
      executions,
      times.map(({ count }) => count),
      batches.map((b: { batch_size: number }) => b.batch_size),
    ];
  };
  assert.deepEqual(await counts('simple_ensemble'), [2, 1, [1, 1, 1, 1, 1], [2]]);
  assert.deepEqual(await counts('simple_bls'), [2, 1, [1, 1, 1, 1, 1], [2]]);
  assert.deepEqual(await counts('simple'), [6, 3, [3, 3, 3, 3, 3], [2]]);
  // Times of the ensemble are those of its steps, and they fit into the whole.
  const [own, bls] = [await stats(serving, 'simple_ensemble'), await stats(serving, 'simple_bls')];
  assert.ok(own.inference_stats.compute_infer.ns > bls.inference_stats.compute_infer.ns);
  assert.ok(own.inference_stats.success.ns > bls.inference_stats.success.ns);

  const two = ['INPUT0', 'INPUT1'].map((name) => ({
    name,
    datatype: 'INT32',
    shape: [1n, 16n],
    contents: { intContents: upTo16 },
  }));
  const part = await call(SERVICE, 'ModelInfer', {
    modelName: 'simple_ensemble',
    inputs: two,
    outputs: [{ name: 'DOUBLE0' }],
  });
  assert.deepEqual([part.outputs.length, part.outputs[0].name, part.modelVersion], [1, 'DOUBLE0', '1']);
  assert.deepEqual(
    [...new Int32Array(Uint8Array.from(part.rawOutputContents[0]).buffer)],
    upTo16.map((x) => 2 * x),
  );
  // Steps that nobody asks for do not run.
  assert.equal((await counts('simple_bls'))[1], 1);
  assert.equal((await counts('simple'))[1], 5);
  const metadata = await (await get('/v2/models/simple_ensemble')).json();
  assert.deepEqual([metadata.platform, metadata.inputs[0].shape], ['ensemble', [-1, 16]]);
  const shown = await (await get('/v2/models/simple_ensemble/config')).json();
  assert.deepEqual([shown.backend, shown.instance_group, shown.optimization], ['', [], undefined]);
  const [first] = shown.ensemble_scheduling.step;
  assert.deepEqual([first.model_version, first.output_map], [-1, { OUTPUT0: 'sum', OUTPUT1: 'difference' }]);
  const wrong = await post('/v2/models/simple_ensemble/infer', { inputs: inputs.slice(1) });
  assert.match((await wrong.json()).error, /expected 2 inputs but got 1 inputs for model 'simple_ensemble'/);
  const text = await (await get('/metrics')).text();
  assert.match(text, /nv_inference_request_success\{model="simple_ensemble",version="1"\} 2\n/);
});

test('an error of a step names the ensemble and has the status of the step', async (t) => {
  const serving = await serveModels(t, {
    first: [config('TYPE_INT32'), IDENTITY],
    second: [config('TYPE_INT32'), model('fail()').replace('export', FAIL)],
    e: [chain],
  });
  const response = await serving.post('/v2/models/e/infer', numbers(1));
  assert.deepEqual([response.status, await response.json()], [400, { error: "in ensemble 'e', too odd" }]);
  const { inference_stats: of, execution_count: executed } = await stats(serving, 'e');
  assert.deepEqual([of.fail.count, of.success.count, executed], [1, 0, 0]);
  assert.equal((await stats(serving, 'first')).inference_stats.success.count, 1);
  const failures = await (await serving.get('/metrics')).text();
  assert.match(failures, /nv_inference_request_failure\{model="e",reason="OTHER",version="1"\} 1\n/);
  assert.match(failures, /nv_inference_request_failure\{model="second",reason="BACKEND",version="1"\} 1\n/);
  const call = serving.call(SERVICE, 'ModelInfer', {
    modelName: 'e',
    inputs: [{ name: 'IN', datatype: 'INT32', shape: [1n], contents: { intContents: [1] } }],
  });
  await assert.rejects(call, { code: status.INVALID_ARGUMENT, details: "in ensemble 'e', too odd" });
});

test('steps that do not need each other run at the same time, and cancelling reaches them', async (t) => {
  const held = model('{ OUT: await held(request) }').replace(
    'export',
    `import { BroadcastChannel } from 'node:worker_threads';
    async function held(request) {
      const channel = new BroadcastChannel('steps of an ensemble');
      channel.postMessage('begun');
      request.signal.addEventListener('abort', () => channel.postMessage('aborted'));
      await new Promise((resolve) => { channel.onmessage = ({ data }) => { if (data === 'go') resolve(); }; });
      channel.close();
      return request.input('IN');
    }
    export`,
  );
  const sum = `output { name: "OUT" data_type: TYPE_INT32 dims: -1 }
    input { name: "A" data_type: TYPE_INT32 dims: -1 } input { name: "B" data_type: TYPE_INT32 dims: -1 }`;
  const serving = await serveModels(t, {
    left: [config('TYPE_INT32'), held],
    right: [config('TYPE_INT32'), held],
    sum: [
      sum,
      model("{ OUT: tensor('INT32', [1], Int32Array.of(request.input('A').data[0] + request.input('B').data[0])) }"),
    ],
    e: [
      ensemble(
        step('left', { IN: 'IN' }, { OUT: 'a' }) +
          step('right', { IN: 'IN' }, { OUT: 'b' }) +
          step('sum', { A: 'a', B: 'b' }, { OUT: 'OUT' }),
      ),
    ],
  });
  const channel = new BroadcastChannel('steps of an ensemble');
  t.after(() => channel.close());
  const heard: string[] = [];
  channel.addEventListener('message', ({ data }) => void heard.push(data));
  const answer = serving.post('/v2/models/e/infer', numbers(21));
  await until(() => heard.length === 2, 'both steps have begun');
  channel.postMessage('go');
  assert.deepEqual((await (await answer).json()).outputs[0].data, [42]);
  heard.length = 0;
  const abort = new AbortController();
  const given = serving.post('/v2/models/e/infer', numbers(21), { signal: abort.signal }).catch(() => 'gone');
  await until(() => heard.length === 2, 'both steps have begun again');
  abort.abort();
  await until(() => heard.filter((what) => what === 'aborted').length === 2, 'both steps hear that nobody waits');
  assert.equal(await given, 'gone');
  channel.postMessage('go');
  assert.equal((await stats(serving, 'e')).inference_stats.fail.count, 1);
  const metrics = await (await serving.get('/metrics')).text();
  assert.match(metrics, /nv_inference_request_failure\{model="e",reason="CANCELED",version="1"\} 1\n/);
});

/** Answers IN[0] times with 0, 1, 2... */
const COUNT = `import { tensor } from '@rose/server/backend';
export default class {
  async execute(requests) {
    for (const request of requests) {
      const [count] = request.input('IN').data;
      for (let i = 0; i < count; i++) await request.sender.send({ outputs: { OUT: tensor('INT32', [1], Int32Array.of(i)) } });
      request.sender.end();
    }
  }
}`;
/** The smaller the number, the longer it takes. */
const SLOW_FIRST = model('{ OUT: await late(request.input("IN")) }').replace(
  'export',
  'const late = async (tensor) => { if (tensor.data[0] < 3) await new Promise((go) => setTimeout(go, 40 - 10 * tensor.data[0])); return tensor; };\nexport',
);
const decoupled = 'model_transaction_policy { decoupled: true }';

test('a decoupled step makes the ensemble decoupled: each response goes on, and they come in order', async (t) => {
  const serving = await serveModels(t, {
    count: [config('TYPE_INT32', decoupled), COUNT],
    late: [config('TYPE_INT32', 'instance_group { count: 4 }'), SLOW_FIRST],
    e: [ensemble(step('count', { IN: 'IN' }, { OUT: 'i' }) + step('late', { IN: 'i' }, { OUT: 'OUT' }))],
    // Three times over: 0, then 0 1, then 0 1 2...
    twice: [
      ensemble(
        step('count', { IN: 'IN' }, { OUT: 'i' }) +
          step('count', { IN: 'i' }, { OUT: 'OUT' }) +
          'max_inflight_requests: 2',
      ),
    ],
  });
  const { post, stream } = serving;
  const refused = await post('/v2/models/e/infer', numbers(3));
  assert.deepEqual(
    [refused.status, (await refused.json()).error],
    [501, "HTTP end point doesn't support models with decoupled transaction policy"],
  );
  const ask = async (modelName: string, count: number): Promise<number[]> => {
    const asked = stream();
    asked.send({
      modelName,
      inputs: [{ name: 'IN', datatype: 'INT32', shape: [1n], contents: { intContents: [count] } }],
    });
    const responses = await asked.end();
    assert.deepEqual(
      responses.map(({ errorMessage }) => errorMessage).filter((text) => text !== ''),
      [],
    );
    return responses.map(({ inferResponse }) => Buffer.from(inferResponse!.rawOutputContents[0]).readInt32LE());
  };
  assert.deepEqual(await ask('e', 5), [0, 1, 2, 3, 4]);
  assert.deepEqual(await ask('e', 0), []);
  // Far more than may wait in between.
  assert.deepEqual(
    await ask('e', 200),
    Array.from({ length: 200 }, (_, i) => i),
  );
  const all = await ask('twice', 50);
  assert.equal(all.length, (50 * 49) / 2);
  const { inference_count: rows, execution_count: executions, response_stats: of } = await stats(serving, 'e');
  assert.deepEqual(
    [rows, executions, of['0'].success.count, of['4'].success.count, of['199'].success.count],
    [3, 3, 2, 2, 1],
  );
  assert.equal((await stats(serving, 'late')).inference_count, 205);
  const shown = await (await serving.get('/v2/models/e/config')).json();
  assert.deepEqual(shown.model_transaction_policy, { decoupled: true });
});

test('ensembles over models with and without a batch dimension, optional inputs, and models of the engine', async (t) => {
  const optional = `max_batch_size: 4 backend: "typescript" output { name: "OUT" data_type: TYPE_INT32 dims: 1 }
    input { name: "IN" data_type: TYPE_INT32 dims: 1 } input { name: "MORE" data_type: TYPE_INT32 dims: 1 optional: true }`;
  const sum = model(
    "{ OUT: tensor('INT32', request.input('IN').shape, request.input('IN').data.map((x, i) => x + (request.has('MORE') ? request.input('MORE').data[i] : 100))) }",
  );
  const both =
    'input { name: "IN" data_type: TYPE_INT32 dims: 1 } input { name: "MORE" data_type: TYPE_INT32 dims: 1 optional: true }';
  const { post } = await serveModels(t, {
    plain: [config('TYPE_INT32').replaceAll('dims: -1', 'dims: 1'), add(1)],
    batched: [optional, sum],
    // One row goes through a model that knows no rows.
    e: [
      `platform: "ensemble" max_batch_size: 4 ${both} output { name: "OUT" data_type: TYPE_INT32 dims: 1 }
       ensemble_scheduling { ${step('plain', { IN: 'IN' }, { OUT: 'x' })} ${step('batched', { IN: 'x', MORE: 'MORE' }, { OUT: 'OUT' })} }`,
    ],
    texts: [
      `platform: "ensemble" input { name: "TEXT" data_type: TYPE_STRING dims: 1 } output { name: "VECTOR" data_type: TYPE_FP32 dims: -1 }
       ensemble_scheduling { ${step('embed', { TEXT: 'TEXT' }, { EMBEDDING: 'VECTOR' })} }`,
    ],
  });
  const tensor = (name: string, ...data: number[]): object => ({
    name,
    datatype: 'INT32',
    shape: [data.length, 1],
    data,
  });
  const infer = async (...inputs: object[]): Promise<unknown> => {
    const reply = await (await post('/v2/models/e/infer', { inputs })).json();
    return reply.error ?? [reply.outputs[0].shape, reply.outputs[0].data];
  };
  assert.deepEqual(await infer(tensor('IN', 5), tensor('MORE', 7)), [[1, 1], [13]]);
  assert.deepEqual(await infer(tensor('IN', 5)), [[1, 1], [106]]);
  assert.match(
    String(await infer(tensor('IN', 5, 6))),
    /^in ensemble 'e', .*unexpected shape for input 'IN' for model 'plain'/,
  );
  const embedded = await post('/v2/models/texts/infer', {
    inputs: [{ name: 'TEXT', datatype: 'BYTES', shape: [1], data: ['a'] }],
  });
  const { outputs } = await embedded.json();
  assert.deepEqual([outputs[0].name, outputs[0].datatype, outputs[0].shape.length], ['VECTOR', 'FP32', 1]);
});
