import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseConfig } from '../src/repository/config.ts';
import { config, IDENTITY, makeRepository, numbers } from './repository-kit.ts';
import { serve, type Serving } from './serving.ts';

const CONFIG = config('TYPE_INT32');

async function refusalOf({ post }: Serving, name: string, body: unknown = ''): Promise<string> {
  const reply = await post(`/v2/repository/models/${name}/load`, body);
  assert.ok(reply.status >= 400, name);
  return (await reply.json()).error;
}

test('a text that is no program is told with file, line, column and the words of the parser', async (t) => {
  const cases: Readonly<Record<string, readonly [source: string, place: string, words: string, file?: string]>> = {
    'a wrong expression': [
      'export default class {\n  execute() {\n    const x = = 3;\n  }\n}',
      ':3:15',
      'Expression expected',
    ],
    'syntax that types are not': ['\nenum A { B }', ':2:1', 'TypeScript enum is not supported in strip-only mode'],
    'what V8 alone refuses': [
      'const a: number = 1;\n  const a: number = 2;',
      ':2:9',
      "Identifier 'a' has already been declared",
    ],
    'a name that is not exported': [
      "import { tensor,\n  nothing } from '@rose/server/backend';",
      ':2:3',
      "The requested module '@rose/server/backend' does not provide an export named 'nothing'",
    ],
    'a file that it imports': ["import './other.ts';", '/other.ts:1:11', 'Expression expected', 'const x = ;'],
    JavaScript: ['let x = 1;\nlet y = );', ':2:9', "Unexpected token ')'"],
  };
  const files = Object.entries(cases).flatMap(([name, [source, , , other]]) => [
    [`${name}/config.pbtxt`, CONFIG],
    [`${name}/1/${name === 'JavaScript' ? 'model.mjs' : 'model.ts'}`, source],
    [`${name}/1/other.ts`, other ?? ''],
  ]);
  const directory = makeRepository(t, Object.fromEntries(files) as Record<string, string>);
  const server = await serve(t, { repository: { directories: [directory], mode: 'explicit' } });
  for (const [name, [, place, words]] of Object.entries(cases)) {
    const text = await refusalOf(server, encodeURIComponent(name));
    const file = join(directory, name, '1', name === 'JavaScript' ? 'model.mjs' : 'model.ts');
    const at = place.startsWith('/') ? join(directory, name, '1') + place : file + place;
    assert.equal(text, `load failed for model '${name}': version 1 is at UNAVAILABLE state: ${at}: ${words};\n`);
  }
});

test('an error that a program throws while it is loaded is told as it is', async (t) => {
  const directory = makeRepository(t, {
    'm/config.pbtxt': CONFIG,
    'm/1/model.ts': "JSON.parse('{'); export default class {}",
  });
  const server = await serve(t, { repository: { directories: [directory], mode: 'explicit' } });
  assert.match(await refusalOf(server, 'm'), /state: Expected property name or '}' in JSON at position 1/);
});

test('numbers that make no sense are named with their field', async (t) => {
  const cases: Readonly<Record<string, readonly [more: string, words: string]>> = {
    count: [
      'instance_group { count: -1 }',
      "'count' of instance group count_0 of model count must be at least 1, not -1",
    ],
    latest: [
      'version_policy { latest { num_versions: 0 } }',
      "'num_versions' of version_policy latest must be at least 1 for latest",
    ],
    batch: ['max_batch_size: -3', "'max_batch_size' must be non-negative value for batch"],
    large: [
      'input { name: "MORE" data_type: TYPE_INT32 dims: 9223372036854775807 }',
      "model input 'MORE' has the dimension 9223372036854775807, which is more than 9007199254740991, for large",
    ],
  };
  const files = Object.entries(cases).flatMap(([name, [more]]) => [
    [`${name}/config.pbtxt`, config('TYPE_INT32', more)],
    [`${name}/1/model.ts`, IDENTITY],
  ]);
  const directory = makeRepository(t, Object.fromEntries(files) as Record<string, string>);
  const server = await serve(t, { repository: { directories: [directory], mode: 'explicit' } });
  for (const [name, [, words]] of Object.entries(cases)) {
    const text = `failed to load '${name}', failed to poll from model repository: ${words}`;
    assert.equal(await refusalOf(server, name), text);
  }
});

