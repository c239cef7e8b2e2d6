import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { linkEnsemble } from '../src/ensemble/link.ts';
import { GRPCInferenceService } from '../src/grpc/proto/inference_pb.js';
import { checkConfig } from '../src/repository/check-config.ts';
import { completeConfig, parseConfig } from '../src/repository/config.ts';
import { signatureOf } from '../src/repository/signature.ts';
import { serveGrpc } from './grpc-client.ts';
import { config, ensemble, IDENTITY, model, modelFiles, numbers, step, write, type Models } from './repository-kit.ts';
import { serve, until, type Serving } from './serving.ts';

const both = (name: string, from = 'IN', to = 'OUT'): string => step(name, { IN: from }, { OUT: to });
const read = (text: string) => completeConfig(parseConfig(text, 'f'), 'e', '');

test('an ensemble that cannot run whatever its parts are is refused with its reason', () => {
  const refused: [string, RegExp][] = [
    ['', /must specify 'step' for ensemble 'e'/],
    ['step { }', /must specify 'model_name' in step 0 of ensemble 'e'/],
    [both('a', 'IN', 'x') + step('b', {}, { OUT: 'OUT' }), /must specify 'input_map' in step 1 of ensemble 'e'/],
    [step('a', { IN: 'IN' }, {}), /must specify 'output_map' in step 0 of ensemble 'e'/],
    [both('a') + both('b'), /ensemble tensor 'OUT' can appear in an output map only once for ensemble 'e' step 1/],
    [both('a', 'x'), /ensemble input 'IN' for ensemble 'e' is not used/],
    [both('a', 'IN', 'x'), /ensemble output 'OUT' for ensemble 'e' is not used/],
    [
      both('a', 'IN', 'z') + both('b', 'x', 'y') + both('c', 'y'),
      /output 'OUT' for ensemble 'e' is not written: at least one of its depending tensors, 'x', is not connected/,
    ],
    [step('a', { IN: 'IN', B: 'OUT' }, { OUT: 'OUT' }), /output 'OUT' for ensemble 'e' is not written/],
    [both('a') + both('b', 'IN', 'x'), /ensemble tensor 'x' is unused in ensemble 'e'/],
  ];
  for (const [steps, pattern] of refused) {
    assert.throws(() => checkConfig(read(ensemble(steps))), pattern);
  }
  const fine = ensemble(both('a'));
  checkConfig(read(fine));
  const more: [string, RegExp][] = [
    ['instance_group { count: 2 }', /instance group should not be specified for ensemble 'e'/],
    ['optimization { }', /optimization should not be specified for ensemble 'e'/],
    ['model_warmup { name: "w" }', /model_warmup can not be specified for ensemble 'e'/],
  ];
  for (const [text, pattern] of more) assert.throws(() => checkConfig(read(`${fine} ${text}`)), pattern);
  assert.throws(
    () => checkConfig(read('platform: "ensemble"')),
    /ensemble scheduling must be set for ensemble e whose/,
  );
});

