import assert from 'node:assert/strict';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Loading } from '../src/repository/loading.ts';
import type { RepositoryOptions } from '../src/repository/options.ts';
import { config, IDENTITY, makeRepository, model, numbers, useTemporaryDirectory, write } from './repository-kit.ts';
import { serve, until, type Serving } from './serving.ts';

/** Ways never to return: with turns of the event loop, without any, and in a call that holds the thread. */
const ENDLESS = {
  waits: 'await new Promise(() => setInterval(() => {}, 1000));',
  loops: 'for (;;);',
  sleeps: 'Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);',
};
type Ending = keyof typeof ENDLESS;

const CONFIG = config('TYPE_INT32');

/** Where a model's code runs before the model serves: at the top level, to complete its configuration, to initialize. */
const PLACES: Readonly<Record<string, (code: string) => { config: string; source: string }>> = {
  'top level': (code) => ({ config: CONFIG, source: `${code}\n${IDENTITY}` }),
  autoCompleteConfig: (code) => ({
    config: 'backend: "typescript"',
    source: model('{}', `static async autoCompleteConfig() { ${code} }`),
  }),
  initialize: (code) => ({ config: CONFIG, source: model('{}', `async initialize() { ${code} }`) }),
  'warm-up': (code) => ({
    config: `${CONFIG} model_warmup { name: "w" batch_size: 1
      inputs { key: "IN" value { data_type: TYPE_INT32 dims: 1 zero_data: true } } }`,
    source: `export default class { async execute() { ${code} } }`,
  }),
};

function serveEndless(
  t: TestContext,
  files: Readonly<Record<string, string>>,
  options: Partial<RepositoryOptions> = {},
): Promise<Serving & { directory: string }> {
  const directory = makeRepository(t, files);
  const repository = { directories: [directory], mode: 'explicit', ...options } as const;
  return serve(t, { repository }).then((serving) => ({ ...serving, directory }));
}

function filesOf(name: string, { config: text, source }: { config: string; source: string }): Record<string, string> {
  return { [`${name}/config.pbtxt`]: text, [`${name}/1/model.ts`]: source };
}

async function stateOf({ post }: Serving, name: string): Promise<string> {
  const index = (await (await post('/v2/repository/index', '')).json()) as { name: string; state?: string }[];
  return index.find((one) => one.name === name)?.state ?? '';
}

for (const [place, make] of Object.entries(PLACES)) {
  test(`a server stops although a model never returns from its ${place}`, async (t) => {
    const files = Object.keys(ENDLESS).map((ending) => filesOf(ending, make(ENDLESS[ending as Ending])));
    const server = await serveEndless(t, Object.assign({}, ...files) as Record<string, string>);
    const loads = Object.keys(ENDLESS).map((name) => server.post(`/v2/repository/models/${name}/load`, ''));
    while ((await server.get('/v2/health/ready')).status === 200)
      await new Promise((resolve) => setTimeout(resolve, 5));
    // A load under way is a request, too, but none that is waited for: this would not end within the test's time.
    await server.server.close(3_600_000);
    const replies = await Promise.allSettled(loads);
    assert.ok(replies.every((reply) => reply.status === 'rejected' || reply.value.status >= 400));
  });

  test(`unloading ends a load that never returns from its ${place}, and the model can be loaded again`, async (t) => {
    const server = await serveEndless(t, filesOf('m', make(ENDLESS.loops)), { unloadMs: 1 });
    const load = server.post('/v2/repository/models/m/load', '');
    while ((await server.get('/v2/health/ready')).status === 200)
      await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal((await server.post('/v2/repository/models/m/unload', '')).status, 200);
    const refused = await load;
    assert.ok(refused.status >= 400);
    assert.match((await refused.json()).error, /'m'.*it was unloaded before it was loaded/);
    write(server.directory, { 'm/config.pbtxt': CONFIG, 'm/1/model.ts': IDENTITY });
    assert.equal((await server.post('/v2/repository/models/m/load', '')).status, 200);
    assert.deepEqual((await (await server.post('/v2/models/m/infer', numbers(7))).json()).outputs[0].data, [7]);
    assert.equal((await server.get('/v2/health/ready')).status, 200);
  });
}

