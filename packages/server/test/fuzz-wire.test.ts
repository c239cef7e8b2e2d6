import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2';
import { connect } from 'node:net';
import { test } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { GRPCInferenceService, ModelInferRequestSchema } from '../src/grpc/proto/inference_pb.js';
import { serveGrpc } from './grpc-client.ts';
import { Mutator } from './mutate.ts';
import { config, IDENTITY, makeRepository } from './repository-kit.ts';
import { serve, until } from './serving.ts';

/** Rounds are multiplied by this in a longer run. */
const TIMES = Math.max(1, Number(process.env.ROSE_FUZZ_SECONDS ?? 0) / 10);
const SEED = Number(process.env.ROSE_FUZZ_SEED ?? 1);

const EMBED = '{"inputs":[{"name":"TEXT","shape":[1,1],"datatype":"BYTES","data":["a"]}]}';
const POSTS: readonly (readonly [path: string, body: string])[] = [
  ['/v2/models/embed/infer', EMBED],
  ['/v2/models/m/infer', '{"inputs":[{"name":"IN","shape":[2],"datatype":"INT32","data":[1,2]}],"id":"x"}'],
  ['/v2/models/chat/generate', '{"text_input":"a","max_tokens":3,"parameters":{"temperature":0.5}}'],
  ['/v2/models/chat/generate_stream', '{"text_input":"a","max_tokens":3,"stream":true}'],
  ['/v2/repository/index', '{"ready":true}'],
  ['/v2/repository/models/m/load', '{"parameters":{"config":"{}","file:1/x":"eA=="}}'],
  ['/v2/trace/setting', '{"trace_rate":"5","trace_level":["OFF"]}'],
  ['/v2/logging', '{"log_info":true,"log_verbose_level":0}'],
  ['/v2/systemsharedmemory/region/r/register', '{"key":"k","offset":0,"byte_size":8}'],
  ['/v2/cudasharedmemory/region/r/register', '{"raw_handle":{"b64":"AAAA"},"device_id":0,"byte_size":8}'],
  ['/v1/completions', '{"prompt":["a",[1,2]],"n":2,"logprobs":1,"stop":"x","max_tokens":3}'],
  ['/v1/chat/completions', '{"messages":[{"role":"user","content":"a"}],"stream":true,"max_tokens":3}'],
  ['/v1/embeddings', '{"input":["a","b"],"encoding_format":"base64"}'],
  ['/v1/rerank', '{"model":"rerank","query":"a","documents":["b",{"text":"c"}],"top_n":1}'],
  ['/tokenize', '{"prompt":"a b","add_special_tokens":true}'],
];
/** Answers of Triton that are 500 though the request is at fault. */
const MALFORMED = /^\/v2/;

const repository = { 'm/config.pbtxt': config('TYPE_INT32'), 'm/1/model.ts': IDENTITY };

test('mutated bodies are answered, errors with a body, and nothing goes on', { timeout: 300_000 }, async (t) => {
  const { post, hub, log } = await serve(t, {
    repository: { directories: [makeRepository(t, repository)], mode: 'explicit', loadModels: ['m'] },
  });
  const mutator = new Mutator(SEED);
  for (let round = 0; round < 2500 * TIMES; round++) {
    const [path, source] = mutator.pick(POSTS);
    const body = mutator.below(3) > 0 ? mutator.json(source) : mutator.bytes(Buffer.from(source));
    const headers: Record<string, string> = { 'content-type': mutator.pick(['application/json', 'text/plain', 'x']) };
    if (mutator.below(10) === 0) headers['content-encoding'] = mutator.pick(['gzip', 'deflate', 'br', 'identity', 'x']);
    if (mutator.below(10) === 0)
      headers['inference-header-content-length'] = mutator.pick(['0', '5', '-1', '1e9', 'x']);
    const response = await post(path, body, { headers });
    const text = await response.text();
    const shown = `round ${round}: ${path} ${JSON.stringify(String(body))} -> ${response.status} ${text.slice(0, 300)}`;
    if (response.status >= 400) assert.ok((JSON.parse(text) as { error?: unknown }).error, shown);
    if (response.status >= 500) assert.match(path, MALFORMED, shown);
  }
  await until(() => hub.active === 0, 'nothing goes on');
  // A mutant may have made the log verbose.
  assert.deepEqual(
    log.filter((line) => (JSON.parse(line) as { level: number }).level >= 40),
    [],
  );
});