test('an ensemble that does not suit its parts is refused with its reason', () => {
  const parts: Record<string, string> = {
    ints: config('TYPE_INT32'),
    texts: config('TYPE_STRING'),
    rows: config('TYPE_INT32', 'max_batch_size: 2'),
    pairs: config('TYPE_INT32').replaceAll('dims: -1', 'dims: [ -1, 2 ]'),
    stream: config('TYPE_INT32', 'model_transaction_policy { decoupled: true }'),
    two: `${config('TYPE_INT32')} input { name: "MORE" data_type: TYPE_INT32 dims: -1 }`,
    odd: `${config('TYPE_INT32')} input { name: "constructor" data_type: TYPE_INT32 dims: -1 }`,
    optional: `${config('TYPE_INT32')} input { name: "MORE" data_type: TYPE_INT32 dims: -1 optional: true }`,
  };
  const link = (steps: string, more?: string): boolean =>
    linkEnsemble(read(ensemble(steps, more)), ({ modelName }) => signatureOf(parseConfig(parts[modelName], 'f')));
  const two = (name: string, from: string, more: string, to = 'OUT'): string =>
    step(name, { IN: from, MORE: more }, { OUT: to });
  const refused: [string, RegExp, string?][] = [
    [
      step('ints', { IN: 'IN', X: 'IN' }, { OUT: 'OUT' }),
      /^in ensemble e, ensemble tensor IN is mapping to non-existing input X in model ints$/,
    ],
    [
      step('ints', { IN: 'IN' }, { OUT: 'OUT', X: 'y' }),
      /^in ensemble e, ensemble tensor y is mapped from non-existing output X in model ints$/,
    ],
    [both('two'), /^in ensemble e, input MORE in model two is not mapped to any ensemble tensors$/],
    [
      both('texts'),
      /^in ensemble e, ensemble tensor IN: inconsistent data type: TYPE_INT32 is inferred from model e while TYPE_STRING is inferred from model texts$/,
    ],
    [
      both('ints', 'IN', 'x') + both('pairs', 'x'),
      /^in ensemble e, ensemble tensor x: inconsistent shape: \[-1\] is inferred from model ints while \[-1,2\] is inferred from model pairs$/,
    ],
    [
      both('rows'),
      /^ensemble e allows maximum batch size 4, but it contains model rows which only allows maximum batch size to be 2$/,
      'max_batch_size: 4',
    ],
    [
      both('stream', 'IN', 'x') + both('stream', 'IN', 'y') + two('two', 'x', 'y'),
      /^in ensemble e, step of model 'e' receives inputs originated from different decoupled models$/,
    ],
    [both('stream', 'IN', 'x') + two('two', 'x', 'IN'), /receives inputs originated from different decoupled models$/],
  ];
  for (const [steps, pattern, more] of refused) assert.throws(() => link(steps, more), { message: pattern });
  // Names that every object has are names like others.
  assert.throws(() => link(both('odd')), /input constructor in model odd is not mapped to any ensemble tensors/);
  assert.equal(link(both('ints')), false);
  assert.equal(link(both('optional')), false);
  assert.equal(link(both('rows'), 'max_batch_size: 2'), false);
  assert.equal(link(both('ints', 'IN', 'x') + both('stream', 'x')), true);
  assert.equal(link(both('stream', 'IN', 'x') + both('ints', 'x', 'y') + two('two', 'x', 'y')), true);
});

const constant = (value: number): string => model(`{ OUT: tensor('INT32', [1], Int32Array.of(${value})) }`);

async function explicit(t: TestContext, models: Models, ...loadModels: string[]) {
  const directory = modelFiles(t, models);
  const serving = await serve(t, { repository: { directories: [directory], mode: 'explicit', loadModels } });
  return { ...serving, directory, ...control(serving) };
}

/** Shorthands; a load or unload gives its error, or nothing. */
function control({ get, post }: Serving) {
  const ask = async (name: string, what: string, body: unknown): Promise<string> => {
    const response = await post(`/v2/repository/models/${name}/${what}`, body);
    return response.status === 200 ? '' : (await response.json()).error.trim();
  };
  return {
    load: (name: string, parameters: object = {}) => ask(name, 'load', { parameters }),
    unload: (name: string, parameters: object = {}) => ask(name, 'unload', { parameters }),
    infer: async (name: string): Promise<unknown> => {
      const reply = await (await post(`/v2/models/${name}/infer`, numbers(5))).json();
      return reply.error ?? reply.outputs[0].data[0];
    },
    states: async (): Promise<Record<string, string>> => {
      const index = (await (await post('/v2/repository/index', '')).json()) as Record<string, string>[];
      return Object.fromEntries(
        index.slice(4).map(({ name, state = '', reason = '' }) => [name, `${state} ${reason}`.trim()]),
      );
    },
    ready: async () => (await get('/v2/health/ready')).status,
  };
}

