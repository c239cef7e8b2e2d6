import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { checkOrigins } from '../src/http/cors.ts';
import { eventsOf, serve, type Serving } from './serving.ts';

const APP = 'https://app.example.com';
const KEY = { authorization: 'Bearer secret-key' };
const EMBED = { inputs: [{ name: 'TEXT', shape: [1, 1], datatype: 'BYTES', data: ['a'] }] };
const CHAT = { messages: [{ role: 'user', content: 'abcd' }], stream: true };

/** What a browser asks before a request that a form could not make. */
function preflight({ get }: Serving, path: string, origin: string, headers?: string): ReturnType<Serving['get']> {
  return get(path, {
    method: 'OPTIONS',
    headers: {
      origin,
      'access-control-request-method': 'POST',
      ...(headers !== undefined && { 'access-control-request-headers': headers }),
    },
  });
}

function corsHeaders({ headers }: { readonly headers: Headers }): string[] {
  return [...headers.keys()].filter((name) => name.startsWith('access-control-'));
}

test('a browser may ask for a page of an allowed origin, without a key, on every path', async (t) => {
  const server = await serve(t, { corsOrigins: [APP, 'http://localhost:3000'], access: { apiKeys: ['secret-key'] } });
  for (const path of ['/v2/models/embed/infer', '/v1/chat/completions', '/v2/repository/index', '/metrics', '/v2/no']) {
    for (const origin of [APP, 'http://localhost:3000']) {
      const reply = await preflight(server, path, origin, 'authorization,inference-header-content-length');
      assert.equal(reply.status, 204, path);
      assert.equal(reply.headers.get('access-control-allow-origin'), origin);
      assert.equal(reply.headers.get('access-control-allow-methods'), 'GET, HEAD, POST');
      assert.equal(reply.headers.get('access-control-allow-headers'), 'authorization,inference-header-content-length');
      assert.equal(reply.headers.get('access-control-max-age'), '7200');
      assert.equal(reply.headers.get('vary'), 'Origin, Access-Control-Request-Headers');
      assert.equal(reply.headers.get('access-control-allow-credentials'), null);
      assert.equal(await reply.text(), '');
    }
  }
  const simple = await preflight(server, '/v1/models', APP);
  assert.deepEqual([simple.status, simple.headers.get('access-control-allow-headers')], [204, null]);
});

test('answers, errors, refusals and event streams say who may read them; a key is still needed', async (t) => {
  const server = await serve(t, { corsOrigins: [APP], access: { apiKeys: ['secret-key'] } });
  const { post, get } = server;
  const headers = { origin: APP, 'content-type': 'application/json', ...KEY };
  const replies = [
    [200, await post('/v2/models/embed/infer', EMBED, { headers })],
    [200, await get('/v1/models', { headers })],
    [200, await post('/v2/models/chat/generate_stream', { text_input: 'abcd', stream: true }, { headers })],
    [200, await post('/v1/chat/completions', CHAT, { headers })],
    [400, await post('/v2/models/embed/infer', { inputs: [] }, { headers })],
    [400, await post('/v1/chat/completions', {}, { headers })],
    [404, await get('/v2/models/nobody', { headers })],
    [404, await get('/nowhere', { headers })],
    [405, await get('/v1/chat/completions', { headers })],
    [401, await post('/v2/models/embed/infer', EMBED, { headers: { origin: APP } })],
    [401, await get('/v1/models', { headers: { origin: APP } })],
  ] as const;
  for (const [status, reply] of replies) {
    assert.equal(reply.status, status, reply.url);
    assert.equal(reply.headers.get('access-control-allow-origin'), APP, reply.url);
    assert.match(reply.headers.get('access-control-expose-headers') ?? '', /Inference-Header-Content-Length/);
    assert.equal(reply.headers.get('vary'), 'Origin', reply.url);
  }
  assert.ok((await eventsOf(replies[3][1])).length > 1);
});

test('pages of other origins are told nothing, and clients without an origin see no difference', async (t) => {
  const server = await serve(t, { corsOrigins: [APP] });
  for (const origin of [
    'https://evil.example',
    `${APP}:8443`,
    `${APP}.evil.example`,
    'http://app.example.com',
    'null',
  ]) {
    const asked = await preflight(server, '/v2/models/embed/infer', origin, 'content-type');
    assert.deepEqual([asked.status, corsHeaders(asked), asked.headers.get('vary')], [405, [], 'Origin'], origin);
    const answer = await server.post('/v2/models/embed/infer', EMBED, { headers: { origin } });
    assert.deepEqual([answer.status, corsHeaders(answer)], [200, []], origin);
  }
  const plain = await server.post('/v2/models/embed/infer', EMBED);
  assert.deepEqual([plain.status, corsHeaders(plain)], [200, []]);
});

