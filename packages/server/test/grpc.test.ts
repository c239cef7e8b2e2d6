import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { Health } from '../src/grpc/proto/health_pb.js';
import { GRPCInferenceService, type ModelInferResponse } from '../src/grpc/proto/inference_pb.js';
import { rawTexts, serveGrpc, textsOf } from './grpc-client.ts';
import { until } from './serving.ts';

const SERVICE = GRPCInferenceService;

const embedText = (text: string): Record<string, unknown> => ({
  modelName: 'embed',
  id: '7',
  inputs: [{ name: 'TEXT', datatype: 'BYTES', shape: [1n, 1n] }],
  rawInputContents: [rawTexts(text)],
});

const chatText = (text: string, parameters: object = {}, stream = true): Record<string, unknown> => ({
  modelName: 'chat',
  id: 'c',
  parameters,
  inputs: [
    { name: 'text_input', datatype: 'BYTES', shape: [1n], contents: { bytesContents: [Buffer.from(text)] } },
    { name: 'stream', datatype: 'BOOL', shape: [1n], contents: { boolContents: [stream] } },
  ],
});

const emptyFinal = { triton_enable_empty_final_response: { parameterChoice: { case: 'boolParam', value: true } } };

function isFinal(response: ModelInferResponse | undefined): unknown {
  return response?.parameters.triton_final_response?.parameterChoice.value;
}

test('health, of the server, of models, and of the standard service', async (t) => {
  const { call, open, hub } = await serveGrpc(t, SERVICE);
  assert.equal((await call(SERVICE, 'ServerLive')).live, true);
  assert.equal((await call(SERVICE, 'ServerReady')).ready, true);
  assert.equal((await call(SERVICE, 'ModelReady', { name: 'chat' })).ready, true);
  assert.equal((await call(SERVICE, 'ModelReady', { name: 'chat', version: '2' })).ready, false);
  assert.equal((await call(SERVICE, 'ModelReady', { name: 'nobody' })).ready, false);
  assert.equal((await call(Health, 'Check', { service: 'inference.GRPCInferenceService' })).status, 1);

  const watched: number[] = [];
  const watch = open(Health, 'Watch');
  watch.on('data', (response: { status: number }) => watched.push(response.status));
  watch.on('error', () => {});
  await until(() => watched.length === 1, 'the first status');
  hub.healthy = false;
  await until(() => watched.length === 2, 'the second status');
  assert.deepEqual(watched, [1, 2]);
  watch.cancel();
  assert.equal((await call(SERVICE, 'ServerReady')).ready, false);
  assert.equal((await call(Health, 'Check')).status, 2);
});

test('metadata and configuration say what the HTTP protocol says', async (t) => {
  const { call, get } = await serveGrpc(t, SERVICE);
  const server = await call(SERVICE, 'ServerMetadata');
  assert.deepEqual([server.name, server.extensions], ['triton', (await (await get('/v2')).json()).extensions]);
  const model = await call(SERVICE, 'ModelMetadata', { name: 'embed', version: '1' });
  const json = await (await get('/v2/models/embed')).json();
  assert.deepEqual(model.versions, json.versions);
  const inputs = model.inputs as { name: string; datatype: string; shape: bigint[] }[];
  assert.deepEqual(
    inputs.map(({ name, datatype, shape }) => ({ name, datatype, shape: shape.map(Number) })),
    json.inputs,
  );
  const { config } = await call(SERVICE, 'ModelConfig', { name: 'chat' });
  assert.deepEqual([config.name, config.maxBatchSize], ['chat', 0]);
  assert.equal(config.modelTransactionPolicy.decoupled, true);
  await assert.rejects(call(SERVICE, 'ModelMetadata', { name: 'nobody' }), {
    code: status.NOT_FOUND,
    details: "Request for unknown model: 'nobody' is not found",
  });
  await assert.rejects(call(SERVICE, 'ModelConfig', { name: 'chat', version: 'x' }), {
    code: status.INVALID_ARGUMENT,
    details: "failed to get model version from specified version string 'x'",
  });
});