test('mode explicit: an ensemble brings its parts, goes with them, and comes back with them', async (t) => {
  const server = await explicit(
    t,
    {
      a: [config('TYPE_INT32'), IDENTITY],
      b: [config('TYPE_INT32'), IDENTITY],
      inner: [ensemble(both('a'))],
      outer: [ensemble(both('inner', 'IN', 'x') + both('b', 'x'))],
    },
    'b',
  );
  const { load, unload, infer, states, ready } = server;
  assert.equal(await load('outer'), '');
  assert.deepEqual(await states(), { a: 'READY', b: 'READY', inner: 'READY', outer: 'READY' });
  assert.equal(await infer('outer'), 5);
  // What an ensemble needs cannot go alone.
  assert.equal(await unload('a'), '');
  assert.deepEqual(await states(), {
    a: 'UNAVAILABLE unloaded',
    b: 'READY',
    inner: 'UNAVAILABLE unloaded',
    outer: 'UNAVAILABLE unloaded',
  });
  assert.match(server.log.join(''), /'outer' is unloaded: ensemble outer contains models that are not available/);
  assert.equal(await ready(), 200);
  assert.equal(await infer('outer'), "Request for unknown model: 'outer' has no available versions");
  assert.equal(await load('a'), '');
  assert.equal(await infer('outer'), 5);
  // `a` was asked for by now, and `b` at the start; only `inner` was there for nothing but `outer`.
  assert.equal(await unload('outer', { unload_dependents: true }), '');
  assert.deepEqual(await states(), {
    a: 'READY',
    b: 'READY',
    inner: 'UNAVAILABLE unloaded',
    outer: 'UNAVAILABLE unloaded',
  });
  // What was unloaded on purpose stays so.
  assert.equal(await load('a'), '');
  assert.equal((await states()).inner, 'UNAVAILABLE unloaded');
  assert.match(await unload('outer', { other: true }), /unrecognized unload parameter 'other'/);
});

test('what an ensemble lacks is told, and it is loaded as soon as it is there', async (t) => {
  const server = await explicit(t, {
    broken: [config('TYPE_INT32'), model('{}', "initialize() { throw new Error('no weights'); }")],
    needsBroken: [ensemble(both('broken'))],
    needsNobody: [ensemble(both('nobody'))],
    needsVersion: [ensemble(both('good')).replace('model_version: -1', 'model_version: 7')],
    good: [config('TYPE_INT32'), IDENTITY],
    one: [ensemble(both('two'))],
    two: [ensemble(both('one'))],
  });
  const { load, infer, states, ready, directory } = server;
  const because = (name: string): string => `load failed for model '${name}': `;
  assert.equal(
    await load('needsBroken'),
    `${because('needsBroken')}ensemble 'needsBroken' depends on 'broken' which has no loaded version. ` +
      "Model 'broken' loading failed with error: version 1 is at UNAVAILABLE state: no weights;",
  );
  assert.equal(
    await load('needsNobody'),
    `${because('needsNobody')}ensemble needsNobody contains models that are not available or ambiguous: nobody`,
  );
  assert.equal(
    await load('needsVersion'),
    `${because('needsVersion')}ensemble 'needsVersion' depends on 'good' whose required version 7 is not loaded.`,
  );
  assert.match(
    await load('one'),
    /^load failed for model 'one': circular dependency between ensembles: (one -> ... -> two -> one|two -> ... -> one -> two)$/,
  );
  assert.equal(await ready(), 400);
  assert.match((await states()).needsBroken, /^UNAVAILABLE ensemble 'needsBroken' depends on 'broken'/);
  write(directory, { 'broken/1/model.ts': constant(9), 'good/7/model.ts': constant(7) });
  assert.equal(await load('broken'), '');
  assert.equal(await infer('needsBroken'), 9);
  assert.equal(await load('good'), '');
  assert.equal(await infer('needsVersion'), 7);
});

test('a part may be loaded anew: the ensemble goes on with it, or ends if it does not fit any more', async (t) => {
  const server = await explicit(t, { a: [config('TYPE_INT32'), constant(1)], e: [ensemble(both('a'))] }, 'e');
  const { load, infer, directory, get } = server;
  assert.equal(await infer('e'), 1);
  write(directory, { 'a/1/model.ts': constant(2) });
  assert.equal(await load('a'), '');
  assert.equal(await infer('e'), 2);
  // The ensemble's own statistics stay: it has not changed.
  assert.equal((await (await get('/v2/models/e/stats')).json()).model_stats[0].inference_count, 2);
  // A configuration of its own that does not fit leaves what answers alone.
  const wrong = JSON.stringify({
    platform: 'ensemble',
    input: [{ name: 'IN', data_type: 'TYPE_FP32', dims: [-1] }],
    output: [{ name: 'OUT', data_type: 'TYPE_INT32', dims: [-1] }],
    ensemble_scheduling: {
      step: [{ model_name: 'a', model_version: '-1', input_map: { IN: 'IN' }, output_map: { OUT: 'OUT' } }],
    },
  });
  assert.match(await load('e', { config: wrong }), /inconsistent data type: TYPE_FP32 is inferred from model e while/);
  assert.equal(await infer('e'), 2);
  assert.equal(await load('e'), '');
  write(directory, { 'a/config.pbtxt': config('TYPE_FP32') });
  assert.equal(await load('a'), '');
  assert.match(String(await infer('e')), /has no available versions/);
  write(directory, { 'a/config.pbtxt': config('TYPE_INT32') });
  assert.equal(await load('a'), '');
  assert.equal(await infer('e'), 2);
});