test('a model that is still loading is named in the log, after twice the time each time', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const said: string[] = [];
  const loading = new Loading('slow', (message) => said.push(message));
  loading.stage = 'version 1 is starting';
  const after = (seconds: number): string[] => {
    t.mock.timers.tick(seconds * 1000);
    return said.splice(0);
  };
  assert.deepEqual(after(4.9), []);
  assert.deepEqual(after(0.1), ["model 'slow' is still loading after 5 s: version 1 is starting"]);
  assert.deepEqual(after(4.9), []);
  assert.deepEqual(after(0.1), ["model 'slow' is still loading after 10 s: version 1 is starting"]);
  assert.deepEqual(after(10), ["model 'slow' is still loading after 20 s: version 1 is starting"]);
  assert.deepEqual(after(20), ["model 'slow' is still loading after 40 s: version 1 is starting"]);
  loading.end();
  assert.deepEqual(after(1000), []);
});

test('a load that goes on and on is said in the log, with what it does', async (t) => {
  const server = await serveEndless(t, filesOf('m', PLACES.initialize(ENDLESS.waits)));
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const load = server.post('/v2/repository/models/m/load', '').catch(() => undefined);
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  while ((await stateOf(server, 'm')) !== 'LOADING') await turn();
  t.mock.timers.tick(5000);
  assert.match(server.log.join(''), /model 'm' is still loading after 5 s: version 1 is starting/);
  t.mock.timers.reset();
  await server.server.close(0);
  await load;
});

test('mode poll: the author of a model that never starts mends it, and others are served meanwhile', async (t) => {
  const server = await serveEndless(t, filesOf('good', { config: CONFIG, source: IDENTITY }), {
    mode: 'poll',
    pollSeconds: 0.05,
  });
  const running = join(useTemporaryDirectory(t), 'running');
  const tell = `(await import('node:fs')).writeFileSync(${JSON.stringify(running)}, '');`;
  write(server.directory, filesOf('m', PLACES['top level'](`${tell} ${ENDLESS.loops}`)));
  // A file that changes before the model's code is read is no change: the code that is there then is what loads.
  await until(() => existsSync(running), 'the code runs');
  assert.equal((await server.get('/v2/health/ready')).status, 400);
  assert.equal((await server.post('/v2/models/good/infer', numbers(1))).status, 200);
  write(server.directory, { 'm/1/model.ts': IDENTITY });
  while ((await stateOf(server, 'm')) !== 'READY') await new Promise((resolve) => setTimeout(resolve, 5));
  assert.match(server.log.join(''), /its files changed while it was loading/);
  rmSync(join(server.directory, 'm'), { recursive: true });
  while ((await stateOf(server, 'm')) !== 'UNAVAILABLE') await new Promise((resolve) => setTimeout(resolve, 5));
});

test('mode poll: files that change while they are read are tried again, although they stay as they were seen', async (t) => {
  const notes = useTemporaryDirectory(t);
  const [changed, started] = ['changed', 'started'].map((name) => join(notes, name));
  const source = model(
    '{}',
    `static async autoCompleteConfig(config, { directory }) {
      const { appendFileSync, existsSync, writeFileSync } = await import('node:fs');
      if (!existsSync(${JSON.stringify(changed)})) {
        appendFileSync(directory + '/model.ts', '// changed');
        writeFileSync(${JSON.stringify(changed)}, '');
      }
      config.input.push({ name: 'IN', data_type: 'TYPE_INT32', dims: [-1] });
      config.output.push({ name: 'OUT', data_type: 'TYPE_INT32', dims: [-1] });
      return config;
    }
    async initialize() {
      const { existsSync, writeFileSync } = await import('node:fs');
      if (existsSync(${JSON.stringify(started)})) return;
      writeFileSync(${JSON.stringify(started)}, '');
      await new Promise((resolve) => setTimeout(resolve, 1500));
    }`,
  );
  const server = await serveEndless(t, {}, { mode: 'poll', pollSeconds: 0.05 });
  write(server.directory, filesOf('m', { config: 'backend: "typescript"', source }));
  await until(async () => (await stateOf(server, 'm')) === 'READY', 'the model answers');
  assert.match(server.log.join(''), /'m'.*its files changed while it was loading/);
});