test('ModelInfer takes raw and explicit contents and answers with raw ones', async (t) => {
  const { call, post } = await serveGrpc(t, SERVICE);
  const raw: ModelInferResponse = await call(SERVICE, 'ModelInfer', embedText('abc'));
  assert.deepEqual([raw.modelName, raw.modelVersion, raw.id], ['embed', '1', '7']);
  assert.deepEqual(
    raw.outputs.map(({ name, datatype, shape }) => [name, datatype, shape]),
    [['EMBEDDING', 'FP32', [1n, 4n]]],
  );
  const body = { inputs: [{ name: 'TEXT', datatype: 'BYTES', shape: [1, 1], data: ['abc'] }] };
  const { outputs } = await (await post('/v2/models/embed/infer', body)).json();
  const view = new DataView(Uint8Array.from(raw.rawOutputContents[0]).buffer);
  assert.deepEqual(
    [0, 4, 8, 12].map((at) => view.getFloat32(at, true)),
    outputs[0].data,
  );

  const ids = (contents: object, datatype = 'INT64'): Record<string, unknown> => ({
    modelName: 'embed',
    inputs: [{ name: 'INPUT_IDS', datatype, shape: [1n, 3n], contents }],
    outputs: [{ name: 'EMBEDDING' }],
  });
  const explicit = await call(SERVICE, 'ModelInfer', ids({ int64Contents: [97n, 98n, 99n] }));
  assert.deepEqual(explicit.rawOutputContents, raw.rawOutputContents);
  const narrow = await call(SERVICE, 'ModelInfer', ids({ intContents: [97, 98, 99] }, 'INT32'));
  assert.deepEqual(narrow.rawOutputContents, raw.rawOutputContents);

  for (const [request, details] of [
    [
      ids({ intContents: [1, 2, 3] }),
      /^unexpected explicit tensor data for input tensor 'INPUT_IDS' for model 'embed'/,
    ],
    [ids({}), /^unable to find data for input tensor 'INPUT_IDS' for model 'embed' in request\.$/],
    [{ ...ids({ int64Contents: [1n, 2n, 3n] }), rawInputContents: [Buffer.alloc(24)] }, /^contents field must not be/],
    [{ ...embedText('a'), rawInputContents: [Buffer.alloc(2), Buffer.alloc(2)] }, /^expected 1 raw input contents/],
    [{ ...embedText('a'), rawInputContents: [Buffer.from([9, 0, 0, 0, 65])] }, /^incomplete string data/],
    [{ ...embedText('a'), outputs: [{ name: 'NOPE' }] }, /^unexpected inference output 'NOPE'/],
    [{ ...embedText('a'), parameters: { dimensions: {} } }, /^parameter 'dimensions' has invalid type/],
    [
      { ...embedText('a'), parameters: { priority: { parameterChoice: { case: 'int64Param', value: -1n } } } },
      /^invalid value for 'priority', expected value >= 0\.$/,
    ],
    [
      { ...embedText('a'), parameters: { sequence_start: { parameterChoice: { case: 'int64Param', value: 1n } } } },
      /^invalid value type for 'sequence_start' parameter, expected bool_param\.$/,
    ],
    [{ ...embedText('a'), inputs: [{ name: 'TEXT', datatype: 'BYTES', shape: [-1n, 1n] }] }, /negative dimension/],
    [
      { ...embedText('a'), inputs: [{ name: 'TEXT', datatype: 'TEXT', shape: [1n] }] },
      /^invalid datatype for input TEXT/,
    ],
    [embedText('!early'), /^the prompt is too long$/],
  ] as const) {
    await assert.rejects(call(SERVICE, 'ModelInfer', request), { code: status.INVALID_ARGUMENT, details });
  }
  await assert.rejects(call(SERVICE, 'ModelInfer', chatText('a')), {
    code: status.UNIMPLEMENTED,
    details: "ModelInfer RPC doesn't support models with decoupled transaction policy",
  });
  await assert.rejects(call(SERVICE, 'ModelInfer', embedText('!full')), { code: status.UNAVAILABLE });
  await assert.rejects(call(SERVICE, 'ModelInfer', embedText('!fault')), { code: status.INTERNAL });
});

test('a large tensor passes', async (t) => {
  const { call } = await serveGrpc(t, SERVICE);
  const text = 'x'.repeat(6 * 2 ** 20);
  const response = await call(SERVICE, 'ModelInfer', embedText(text));
  assert.equal(response.outputs[0].name, 'EMBEDDING');
});

test('cancelling a call and its deadline end the work', async (t) => {
  const { call, hub } = await serveGrpc(t, SERVICE);
  const controller = new AbortController();
  const cancelled = call(SERVICE, 'ModelInfer', embedText('!hang'), { signal: controller.signal });
  await until(() => hub.active === 1, 'the request runs');
  controller.abort();
  await assert.rejects(cancelled, { code: status.CANCELLED });
  await until(() => hub.aborted === 1 && hub.active === 0, 'the work ends');
  const late = call(SERVICE, 'ModelInfer', embedText('!hang'), { deadlineMs: 50 });
  await assert.rejects(late, { code: status.DEADLINE_EXCEEDED });
  await until(() => hub.aborted === 2 && hub.active === 0, 'the work ends');
});

test('a decoupled model streams, and says it was the last response where that is wanted', async (t) => {
  const { stream } = await serveGrpc(t, SERVICE);
  const plain = stream();
  plain.send(chatText('abc'));
  const answers = await plain.end();
  assert.equal(
    answers.map(({ inferResponse }) => textsOf(inferResponse, 'text_output').join('')).join(''),
    'echo: abc',
  );
  assert.ok(answers.length > 3);
  assert.ok(answers.every(({ inferResponse }) => isFinal(inferResponse) === false && inferResponse?.id === 'c'));

  const marked = stream();
  marked.send(chatText('abc', emptyFinal, false));
  const [only, last, ...more] = await marked.end();
  assert.deepEqual(more, []);
  assert.deepEqual(textsOf(only.inferResponse, 'text_output'), ['abcecho: abc']);
  assert.equal(isFinal(only.inferResponse), false);
  assert.deepEqual(
    [last.inferResponse?.id, last.inferResponse?.modelName, last.inferResponse?.outputs, isFinal(last.inferResponse)],
    ['c', 'chat', [], true],
  );
});

