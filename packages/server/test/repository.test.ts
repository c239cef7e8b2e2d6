import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import type { RepositoryOptions } from '@rose/server';
import { GRPCInferenceService } from '../src/grpc/proto/inference_pb.js';
import { parseConfig } from '../src/repository/config.ts';
import { wantedVersions } from '../src/repository/versions.ts';
import { serveGrpc } from './grpc-client.ts';
import {
  config,
  ensemble,
  IDENTITY,
  makeRepository,
  model,
  modelFiles,
  numbers,
  step,
  write,
} from './repository-kit.ts';
import { serve, until, type Reply } from './serving.ts';

const constant = (value: number): string => model(`{ OUT: tensor('INT32', [1], Int32Array.of(${value})) }`);
const explicit = (directory: string, ...loadModels: string[]): { repository: RepositoryOptions } => ({
  repository: { directories: [directory], mode: 'explicit', loadModels },
});

test('a configuration that cannot be read says what is wrong in which line', () => {
  const text =
    'name: "m"\n# a comment\ninput [\n  {\n    name: "IN"\n    data_tpye: TYPE_FP32\n  }\n]\nmax_batch_size: 4';
  assert.throws(() => parseConfig(text, 'config.pbtxt'), {
    message:
      'failed to read text proto from config.pbtxt: line 6: unknown field "data_tpye" for message inference.ModelInput',
  });
  assert.throws(() => parseConfig('name: "m"\nmax_batch_size: "8"\n', 'f'), /f: line 2: expected an integer/);
  assert.throws(() => parseConfig('input { name: "IN"\n\n', 'f'), /f: line \d: unexpected end of input/);
  const read = parseConfig("parameters: { key: 'a' value: { string_value: 'x' } }\ninput < dims: [ 1, -1 ] >", 'f');
  assert.deepEqual(read.input[0].dims, [1n, -1n]);
  assert.equal(read.parameters.a.stringValue, 'x');
});

test('a version policy chooses among the versions that are there', () => {
  const choose = (text: string): number[] => wantedVersions(parseConfig(text, 'f').versionPolicy, [10, 2, 3]);
  assert.deepEqual(choose(''), [10]);
  assert.deepEqual(choose('version_policy: { latest { num_versions: 2 } }'), [3, 10]);
  assert.deepEqual(choose('version_policy: { all { } }'), [2, 3, 10]);
  assert.deepEqual(choose('version_policy: { specific { versions: [ 2, 7 ] } }'), [2]);
});

test('every version that the policy wants answers, and the highest where none is named', async (t) => {
  const directory = makeRepository(t, {
    'm/config.pbtxt': config('TYPE_INT32', 'version_policy: { specific { versions: [ 1, 3 ] } }'),
    'm/1/model.js': constant(1),
    'm/2/model.js': constant(2),
    'm/3/model.mjs': constant(3),
    'm/04/model.js': constant(4),
  });
  const { get, post } = await serve(t, { repository: { directories: [directory] } });
  const infer = async (path: string): Promise<unknown> => {
    const { model_version, outputs } = await (await post(`/v2/models/m${path}/infer`, numbers(0))).json();
    return [model_version, outputs[0].data[0]];
  };
  assert.deepEqual(await infer(''), ['3', 3]);
  assert.deepEqual(await infer('/versions/1'), ['1', 1]);
  const metadata = await (await get('/v2/models/m')).json();
  assert.deepEqual([metadata.versions, metadata.platform], [['1', '3'], 'typescript']);
  assert.deepEqual((await (await get('/v2/models/m/versions/1')).json()).versions, ['1']);
  const missing = await post('/v2/models/m/versions/2/infer', numbers(0));
  assert.equal(missing.status, 404);
  assert.deepEqual(await missing.json(), { error: "Request for unknown model: 'm' version 2 is not found" });
  // Models of the hub are served beside it.
  assert.equal((await get('/v2/models/embed/ready')).status, 200);
  assert.equal((await get('/v2/health/ready')).status, 200);
  const index = await (await post('/v2/repository/index', '')).json();
  assert.deepEqual(index.at(-1), { name: 'm', version: '3', state: 'READY' });
  const refused = await post('/v2/repository/models/m/load', '');
  assert.equal(refused.status, 503);
  assert.match((await refused.json()).error, /explicit model load \/ unload is not allowed if polling is enabled/);
});