test('the line of a mistake is found in a long configuration, too', () => {
  const parameter = (i: number): string => `parameters { key: "${i}" value { string_value: "x" } }\n`;
  const many = (count: number): string => Array.from({ length: count }, (_, i) => parameter(i)).join('');
  assert.throws(
    () => parseConfig(`${many(3000)}nothing: 1\n${many(3000)}`, 'f'),
    /f: line 3001: unknown field "nothing"/,
  );
  assert.throws(() => parseConfig(`nothing: 1\n${many(3000)}`, 'f'), /f: line 1: unknown field "nothing"/);
  assert.throws(() => parseConfig(`${many(3000)}input {`, 'f'), /f: line 3001: unexpected end of input/);
});

test(
  'what is no file is refused, for reading a pipe may take for ever',
  { skip: process.platform === 'win32' },
  async (t) => {
    const files = (name: string): Record<string, string> => ({
      [`${name}/config.pbtxt`]: `${CONFIG}\n`,
      [`${name}/1/model.ts`]: IDENTITY,
    });
    const names = ['config', 'code', 'labels', 'checkpoint'];
    const directory = makeRepository(t, Object.assign({}, ...names.map(files)) as Record<string, string>);
    const pipe = (...path: string[]): string => {
      const file = join(directory, ...path);
      rmSync(file, { force: true });
      execFileSync('mkfifo', [file]);
      return file;
    };
    const label = CONFIG.replace('name: "OUT"', 'name: "OUT" label_filename: "labels.txt"');
    writeFileSync(join(directory, 'labels', 'config.pbtxt'), label);
    writeFileSync(join(directory, 'checkpoint', 'config.pbtxt'), 'backend: "rose"');
    const pipes: Readonly<Record<string, string>> = {
      config: pipe('config', 'config.pbtxt'),
      code: pipe('code', '1', 'model.ts'),
      labels: pipe('labels', 'labels.txt'),
      checkpoint: pipe('checkpoint', '1', 'model.json'),
    };
    const server = await serve(t, { repository: { directories: [directory], mode: 'explicit' } });
    for (const name of names) assert.ok((await refusalOf(server, name)).includes(`${pipes[name]} is no file`), name);
  },
);

test('a length of the JSON that is no number names no request that others are taken for', async (t) => {
  const directory = makeRepository(t, { 'm/config.pbtxt': CONFIG, 'm/1/model.ts': IDENTITY });
  const { get } = await serve(t, { repository: { directories: [directory] } });
  const json = JSON.stringify({
    inputs: [{ name: 'IN', datatype: 'INT32', shape: [2], parameters: { binary_data_size: 8 } }],
  }).padEnd(100);
  const body = Buffer.concat([Buffer.from(json), Buffer.from(Int32Array.of(1, 2).buffer)]);
  const ask = async (length: string): Promise<number[]> => {
    const headers = { 'inference-header-content-length': length };
    const reply = await get('/v2/models/m/infer', { method: 'POST', headers, body });
    assert.equal(reply.status, 200);
    const bytes = Buffer.from(await reply.arrayBuffer());
    const head = Number(reply.headers.get('inference-header-content-length') ?? bytes.length);
    const [output] = (JSON.parse(bytes.toString('utf8', 0, head)) as { outputs: { shape: number[] }[] }).outputs;
    return output.shape;
  };
  assert.deepEqual(await ask('100, 100'), [2]);
  // Without JSON the whole body is the input.
  assert.deepEqual(await ask('0'), [27]);
  assert.deepEqual(await ask('100'), [2]);
  assert.deepEqual(await ask('0'), [27]);
});

