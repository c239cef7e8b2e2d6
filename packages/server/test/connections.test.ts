import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { FakeHub } from './fake-hub.ts';
import { eventsOf, serve, until } from './serving.ts';

const CHAT = '/v1/chat/completions';

/** Each way a client may be waiting, with the fake model that would let it wait for ever. */
const WAITING: readonly [string, string, object][] = [
  ['a chat, before its first token', CHAT, { messages: [{ role: 'user', content: '!hang' }], stream: true }],
  ['a chat, while streaming', CHAT, { messages: [{ role: 'user', content: '!endless' }], stream: true }],
  ['a whole chat', CHAT, { messages: [{ role: 'user', content: '!endless' }] }],
  ['completions of two prompts', '/v1/completions', { prompt: ['!endless', '!hang'], stream: true }],
  ['embeddings', '/v1/embeddings', { input: '!hang' }],
  ['rerank', '/v1/rerank', { model: 'rerank', query: 'a', documents: ['!hang'] }],
  ['generate', '/v2/models/chat/generate', { text_input: '!endless' }],
  ['generate_stream', '/v2/models/chat/generate_stream', { text_input: '!endless', stream: true }],
  [
    'infer',
    '/v2/models/embed/infer',
    { inputs: [{ name: 'TEXT', shape: [1, 1], datatype: 'BYTES', data: ['!hang'] }] },
  ],
];

for (const [what, path, body] of WAITING) {
  test(`a client that goes away cancels its request: ${what}`, async (t) => {
    const { post, hub, log } = await serve(t);
    const leave = new AbortController();
    const response = post(path, body, { signal: leave.signal });
    response.catch(() => {});
    await until(() => hub.active > 0, 'the request reaches the engine');
    leave.abort();
    await until(() => hub.active === 0, 'the engine forgets the request');
    assert.ok(hub.aborted > 0);
    assert.deepEqual(log, []);
  });
}

test('requests that come in one piece are answered one after the other', async (t) => {
  const { server } = await serve(t);
  const body = JSON.stringify({ text_input: 'hello there' });
  const head = `POST /v2/models/chat/generate HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n`;
  const one = `${head}\r\n${body}`;
  const got = await exchange(server.port, `${one}${one}${head}connection: close\r\n\r\n${body}`);
  assert.deepEqual(
    [...got.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status),
    ['200', '200', '200'],
  );
});

