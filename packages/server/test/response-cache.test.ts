import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { ResponseCache } from '../src/cache/response-cache.ts';
import { GRPCInferenceService } from '../src/grpc/proto/inference_pb.js';
import { checkConfig } from '../src/repository/check-config.ts';
import { completeConfig, parseConfig } from '../src/repository/config.ts';
import type { ModelResponse } from '../src/triton/model.ts';
import { serveGrpc } from './grpc-client.ts';
import { config, ensemble, model, modelFiles, step, write, type Models } from './repository-kit.ts';

const CACHED = 'response_cache { enable: true }';

test('the cache counts bytes, and what was not asked for longest goes first', () => {
  const response = (bytes: number): ModelResponse => ({
    outputs: [{ name: 'O', datatype: 'UINT8', shape: [bytes], data: new Uint8Array(bytes) }],
  });
  const cache = new ResponseCache(4000);
  const [one, other] = [{}, {}];
  for (const key of ['a', 'b', 'c']) assert.equal(cache.insert(key, one, response(500)), true);
  assert.deepEqual([cache.entries, cache.bytes, cache.evictions], [3, 3 * 1012, 0]);
  assert.equal(cache.insert('a', one, response(7)), false);
  assert.equal(cache.lookup('a')?.outputs[0].shape[0], 500);
  assert.equal(cache.insert('d', other, response(1000)), true);
  assert.deepEqual(
    [cache.entries, cache.evictions, cache.lookup('b'), cache.lookup('a') !== undefined],
    [3, 1, undefined, true],
  );
  // What is larger than everything takes nothing else's place.
  assert.equal(cache.insert('e', other, response(4000)), true);
  assert.deepEqual([cache.entries, cache.lookup('e')], [3, undefined]);
  cache.forget(one);
  assert.deepEqual([cache.entries, cache.bytes, cache.lookup('a')], [1, 1512, undefined]);
  cache.forget(other);
  assert.deepEqual([cache.entries, cache.bytes], [0, 0]);
  const mine = response(3);
  cache.insert('f', one, mine);
  (mine.outputs[0].data as Uint8Array)[0] = 9;
  assert.equal(cache.lookup('f')?.outputs[0].data[0], 0);
});

async function serveCached(t: TestContext, models: Models, ...loadModels: string[]) {
  const directory = modelFiles(t, models);
  const repository = { directories: [directory], mode: 'explicit' as const, loadModels, responseCacheBytes: 1_000_000 };
  const serving = await serveGrpc(t, GRPCInferenceService, { repository });
  const { get, post } = serving;
  const stats = async (name: string) => (await (await get(`/v2/models/${name}/stats`)).json()).model_stats[0];
  return {
    ...serving,
    directory,
    /** Outputs by name, or the error. */
    infer: async (name: string, data: number[], more: object = {}) => {
      const { shape = [data.length], ...rest } = more as { shape?: number[] };
      const reply = await post(`/v2/models/${name}/infer`, {
        inputs: [{ name: 'IN', datatype: 'INT32', shape, data }],
        ...rest,
      });
      const { error, outputs, parameters } = await reply.json();
      if (error !== undefined) return error;
      return Object.fromEntries([
        ...outputs.map((of: { name: string; data: unknown }) => [of.name, of.data]),
        ...Object.entries(parameters ?? {}),
      ]);
    },
    /** Requests, inferences, executions, computed, hits, misses. */
    counts: async (name: string) => {
      const { inference_count: rows, execution_count: executions, inference_stats: of } = await stats(name);
      assert.equal(of.queue.count, of.success.count);
      return [of.success, { count: rows }, { count: executions }, of.compute_infer, of.cache_hit, of.cache_miss].map(
        ({ count }) => count,
      );
    },
    stats,
  };
}