test('a configuration is completed, and shown with numbers', async (t) => {
  const directory = makeRepository(t, {
    'm/1/model.js': `export default class {
      static autoCompleteConfig(config) {
        config.max_batch_size = 4;
        config.input.push({ name: 'IN', data_type: 'TYPE_INT32', dims: [-1] });
        config.output.push({ name: 'OUT', data_type: 'TYPE_INT32', dims: [-1] });
        config.dynamic_batching = { max_queue_delay_microseconds: 100 };
        return config;
      }
      execute(requests) { return requests.map((request) => ({ outputs: { OUT: request.input('IN') } })); }
    }`,
  });
  const { get, post } = await serve(t, { repository: { directories: [directory] } });
  const shown = await (await get('/v2/models/m/config')).json();
  assert.deepEqual([shown.name, shown.backend, shown.max_batch_size], ['m', 'typescript', 4]);
  assert.deepEqual(shown.input[0].dims, [-1]);
  assert.deepEqual(shown.version_policy, { latest: { num_versions: 1 } });
  assert.deepEqual(shown.dynamic_batching.preferred_batch_size, [4]);
  assert.equal(shown.dynamic_batching.max_queue_delay_microseconds, 100);
  assert.deepEqual([shown.instance_group[0].kind, shown.instance_group[0].count], ['KIND_CPU', 1]);
  const body = { inputs: [{ name: 'IN', datatype: 'INT32', shape: [1, 2], data: [1, 2] }] };
  assert.deepEqual((await (await post('/v2/models/m/infer', body)).json()).outputs[0].shape, [1, 2]);
});

test('mode explicit: models come and go as clients ask', async (t) => {
  const directory = makeRepository(t, {
    'a/config.pbtxt': config('TYPE_INT32'),
    'a/1/model.ts': constant(1),
    'b/config.pbtxt': config('TYPE_INT32'),
    'b/1/model.ts': constant(1),
  });
  const { get, post } = await serve(t, explicit(directory, 'a'));
  const ours = async (body: unknown = ''): Promise<object[]> =>
    (await (await post('/v2/repository/index', body)).json()).slice(4);
  assert.deepEqual(await ours(), [{ name: 'a', version: '1', state: 'READY' }, { name: 'b' }]);
  assert.equal((await get('/v2/models/b/ready')).status, 404);
  assert.equal((await post('/v2/repository/models/b/load', '')).status, 200);
  assert.equal((await post('/v2/models/b/infer', numbers(0))).status, 200);
  // What has not changed goes on: its statistics stay.
  assert.equal((await post('/v2/repository/models/b/load', {})).status, 200);
  const stats = await (await get('/v2/models/b/stats')).json();
  assert.equal(stats.model_stats[0].inference_count, 1);

  const unloaded = await post('/v2/repository/models/b/unload', { parameters: { unload_dependents: true } });
  assert.deepEqual([unloaded.status, await unloaded.text()], [200, '']);
  assert.deepEqual(await ours({ ready: true }), [{ name: 'a', version: '1', state: 'READY' }]);
  assert.deepEqual((await ours())[1], { name: 'b', version: '1', state: 'UNAVAILABLE', reason: 'unloaded' });
  const gone = await post('/v2/models/b/infer', numbers(0));
  assert.equal(gone.status, 404);
  assert.deepEqual(await gone.json(), { error: "Request for unknown model: 'b' has no available versions" });
  const version = await post('/v2/models/b/versions/1/infer', numbers(0));
  assert.equal(version.status, 503);
  assert.match((await version.json()).error, /'b' version 1 is not at ready state/);
  assert.deepEqual([(await get('/v2/models/b/ready')).status, (await get('/v2/health/ready')).status], [400, 200]);
  assert.equal((await get('/v2/models/b/stats')).status, 400);
  assert.equal((await post('/v2/repository/models/nobody/unload', '')).status, 200);

  const unknown = await post('/v2/repository/models/nobody/load', '');
  assert.deepEqual(
    [unknown.status, await unknown.json()],
    [500, { error: "failed to load 'nobody', failed to poll from model repository: no repository holds it" }],
  );
  for (const name of ['..%2Fa', '..', '%2e%2e', 'a%2F1', 'a%00', '%5C']) {
    const escaping = await post(`/v2/repository/models/${name}/load`, '');
    assert.ok([400, 404].includes(escaping.status), name);
  }
  assert.match((await (await post('/v2/repository/models/..%2Fa/load', '')).json()).error, /path traversal/);
  const named = await post('/v2/repository/other/index', '');
  assert.deepEqual(
    [named.status, (await named.json()).error],
    [501, "'repository_name' specification is not supported"],
  );
  assert.equal((await post('/v2/repository/index', { ready: 1 })).status, 400);
});