test('a connection that asks for a tunnel is closed, whatever the client does', async (t) => {
  const { server } = await serve(t, { metrics: { port: 0 } });
  for (const port of [server.port, server.metricsPort as number]) {
    // Its own end stays open when the server closes.
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    socket.on('error', () => {});
    socket.write('CONNECT example.com:80 HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(socket.resume(), 'end');
    t.after(() => socket.destroy());
  }
  await server.close(0);
});

test('a client that reads slowly slows its answer down, and the buffer stays small', async (t) => {
  const { server, hub } = await serve(t);
  const socket = await request(server.port, '!endless');
  await until(() => hub.models[0].counters.generatedTokens > 0, 'the answer starts');
  // Nobody reads: the kernel's buffers fill up, then the server waits.
  const tokens = await paused(hub);
  socket.resume();
  await until(() => hub.models[0].counters.generatedTokens > tokens, 'the answer goes on');
  socket.destroy();
  await until(() => hub.active === 0, 'the engine forgets the request');
});

test('clients that stop reading are cut off, hold little until then, and hold up nobody', async (t) => {
  const { server, hub, post: ask, log } = await serve(t, { sendTimeoutMs: 2000 });
  const before = memory();
  // Log-probabilities make large events, which fill the system's buffers soon.
  const large = { logprobs: true, top_logprobs: 20 };
  const stalled = await Promise.all(Array.from({ length: 6 }, () => request(server.port, '!endless', large)));
  await until(() => hub.active === stalled.length, 'the answers start');
  await paused(hub);
  // Answers without end would fill any memory.
  const held = (memory() - before) / 2 ** 20;
  assert.ok(held < 20, `${held} MiB for ${stalled.length} clients`);
  // Others are served meanwhile.
  const events = await eventsOf(await ask(CHAT, { messages: [{ role: 'user', content: 'hello' }], stream: true }));
  assert.equal(events.at(-1), '[DONE]');
  await until(() => hub.active === 0, 'the stalled clients are cut off');
  assert.equal(hub.aborted, stalled.length);
  assert.deepEqual(log, []);
  for (const socket of stalled) socket.destroy();
});

test('a long list of prompts goes to the engine in parts, and others are served meanwhile', async (t) => {
  const { post: ask, hub } = await serve(t);
  let most = 0;
  const watch = setInterval(() => (most = Math.max(most, hub.active)), 1);
  t.after(() => clearInterval(watch));
  const prompt = Array.from({ length: 3000 }, (_, i) => `${i}`);
  const many = ask('/v1/completions', { prompt, n: 2, max_tokens: 3 });
  await until(() => hub.active > 0, 'the list is begun');
  const other = await ask('/v1/completions', { prompt: 'x', max_tokens: 1 });
  assert.equal((await other.json()).choices.length, 1);
  assert.ok(hub.active > 0, 'the list was done before another request');
  assert.equal((await (await many).json()).choices.length, 6000);
  assert.ok(most > 1 && most <= 65, `${most} prompts at once`);
});

test('a whole reply that nobody takes is cut off too', { timeout: 120_000 }, async (t) => {
  const { server } = await serve(t, { sendTimeoutMs: 200 });
  const body = JSON.stringify({ model: 'embed', input: Array.from({ length: 150_000 }, () => 'a') });
  const socket = await post(server.port, '/v1/embeddings', body);
  await once(socket, 'readable');
  // Waits for replies under way, and so for this one, which is larger than the system's buffers.
  await server.close(600_000);
  socket.destroy();
});

test('a connection that is silent because the engine is at work stays', async (t) => {
  const { server, hub } = await serve(t, { sendTimeoutMs: 50 });
  const socket = await request(server.port, '!hang');
  await until(() => hub.active === 1, 'the request reaches the engine');
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.deepEqual([hub.active, hub.aborted], [1, 0]);
  socket.destroy();
  await until(() => hub.active === 0, 'the engine forgets the request');
});

test('each request of a connection is cancelled when that closes, but not those that were answered', async (t) => {
  const { server, hub } = await serve(t);
  const socket = connect(server.port, '127.0.0.1');
  let received = '';
  socket.on('data', (data) => (received += data.toString()));
  const infer = (text: string): void => {
    const input = { name: 'TEXT', shape: [1, 1], datatype: 'BYTES', data: [text] };
    const body = JSON.stringify({ inputs: [input] });
    socket.write(`POST /v2/models/embed/infer HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
  };
  for (let i = 1; i <= 2; i++) {
    infer('a');
    await until(() => received.split('HTTP/1.1 200').length === i + 1, `reply ${i}`);
  }
  infer('!hang');
  await until(() => hub.active === 1, 'the request reaches the engine');
  socket.destroy();
  await until(() => hub.active === 0, 'the engine forgets the request');
  assert.equal(hub.aborted, 1);
});

test('connections are kept and reused', async (t) => {
  const { server } = await serve(t);
  const socket = connect(server.port, '127.0.0.1');
  let received = '';
  socket.on('data', (data) => (received += data.toString()));
  for (let i = 1; i <= 3; i++) {
    socket.write('GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n');
    await until(() => received.split('HTTP/1.1 200').length === i + 1, `reply ${i}`);
  }
  assert.doesNotMatch(received, /connection: close|keep-alive: timeout/i);
  socket.destroy();
});

test('closing lets running answers end and refuses new requests', async (t) => {
  const { server, hub } = await serve(t);
  const socket = await request(server.port, 'x'.repeat(5000), { max_tokens: 5000 });
  let received = '';
  socket.on('data', (data) => (received += data.toString()));
  socket.resume();
  await until(() => hub.active === 1, 'the answer starts');
  const closed = server.close(20_000);
  // The connection is in use, so it stays open: a second request comes over it.
  socket.write('GET /v2/models/chat HTTP/1.1\r\nhost: x\r\n\r\n');
  await Promise.all([closed, once(socket, 'close')]);
  const [answer, refusal] = received.split('data: [DONE]');
  assert.match(answer, /^HTTP\/1.1 200/);
  assert.match(refusal, /HTTP\/1.1 503/);
  assert.match(refusal, /connection: close/i);
  assert.match(refusal, /shutting down/);
  await assert.rejects(fetch(`${server.url}/v2`));
});

test('closing cuts what lasts longer than the limit', async (t) => {
  const { server, hub } = await serve(t);
  const socket = await request(server.port, '!endless');
  socket.resume();
  await until(() => hub.active === 1, 'the answer starts');
  await server.close(50);
  await until(() => hub.active === 0, 'the engine forgets the request');
});

/** Waits until no answer goes on; how many tokens there are then. */
async function paused(hub: FakeHub): Promise<number> {
  let before = -1;
  let still = 0;
  await until(() => {
    const now = hub.models[0].counters.generatedTokens;
    still = now === before ? still + 1 : 0;
    before = now;
    return still === 20;
  }, 'the answers pause');
  return before;
}

/** Bytes of the heap and of buffers, without garbage. */
function memory(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** A streamed chat over a socket that does not read until it is told to. */
function request(port: number, content: string, fields: object = {}): Promise<Socket> {
  return post(port, CHAT, JSON.stringify({ messages: [{ role: 'user', content }], stream: true, ...fields }));
}

async function post(port: number, path: string, body: string): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  const head = `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n`;
  socket.write(head + body);
  socket.pause();
  return socket;
}

/** What comes back for these bytes until the server ends the connection. */
async function exchange(port: number, text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  let got = '';
  socket.on('data', (data) => (got += data.toString('latin1')));
  socket.on('error', () => {});
  socket.write(text, 'latin1');
  await new Promise((resolve) => socket.once('close', resolve));
  return got;
}

test('what is no request for a path gets a status and an error in JSON, on every port', async (t) => {
  const { server, log } = await serve(t, { metrics: { port: 0, onHttp: true } });
  const close = 'Host: x\r\nConnection: close\r\n\r\n';
  const notAllowed = [405, '{"error":"Method Not Allowed"}'] as const;
  const notFound = [404, '{"error":"Not Found"}'] as const;
  const cases: readonly (readonly [string, number, string | RegExp])[] = [
    [`CONNECT example.com:80 HTTP/1.1\r\n${close}`, ...notAllowed],
    [`OPTIONS * HTTP/1.1\r\n${close}`, 204, ''],
    [`GET * HTTP/1.1\r\n${close}`, ...notFound],
    [`GET /nowhere HTTP/1.1\r\n${close}`, ...notFound],
    [`POST /nowhere HTTP/1.1\r\nContent-Length: 2\r\n${close}{}`, ...notFound],
    [`TRACE /nowhere HTTP/1.1\r\n${close}`, ...notFound],
    [`GET /%zz HTTP/1.1\r\n${close}`, 400, /^\{"error":"'\/%zz' is not a valid url component"\}$/],
    [
      `QUERY /nowhere HTTP/1.1\r\n${close}`,
      400,
      /^\{"error":"Method 'QUERY' must provide a 'Content-Type' header\."\}$/,
    ],
    ['NONSENSE\r\n\r\n', 400, /^\{"error":"this is not HTTP: /],
    ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400, /^\{"error":"this is not HTTP: /],
    ['\x16\x03\x01\x02\x00\x01', 400, /^\{"error":"this is not HTTP: /],
    [`GET / HTTP/1.1\r\nX: ${'x'.repeat(70_000)}\r\n${close}`, 431, /^\{"error":"the headers of a request may have/],
  ];
  for (const port of [server.port, server.metricsPort as number]) {
    for (const [request, status, body] of cases) {
      const [head, got] = (await exchange(port, request)).split('\r\n\r\n');
      const what = `${port === server.port ? 'HTTP' : 'metrics'}: ${request.slice(0, 40)}`;
      assert.equal(Number(head.split(' ')[1]), status, what);
      if (typeof body === 'string') assert.equal(got, body, what);
      else assert.match(got, body, what);
      if (body !== '') assert.match(head, /content-type: application\/json/i, what);
    }
  }
  const half = connect({ port: server.port, host: '127.0.0.1', allowHalfOpen: true });
  let told = '';
  half.on('data', (data) => (told += data.toString()));
  half.end('POST /v2/models/embed/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"inputs":');
  await new Promise((resolve) => half.once('close', resolve));
  assert.match(told, /^HTTP\/1\.1 400 [^]*\{"error":"the connection ended in the middle of a request"\}$/);
  const metrics = server.metricsPort as number;
  for (const [port, method] of [
    [metrics, 'POST'],
    [metrics, 'DELETE'],
    [server.port, 'POST'],
  ]) {
    const type = 'Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n';
    const [head, body] = (await exchange(port as number, `${method} /metrics HTTP/1.1\r\n${type}${close}a=b`)).split(
      '\r\n\r\n',
    );
    assert.match(head, /^HTTP\/1\.1 405 [^]*allow: GET, HEAD/, `${method}`);
    assert.equal(body, '{"error":"Method Not Allowed"}');
  }
  assert.deepEqual(log, []);
});