/** Answers with how often it was asked. */
const COUNTS = `import { tensor, ModelError } from '@rose/server/backend';
let calls = 0;
export default class {
  execute(requests) {
    return requests.map((request) => {
      if (request.input('IN').data[0] === -1) return new ModelError('no', 'INVALID_ARG');
      const before = calls++;
      const count = () => tensor('INT32', [1], Int32Array.of(before));
      return { outputs: { OUT: count(), MORE: count() }, parameters: { told: calls } };
    });
  }
}`;
const TWO = `${config('TYPE_INT32', CACHED).replace('dims: -1 }\noutput', 'dims: [ -1, -1 ] }\noutput')} output { name: "MORE" data_type: TYPE_INT32 dims: -1 }`;

test('what was asked before is answered from the cache, with statistics as Triton has them', async (t) => {
  const { infer, counts, stats, get, call, post, directory } = await serveCached(t, { m: [TWO, COUNTS] }, 'm');
  const square = { shape: [2, 2] };
  assert.deepEqual(await infer('m', [1, 2, 3, 4], square), { OUT: [0], MORE: [0], told: 1 });
  assert.deepEqual(await counts('m'), [1, 1, 1, 1, 0, 1]);
  assert.deepEqual(await infer('m', [1, 2, 3, 4], square), { OUT: [0], MORE: [0], told: 1 });
  assert.deepEqual(await counts('m'), [2, 1, 1, 1, 1, 1]);
  const { inference_stats: of } = await stats('m');
  assert.ok(of.cache_hit.ns > 0 && of.cache_miss.ns > 0);
  assert.ok(of.success.ns >= of.cache_miss.ns + of.compute_infer.ns);
  // The other protocol asks the same, and gets the same.
  const inputs = [{ name: 'IN', datatype: 'INT32', shape: [2n, 2n], contents: { intContents: [1, 2, 3, 4] } }];
  const same = await call(GRPCInferenceService, 'ModelInfer', { modelName: 'm', inputs });
  assert.deepEqual([...same.rawOutputContents[0]], [0, 0, 0, 0]);
  // Anything that the model could tell apart is another request.
  assert.deepEqual(await infer('m', [1, 2, 3, 4], { shape: [1, 4] }), { OUT: [1], MORE: [1], told: 2 });
  assert.deepEqual((await infer('m', [1, 2, 3, 4], { ...square, outputs: [{ name: 'MORE' }] })).MORE, [2]);
  assert.deepEqual((await infer('m', [1, 2, 3, 4], { ...square, parameters: { x: 1 } })).OUT, [3]);
  assert.deepEqual((await infer('m', [1, 2, 3, 4], { ...square, parameters: { x: '1' } })).OUT, [4]);
  const other = { headers: { authorization: 'Bearer other', 'content-type': 'application/json' } };
  const json = { inputs: [{ name: 'IN', datatype: 'INT32', shape: [2, 2], data: [1, 2, 3, 4] }] };
  assert.deepEqual((await (await post('/v2/models/m/infer', json, other)).json()).outputs[0].data, [5]);
  assert.deepEqual(await counts('m'), [8, 6, 6, 6, 2, 6]);
  const metrics = await (await get('/metrics')).text();
  assert.match(metrics, /nv_cache_num_hits_per_model\{model="m",version="1"\} 2\n/);
  assert.match(metrics, /nv_cache_num_misses_per_model\{model="m",version="1"\} 6\n/);
  assert.match(metrics, /nv_inference_request_success\{model="m",version="1"\} 8\n/);
  assert.match(metrics, /\nrose_response_cache_entries 6\n/);
  // Failures are not kept: both are executed.
  for (let i = 0; i < 2; i++) assert.equal(await infer('m', [-1], { shape: [1, 1] }), 'no');
  assert.deepEqual(await counts('m'), [8, 6, 8, 6, 2, 6]);
  // A version that is loaded anew answers for itself, and what is unloaded leaves nothing.
  write(directory, { 'm/1/model.ts': COUNTS.replace('calls = 0', 'calls = 100') });
  assert.equal((await post('/v2/repository/models/m/load', '')).status, 200);
  assert.deepEqual((await infer('m', [1, 2, 3, 4], square)).OUT, [100]);
  assert.match(await (await get('/metrics')).text(), /\nrose_response_cache_entries 1\n/);
  assert.equal((await post('/v2/repository/models/m/unload', '')).status, 200);
  assert.match(await (await get('/metrics')).text(), /\nrose_response_cache_bytes 0\n/);
});