test('a request that runs while its model is loaded anew ends where it began, and unloading waits for it', async (t) => {
  const held = (value: number): string => `import { BroadcastChannel } from 'node:worker_threads';
    export default class {
      async execute([request]) {
        const channel = new BroadcastChannel('held by a repository');
        const go = new Promise((resolve) => { channel.onmessage = ({ data }) => { if (data === 'go') resolve(); }; });
        channel.postMessage('begun');
        await go;
        channel.close();
        return [{ outputs: { OUT: { datatype: 'INT32', shape: [1], data: Int32Array.of(${value}) } } }];
      }
    }`;
  const directory = makeRepository(t, { 'm/config.pbtxt': config('TYPE_INT32'), 'm/1/model.ts': held(1) });
  const { get, post } = await serve(t, explicit(directory, 'm'));
  const channel = new BroadcastChannel('held by a repository');
  t.after(() => channel.close());
  const begin = async (): Promise<{ readonly answer: Promise<unknown> }> => {
    const begun = new Promise<void>((resolve) => {
      channel.addEventListener('message', () => resolve(), { once: true });
    });
    const answer = post('/v2/models/m/infer', numbers(0)).then(async (reply) => (await reply.json()).outputs[0].data);
    await begun;
    return { answer };
  };
  const becomes = async (path: string, state: (reply: Reply) => Promise<boolean>): Promise<void> => {
    while (!(await state(await get(path)))) await new Promise((resolve) => setTimeout(resolve, 5));
  };
  const old = await begin();
  write(directory, { 'm/config.pbtxt': `${config('TYPE_INT32')} parameters { key: "new" }`, 'm/1/model.ts': held(2) });
  const ended: string[] = [];
  const loaded = post('/v2/repository/models/m/load', '').then(() => ended.push('loaded'));
  await becomes('/v2/models/m/config', async (reply) => 'new' in (await reply.json()).parameters);
  // The new one answers while the old one still works; the load is done when that has ended.
  const fresh = await begin();
  assert.equal(ended.length, 0);
  channel.postMessage('go');
  assert.deepEqual([await old.answer, await fresh.answer], [[1], [2]]);
  await loaded;
  const last = await begin();
  const unloaded = post('/v2/repository/models/m/unload', '').then(() => ended.push('unloaded'));
  await becomes('/v2/models/m/ready', async ({ status }) => status === 400);
  const index = (await (await post('/v2/repository/index', '')).json()) as { name: string; state: string }[];
  assert.equal(index.find(({ name }) => name === 'm')?.state, 'UNLOADING');
  assert.equal((await post('/v2/models/m/infer', numbers(0))).status, 404);
  assert.deepEqual(ended, ['loaded']);
  channel.postMessage('go');
  assert.deepEqual(await last.answer, [2]);
  await unloaded;
});