test('a model may have the longest name that a file system allows', async (t) => {
  const name = 'ü'.repeat(127);
  const directory = makeRepository(t, { [`${name}/config.pbtxt`]: CONFIG, [`${name}/1/model.ts`]: IDENTITY });
  const server = await serve(t, { repository: { directories: [directory], mode: 'explicit', loadModels: [name] } });
  const path = encodeURIComponent(name);
  assert.equal((await server.post(`/v2/models/${path}/infer`, numbers(1))).status, 200);
  assert.equal((await server.get(`/v2/models/${path}/versions/1/config`)).status, 200);
  assert.equal((await server.post(`/v2/repository/models/${path}/unload`, '')).status, 200);
});

test('a shape of very many dimensions is told by its first ones', async (t) => {
  const directory = makeRepository(t, { 'm/config.pbtxt': CONFIG, 'm/1/model.ts': IDENTITY });
  const { post } = await serve(t, { repository: { directories: [directory] } });
  const inputs = [{ name: 'IN', datatype: 'INT32', shape: Array.from({ length: 10_000 }).fill(1), data: [1] }];
  const { error } = await (await post('/v2/models/m/infer', { inputs })).json();
  assert.match(error, /Expected \[-1\], got \[1(,1){63},\.\.\.\]\.$/);
});

test('whole numbers beyond 2^53 are the same in errors as in requests', async (t) => {
  const directory = makeRepository(t, { 'm/config.pbtxt': CONFIG, 'm/1/model.ts': IDENTITY });
  const server = await serve(t, { repository: { directories: [directory], mode: 'explicit', loadModels: ['m'] } });
  const infer = async (shape: string, more = ''): Promise<string> => {
    const body = `{"inputs":[{"name":"IN","datatype":"INT32","shape":${shape},"data":[1]}]${more}}`;
    return (await (await server.post('/v2/models/m/infer', body)).json()).error;
  };
  const place = "invalid shape for input 'IN': shape";
  assert.equal(
    await infer('[9007199254740993]'),
    `${place} [9007199254740993] has a dimension of more than 9007199254740991`,
  );
  for (const shape of ['[9223372036854775808]', '[18446744073709551615,3]', '[9007199254740993,9007199254740993]']) {
    const text = `${place} ${shape} causes total element count to exceed maximum size of 9223372036854775807`;
    assert.equal(await infer(shape), text);
  }
  assert.match(await infer('[9007199254740991,3]'), /byte_size \(108086391056891892 bytes\)/);
  const beyond = 'attempt to access JSON non-unsigned-integer as unsigned-integer';
  assert.equal(await infer('[99999999999999999999]'), `Unable to parse 'shape': ${beyond}`);
  for (const name of ['sequence_id', 'timeout', 'priority']) {
    const text = await infer('[1]', `,"parameters":{"${name}":99999999999999999999}`);
    assert.equal(text, `Unable to parse '${name}': ${beyond}`);
  }
  for (const [path, method] of [
    ['infer', 'POST'],
    ['ready', 'GET'],
    ['config', 'GET'],
  ]) {
    const reply = await server.get(`/v2/models/m/versions/9007199254740993/${path}`, {
      method,
      ...(method === 'POST' && { body: JSON.stringify(numbers(1)) }),
    });
    assert.equal(reply.status, 404);
    assert.equal((await reply.json()).error, "Request for unknown model: 'm' version 9007199254740993 is not found");
  }
  const load = (text: string): Promise<string> => refusalOf(server, 'm', { parameters: { config: text } });
  assert.match(await load('{"max_batch_size":9007199254740993}'), /max_batch_size .*: 9007199254740993 out of range/);
  const priority = '"priority_queue_policy":{"1":{"default_timeout_microseconds":99999999999999999999}}';
  assert.match(await load(`{"dynamic_batching":{${priority}}}`), /99999999999999999999/);
});
