import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { HttpClient, InferenceError, tensor, texts } from '@rose/client';
import { GrpcClient, type StreamEvent } from '@rose/client/grpc';
import { startRose, type RoseServer } from './rose-server.ts';

let server: RoseServer;
let client: GrpcClient;

before(async () => {
  server = await startRose(['simple', 'simple_identity', 'repeat_int32', 'identity_fp32', 'parameter']);
  client = new GrpcClient(server.address);
});
after(async () => {
  client.close();
  await server.close();
});

/** Rejects with an InferenceError that has these fields. */
async function fails(promise: Promise<unknown>, kind: string, status: unknown, message: RegExp): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof InferenceError, String(error));
    assert.deepEqual([error.kind, error.status], [kind, status], error.message);
    assert.match(error.message, message);
    return true;
  });
}

const simple = {
  INPUT0: tensor('INT32', [1, 16], new Int32Array(16).fill(5)),
  INPUT1: tensor('INT32', [1, 16], new Int32Array(16).fill(2)),
};

/** A request of repeat_int32. */
function repeat(values: readonly number[], delayMs = 0) {
  return {
    inputs: {
      IN: tensor('INT32', [values.length], Int32Array.from(values)),
      DELAY: tensor('UINT32', [values.length], new Uint32Array(values.length).fill(delayMs)),
      WAIT: tensor('UINT32', [1], Uint32Array.of(0)),
    },
  };
}

test('the messages are those of the server', () => {
  for (const name of ['inference_pb.js', 'inference_pb.d.ts', 'model_config_pb.js', 'model_config_pb.d.ts']) {
    const read = (path: string): string => readFileSync(new URL(`../../${path}/${name}`, import.meta.url), 'utf8');
    assert.equal(read('client/src/grpc/proto'), read('server/src/grpc/proto'), name);
  }
});

test('inference: numbers, texts, parameters, compression', async () => {
  const response = await client.infer('simple', { id: 'g', version: 1, inputs: simple });
  assert.deepEqual([response.id, response.model, response.version], ['g', 'simple', '1']);
  assert.deepEqual([...response.output('OUTPUT0', 'INT32').data], Array.from({ length: 16 }).fill(7));
  assert.deepEqual([...response.output('OUTPUT1', 'INT32').data], Array.from({ length: 16 }).fill(3));
  const words = await client.infer('simple_identity', { inputs: { INPUT0: texts(['', 'ß'], [1, 2]) } });
  assert.deepEqual(words.texts('OUTPUT0'), ['', 'ß']);
  const parameters = { whole: 2n ** 63n, half: 0.5, yes: true };
  const inputs = { INPUT0: tensor('FP32', [1], Float32Array.of(1)) };
  const seen = await client.infer('parameter', { inputs, parameters, outputs: ['value', 'key'] });
  const keys = seen.texts('key');
  assert.equal(seen.texts('value')[keys.indexOf('whole')], '9223372036854775808');
  const large = Float32Array.from({ length: 2_000_000 }, (_, i) => i);
  const compressed = new GrpcClient(server.address, { compression: 'gzip' });
  const echoed = await compressed.infer('identity_fp32', {
    inputs: { INPUT0: tensor('FP32', [1, large.length], large) },
  });
  compressed.close();
  assert.deepEqual(echoed.output('OUTPUT0', 'FP32').data, large);
});