test('a request keeps what it runs through, even if that is unloaded meanwhile', async (t) => {
  const held = model("{ OUT: (await held(), request.input('IN')) }").replace(
    'export',
    `import { BroadcastChannel } from 'node:worker_threads';
    const held = async () => {
      const channel = new BroadcastChannel('kept by an ensemble');
      const go = new Promise((resolve) => { channel.onmessage = ({ data }) => { if (data === 'go') resolve(); }; });
      channel.postMessage('begun');
      await go;
      channel.close();
    };
    export`,
  );
  const server = await explicit(
    t,
    {
      a: [config('TYPE_INT32'), held],
      b: [config('TYPE_INT32'), constant(1)],
      e: [ensemble(both('a', 'IN', 'x') + both('b', 'x'))],
    },
    'e',
  );
  const channel = new BroadcastChannel('kept by an ensemble');
  t.after(() => channel.close());
  const begun = new Promise<void>((resolve) => channel.addEventListener('message', () => resolve(), { once: true }));
  const answer = server.infer('e');
  await begun;
  const unloaded = server.unload('b');
  while ((await server.states()).e !== 'UNLOADING') await new Promise((resolve) => setTimeout(resolve, 5));
  assert.match(String(await server.infer('e')), /has no available versions/);
  channel.postMessage('go');
  assert.equal(await answer, 1);
  assert.equal(await unloaded, '');
  assert.equal((await server.states()).b, 'UNAVAILABLE unloaded');
});

test('ensembles at the start, whatever their order, and over gRPC', async (t) => {
  const directory = modelFiles(t, {
    z: [config('TYPE_INT32'), IDENTITY],
    a: [ensemble(both('m'))],
    m: [ensemble(both('z'))],
  });
  const { post } = await serve(t, { repository: { directories: [directory] } });
  assert.equal((await post('/v2/models/a/infer', numbers(1))).status, 200);
  const circle = modelFiles(t, { a: [ensemble(both('b'))], b: [ensemble(both('a'))] });
  await assert.rejects(serve(t, { repository: { directories: [circle] } }), /circular dependency between ensembles: /);
  const SERVICE = GRPCInferenceService;
  const { call } = await serveGrpc(t, SERVICE, {
    repository: { directories: [directory], mode: 'explicit', loadModels: ['a'] },
  });
  const parameters = { unload_dependents: { parameterChoice: { case: 'boolParam', value: true } } };
  await call(SERVICE, 'RepositoryModelUnload', { modelName: 'a', parameters });
  const { models } = await call(SERVICE, 'RepositoryIndex');
  const states = (models as { name: string; state: string }[]).slice(4).map(({ name, state }) => [name, state]);
  assert.deepEqual(states, [
    ['a', 'UNAVAILABLE'],
    ['m', 'UNAVAILABLE'],
    ['z', 'UNAVAILABLE'],
  ]);
});

test('an ensemble is ready only as long as its parts can answer', async (t) => {
  const dying = `export default class {
      initialize({ directory }) { if (process.getBuiltinModule('fs').existsSync(directory + '/broken')) throw new Error('broken'); }
      execute() { process.exit(3); }
    }`;
  const server = await explicit(t, { a: [config('TYPE_INT32'), dying], e: [ensemble(both('a'))] }, 'e');
  const ready = async (): Promise<number> => (await server.get('/v2/models/e/ready')).status;
  assert.equal(await ready(), 200);
  write(server.directory, { 'a/1/broken': '' });
  assert.match(
    String(await server.infer('e')),
    /^in ensemble 'e', the instance of the model failed while it worked on/,
  );
  await until(() => server.log.some((line) => line.includes('failed')), 'the instance is gone');
  assert.equal(await ready(), 400);
});