test('a stream answers models that are not decoupled in the order of requests', async (t) => {
  const { stream } = await serveGrpc(t, SERVICE);
  const both = stream();
  for (const id of ['1', '2', '3']) both.send({ ...embedText(id), id });
  both.send({ ...embedText('!early'), id: '4' });
  both.send({ ...embedText('5'), id: '5' });
  const responses = await both.end();
  assert.deepEqual(
    responses.map(({ inferResponse }) => inferResponse?.id),
    ['1', '2', '3', '4', '5'],
  );
  assert.deepEqual(
    responses.map(({ errorMessage }) => errorMessage),
    ['', '', '', 'the prompt is too long', ''],
  );
  assert.ok(responses.every(({ inferResponse }) => isFinal(inferResponse) === true));
});

test('an error ends a stream with a status where the client wants that', async (t) => {
  const { stream } = await serveGrpc(t, SERVICE);
  const strict = stream({ triton_grpc_error: 'true' });
  strict.send({ modelName: 'nobody', id: 'x' });
  await assert.rejects(strict.end(), { code: status.NOT_FOUND, details: /'nobody' is not found/ });
  const lenient = stream();
  lenient.send(chatText('!late'));
  const responses = await lenient.end();
  assert.equal(responses.at(-1)?.errorMessage, 'the device failed');
  assert.equal(responses.length, 4);
});

test('a client that leaves a stream ends its work; one that does not read does not fill the memory', async (t) => {
  const { stream, hub } = await serveGrpc(t, SERVICE);
  const leaving = stream();
  leaving.send(chatText('!steady'));
  leaving.send({ ...embedText('!hang'), id: '2' });
  await until(() => leaving.responses.length > 2 && hub.active === 2, 'both run');
  leaving.call.cancel();
  await until(() => hub.active === 0 && hub.aborted === 2, 'both end');

  const deaf = stream();
  deaf.call.pause();
  deaf.send(chatText(`!endless !say ${'many words '.repeat(50)}`));
  let produced = -1;
  const tokens = (): number => hub.get('chat').counters.generatedTokens;
  await until(() => {
    const before = produced;
    produced = tokens();
    return produced > 0 && produced === before;
  }, 'generation waits for the reader');
  deaf.call.cancel();
  await until(() => hub.active === 0, 'it ends');
});

test('the work of a client that stops reading a stream ends, though its connection stays', async (t) => {
  const { stream, hub, call } = await serveGrpc(t, SERVICE, { sendTimeoutMs: 500 });
  const deaf = stream();
  deaf.call.pause();
  deaf.send(chatText(`!endless !say ${'many words '.repeat(50)}`));
  await until(() => hub.active === 1, 'it runs');
  await until(() => hub.active === 0, 'it is given up');
  assert.equal((await call(SERVICE, 'ServerLive')).live, true);
  deaf.call.cancel();
});

test('tenants are told apart as over HTTP', async (t) => {
  const { call, post, hub } = await serveGrpc(t, SERVICE);
  await call(SERVICE, 'ModelInfer', embedText('a'), { metadata: { authorization: 'Bearer k1' } });
  const first = hub.seen.embed?.tenant;
  await post(
    '/v1/embeddings',
    { model: 'embed', input: 'a' },
    { headers: { 'content-type': 'application/json', authorization: 'Bearer k1' } },
  );
  assert.equal(hub.seen.embed?.tenant, first);
  assert.notEqual(first, '');
});

test('what is not served is refused, the repository lists the models', async (t) => {
  const { call, hub } = await serveGrpc(t, SERVICE);
  const { models } = await call(SERVICE, 'RepositoryIndex');
  assert.deepEqual(
    (models as { name: string; version: string; state: string }[]).map(({ name, version, state }) => [
      name,
      version,
      state,
    ]),
    ['chat', 'embed', 'rerank', 'org/topics'].map((name) => [name, '1', 'READY']),
  );
  hub.healthy = false;
  assert.deepEqual((await call(SERVICE, 'RepositoryIndex', { ready: true })).models, []);
  for (const name of ['RepositoryModelLoad', 'RepositoryModelUnload']) {
    await assert.rejects(call(SERVICE, name, { modelName: 'chat' }), { code: status.UNAVAILABLE });
  }
  await assert.rejects(call(SERVICE, 'SystemSharedMemoryRegister'), { code: status.UNIMPLEMENTED });
  assert.deepEqual((await call(SERVICE, 'SystemSharedMemoryStatus')).regions, {});
});

test('closing ends the calls that last too long', async (t) => {
  const { server, stream, hub } = await serveGrpc(t, SERVICE);
  const endless = stream();
  endless.send(chatText('!steady'));
  await until(() => hub.active === 1, 'it runs');
  await server.close(50);
  await assert.rejects(endless.end());
  await until(() => hub.active === 0, 'the work ends');
});