test('a load may bring its own configuration and files', async (t) => {
  const directory = makeRepository(t, { 'a/config.pbtxt': config('TYPE_INT32'), 'a/1/model.ts': IDENTITY });
  const { get, post } = await serve(t, explicit(directory, 'a'));
  const load = (name: string, parameters: object) => post(`/v2/repository/models/${name}/load`, { parameters });
  const batch = async (): Promise<number> => (await (await get('/v2/models/a/config')).json()).max_batch_size;
  const tensors = {
    input: [{ name: 'IN', data_type: 'TYPE_INT32', dims: ['-1'] }],
    output: [{ name: 'OUT', data_type: 'TYPE_INT32', dims: [-1] }],
  };
  assert.equal((await load('a', { config: JSON.stringify({ ...tensors, max_batch_size: '16' }) })).status, 200);
  assert.equal(await batch(), 16);
  assert.equal((await load('a', {})).status, 200);
  assert.equal(await batch(), 0);

  const file = Buffer.from(constant(7)).toString('base64');
  const whole = { config: JSON.stringify({ backend: 'typescript', ...tensors }), 'file:5/model.ts': file };
  assert.equal((await load('new', whole)).status, 200);
  const answer = await (await post('/v2/models/new/infer', numbers(0))).json();
  assert.deepEqual([answer.model_version, answer.outputs[0].data], ['5', [7]]);
  for (const path of ['../x/1/model.ts', '/x/1/model.ts', '1/../../x', '', '1/']) {
    const escaping = await load('new', { ...whole, [`file:${path}`]: file });
    assert.equal(escaping.status, 500, path);
    assert.match((await escaping.json()).error, /must stay within model directory/);
  }
  const outside = { ...tensors, default_model_filename: '../../other/model.ts' };
  const escaping = await load('new', { ...whole, config: JSON.stringify(outside) });
  assert.match((await escaping.json()).error, /must stay within the version's directory/);
  const alone = await load('new', { 'file:1/model.ts': file });
  assert.match((await alone.json()).error, /Load parameter 'config' must be specified for model file override/);
  const long = await load('new', { ...whole, [`file:${'A'.repeat(256)}`]: file });
  assert.deepEqual([long.status, /failed to poll from model repository/.test(await long.text())], [500, true]);
  assert.match((await (await load('a', { other: 'x' })).json()).error, /unrecognized load parameter 'other'\./);
  assert.match((await (await load('a', { config: '{"max_batch' })).json()).error, /Invalid config override/);
  assert.match((await (await load('a', { config: '{"max_batch_sizes":1}' })).json()).error, /max_batch_sizes/);
  // None of that touched what answers.
  assert.equal((await post('/v2/models/new/infer', numbers(0))).status, 200);
});

test('what cannot be loaded says why, and leaves what answers alone', async (t) => {
  const directory = makeRepository(t, {
    'good/config.pbtxt': config('TYPE_INT32'),
    'good/1/model.ts': constant(1),
    'typo/config.pbtxt': 'backedn: "typescript"',
    'typo/1/model.ts': IDENTITY,
    'foreign/config.pbtxt': 'backend: "tensorrt"\ninput { name: "a" data_type: TYPE_FP32 dims: 1 }',
    'foreign/1/model.plan': '',
    'renamed/config.pbtxt': `name: "other"\n${config('TYPE_INT32')}`,
    'empty/config.pbtxt': config('TYPE_INT32'),
    'syntax/config.pbtxt': config('TYPE_INT32'),
    'syntax/1/model.ts': 'export default class {',
    'throws/config.pbtxt': config('TYPE_INT32'),
    'throws/1/model.ts': model('{}', "initialize() { throw new Error('no weights'); }"),
    'ensemble/config.pbtxt': config('TYPE_INT32', 'ensemble_scheduling { step { model_name: "good" } }'),
    'ensemble/1/model.ts': IDENTITY,
  });
  const { get, post } = await serve(t, explicit(directory, 'good'));
  const expected: Record<string, RegExp> = {
    typo: /^failed to load 'typo', failed to poll from model repository: failed to read text proto from .*config\.pbtxt: line 1: unknown field "backedn"/,
    foreign: /unable to find a backend for backend 'tensorrt' of model 'foreign'; Rose has: typescript/,
    renamed: /unexpected directory name 'renamed' for model 'other', directory name must equal model name/,
    empty: /at least one version must be available under the version policy of model 'empty'/,
    ensemble: /ensemble scheduling cannot be set for model 'ensemble' whose platform is not ensemble/,
    syntax: /^load failed for model 'syntax': version 1 is at UNAVAILABLE state: .*;/s,
    throws: /version 1 is at UNAVAILABLE state: no weights;/,
  };
  for (const [name, pattern] of Object.entries(expected)) {
    const response = await post(`/v2/repository/models/${name}/load`, '');
    const { error } = await response.json();
    assert.match(error, pattern);
    assert.equal(response.status, error.startsWith('load failed') ? 400 : 500, name);
  }
  const index = (await (await post('/v2/repository/index', '')).json()) as Record<string, string>[];
  const throwing = index.find(({ name }) => name === 'throws');
  assert.deepEqual(throwing, { name: 'throws', version: '1', state: 'UNAVAILABLE', reason: 'no weights' });
  assert.match(index.find(({ name }) => name === 'typo')!.reason, /unknown field "backedn"/);
  // A model that should answer and does not makes the server not ready; taking it away makes it ready again.
  assert.equal((await get('/v2/health/ready')).status, 400);
  for (const name of Object.keys(expected)) await post(`/v2/repository/models/${name}/unload`, '');
  assert.equal((await get('/v2/health/ready')).status, 200);

  write(directory, { 'good/1/model.ts': 'export default 1' });
  assert.match(
    (await (await post('/v2/repository/models/good/load', '')).json()).error,
    /default export must be a class/,
  );
  const answer = await (await post('/v2/models/good/infer', numbers(0))).json();
  assert.deepEqual(answer.outputs[0].data, [1]);
});

test('a field that would have no effect is refused by its name', async (t) => {
  const asked: Readonly<Record<string, string>> = {
    batch_input: 'batch_input { kind: BATCH_ELEMENT_COUNT }',
    batch_output: 'batch_output { target_name: "OUT" }',
    model_repository_agents: 'model_repository_agents { agents { name: "checksum" } }',
    runtime: 'runtime: "libtriton_other.so"',
    cc_model_filenames: 'cc_model_filenames { key: "9.0" value: "model.plan" }',
    metric_tags: 'metric_tags { key: "team" value: "a" }',
    model_metrics: 'model_metrics { metric_control { metric_identifier { family: "nv_inference_count" } } }',
    model_operations: 'model_operations { op_library_filename: "op.so" }',
    'optimization.execution_accelerators':
      'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }',
    'instance_group.profile': 'instance_group { profile: "0" }',
    'instance_group.passive': 'instance_group { passive: true }',
    'instance_group.secondary_devices': 'instance_group { secondary_devices { device_id: 1 } }',
    'input.is_non_linear_format_io':
      'input { name: "IN2" data_type: TYPE_FP32 dims: 1 is_non_linear_format_io: true optional: true }',
    'output.is_non_linear_format_io':
      'output { name: "OUT2" data_type: TYPE_FP32 dims: 1 is_non_linear_format_io: true }',
    'ensemble_scheduling.step.model_namespace': '',
  };
  const part = step('batch_input', { IN: 'IN' }, { OUT: 'OUT' }, 'model_namespace: "a"');
  const directory = modelFiles(
    t,
    Object.fromEntries(
      Object.entries(asked).map(([name, more]) => [
        name,
        more === '' ? [ensemble(part)] : [config('TYPE_INT32', more), IDENTITY],
      ]),
    ),
  );
  const { post } = await serve(t, explicit(directory));
  for (const name of Object.keys(asked)) {
    const response = await post(`/v2/repository/models/${name}/load`, '');
    const { error } = await response.json();
    assert.ok(error.endsWith(`: ${name} of model '${name}' is not supported by Rose: leave it out`), error);
    assert.equal(response.status, 500);
  }
});

test('a model that cannot be loaded ends the start, unless that is allowed', async (t) => {
  const files = { 'm/config.pbtxt': 'x: 1', 'm/1/model.ts': IDENTITY };
  const directories = [makeRepository(t, files)];
  await assert.rejects(serve(t, { repository: { directories } }), { name: 'RoseError', message: /unknown field "x"/ });
  await assert.rejects(serve(t, { repository: { directories, mode: 'explicit', loadModels: ['*', 'm'] } }), /ONLY/);
  const { get, log } = await serve(t, { repository: { directories, exitOnError: false } });
  assert.equal((await get('/v2/health/ready')).status, 400);
  assert.match(log.join(''), /failed to load 'm'/);
  const good = { 'm/config.pbtxt': config('TYPE_INT32'), 'm/1/model.ts': IDENTITY };
  const twice = [makeRepository(t, good), makeRepository(t, good)];
  await assert.rejects(serve(t, { repository: { directories: twice } }), /model appears in two or more repositories/);
  const taken = makeRepository(t, { 'embed/config.pbtxt': config('TYPE_INT32'), 'embed/1/model.ts': IDENTITY });
  await assert.rejects(serve(t, { repository: { directories: [taken] } }), /a model named at the start has this name/);
});

test('mode poll follows the files: new, changed, broken and removed models', async (t) => {
  const directory = makeRepository(t, { 'm/config.pbtxt': config('TYPE_INT32'), 'm/1/model.ts': constant(1) });
  const { post, log } = await serve(t, { repository: { directories: [directory], mode: 'poll', pollSeconds: 0.05 } });
  const answer = async (): Promise<unknown> => {
    const response = await post('/v2/models/m/infer', numbers(0));
    return response.status === 200 ? (await response.json()).outputs[0].data[0] : response.status;
  };
  const becomes = async (value: unknown): Promise<void> => {
    for (let i = 0; i < 400; i++) {
      if ((await answer()) === value) return;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    assert.equal(await answer(), value);
  };
  assert.equal(await answer(), 1);
  write(directory, { 'm/1/model.ts': constant(2) });
  await becomes(2);
  write(directory, { 'm/1/model.ts': 'export default class { oops' });
  await until(() => log.some((line) => line.includes("load failed for model 'm'")), 'the failure is logged');
  assert.equal(await answer(), 2);
  write(directory, { 'm/2/model.ts': constant(3) });
  await becomes(3);
  const { rmSync } = await import('node:fs');
  rmSync(join(directory, 'm'), { recursive: true });
  await becomes(404);
});

test('the repository over gRPC', async (t) => {
  const SERVICE = GRPCInferenceService;
  const directory = makeRepository(t, { 'a/config.pbtxt': config('TYPE_INT32'), 'a/1/model.ts': IDENTITY });
  const { call } = await serveGrpc(t, SERVICE, explicit(directory));
  const ours = async (): Promise<unknown[]> => {
    const { models } = await call(SERVICE, 'RepositoryIndex');
    const entries = models as { name: string; version: string; state: string; reason: string }[];
    return entries.slice(4).map(({ name, version, state, reason }) => [name, version, state, reason]);
  };
  assert.deepEqual(await ours(), [['a', '', '', '']]);
  assert.equal((await call(SERVICE, 'ModelReady', { name: 'a' })).ready, false);
  await call(SERVICE, 'RepositoryModelLoad', { modelName: 'a' });
  assert.equal((await call(SERVICE, 'ModelReady', { name: 'a', version: '1' })).ready, true);
  const request = {
    modelName: 'a',
    inputs: [{ name: 'IN', datatype: 'INT32', shape: [2n], contents: { intContents: [5, -6] } }],
  };
  const response = await call(SERVICE, 'ModelInfer', request);
  assert.deepEqual([...new Int32Array(Uint8Array.from(response.rawOutputContents[0]).buffer)], [5, -6]);
  const { modelStats } = await call(SERVICE, 'ModelStatistics', { name: 'a' });
  assert.deepEqual([modelStats[0].inferenceCount, modelStats[0].inferenceStats.success.count], [1n, 1n]);
  const files = { config: { parameterChoice: { case: 'stringParam', value: '{"max_batch_size":2' } } };
  await assert.rejects(call(SERVICE, 'RepositoryModelLoad', { modelName: 'a', parameters: files }), {
    code: status.INTERNAL,
  });
  await call(SERVICE, 'RepositoryModelUnload', { modelName: 'a' });
  assert.deepEqual(await ours(), [['a', '1', 'UNAVAILABLE', 'unloaded']]);
  await assert.rejects(call(SERVICE, 'ModelStatistics', { name: 'a' }), { code: status.INVALID_ARGUMENT });
  await assert.rejects(call(SERVICE, 'RepositoryModelLoad', { modelName: 'x' }), { code: status.INTERNAL });
});
