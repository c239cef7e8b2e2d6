import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { makeRepository } from './repository-kit.ts';
import { serve } from './serving.ts';

interface Heard {
  readonly status: number;
  readonly body: string;
}

/** Send raw bytes, part by part, and wait until the server ends the connection. */
async function speak(port: number, parts: readonly string[], pauseMs = 0): Promise<Heard> {
  const socket = connect(port, '127.0.0.1');
  let heard = '';
  socket.on('data', (data) => (heard += data.toString('latin1')));
  socket.on('error', () => {});
  // Not events.once, which also rejects with an error: the server may be gone before the last byte is written.
  const closed = new Promise((resolve) => socket.once('close', resolve));
  void (async () => {
    for (const part of parts) {
      if (socket.destroyed) return;
      socket.write(part, 'latin1');
      if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  })();
  await closed;
  const [, status] = /^HTTP\/1\.1 (\d+) /.exec(heard) ?? [];
  return { status: Number(status), body: heard.slice(heard.indexOf('\r\n\r\n') + 4) };
}

const errorOf = ({ body }: Heard): string => (JSON.parse(body) as { error: string }).error;
const HEAD = 'POST /v2/models/embed/infer HTTP/1.1\r\nhost: x\r\n';

test('headers that come too slowly, and bodies, are refused in time', async (t) => {
  const { server, log } = await serve(t, { receiveTimeoutMs: 400 });
  const begun = performance.now();
  const slowly = (text: string): string[] => [...text, ...'x'.repeat(1000)];
  const [headers, body] = await Promise.all([
    speak(server.port, slowly(`${HEAD}x-slow: `), 20),
    speak(server.port, [`${HEAD}content-length: 1000\r\n\r\n`, ...slowly('{')], 20),
  ]);
  assert.ok(performance.now() - begun < 15_000);
  assert.deepEqual([headers.status, errorOf(headers)], [408, 'the request did not come in time']);
  assert.deepEqual([body.status, errorOf(body)], [408, 'the request did not come in time']);
  assert.deepEqual(log, []);
});

test('what is no HTTP, and what is too much of it, is refused with a body', async (t) => {
  const { server } = await serve(t);
  const nonsense = await speak(server.port, ['\x16\x03\x01 hello\r\n\r\n']);
  assert.equal(nonsense.status, 400);
  assert.match(errorOf(nonsense), /^this is not HTTP: /);
  const large = await speak(server.port, [`GET /v2 HTTP/1.1\r\nhost: x\r\nx-large: ${'a'.repeat(70_000)}\r\n\r\n`]);
  assert.deepEqual([large.status, errorOf(large)], [431, 'the headers of a request may have 65536 bytes']);
  const later = await speak(
    server.port,
    [
      'GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n',
      `GET /v2 HTTP/1.1\r\nhost: x\r\nx-large: ${'a'.repeat(70_000)}\r\n\r\n`,
    ],
    200,
  );
  assert.match(later.body, /HTTP\/1.1 431 .*the headers of a request may have 65536 bytes/s);
  const twice = `${HEAD}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`;
  assert.equal((await speak(server.port, [twice])).status, 400);
  const wish = await speak(server.port, ['GET /v2 HTTP/1.1\r\nhost: x\r\nexpect: wonders\r\n\r\n']);
  assert.deepEqual([wish.status, errorOf(wish)], [417, "only 'Expect: 100-continue' is met"]);
  const nameless = await speak(server.port, ['GET /v2/health/live HTTP/1.1\r\nconnection: close\r\n\r\n']);
  assert.equal(nameless.status, 200);
});

test('bodies and tensors above the limit are refused before memory is taken for them', async (t) => {
  const { server, post } = await serve(t, { maxBodyBytes: 10_000 });
  const announced = await speak(server.port, [`${HEAD}content-length: 99999999999\r\n\r\n`]);
  assert.equal(announced.status, 400);
  assert.match(
    errorOf(announced),
    /exceeds the maximum allowed value of 10000 bytes\. Use --http-max-input-size to increase the limit\.$/,
  );
  const chunk = `1000\r\n${'x'.repeat(4096)}\r\n`;
  const chunked = await speak(server.port, [`${HEAD}transfer-encoding: chunked\r\n\r\n`, chunk, chunk, chunk, chunk]);
  assert.equal(chunked.status, 400);
  assert.match(errorOf(chunked), /exceeds the maximum allowed value/);
  const ids = (shape: number[]): object => ({ inputs: [{ name: 'INPUT_IDS', datatype: 'INT64', shape, data: [1] }] });
  for (const shape of [
    [1, 1_000_000_000],
    [2 ** 31, 2 ** 31],
    [2 ** 53, 0],
  ]) {
    const refused = await post('/v2/models/embed/infer', ids(shape));
    assert.ok(refused.status === 400 || refused.status === 500, String(refused.status));
    assert.match((await refused.json()).error, /exceed|shape|batch/i);
  }
});

test('bodies in tiny chunks are refused before they take memory, and many chunks of some size are not', async (t) => {
  const { server } = await serve(t);
  const tiny = '1\r\n \r\n'.repeat(65_537);
  for (const path of ['/v2/models/embed/infer', '/v2/models/chat/generate', '/v2/repository/index']) {
    const refused = await speak(server.port, [
      `POST ${path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n${tiny}`,
    ]);
    assert.deepEqual([refused.status, /in more than 65536 chunks/.test(errorOf(refused))], [400, true], path);
  }
  const fair = `${HEAD}connection: close\r\ntransfer-encoding: chunked\r\n\r\n`;
  const chunk = `400\r\n${' '.repeat(1024)}\r\n`;
  const read = await speak(server.port, [fair, chunk.repeat(65_530), '0\r\n\r\n']);
  assert.deepEqual([read.status, errorOf(read).startsWith('failed to parse the request JSON')], [500, true]);
});

test('a path that is none is refused in the words of its protocol', async (t) => {
  const { get } = await serve(t);
  const triton = await get('/v2/models/%zz');
  assert.deepEqual([triton.status, typeof (await triton.json()).error], [400, 'string']);
  const openai = await get('/v1/models/%zz');
  assert.deepEqual([openai.status, (await openai.json()).error.type], [400, 'invalid_request_error']);
});

test('no name leads out of the repository', async (t) => {
  const files = { 'repository/here/config.pbtxt': 'x', 'secret/config.pbtxt': 'backend: "typescript"' };
  const directory = makeRepository(t, files);
  const { server, post } = await serve(t, {
    repository: { directories: [`${directory}/repository`], mode: 'explicit' },
  });
  for (const name of [
    '..%2Fsecret',
    '%2e%2e%2fsecret',
    '..%5Csecret',
    '%2Fetc',
    '..',
    '%2e%2e',
    '.',
    'here%2F..%2F..%2Fsecret',
    'here%00',
  ]) {
    const path = `/v2/repository/models/${name}/load`;
    const head = `POST ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`;
    const heard = await speak(server.port, [head]);
    assert.ok(heard.status === 400 || heard.status === 404, `${name}: ${heard.status} ${heard.body}`);
    if (heard.status === 400) assert.match(errorOf(heard), /must not contain path traversal characters/);
    assert.doesNotMatch(heard.body, /secret\/config/);
  }
  for (const key of [
    'file:../x',
    'file:/etc/x',
    'file:1/../../x',
    'file:1/..',
    'file:',
    'file:a\\..\\b',
    'file:1/x\0',
  ]) {
    const refused = await post('/v2/repository/models/here/load', { parameters: { config: '{}', [key]: 'eA==' } });
    assert.match((await refused.json()).error, /must stay within model directory/, key);
  }
});
