import assert from 'node:assert/strict';
import { test } from 'node:test';
import { credentials, makeGenericClientConstructor, status } from '@grpc/grpc-js';
import { create } from '@bufbuild/protobuf';
import { Access, CATEGORIES } from '../src/access/access.ts';
import { categoryOfCall } from '../src/grpc/protect.ts';
import { Health } from '../src/grpc/proto/health_pb.js';
import { serviceDefinition } from '../src/grpc/definition.ts';
import { GRPCInferenceService, ServerLiveRequestSchema } from '../src/grpc/proto/inference_pb.js';
import { ServerReflection } from '../src/grpc/proto/reflection_pb.js';
import { categoryOf } from '../src/http/protect.ts';
import { rawTexts, serveGrpc } from './grpc-client.ts';
import { serve } from './serving.ts';

const SERVICE = GRPCInferenceService;
const KEYS = { apiKeys: ['first-key', 'second-key'] };

const EMBED = { inputs: [{ name: 'TEXT', shape: [1, 1], datatype: 'BYTES', data: ['a'] }] };

test('with keys everything but health needs one, in either header, with the error of its protocol', async (t) => {
  const { get, post, server, hub } = await serve(t, { access: KEYS, metrics: { port: 0, onHttp: true } });
  for (const path of ['/v2/health/live', '/v2/health/ready', '/v2/models/embed/ready', '/']) {
    assert.equal((await get(path)).status, 200, path);
  }
  for (const path of ['/v2', '/v2/models/embed', '/v2/models/embed/stats', '/v2/trace/setting', '/v2/logging']) {
    const refused = await get(path);
    assert.deepEqual([refused.status, refused.headers.get('www-authenticate')], [401, 'Bearer'], path);
    assert.match((await refused.json()).error, /^an API key is needed/);
  }
  for (const path of ['/v1/models', '/v1/models/chat', '/rose/status', '/metrics', '/tokenizer_info']) {
    const refused = await get(path);
    const { error } = await refused.json();
    assert.deepEqual([refused.status, error.type, error.code], [401, 'invalid_request_error', 'invalid_api_key'], path);
  }
  const metrics = `http://127.0.0.1:${server.metricsPort}/metrics`;
  const unknown = await fetch(metrics);
  assert.equal(unknown.status, 401);
  assert.match(((await unknown.json()) as { error: string }).error, /^an API key is needed/);
  assert.equal((await fetch(metrics, { headers: { authorization: 'Bearer second-key' } })).status, 200);
  const accepted: Record<string, string>[] = [
    { authorization: 'Bearer first-key' },
    { authorization: 'bearer  second-key ' },
    { 'x-api-key': 'second-key' },
    { authorization: 'Basic eA==', 'x-api-key': 'first-key' },
  ];
  for (const headers of accepted) {
    assert.equal((await get('/v1/models', { headers })).status, 200, JSON.stringify(headers));
    assert.equal((await post('/v2/models/embed/infer', EMBED, { headers })).status, 200, JSON.stringify(headers));
  }
  const refused: Record<string, string>[] = [
    { authorization: 'Bearer first-ke' },
    { authorization: 'Bearer first-keyy' },
    { authorization: 'first-key' },
    { authorization: 'Bearer' },
    { 'x-api-key': '' },
    { 'x-api-key': 'Bearer first-key' },
  ];
  for (const headers of refused) {
    assert.equal((await post('/v2/models/embed/infer', EMBED, { headers })).status, 401, JSON.stringify(headers));
    assert.equal((await post('/v1/embeddings', { input: 'a' }, { headers })).status, 401);
  }
  assert.equal((await get('/v2/nowhere')).status, 404);
  assert.equal(hub.active, 0);
});

test('the body of a request without a key is not read', async (t) => {
  const { post } = await serve(t, { access: KEYS, maxBodyBytes: 1000 });
  // A body too large for anybody would have another error.
  const refused = await post('/v2/models/embed/infer', 'x'.repeat(5000));
  assert.deepEqual([refused.status, refused.headers.get('connection')], [401, 'close']);
});

test('over gRPC a call without a key is UNAUTHENTICATED', async (t) => {
  const { call, stream } = await serveGrpc(t, SERVICE, { access: KEYS });
  assert.equal((await call(SERVICE, 'ServerLive')).live, true);
  assert.equal((await call(Health, 'Check')).status, 1);
  await assert.rejects(call(SERVICE, 'ServerMetadata'), {
    code: status.UNAUTHENTICATED,
    details: /an API key is needed/,
  });
  await assert.rejects(call(SERVICE, 'ServerMetadata', {}, { metadata: { authorization: 'Bearer x' } }), {
    code: status.UNAUTHENTICATED,
  });
  for (const metadata of [{ authorization: 'Bearer first-key' }, { 'x-api-key': 'second-key' }]) {
    assert.equal((await call(SERVICE, 'ServerMetadata', {}, { metadata })).name, 'triton');
  }
  await assert.rejects(stream().end(), { code: status.UNAUTHENTICATED });
  await stream({ 'x-api-key': 'first-key' }).end();
});