test('descriptions, statistics and the repository are as over HTTP', async () => {
  const http = new HttpClient(server.url);
  assert.deepEqual(await client.serverMetadata(), await http.serverMetadata());
  assert.deepEqual(await client.modelMetadata('simple'), await http.modelMetadata('simple'));
  assert.deepEqual(await client.modelConfig('identity_fp32'), await http.modelConfig('identity_fp32'));
  assert.deepEqual(await client.statistics('simple', 1), await http.statistics('simple', 1));
  assert.deepEqual(await client.repositoryIndex(), await http.repositoryIndex());
  assert.deepEqual(await client.repositoryIndex({ ready: true }), await http.repositoryIndex({ ready: true }));
  assert.deepEqual(
    [await client.isLive(), await client.isReady(), await client.isModelReady('nobody')],
    [true, true, false],
  );
  const config = {
    backend: 'typescript',
    input: [{ name: 'IN', data_type: 'TYPE_BOOL', dims: [-1] }],
    output: [{ name: 'OUT', data_type: 'TYPE_BOOL', dims: [-1] }],
  };
  const code = `export default class {
    async execute(requests) { return requests.map((request) => ({ outputs: { OUT: request.input('IN') } })); }
  }`;
  await client.loadModel('brought', { config, files: { '1/model.js': new TextEncoder().encode(code) } });
  const inputs = { IN: tensor('BOOL', [2], Uint8Array.of(1, 0)) };
  assert.deepEqual((await client.infer('brought', { inputs })).output('OUT', 'BOOL').data, Uint8Array.of(1, 0));
  await client.unloadModel('brought');
  await fails(client.infer('brought', { inputs }), 'refused', 'NOT_FOUND', /'brought' has no available versions/);
});

test('one request with many responses, with none, and with an error', async () => {
  const seen: [number, number][] = [];
  for await (const response of client.inferStream('repeat_int32', repeat([3, 1, 2]))) {
    seen.push([response.output('IDX', 'UINT32').data[0], response.output('OUT', 'INT32').data[0]]);
  }
  assert.deepEqual(seen, [
    [0, 3],
    [1, 1],
    [2, 2],
  ]);
  assert.deepEqual(await Array.fromAsync(client.inferStream('repeat_int32', repeat([]))), []);
  const one = await Array.fromAsync(client.inferStream('simple', { inputs: simple }));
  assert.deepEqual([one.length, one[0].final], [1, true]);
  const wrong = { inputs: { ...repeat([1]).inputs, DELAY: tensor('UINT32', [2], new Uint32Array(2)) } };
  const failing = Array.fromAsync(client.inferStream('repeat_int32', wrong));
  await fails(failing, 'refused', 'INVALID_ARGUMENT', /expected IN and DELAY shape to match/);
  await fails(client.infer('repeat_int32', repeat([1])), 'refused', 'UNIMPLEMENTED', /decoupled transaction policy/);
});

test('many requests on one stream; what fails does not end it', async () => {
  const stream = client.stream();
  await stream.send('repeat_int32', { id: 'slow', ...repeat([1, 2], 30) });
  await stream.send('nobody', { id: 'lost', inputs: {} });
  await stream.send('simple', { id: 'quick', inputs: simple });
  stream.end();
  const events: StreamEvent[] = await Array.fromAsync(stream);
  assert.deepEqual(events.map(({ id }) => id).toSorted(), ['lost', 'quick', 'slow', 'slow']);
  const lost = events.find(({ id }) => id === 'lost');
  assert.match(lost?.error?.message ?? '', /unknown model: 'nobody'/);
});

test('signals, time, servers that are not there', async () => {
  const controller = new AbortController();
  const slow = repeat([1, 2], 20_000);
  setTimeout(() => controller.abort(new Error('enough')), 50);
  await assert.rejects(
    Array.fromAsync(client.inferStream('repeat_int32', slow, { signal: controller.signal })),
    /^Error: enough$/,
  );
  const late = Array.fromAsync(client.inferStream('repeat_int32', slow, { timeoutMs: 50 }));
  await fails(late, 'timeout', undefined, /within 50 ms/);
  await assert.rejects(
    client.infer('simple', { inputs: simple }, { signal: AbortSignal.abort('no') }),
    (e) => e === 'no',
  );
  // Leaving the loop cancels the request: the server has nothing under way that a stop would have to wait for.
  for await (const response of client.inferStream('repeat_int32', repeat([1, 2, 3], 1))) {
    assert.equal(response.output('OUT', 'INT32').data[0], 1);
    break;
  }
  const nobody = new GrpcClient('127.0.0.1:1');
  await fails(nobody.serverMetadata({ retries: 0 }), 'network', undefined, /no answer from 127.0.0.1:1/);
  assert.equal(await nobody.isLive(), false);
  nobody.close();
});

test('shared memory that the server does not allow is refused with its words', async () => {
  const refused = client.registerSystemSharedMemory('r', { key: '/r', byteSize: 64 });
  await fails(refused, 'refused', 'UNIMPLEMENTED', /shared memory/);
});
