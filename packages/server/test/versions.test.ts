import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { GRPCInferenceService } from '../src/grpc/proto/inference_pb.js';
import { answeringVersion } from '../src/repository/versions.ts';
import { serveGrpc } from './grpc-client.ts';
import { config, ensemble, makeRepository, model, numbers, step, write } from './repository-kit.ts';
import { eventsOf } from './serving.ts';

const SERVICE = GRPCInferenceService;
const SOURCES = fileURLToPath(new URL('../src', import.meta.url));

test('one place decides which version answers when none is named', () => {
  assert.equal(answeringVersion([]), undefined);
  assert.equal(answeringVersion([3, 10, 2]), 10);
  // Whoever else would decide it would decide it otherwise one day.
  const files = readdirSync(SOURCES, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  const users = files.filter((file) => readFileSync(join(SOURCES, file), 'utf8').includes('answeringVersion('));
  assert.deepEqual(users.sort(), [join('repository', 'repository.ts'), join('repository', 'versions.ts')]);
});

const constant = (value: number): string => model(`{ OUT: tensor('INT32', [1], Int32Array.of(${value})) }`);
const streaming = (value: number): string => `import { tensor } from '@rose/server/backend';
export default class { execute(requests) { for (const { sender } of requests) {
  void sender.send({ outputs: { OUT: tensor('INT32', [1], Int32Array.of(${value})) } });
  sender.end();
} } }`;
const ASKS = model(
  "(await this.context.infer({ model: 'm', inputs: { IN: request.input('IN') } })).outputs",
  'initialize(context) { this.context = context; }',
);
const versions = (policy: string, more = ''): string => config('TYPE_INT32', `version_policy { ${policy} } ${more}`);
const decoupled = 'model_transaction_policy { decoupled: true }';

async function serveVersions(t: TestContext) {
  const files = [1, 2, 10].flatMap((version) => [
    [`m/${version}/model.ts`, constant(version)],
    [`s/${version}/model.ts`, streaming(version)],
  ]);
  const directory = makeRepository(t, {
    ...Object.fromEntries(files),
    'm/config.pbtxt': versions('all { }'),
    's/config.pbtxt': versions('all { }', decoupled),
    'asks/config.pbtxt': config('TYPE_INT32'),
    'asks/4/model.ts': ASKS,
    'e/config.pbtxt': ensemble(step('m', { IN: 'IN' }, { OUT: 'OUT' })),
    'e/1/.empty': '',
    'fixed/config.pbtxt': ensemble(step('m', { IN: 'IN' }, { OUT: 'OUT' })).replace(
      'model_version: -1',
      'model_version: 1',
    ),
    'fixed/1/.empty': '',
  });
  const repository = { directories: [directory], mode: 'explicit' as const, loadModels: ['*'] };
  return { ...(await serveGrpc(t, SERVICE, { repository })), directory };
}

test('every way to ask goes to that version, and every answer says which it was', async (t) => {
  const { get, post, call, stream, directory } = await serveVersions(t);
  const inputs = [{ name: 'IN', datatype: 'INT32', shape: [1n], contents: { intContents: [0] } }];
  const first = (raw: readonly Uint8Array[]): number => Buffer.from(raw[0]).readInt32LE();
  /** What says which version answered, and which it was. */
  const everyWay = async (version?: number): Promise<unknown[]> => {
    const path = version === undefined ? '' : `/versions/${version}`;
    const modelVersion = version === undefined ? '' : String(version);
    const infer = await (await post(`/v2/models/m${path}/infer`, numbers(0))).json();
    const generate = await (await post(`/v2/models/m${path}/generate`, { IN: [0] })).json();
    const [event] = await eventsOf(await post(`/v2/models/s${path}/generate_stream`, { IN: [0] }));
    const streamed = JSON.parse(event);
    const unary = await call(SERVICE, 'ModelInfer', { modelName: 'm', modelVersion, inputs });
    const asked = stream();
    asked.send({ modelName: 's', modelVersion, inputs });
    const [{ inferResponse }] = await asked.end();
    const metadata = await (await get(`/v2/models/m${path}`)).json();
    return [
      [infer.model_version, infer.outputs[0].data[0]],
      [generate.model_version, generate.OUT],
      [streamed.model_version, streamed.OUT],
      [unary.modelVersion, first(unary.rawOutputContents)],
      [inferResponse!.modelVersion, first(inferResponse!.rawOutputContents)],
      [metadata.versions.at(-1), version ?? Number(metadata.versions.at(-1))],
    ];
  };
  const answers = (version: number): unknown[] => Array.from({ length: 6 }, () => [String(version), version]);
  assert.deepEqual(await everyWay(), answers(10));
  for (const version of [1, 2, 10]) assert.deepEqual(await everyWay(version), answers(version));
  const through = async (name: string): Promise<unknown> => {
    const { model_version: version, outputs } = await (await post(`/v2/models/${name}/infer`, numbers(0))).json();
    return [version, outputs[0].data[0]];
  };
  // Models that ask other models get the same, and answer with versions of their own.
  assert.deepEqual(await through('asks'), ['4', 10]);
  assert.deepEqual(await through('e'), ['1', 10]);
  assert.deepEqual(await through('fixed'), ['1', 1]);
  // Statistics are each version's own.
  const { model_stats: stats } = await (await get('/v2/models/m/stats')).json();
  assert.deepEqual(
    stats.map((of: { version: string; inference_count: number }) => [of.version, of.inference_count]),
    [
      ['1', 4],
      ['2', 3],
      ['10', 8],
    ],
  );
  const metrics = await (await get('/metrics')).text();
  for (const line of metrics.split('\n')) {
    if (!/[{,]model="/.test(line)) continue;
    assert.match(line, /[{,]version="\d+"/, line);
  }
  for (const version of [1, 2, 10]) {
    assert.match(metrics, new RegExp(`nv_inference_request_success\\{model="s",version="${version}"\\} \\d`));
  }

  // The policy changes: from now on another one answers, for everybody.
  write(directory, {
    'm/config.pbtxt': versions('specific { versions: [ 1, 2 ] }'),
    's/config.pbtxt': versions('specific { versions: [ 2 ] }', decoupled),
  });
  for (const name of ['m', 's']) assert.equal((await post(`/v2/repository/models/${name}/load`, '')).status, 200);
  assert.deepEqual(await everyWay(), answers(2));
  assert.deepEqual(await through('asks'), ['4', 2]);
  assert.deepEqual(await through('e'), ['1', 2]);
  assert.equal((await post('/v2/models/m/versions/10/infer', numbers(0))).status, 503);

  // A client's own configuration decides it until the next load.
  const tensors = (name: string): object[] => [{ name, data_type: 'TYPE_INT32', dims: [-1] }];
  const own = { input: tensors('IN'), output: tensors('OUT'), version_policy: { specific: { versions: ['1'] } } };
  const load = (parameters: object) => post('/v2/repository/models/m/load', { parameters });
  assert.equal((await load({ config: JSON.stringify(own) })).status, 200);
  assert.deepEqual(
    [await through('m'), await through('asks'), await through('e')],
    [
      ['1', 1],
      ['4', 1],
      ['1', 1],
    ],
  );
  assert.equal((await load({})).status, 200);
  assert.deepEqual(await through('m'), ['2', 2]);
  // Files of a client's own take the place of the whole directory.
  const file = Buffer.from(constant(33)).toString('base64');
  const whole = { backend: 'typescript', input: tensors('IN'), output: tensors('OUT') };
  assert.equal((await load({ config: JSON.stringify(whole), 'file:33/model.ts': file })).status, 200);
  assert.deepEqual(
    [await through('m'), await through('e')],
    [
      ['33', 33],
      ['1', 33],
    ],
  );
  assert.equal((await post('/v2/models/m/versions/2/infer', numbers(0))).status, 503);
});