for (const [ending, code] of Object.entries(ENDLESS)) {
  test(`unloading is over after its limit although execute ${ending} for ever`, async (t) => {
    const source = model('{}').replace('return Promise.all', `${code}\nreturn Promise.all`);
    const files = filesOf('m', { config: `${CONFIG} instance_group { count: 2 }`, source });
    const server = await serveEndless(t, files, { loadModels: ['m'], unloadMs: 100 });
    const running = Array.from({ length: 4 }, () => server.post('/v2/models/m/infer', numbers(1)));
    const pending = async (): Promise<boolean> =>
      /nv_inference_pending_request_count\{model="m",version="1"\} 2\n/.test(
        await (await server.get('/metrics')).text(),
      );
    while (!(await pending())) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal((await server.post('/v2/repository/models/m/unload', '')).status, 200);
    for (const reply of await Promise.all(running)) {
      assert.equal(reply.status, 503);
      assert.equal((await reply.json()).error, 'the model was unloaded before it answered the request');
    }
    assert.equal(await stateOf(server, 'm'), 'UNAVAILABLE');
  });
}

test('an instance that never starts again after it died is no reason not to stop', async (t) => {
  const source = `import { existsSync, writeFileSync } from 'node:fs';
    export default class {
      initialize({ directory }) { if (existsSync(directory + '/again')) for (;;); writeFileSync(directory + '/again', ''); }
      execute() { process.exit(3); }
    }`;
  const server = await serveEndless(t, filesOf('m', { config: CONFIG, source }), { loadModels: ['m'] });
  const reply = await server.post('/v2/models/m/infer', numbers(1));
  assert.equal(reply.status, 500);
  assert.match((await reply.json()).error, /its thread ended with code 3/);
  assert.equal((await server.get('/v2/health/ready')).status, 400);
  assert.equal((await server.post('/v2/repository/models/m/unload', '')).status, 200);
});

test('a checkpoint whose load is given up leaves no engine', async (t) => {
  const files = { 'm/config.pbtxt': 'backend: "rose"', 'm/1/model.json': '{ "model": "somewhere" }' };
  const directory = makeRepository(t, files);
  // The hub that is asked for the checkpoint never answers.
  const engine = { locate: () => new Promise<string>(() => {}) };
  const server = await serve(t, { repository: { directories: [directory], mode: 'explicit', unloadMs: 1, engine } });
  const load = server.post('/v2/repository/models/m/load', '');
  while ((await server.get('/v2/health/ready')).status === 200) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal((await server.post('/v2/repository/models/m/unload', '')).status, 200);
  assert.match((await (await load).json()).error, /it was unloaded before it was loaded/);
});

test('files that a given-up load brought are removed', async (t) => {
  const server = await serveEndless(t, {}, { unloadMs: 1 });
  const temporary = useTemporaryDirectory(t);
  const tensors = (name: string): object[] => [{ name, data_type: 'TYPE_INT32', dims: [-1] }];
  const parameters = {
    config: JSON.stringify({ backend: 'typescript', input: tensors('IN'), output: tensors('OUT') }),
    'file:1/model.ts': Buffer.from(PLACES.initialize(ENDLESS.loops).source).toString('base64'),
  };
  const load = server.post('/v2/repository/models/m/load', { parameters });
  while ((await stateOf(server, 'm')) !== 'LOADING') await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(readdirSync(temporary).length, 1);
  assert.equal((await server.post('/v2/repository/models/m/unload', '')).status, 200);
  assert.equal((await load).status, 400);
  assert.deepEqual(readdirSync(temporary), []);
});