test('a call that there is not is no fault', async (t) => {
  const { address, call } = await serveGrpc(t, SERVICE, { access: KEYS });
  const service = { ...serviceDefinition(SERVICE) };
  service.Nothing = { ...service.ServerLive, path: '/inference.GRPCInferenceService/Nothing' };
  service.Elsewhere = { ...service.ServerLive, path: '/else.Where/Nothing' };
  const client = new (makeGenericClientConstructor(service, 'x'))(address, credentials.createInsecure());
  t.after(() => client.close());
  for (const name of ['Nothing', 'Elsewhere']) {
    const code = await new Promise((resolve) => {
      (client as unknown as Methods)[name](create(ServerLiveRequestSchema), (error: { code: number } | null) =>
        resolve(error?.code),
      );
    });
    assert.equal(code, status.UNIMPLEMENTED);
  }
  assert.equal((await call(SERVICE, 'ServerLive')).live, true);
});

type Methods = Record<string, (...values: unknown[]) => void>;

test('restricted groups need their header, the others do not', async (t) => {
  const { get, post, call } = await serveGrpc(t, SERVICE, {
    access: {
      httpRestrictions: [
        { categories: ['model-config', 'logging'], header: 'Admin-Key', value: 'one' },
        { categories: ['inference'], header: 'infer-key', value: 'two' },
      ],
      grpcRestrictions: [
        { categories: ['model-repository', 'health'], header: 'admin', value: 'three' },
        { categories: ['inference'], header: 'Infer-Key', value: 'four' },
      ],
    },
  });
  const text = (header: string): string => `This API is restricted, expecting header '${header}'`;
  const refused = await get('/v2/models/embed/config');
  assert.deepEqual([refused.status, await refused.json()], [403, { error: text('Admin-Key') }]);
  assert.equal((await get('/v2/models/embed/config', { headers: { 'admin-key': 'on' } })).status, 403);
  assert.equal((await get('/v2/models/embed/config', { headers: { 'admin-key': 'one' } })).status, 200);
  assert.equal((await get('/v2/models/%65mbed/config')).status, 403);
  assert.equal((await post('/v2/logging', {})).status, 403);
  assert.equal((await post('/v2/models/embed/infer', EMBED)).status, 403);
  // What serves the same models otherwise is closed with it.
  const chat = await post('/v1/chat/completions', { messages: [{ role: 'user', content: 'a' }] });
  assert.deepEqual([chat.status, (await chat.json()).error.message], [403, text('infer-key')]);
  for (const path of ['/v2', '/v2/health/live', '/v2/models/embed', '/v2/models/stats', '/v1/models']) {
    assert.equal((await get(path)).status, 200, path);
  }

  const header = "This protocol is restricted, expecting header 'triton-grpc-protocol-admin'";
  await assert.rejects(call(SERVICE, 'RepositoryIndex'), { code: status.UNAVAILABLE, details: header });
  await assert.rejects(call(SERVICE, 'ServerLive'), { code: status.UNAVAILABLE, details: header });
  await assert.rejects(call(Health, 'Check'), { code: status.UNAVAILABLE, details: header });
  const metadata = { 'triton-grpc-protocol-admin': 'three' };
  assert.equal((await call(SERVICE, 'RepositoryIndex', {}, { metadata })).models.length, 4);
  assert.equal((await call(SERVICE, 'ModelConfig', { name: 'embed' })).config.name, 'embed');
  const request = { modelName: 'embed', inputs: [{ name: 'TEXT', datatype: 'BYTES', shape: [1n, 1n] }] };
  const infer = { ...request, rawInputContents: [rawTexts('a')] };
  await assert.rejects(call(SERVICE, 'ModelInfer', infer), {
    code: status.UNAVAILABLE,
    details: "This protocol is restricted, expecting header 'triton-grpc-protocol-Infer-Key'",
  });
  // Names of metadata have no capitals on their way.
  const answer = await call(SERVICE, 'ModelInfer', infer, { metadata: { 'triton-grpc-protocol-infer-key': 'four' } });
  assert.equal(answer.modelName, 'embed');
});

test('every endpoint and call has a group', () => {
  const groups = new Set<string>();
  for (const service of [SERVICE, Health, ServerReflection]) {
    for (const { name } of service.methods) groups.add(categoryOfCall(`/${service.typeName}/${name}`));
  }
  assert.deepEqual([...groups].toSorted(), [...CATEGORIES].toSorted());
  assert.throws(() => categoryOf('/v2/something/new'), /belongs to no category/);
  assert.throws(() => categoryOfCall('/inference.GRPCInferenceService/Something'), /belongs to no category/);
});

test('secrets that would open everything, or that contradict each other, are refused', () => {
  const restriction = { categories: ['trace'], header: 'k', value: 'v' } as const;
  assert.throws(() => new Access([''], [], ''), /an API key must not be empty/);
  assert.throws(() => new Access([], [{ ...restriction, value: '' }], ''), /must not be empty/);
  assert.throws(() => new Access([], [{ ...restriction, header: 'a b' }], ''), /cannot be the name of a header/);
  assert.throws(() => new Access([], [restriction, restriction], ''), /'trace' is restricted twice/);
  assert.equal(new Access([], [], '').open, true);
});
