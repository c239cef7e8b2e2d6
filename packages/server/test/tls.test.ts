import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { test, type TestContext } from 'node:test';
import { credentials, makeGenericClientConstructor, type ChannelCredentials } from '@grpc/grpc-js';
import { create } from '@bufbuild/protobuf';
import { checkTls } from '@rose/server';
import { serviceDefinition } from '../src/grpc/definition.ts';
import { GRPCInferenceService, ServerMetadataRequestSchema } from '../src/grpc/proto/inference_pb.js';
import { serve } from './serving.ts';

const pem = (name: string): string => readFileSync(new URL(`certificates/${name}.pem`, import.meta.url), 'utf8');
const SERVER = { certificate: pem('server'), key: pem('server.key') };
const CA = pem('ca');

/** GET over TLS: the status, or the code of the error. */
function get(url: string, client: object = {}): Promise<number | string> {
  return new Promise((resolve) => {
    const asked = request(url, { ca: CA, ...client }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    asked.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    asked.end();
  });
}

function grpcName(t: TestContext, address: string, secure: ChannelCredentials): Promise<string> {
  const of = GRPCInferenceService;
  const client = new (makeGenericClientConstructor(serviceDefinition(of), of.typeName))(address, secure);
  t.after(() => client.close());
  return new Promise((resolve, reject) => {
    const call = client.ServerMetadata as unknown as (...values: unknown[]) => void;
    call.call(
      client,
      create(ServerMetadataRequestSchema),
      { deadline: Date.now() + 5000 } as never,
      (error: Error | null, response: { name: string }) => (error === null ? resolve(response.name) : reject(error)),
    );
  });
}

test('all ports speak TLS, and nothing else', async (t) => {
  const { server, url } = await serve(t, { tls: SERVER, grpc: { port: 0 }, metrics: { port: 0 } });
  assert.match(url, /^https:/);
  const metrics = `https://127.0.0.1:${server.metricsPort}/metrics`;
  assert.deepEqual([await get(`${url}/v2`), await get(metrics)], [200, 200]);
  const local = `localhost:${server.grpcPort}`;
  assert.equal(await grpcName(t, local, credentials.createSsl(Buffer.from(CA))), 'triton');
  for (const plain of [url, metrics]) {
    await assert.rejects(fetch(plain.replace('https', 'http')));
    assert.equal(await get(plain, { ca: pem('stranger') }), 'UNABLE_TO_VERIFY_LEAF_SIGNATURE');
  }
  await assert.rejects(grpcName(t, local, credentials.createInsecure()));
  await assert.rejects(grpcName(t, local, credentials.createSsl(Buffer.from(pem('stranger')))));
});

test('with a CA for clients only those that it vouches for get in', async (t) => {
  const { server, url } = await serve(t, {
    tls: { ...SERVER, clientCa: CA },
    grpc: { port: 0 },
    metrics: { port: 0 },
  });
  const metrics = `https://127.0.0.1:${server.metricsPort}/metrics`;
  const local = `localhost:${server.grpcPort}`;
  const known = { cert: pem('client'), key: pem('client.key') };
  const stranger = { cert: pem('stranger'), key: pem('stranger.key') };
  const secure = ({ cert, key }: typeof known): ChannelCredentials =>
    credentials.createSsl(Buffer.from(CA), Buffer.from(key), Buffer.from(cert));
  assert.deepEqual([await get(`${url}/v2`, known), await get(metrics, known)], [200, 200]);
  assert.equal(await grpcName(t, local, secure(known)), 'triton');
  for (const refused of [{}, stranger]) {
    assert.equal(typeof (await get(`${url}/v2`, refused)), 'string');
    assert.equal(typeof (await get(metrics, refused)), 'string');
  }
  await assert.rejects(grpcName(t, local, credentials.createSsl(Buffer.from(CA))));
  await assert.rejects(grpcName(t, local, secure(stranger)));
});

test('files that cannot work are refused before anything listens', () => {
  checkTls(SERVER);
  assert.throws(() => checkTls({ ...SERVER, key: pem('client.key') }), /TLS cannot be served with these files/);
  assert.throws(() => checkTls({ ...SERVER, certificate: 'nonsense' }), /TLS cannot be served with these files/);
  assert.throws(() => checkTls({ ...SERVER, clientCa: 'nonsense' }), /TLS cannot be served with these files/);
});