test('in ensembles: cached steps, and a cached whole', async (t) => {
  const plain = config('TYPE_INT32', CACHED);
  const count = model("{ OUT: tensor('INT32', [1], Int32Array.of(globalThis.calls = (globalThis.calls ?? 0) + 1)) }");
  const both = (name: string): string => step(name, { IN: 'IN' }, { OUT: 'OUT' });
  const server = await serveCached(
    t,
    { m: [plain, count], e: [ensemble(both('m'))], whole: [ensemble(both('m'), CACHED)] },
    'e',
    'whole',
  );
  const { infer, counts } = server;
  for (let i = 0; i < 3; i++) assert.deepEqual((await infer('e', [7])).OUT, [1]);
  assert.deepEqual(await counts('m'), [3, 1, 1, 1, 2, 1]);
  assert.deepEqual(await counts('e'), [3, 3, 3, 3, 0, 0]);
  for (let i = 0; i < 3; i++) assert.deepEqual((await infer('whole', [7])).OUT, [1]);
  assert.deepEqual(await counts('m'), [4, 1, 1, 1, 3, 1]);
  assert.deepEqual(await counts('whole'), [3, 1, 1, 1, 2, 1]);
});

test('preserved order holds for hits too', async (t) => {
  const held = model("{ OUT: (await held(request), request.input('IN')) }").replace(
    'export',
    `import { BroadcastChannel } from 'node:worker_threads';
    const held = (request) => request.input('IN').data[0] === 1 ? new Promise((go) => {
      const channel = new BroadcastChannel('before a hit');
      channel.onmessage = ({ data }) => { if (data === 'go') { channel.close(); go(); } };
      channel.postMessage('begun');
    }) : undefined;
    export`,
  );
  const batched = config('TYPE_INT32', `max_batch_size: 4 ${CACHED} dynamic_batching { preserve_ordering: true }`);
  const { infer, counts } = await serveCached(t, { m: [batched, held] }, 'm');
  const channel = new BroadcastChannel('before a hit');
  t.after(() => channel.close());
  const shape = [1, 1];
  await infer('m', [2], { shape });
  const begun = new Promise<void>((resolve) => channel.addEventListener('message', () => resolve(), { once: true }));
  const order: string[] = [];
  const first = infer('m', [1], { shape }).then(() => order.push('first'));
  await begun;
  const hit = infer('m', [2], { shape }).then(() => order.push('hit'));
  while ((await counts('m'))[4] === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(order, []);
  channel.postMessage('go');
  await Promise.all([first, hit]);
  assert.deepEqual(order, ['first', 'hit']);
});

test('without the option nothing is kept; decoupled models and sequences cannot be', async (t) => {
  const directory = modelFiles(t, { m: [TWO, COUNTS] });
  const { post, get } = await serveGrpc(t, GRPCInferenceService, { repository: { directories: [directory] } });
  const body = { inputs: [{ name: 'IN', datatype: 'INT32', shape: [1, 1], data: [1] }] };
  for (let i = 0; i < 2; i++)
    assert.deepEqual((await (await post('/v2/models/m/infer', body)).json()).outputs[0].data, [i]);
  assert.doesNotMatch(await (await get('/metrics')).text(), /rose_response_cache_bytes \d/);
  const check = (more: string) => () =>
    checkConfig(completeConfig(parseConfig(config('TYPE_INT32', `${CACHED} ${more}`), 'f'), 'm', ''));
  assert.throws(check('model_transaction_policy { decoupled: true }'), {
    message:
      "Response Cache does not currently support model m with 'decoupled' transaction policy. Please disable the response cache.",
  });
  assert.throws(
    check('sequence_batching { }'),
    /m with sequence batching scheduler\. Please disable the response cache\./,
  );
});