test('mutated HTTP is answered or the connection ends, and the server goes on', { timeout: 300_000 }, async (t) => {
  const { server, get, hub, log } = await serve(t, { receiveTimeoutMs: 1000 });
  const mutator = new Mutator(SEED);
  const requests = [
    `POST /v2/models/embed/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${EMBED.length}\r\n\r\n${EMBED}`,
    'GET /v2/models/embed/config HTTP/1.1\r\nhost: x\r\nx-request-id: a\r\naccept-encoding: gzip;q=0.5\r\nconnection: close\r\n\r\n',
    'POST /v2/models/embed/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n',
    'GET /v2/models/%65mbed/versions/1/ready?x=%zz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n',
  ].map((text) => Buffer.from(text));
  const speak = async (bytes: Buffer): Promise<string> => {
    const socket = connect(server.port, '127.0.0.1');
    let heard = '';
    socket.on('data', (data) => (heard += data.toString('latin1')));
    socket.on('error', () => {});
    const closed = once(socket, 'close');
    // Half a request is told from a slow one by the end of what is sent.
    socket.end(bytes);
    await closed;
    return heard;
  };
  for (let round = 0; round < 1500 * TIMES; round += 10) {
    const mutants = Array.from({ length: 10 }, () => mutator.bytes(mutator.pick(requests), requests));
    const answers = await Promise.all(mutants.map(speak));
    answers.forEach((heard, i) => {
      const shown = `round ${round + i}: ${JSON.stringify(mutants[i].toString('latin1'))} -> ${heard.slice(0, 400)}`;
      if (heard === '') return;
      const [, status] = /^HTTP\/1\.1 (\d{3}) /.exec(heard) ?? [];
      assert.ok(status, shown);
      const head = heard.slice(0, heard.indexOf('\r\n\r\n'));
      const body = heard.slice(head.length + 4);
      if (Number(status) >= 400 && !/^(HEAD)/.test(mutants[i].toString('latin1'))) {
        // Several requests in one connection have several answers: the first is looked at.
        const length = Number(/^content-length: (\d+)$/im.exec(head)?.[1] ?? body.length);
        assert.ok((JSON.parse(body.slice(0, length)) as { error?: unknown }).error, shown);
      }
    });
  }
  assert.equal((await get('/v2/health/live')).status, 200);
  await until(() => hub.active === 0, 'nothing goes on');
  assert.deepEqual(log, []);
});

test(
  'mutated messages and frames of gRPC end with a status or a reset, and the server goes on',
  { timeout: 300_000 },
  async (t) => {
    const { address, call, hub, log } = await serveGrpc(t, GRPCInferenceService);
    const mutator = new Mutator(SEED);
    const message = toBinary(
      ModelInferRequestSchema,
      create(ModelInferRequestSchema, {
        modelName: 'embed',
        inputs: [{ name: 'TEXT', datatype: 'BYTES', shape: [1n, 1n], contents: { bytesContents: [Buffer.from('a')] } }],
      }),
    );
    const framed = (bytes: Uint8Array): Buffer => {
      const head = Buffer.alloc(5);
      head.writeUInt32BE(bytes.length, 1);
      return Buffer.concat([head, bytes]);
    };
    let session: ClientHttp2Session | undefined;
    const open = (): ClientHttp2Session => {
      if (session !== undefined && !session.closed && !session.destroyed) return session;
      session = connectHttp2(`http://${address}`);
      session.on('error', () => {});
      return session;
    };
    t.after(() => session?.destroy());
    const speak = (body: Buffer, path: string, encoding: string): Promise<string> =>
      new Promise((resolve) => {
        const stream = open().request({
          ':method': 'POST',
          ':path': path,
          'content-type': 'application/grpc',
          te: 'trailers',
          'grpc-encoding': encoding,
        });
        let status: unknown;
        stream.on('response', (headers) => (status ??= headers['grpc-status']));
        stream.on('trailers', (headers) => (status ??= headers['grpc-status']));
        stream.on('error', () => {});
        stream.on('close', () => resolve(String(status)));
        stream.resume();
        stream.end(body);
      });
    const statuses = new Set<string>();
    for (let round = 0; round < 1500 * TIMES; round += 10) {
      const rounds = Array.from({ length: 10 }, () => {
        const body = mutator.below(2) === 0 ? framed(mutator.bytes(message)) : mutator.bytes(framed(message));
        const path = mutator.pick([
          '/inference.GRPCInferenceService/ModelInfer',
          '/inference.GRPCInferenceService/ModelInfer',
          '/inference.GRPCInferenceService/ModelStreamInfer',
          '/inference.GRPCInferenceService/TraceSetting',
          '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
          '/inference.GRPCInferenceService/Nothing',
        ]);
        return speak(body, path, mutator.pick(['identity', 'identity', 'gzip', 'deflate', 'br']));
      });
      for (const status of await Promise.all(rounds)) statuses.add(status);
    }
    assert.ok(statuses.has('0') && statuses.has('3') && statuses.has('12'), [...statuses].join());
    assert.equal((await call(GRPCInferenceService, 'ServerLive')).live, true);
    await until(() => hub.active === 0, 'nothing goes on');
    assert.deepEqual(log, []);
  },
);
