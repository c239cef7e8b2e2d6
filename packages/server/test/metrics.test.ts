import assert from 'node:assert/strict';
import { totalmem } from 'node:os';
import { test } from 'node:test';
import type { GpuReading } from '@rose/server';
import { Recent } from '../src/statistics/distribution.ts';
import { config, IDENTITY, makeRepository, numbers } from './repository-kit.ts';
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

test('a port of its own answers metrics and nothing else; the port of HTTP then has none', async (t) => {
  const { server, get } = await serve(t, { metrics: { port: 0 } });
  const url = `http://127.0.0.1:${server.metricsPort}`;
  for (const path of ['/metrics', '/metrics/', '/metrics?x=1']) {
    const response = await fetch(url + path);
    assert.deepEqual([response.status, response.headers.get('content-type')], [200, 'text/plain; charset=utf-8'], path);
    assert.match(await response.text(), /^nv_inference_count\{model="chat",version="1"\} 0$/m);
  }
  assert.equal((await fetch(`${url}/metrics`, { method: 'POST' })).status, 405);
  assert.equal((await fetch(`${url}/v2`)).status, 404);
  assert.equal((await get('/metrics')).status, 404);
  assert.equal((await (await get('/rose/status')).json()).metricsPort, server.metricsPort);
  await server.close(0);
  await assert.rejects(fetch(`${url}/metrics`));
});

test('a repository model has its load time, first responses, and quantiles of its latest requests', async (t) => {
  const files = { 'm/config.pbtxt': config('TYPE_INT32'), 'm/1/model.ts': IDENTITY };
  const { get, post } = await serve(t, { repository: { directories: [makeRepository(t, files)] } });
  for (let i = 0; i < 5; i++) await post('/v2/models/m/infer', numbers(1, 2));
  const text = await (await get('/metrics')).text();
  const value = (line: string): number => {
    const found = text.split('\n').find((candidate) => candidate.startsWith(`${line} `));
    assert.ok(found, `no ${line}`);
    return Number(found.slice(line.length));
  };
  const labels = 'model="m",version="1"';
  assert.ok(value(`nv_model_load_duration_secs{${labels}}`) > 0);
  assert.equal(value(`nv_inference_first_response_histogram_ms_count{${labels}}`), 5);
  assert.equal(value(`nv_inference_first_response_histogram_ms_bucket{${labels},le="+Inf"}`), 5);
  assert.equal(value(`nv_inference_request_summary_us_count{${labels}}`), 5);
  const half = value(`nv_inference_request_summary_us{${labels},quantile="0.5"}`);
  const most = value(`nv_inference_request_summary_us{${labels},quantile="0.999"}`);
  assert.ok(half > 0 && half <= most);
  // Each is rounded to microseconds.
  const sum = value(`nv_inference_request_summary_us_sum{${labels}}`);
  assert.ok(Math.abs(sum - value(`nv_inference_request_duration_us{${labels}}`)) <= 1);
  assert.match(text, /^nv_inference_request_summary_us\{model="chat",version="1",quantile="0.5"\} Nan$/im);
});

test('quantiles are those of the latest 1024 values', () => {
  const recent = new Recent();
  for (let i = 0; i < 5000; i++) recent.add(-1);
  for (let i = 1024; i > 0; i--) recent.add(i);
  assert.deepEqual(recent.quantiles([0, 0.5, 0.999, 1]), [1, 512, 1023, 1024]);
  assert.equal(recent.count, 6024);
});

test('the machine: processor, memory, and what GPUs say of themselves', async (t) => {
  const gpu = { uuid: 'GPU-1', totalBytes: 80, usedBytes: 8, power: 70.5, powerLimit: undefined, energy: 3 };
  let utilization = 0.25;
  const gpus = (): GpuReading[] => [{ ...gpu, utilization }];
  const { server } = await serve(t, { metrics: { port: 0, intervalMs: 10, gpus } });
  const read = async (): Promise<string> =>
    await (await fetch(`http://127.0.0.1:${server.metricsPort}/metrics`)).text();
  const text = await read();
  assert.match(text, /^nv_gpu_utilization\{gpu_uuid="GPU-1"\} 0.25$/m);
  assert.match(text, /^nv_gpu_memory_total_bytes\{gpu_uuid="GPU-1"\} 80$/m);
  assert.match(text, /^nv_gpu_power_usage\{gpu_uuid="GPU-1"\} 70.5$/m);
  assert.match(text, /^nv_energy_consumption\{gpu_uuid="GPU-1"\} 3$/m);
  assert.doesNotMatch(text, /^nv_gpu_power_limit\{/m);
  assert.match(text, new RegExp(`^nv_cpu_memory_total_bytes ${totalmem()}$`, 'm'));
  utilization = 0.5;
  while (!(await read()).includes('nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5\n'));
  const [, busy] = /^nv_cpu_utilization (\S+)$/m.exec(await read())!;
  assert.ok(Number(busy) >= 0 && Number(busy) <= 1, busy);
});
