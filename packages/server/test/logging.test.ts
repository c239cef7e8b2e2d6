import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { GRPCInferenceService } from '../src/grpc/proto/inference_pb.js';
import { serveGrpc } from './grpc-client.ts';
import { config, IDENTITY, makeRepository } from './repository-kit.ts';
import { serve, until } from './serving.ts';

const SERVICE = GRPCInferenceService;

const DEFAULTS = {
  log_file: '',
  log_info: true,
  log_warning: true,
  log_error: true,
  log_verbose_level: 0,
  log_format: 'default',
};

interface Line {
  readonly level: number;
  readonly time: number | string;
  readonly msg: string;
  readonly requestId?: string;
  readonly method?: string;
  readonly url?: string;
  readonly status?: number;
  readonly code?: number;
}

const parse = (lines: readonly string[]): Line[] => lines.map((line) => JSON.parse(line) as Line);

test('settings over HTTP and gRPC, and what is wrong with them', async (t) => {
  const { get, post, call } = await serveGrpc(t, SERVICE, { log: { info: true } });
  assert.deepEqual(await (await get('/v2/logging')).json(), DEFAULTS);
  const changed = { ...DEFAULTS, log_info: false, log_verbose_level: 3, log_format: 'ISO8601' };
  const { log_file: file, ...change } = changed;
  assert.deepEqual(await (await post('/v2/logging', { ...change, log_warning: null })).json(), changed);
  const { settings } = await call(SERVICE, 'LogSettings', {
    settings: { log_warning: { parameterChoice: { case: 'boolParam', value: false } } },
  });
  const values = Object.entries(settings as Record<string, { parameterChoice: { value: unknown } }>);
  assert.deepEqual(Object.fromEntries(values.map(([name, value]) => [name, value.parameterChoice.value])), {
    ...changed,
    log_warning: false,
  });
  const refusals: [object, number, string][] = [
    [{ log_file: 'x' }, 501, 'log file location can not be updated through network protocol'],
    [{ log_info: 1 }, 500, 'attempt to access JSON non-boolean as boolean'],
    [{ log_verbose_level: -1 }, 500, 'attempt to access JSON non-unsigned-integer as unsigned-integer'],
    [{ log_format: 'ISO' }, 503, 'invalid argument for --log_format, got: ISO'],
    [{ log_loudly: true }, 400, "there is no log setting 'log_loudly'"],
  ];
  for (const [body, status, error] of refusals) {
    const response = await post('/v2/logging', body);
    assert.deepEqual([response.status, (await response.json()).error], [status, error]);
  }
  const wrong = (name: string, parameterChoice: object): Promise<unknown> =>
    call(SERVICE, 'LogSettings', { settings: { [name]: { parameterChoice } } });
  await assert.rejects(wrong('log_error', { case: 'uint32Param', value: 1 }), /expect boolean for 'log_error'/);
  await assert.rejects(wrong('log_file', { case: 'stringParam', value: '' }), /UNIMPLEMENTED: log file location/);
  assert.equal((await get('/v2/logging', { method: 'DELETE' })).status, 405);
  assert.equal(file, '');
});

test('every request has a line while the log is verbose, with the name that the client gave it', async (t) => {
  const { get, post, call, log } = await serveGrpc(t, SERVICE);
  await get('/v2');
  assert.deepEqual(log, []);
  await post('/v2/logging', { log_verbose_level: 1 });
  await until(() => log.length === 1, 'the line of the change itself');
  const named = await get('/v2/models/nobody', { headers: { 'x-request-id': 'mine-1' } });
  assert.equal(named.headers.get('x-request-id'), 'mine-1');
  await call(SERVICE, 'ServerLive', {}, { metadata: { 'x-request-id': 'mine-2' } });
  await assert.rejects(call(SERVICE, 'ModelConfig', { name: 'nobody' }), ({ metadata }) =>
    /^\d+$/.test(metadata.get('x-request-id')[0]),
  );
  await until(() => log.length === 4, 'a line each');
  const [, http, live, failed] = parse(log);
  assert.deepEqual(
    [http.requestId, http.method, http.url, http.status, http.level],
    ['mine-1', 'GET', '/v2/models/nobody', 404, 20],
  );
  assert.deepEqual(
    [live.requestId, live.method, live.code],
    ['mine-2', '/inference.GRPCInferenceService/ServerLive', 0],
  );
  assert.equal(failed.code, 5);
  await post('/v2/logging', { log_verbose_level: 0 });
  await get('/v2');
  assert.equal(log.length, 4);
});

test('a name that would break the log is not taken over', async (t) => {
  const { get, log } = await serve(t, { log: { verbose: 1 } });
  for (const id of ['a b', 'x'.repeat(129), 'ä']) {
    const response = await get('/v1/models/nobody', { headers: { 'x-request-id': id } });
    assert.match(response.headers.get('x-request-id') ?? '', /^\d+$/);
  }
  await until(() => log.length === 3, 'a line each');
  assert.ok(parse(log).every(({ requestId }) => /^\d+$/.test(requestId ?? '')));
});

test('faults have a line with the request and the stack, unless errors are not logged', async (t) => {
  const { post, log } = await serve(t);
  const fault = (id: string): Promise<{ readonly status: number; readonly headers: Headers }> =>
    post(
      '/v1/completions',
      { prompt: '!fault' },
      { headers: { 'x-request-id': id, 'content-type': 'application/json' } },
    );
  const response = await fault('f1');
  assert.deepEqual([response.status, response.headers.get('x-request-id')], [500, 'f1']);
  const [line] = parse(log);
  assert.deepEqual([line.level, line.requestId], [50, 'f1']);
  assert.match(log[0], /"stack":"/);
  await post('/v2/logging', { log_error: false });
  await fault('f2');
  assert.equal(log.length, 1);
});

test('models that come and go, with times as text, in a file', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'rose-log-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, 'log');
  const files = { 'm/config.pbtxt': config('TYPE_INT32'), 'm/1/model.ts': IDENTITY };
  const { post, get } = await serve(t, {
    repository: { directories: [makeRepository(t, files)], mode: 'explicit', loadModels: ['m'] },
    log: { file, info: true, format: 'ISO8601' },
  });
  assert.equal((await (await get('/v2/logging')).json()).log_file, file);
  await post('/v2/repository/models/m/unload', '');
  await post('/v2/repository/models/m/load', '');
  await post('/v2/logging', { log_info: false, log_format: 'default' });
  await post('/v2/repository/models/m/unload', '');
  const lines = parse(readFileSync(file, 'utf8').trim().split('\n'));
  assert.deepEqual(
    lines.map(({ msg }) => msg),
    ["successfully unloaded 'm' version 1", "successfully loaded 'm' version 1"],
  );
  assert.match(String(lines[0].time), /^\d{4}-\d\d-\d\dT.*Z$/);
  await assert.rejects(serve(t, { log: { file: join(directory, 'no', 'file') } }), /cannot write the log file/);
});