test('* lets all pages in, and without the option none', async (t) => {
  const open = await serve(t, { corsOrigins: ['*'] });
  for (const origin of [APP, 'null']) {
    const reply = await open.post('/v2/models/embed/infer', EMBED, { headers: { origin } });
    assert.deepEqual([reply.status, reply.headers.get('access-control-allow-origin')], [200, '*']);
    assert.equal((await preflight(open, '/v1/embeddings', origin)).headers.get('access-control-allow-origin'), '*');
    assert.equal(reply.headers.get('vary'), null);
  }
  const closed = await serve(t);
  const asked = await preflight(closed, '/v2/models/embed/infer', APP);
  assert.deepEqual([asked.status, corsHeaders(asked), asked.headers.get('vary')], [405, [], null]);
});

test('a page that the server did not serve cannot change the server', async (t) => {
  const closed = await serve(t);
  const open = await serve(t, { corsOrigins: [APP] });
  const any = await serve(t, { corsOrigins: ['*'] });
  const paths = ['/v2/repository/models/m/load', '/v2/repository/index', '/v2/logging', '/v2/trace/setting'];
  for (const path of [...paths, '/v2/systemsharedmemory/region/r/register']) {
    // What a form sends needs no preflight.
    const ask = ({ post }: Serving, origin: string) =>
      post(path, '{}', { headers: { origin, 'content-type': 'text/plain' } });
    for (const origin of [APP, 'null', 'http://127.0.0.1:1']) {
      const refused = await ask(closed, origin);
      assert.equal(refused.status, 403, path);
      assert.equal(
        (await refused.json()).error,
        `pages of ${origin} may not do this: the server was started without --cors-origin ${origin}`,
      );
    }
    assert.notEqual((await ask(closed, closed.url)).status, 403, 'a page of its own');
    assert.notEqual((await ask(open, APP)).status, 403);
    assert.equal((await ask(open, 'https://evil.example')).status, 403);
    assert.equal((await ask(any, APP)).status, 403, 'all pages may read, none is named');
  }
  assert.equal((await closed.post('/v2/models/embed/infer', EMBED, { headers: { origin: APP } })).status, 200);
  // What only tells is hidden by browsers.
  assert.equal((await closed.get('/v2/logging', { headers: { origin: APP } })).status, 200);
});

test('a name that leads here does not make a page one of the server', async (t) => {
  const { server } = await serve(t);
  const ask = async (host: string | undefined, origin: string): Promise<number> => {
    const socket = connect(server.port, '127.0.0.1');
    const named = host === undefined ? '' : `Host: ${host}\r\n`;
    const version = host === undefined ? '1.0' : '1.1';
    socket.write(
      `POST /v2/repository/index HTTP/${version}\r\n${named}Origin: ${origin}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}`,
    );
    const [data] = (await once(socket, 'data')) as [Buffer];
    socket.destroy();
    return Number(data.toString('latin1').split(' ')[1]);
  };
  const { port } = server;
  for (const own of [`127.0.0.1:${port}`, `localhost:${port}`, `[::1]:${port}`]) {
    assert.notEqual(await ask(own, `http://${own}`), 403, own);
  }
  // The owner of a name may have it lead to any address.
  assert.equal(await ask(`evil.example:${port}`, `http://evil.example:${port}`), 403);
  assert.equal(await ask(`127.0.0.1:${port}`, 'null'), 403);
  assert.equal(await ask(undefined, 'null'), 403);
});

test('an origin that no browser would send is refused', () => {
  checkOrigins([
    '*',
    APP,
    'http://localhost:3000',
    'http://[::1]:8080',
    'chrome-extension://abcdef',
    'app://obsidian.md',
  ]);
  const wrong: readonly (readonly [string, string])[] = [
    ['app.example.com', 'https://app.example.com or http://localhost:3000'],
    ['https://app.example.com/', 'https://app.example.com or http://localhost:3000'],
    ['https://App.example.com', 'https://app.example.com'],
    ['https://app.example.com:443', 'https://app.example.com'],
    ['https://a.example,https://b.example', 'https://app.example.com or http://localhost:3000'],
    ['https://user@a.example', 'https://app.example.com or http://localhost:3000'],
    ['null', 'https://app.example.com or http://localhost:3000'],
    ['file://x', 'https://app.example.com or http://localhost:3000'],
    ['', 'https://app.example.com or http://localhost:3000'],
  ];
  for (const [origin, hint] of wrong) {
    assert.throws(() => checkOrigins([origin]), {
      code: 'invalid',
      message: `'${origin}' is no origin: write scheme://host[:port] as ${hint}, or * for all pages`,
    });
  }
});
