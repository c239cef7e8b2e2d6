import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { GRPCInferenceService } from '../src/grpc/proto/inference_pb.js';
import type { TraceOptions } from '../src/trace/traces.ts';
import { serveGrpc, type GrpcServing } from './grpc-client.ts';
import { config, IDENTITY, makeRepository, numbers } from './repository-kit.ts';
import { until } from './serving.ts';

const SERVICE = GRPCInferenceService;
const DEFAULTS = {
  trace_level: ['OFF'],
  trace_rate: '1000',
  trace_count: '-1',
  log_frequency: '0',
  trace_file: '',
  trace_mode: 'triton',
};

interface TraceObject {
  readonly id: number;
  readonly model_name?: string;
  readonly model_version?: number;
  readonly request_id?: string;
  readonly parent_id?: number;
  readonly timestamps?: readonly { readonly name: string; readonly ns: number }[];
  readonly activity?: string;
  readonly tensor?: object;
}

interface Traced extends GrpcServing {
  readonly file: string;
  /** What stands in the file, or in the numbered one, once there are so many traces in it. */
  readonly traces: (count: number, number?: number) => Promise<TraceObject[]>;
  readonly infer: (id?: string, model?: string) => Promise<void>;
}

async function serveTraced(t: TestContext, trace: TraceOptions, files = {}): Promise<Traced> {
  const directory = mkdtempSync(join(tmpdir(), 'rose-trace-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, 'trace.json');
  const models = { 'm/config.pbtxt': config('TYPE_INT32'), 'm/1/model.ts': IDENTITY, ...files };
  const serving = await serveGrpc(t, SERVICE, {
    repository: { directories: [makeRepository(t, models)] },
    trace: { file, ...trace },
  });
  const read = (path: string): TraceObject[] => {
    try {
      return JSON.parse(readFileSync(path, 'utf8')) as TraceObject[];
    } catch {
      // Not there, or being written.
      return [];
    }
  };
  return {
    ...serving,
    file,
    traces: async (count, number) => {
      const path = number === undefined ? file : `${file}.${number}`;
      const heads = (): number => read(path).filter((object) => object.model_name !== undefined).length;
      await until(() => heads() >= count, `${count} traces in ${path}`);
      assert.equal(heads(), count);
      return read(path);
    },
    infer: async (id = '', model = 'm') => {
      const response = await serving.post(`/v2/models/${model}/infer`, { id, ...numbers(1, 2) });
      assert.equal(response.status, 200, await response.text());
    },
  };
}

const namesOf = (objects: readonly TraceObject[]): string[] =>
  objects.flatMap(({ timestamps = [] }) => timestamps.map(({ name }) => name));

test('what a request went through, over HTTP and gRPC, in the order of its times', async (t) => {
  const { infer, traces, call, stream } = await serveTraced(t, { level: ['TIMESTAMPS'], rate: 1 });
  await infer('seven');
  const [head, ...http] = await traces(1);
  assert.deepEqual(head, { id: head.id, model_name: 'm', model_version: 1, request_id: 'seven' });
  const core = ['QUEUE_START', 'COMPUTE_START', 'COMPUTE_INPUT_END', 'COMPUTE_OUTPUT_START', 'COMPUTE_END'];
  const inside = ['REQUEST_START', ...core, 'INFER_RESPONSE_COMPLETE', 'REQUEST_END'];
  const sorted = (names: string[]): string[] => names.toSorted();
  const expected = ['HTTP_RECV_START', 'HTTP_RECV_END', ...inside, 'HTTP_SEND_START', 'HTTP_SEND_END'];
  assert.deepEqual(sorted(namesOf(http)), sorted(expected));
  assert.deepEqual(namesOf(http).slice(0, 3), ['HTTP_RECV_START', 'HTTP_RECV_END', 'REQUEST_START']);
  assert.equal(namesOf(http).at(-1), 'HTTP_SEND_END');
  const times = http.flatMap(({ timestamps = [] }) => timestamps.map(({ ns }) => ns));
  assert.deepEqual(
    times,
    times.toSorted((a, b) => a - b),
  );
  const order = namesOf(http).filter((name) => core.includes(name));
  assert.deepEqual(order, core);
  assert.ok(Math.abs(Number(process.hrtime.bigint()) - times[0]) < 60e9, 'the steady clock');
  assert.ok(http.every(({ id }) => id === head.id));

  const inputs = [{ name: 'IN', datatype: 'INT32', shape: [1n], contents: { intContents: [5] } }];
  await call(SERVICE, 'ModelInfer', { modelName: 'm', inputs });
  const unary = (await traces(2)).slice(1 + http.length);
  const grpc = ['GRPC_WAITREAD_START', 'GRPC_WAITREAD_END', ...inside, 'GRPC_SEND_START', 'GRPC_SEND_END'];
  assert.deepEqual(sorted(namesOf(unary)), sorted(grpc));
  assert.notEqual(unary[0].id, head.id);
  const streamed = stream();
  streamed.send({ modelName: 'm', inputs });
  await streamed.end();
  assert.deepEqual(sorted(namesOf((await traces(3)).slice(1 + http.length + unary.length))), sorted(grpc));
});

test('one request of so many, until so many were traced, in numbered files', async (t) => {
  const { infer, traces, get, server, file } = await serveTraced(t, {
    level: ['TIMESTAMPS'],
    rate: 2,
    count: 5,
    logFrequency: 2,
  });
  for (let i = 1; i <= 14; i++) await infer(String(i));
  const ids = (objects: TraceObject[]): (string | undefined)[] =>
    objects.filter(({ model_name }) => model_name).map(({ request_id }) => request_id);
  assert.deepEqual(ids(await traces(2, 0)), ['2', '4']);
  assert.deepEqual(ids(await traces(2, 1)), ['6', '8']);
  assert.deepEqual(ids(await traces(1, 2)), ['10']);
  assert.equal((await (await get('/v2/trace/setting')).json()).trace_count, '0');
  await server.close(0);
  assert.ok(!existsSync(file) && !existsSync(`${file}.3`));
});

test('what is held is written when other settings come, and at the end', async (t) => {
  const { infer, traces, post, server, file } = await serveTraced(t, { level: ['TIMESTAMPS'], rate: 1, count: 10 });
  await infer('a');
  await infer('b');
  assert.equal((await post('/v2/trace/setting', { log_frequency: '9' })).status, 200);
  assert.equal((await traces(2)).length, 26);
  await infer('c');
  await server.close(0);
  assert.equal((await traces(1, 0))[0].request_id, 'c');
  assert.equal((await traces(2)).length, 26);
  assert.ok(file);
});

test('tensors of a request', async (t) => {
  const { infer, traces } = await serveTraced(t, { level: ['TENSORS'], rate: 1 });
  await infer();
  const [head, ...rest] = await traces(1);
  const tensor = (name: string): object => ({ name, data: '1,2', shape: '2', dtype: 'INT32' });
  assert.deepEqual(rest, [
    { id: head.id, activity: 'TENSOR_QUEUE_INPUT', tensor: tensor('IN') },
    { id: head.id, activity: 'TENSOR_BACKEND_OUTPUT', tensor: tensor('OUT') },
  ]);
});

test("an ensemble's steps are traces of their own that know the whole's", async (t) => {
  const step = 'input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" }';
  const { infer, traces } = await serveTraced(
    t,
    { level: ['TIMESTAMPS'], rate: 1 },
    {
      'e/config.pbtxt': config(
        'TYPE_INT32',
        `ensemble_scheduling { step { model_name: "m" model_version: -1 ${step} } }`,
      ).replace('backend: "typescript"', 'platform: "ensemble"'),
      'e/1/.keep': '',
    },
  );
  await infer('whole', 'e');
  const objects = await traces(2);
  const [whole, part] = objects.filter(({ model_name }) => model_name !== undefined);
  assert.deepEqual(
    [whole.model_name, whole.parent_id, part.model_name, part.parent_id],
    ['e', undefined, 'm', whole.id],
  );
  assert.ok(namesOf(objects.filter(({ id }) => id === part.id)).includes('COMPUTE_END'));
});

test('settings: those of the server, and of models that follow it', async (t) => {
  const { get, post, file } = await serveTraced(t, { level: ['TIMESTAMPS'], rate: 1 });
  const start = { ...DEFAULTS, trace_level: ['TIMESTAMPS'], trace_rate: '1', trace_file: file };
  const model = '/v2/models/m/trace/setting';
  const server = '/v2/trace/setting';
  const read = async (path: string): Promise<object> => (await get(path)).json();
  assert.deepEqual(await read(server), start);
  assert.deepEqual(await read(model), start);
  const update = async (path: string, change: object): Promise<object> => (await post(path, change)).json();

  assert.deepEqual(await update(model, { trace_rate: '12', log_frequency: '34' }), {
    ...start,
    trace_rate: '12',
    log_frequency: '34',
  });
  const changed = { ...start, trace_rate: '56', trace_count: '78', trace_level: ['OFF'] };
  assert.deepEqual(await update(server, { trace_rate: '56', trace_count: '78', trace_level: ['OFF'] }), changed);
  assert.deepEqual(await read(model), { ...changed, trace_rate: '12', log_frequency: '34' });
  assert.deepEqual(await update(server, { trace_rate: null, trace_count: null }), { ...start, trace_level: ['OFF'] });
  assert.deepEqual(await update(model, { trace_rate: null, log_frequency: null }), { ...start, trace_level: ['OFF'] });
  assert.deepEqual(await update(server, { trace_level: ['TENSORS', 'TIMESTAMPS'] }), {
    ...start,
    trace_level: ['TIMESTAMPS', 'TENSORS'],
  });
  assert.deepEqual(await (await post(server, '')).json(), await read(server));
});

test('impossible settings are refused with the protocol texts, and change nothing', async (t) => {
  const { get, post, call } = await serveTraced(t, {});
  const before = await (await get('/v2/trace/setting')).json();
  const refusals: [object, number, string][] = [
    [{ trace_file: 'x' }, 501, 'trace file location can not be updated through network protocol'],
    [{ trace_level: ['OFF', 'TENSORS'] }, 400, "Expect only one trace level 'OFF' is specified"],
    [{ trace_level: ['ALL'] }, 400, "there is no trace level 'ALL': OFF, TIMESTAMPS, TENSORS"],
    [{ trace_level: 'OFF' }, 500, 'attempt to access JSON non-array as array'],
    [{ trace_rate: 5 }, 500, 'attempt to access JSON non-string as string'],
    [{ trace_rate: 'fast' }, 400, "Unable to parse 'trace_rate', got: fast"],
    [
      { trace_rate: '4294967296' },
      400,
      "Unable to parse 'trace_rate', value is out of range [ 0, 4294967295 ], got: 4294967296",
    ],
    [{ trace_count: '-2' }, 400, "Unable to parse 'trace_count'. Expecting value >= -1, got: -2"],
    [{ log_frequency: '-1' }, 400, "Unable to parse 'log_frequency', value is out of range [ 0, 4294967295 ], got: -1"],
    [
      { trace_level: ['TIMESTAMPS'], trace_rate: '0' },
      400,
      'Attempting to set invalid trace setting :sample rate must be non-zero',
    ],
    [{ trace_speed: '1' }, 400, "there is no trace setting 'trace_speed' that can be updated"],
  ];
  for (const [change, status, error] of refusals) {
    const response = await post('/v2/trace/setting', change);
    assert.deepEqual([response.status, (await response.json()).error], [status, error]);
  }
  for (const path of ['/v2/models/nobody/trace/setting']) {
    const response = await get(path);
    assert.deepEqual([response.status, (await response.json()).error], [400, 'Request for unknown model : nobody']);
  }
  assert.equal((await get('/v2/models/m/versions/1/trace/setting')).status, 404);
  assert.equal((await get('/v2/trace/setting', { method: 'PUT' })).status, 405);
  assert.deepEqual(await (await get('/v2/trace/setting')).json(), before);
  // A model for which a change of the server's settings makes no sense.
  await post('/v2/models/m/trace/setting', { trace_rate: '0' });
  assert.equal((await post('/v2/trace/setting', { trace_level: ['TIMESTAMPS'], trace_count: '3' })).status, 400);
  assert.deepEqual(await (await get('/v2/trace/setting')).json(), before);
  const set = (settings: object): Promise<unknown> => call(SERVICE, 'TraceSetting', { settings });
  await assert.rejects(set({ trace_rate: { value: ['1', '2'] } }), /INVALID_ARGUMENT: expect only 1 value for/);
  await assert.rejects(set({ trace_file: { value: ['x'] } }), /UNIMPLEMENTED: trace file location/);
});

test('nothing can be traced without a file', async (t) => {
  const { post, call } = await serveGrpc(t, SERVICE);
  const refused = await post('/v2/trace/setting', { trace_level: ['TIMESTAMPS'] });
  const error = 'Attempting to set invalid trace setting :trace file name is not given';
  assert.deepEqual([refused.status, await refused.json()], [400, { error }]);
  const { settings } = await call(SERVICE, 'TraceSetting', { settings: { trace_rate: { value: ['7'] } } });
  const values = Object.fromEntries(
    Object.entries(settings as Record<string, { value: string[] }>).map(([name, { value }]) => [name, value]),
  );
  assert.deepEqual(values, {
    trace_level: ['OFF'],
    trace_rate: ['7'],
    trace_count: ['-1'],
    log_frequency: ['0'],
    trace_file: [''],
    trace_mode: ['triton'],
  });
});

test('a file that cannot be written is told in the log, and requests go on', async (t) => {
  const trace: TraceOptions = { level: ['TIMESTAMPS'], rate: 1, file: '/nowhere/at/all' };
  const { infer, log } = await serveTraced(t, trace);
  await infer();
  await until(() => log.some((line) => line.includes('cannot write a trace')), 'the log tells it');
  await infer();
});
