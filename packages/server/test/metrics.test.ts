import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serve, until } from './serving.ts';

test('metrics are there at 0 from the start, with labels in Triton order', async (t) => {
  const { url } = await serve(t);
  const response = await fetch(`${url}/metrics`);
  assert.match(response.headers.get('content-type') ?? '', /^text\/plain/);
  const text = await response.text();
  for (const line of [
    'nv_inference_request_success{model="chat",version="1"} 0',
    'nv_inference_request_failure{model="chat",reason="REJECTED",version="1"} 0',
    'nv_inference_request_failure{model="embed",reason="OTHER",version="1"} 0',
    'nv_inference_count{model="rerank",version="1"} 0',
    'nv_inference_exec_count{model="chat",version="1"} 0',
    'nv_inference_pending_request_count{model="chat",version="1"} 0',
    'rose_sequences_running{model="chat",version="1"} 0',
    'rose_weight_bytes{model="chat",version="1"} 1000',
  ]) {
    assert.ok(text.includes(`${line}\n`), line);
  }
  assert.equal((await fetch(`${url}/metrics`, { method: 'POST' })).status, 405);
});

test('requests of every protocol are counted, failures by their reason', async (t) => {
  const { url, post, hub } = await serve(t);
  const value = async (name: string): Promise<number> => {
    const text = await (await fetch(`${url}/metrics`)).text();
    const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
    assert.ok(line, `no ${name}`);
    return Number(line.slice(name.length));
  };
  const messages = (content: string): object => ({ messages: [{ role: 'user', content }] });
  await (await post('/v1/chat/completions', messages('abcd'))).text();
  await (await post('/v2/models/chat/generate', { text_input: 'abcd' })).text();
  await post('/v1/embeddings', { input: ['a', 'b', 'c'] });
  await post('/v1/chat/completions', messages('!full'));
  await post('/v1/chat/completions', messages('!early'));
  const leave = new AbortController();
  post('/v1/chat/completions', messages('!hang'), { signal: leave.signal }).catch(() => {});
  await until(() => hub.active === 1, 'the request reaches the engine');
  leave.abort();
  await until(() => hub.active === 0, 'the engine forgets the request');

  const chat = '{model="chat",version="1"}';
  const embed = '{model="embed",version="1"}';
  assert.equal(await value(`nv_inference_request_success${chat}`), 2);
  assert.equal(await value(`nv_inference_count${embed}`), 3);
  assert.equal(await value(`nv_inference_request_success${embed}`), 1);
  assert.equal(await value(`nv_inference_exec_count${embed}`), 1);
  for (const reason of ['REJECTED', 'OTHER', 'CANCELED']) {
    const labels = `{model="chat",reason="${reason}",version="1"}`;
    assert.equal(await value(`nv_inference_request_failure${labels}`), 1, reason);
  }
  assert.equal(await value(`rose_time_to_first_token_seconds_count${chat}`), 2);
  assert.equal(await value(`rose_inter_token_seconds_count${chat}`), 2 * ('echo: abcd'.length - 1));
  assert.equal(await value(`rose_generated_tokens_total${chat}`), 2 * 'echo: abcd'.length);
  assert.ok((await value(`nv_inference_request_duration_us${chat}`)) > 0);
});

test('servers in one process count apart', async (t) => {
  const one = await serve(t);
  const two = await serve(t);
  await one.post('/v1/embeddings', { input: 'a' });
  const text = await (await fetch(`${two.url}/metrics`)).text();
  assert.ok(text.includes('nv_inference_request_success{model="embed",version="1"} 0\n'));
});

test('the status of the page', async (t) => {
  const { get } = await serve(t);
  const response = await get('/rose/status');
  assert.equal(response.headers.get('cache-control'), 'no-store');
  const status = await response.json();
  assert.deepEqual([status.version, status.ready, status.models.length], ['0.0.1', true, 4]);
  assert.deepEqual(status.models[3].labels, ['sea', 'land']);
});
