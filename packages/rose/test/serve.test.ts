import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { start, type Running } from './rose.ts';

async function serving(...args: string[]): Promise<{ running: Running; url: string }> {
  const running = start(['serve', '--port', '0', ...args]);
  const [, url] = await running.until(/listening on (\S+)/);
  await running.until(/try:\n.*\n/);
  return { running, url };
}

test('rose serve says what it loads and where it listens, and ends cleanly when told to', async () => {
  const { running, url } = await serving();
  assert.equal((await fetch(`${url}/v2/health/ready`)).status, 200);
  const models = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] };
  assert.deepEqual(
    models.data.map(({ id }) => id),
    ['tiny-chat', 'tiny-embed', 'tiny-rerank'],
  );
  assert.match(running.stderr(), /device: (cpu|GPU 0)/);
  assert.match(running.stderr(), /gRPC 127\.0\.0\.1:\d+/);
  assert.match(running.stderr(), /tiny-chat: generates text.*7\.9 M parameters/);
  assert.match(running.stderr(), /weights 1\d\.\d MiB.*, ready in/);
  running.process.kill('SIGTERM');
  const ended = await running.ended;
  assert.deepEqual([ended.code, ended.stdout], [0, '']);
  await assert.rejects(fetch(`${url}/v2/health/ready`));
});

for (const model of ['tiny-chat', 'tiny-embed', 'tiny-rerank']) {
  test(
    `the request that rose serve shows for ${model} works as it stands`,
    { skip: process.platform === 'win32' },
    async () => {
      const { running } = await serving(model, '--served-model-name', "it's mine");
      const [, command] = await running.until(/try:\n\s+(curl .*)\n/);
      const { stdout } = await promisify(execFile)('sh', ['-c', command]);
      assert.equal((JSON.parse(stdout) as { model: string }).model, "it's mine", stdout);
      running.process.kill('SIGINT');
      assert.equal((await running.ended).code, 0);
    },
  );
}

test('--timeline says when each part of the start was done, in order', async () => {
  const { running } = await serving('tiny-chat', '--timeline');
  await running.until(/timeline in ms since the process began[^]*listening/);
  const lines = running.stderr().split('timeline in ms since the process began\n')[1].trimEnd().split('\n');
  const parts = lines.map((line) => /^ *(\d+) +(?:\+\d+)? *(\S.*)$/.exec(line)!.slice(1));
  const names = parts.map(([, name]) => name);
  assert.deepEqual(names.slice(0, 2), ['process started', 'command read']);
  for (const name of ['engine started', 'engine loaded', 'device', 'weights (tiny-chat)', 'first step (tiny-chat)']) {
    assert.ok(names.includes(name), name);
  }
  const times = parts.map(([time]) => Number(time));
  assert.deepEqual(
    times,
    times.toSorted((a, b) => a - b),
  );
  running.process.kill('SIGTERM');
  assert.equal((await running.ended).code, 0);
});

test('a request that runs when the server is told to stop is answered', async () => {
  const { running, url } = await serving('tiny-chat');
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'tiny-chat', prompt: 'Once', max_tokens: 300, ignore_eos: true, stream: true }),
  });
  const reader = response.body!.getReader();
  await reader.read();
  running.process.kill('SIGTERM');
  await running.until(/stopping: 1 request/);
  let last = '';
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    last = Buffer.from(part.value).toString();
  }
  assert.match(last, /\[DONE\]/);
  assert.equal((await running.ended).code, 0);
});

/** A streamed completion; `extra` goes into the body. */
async function streaming(url: string, extra: object): Promise<ReadableStreamDefaultReader<Uint8Array>> {
  const body = { model: 'tiny-chat', prompt: 'Once', max_tokens: 1900, ignore_eos: true, stream: true, ...extra };
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const reader = response.body!.getReader();
  await reader.read();
  return reader;
}

async function rest(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<string> {
  let text = '';
  for (let part = await reader.read(); !part.done; part = await reader.read())
    text += Buffer.from(part.value).toString();
  return text;
}

// A GPU has written them all by then.
const done = process.env.ROSE_DEVICE !== undefined && 'only for the CPU';
test('what is not done when the time to drain is over ends with an error that says so', { skip: done }, async () => {
  const { running, url } = await serving('tiny-chat', '--drain-seconds', '1');
  const readers = await Promise.all([1, 2, 3].map(() => streaming(url, { n: 8 })));
  running.process.kill('SIGTERM');
  await running.until(/stopping: 24 requests may take up to 1 s/);
  // Meanwhile the server lives, is not ready, and takes nothing new.
  assert.equal((await fetch(`${url}/v2/health/live`)).status, 200);
  assert.equal((await fetch(`${url}/v2/health/ready`)).status, 400);
  const late = await fetch(`${url}/v1/embeddings`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'tiny-chat', input: 'x' }),
  });
  assert.ok(late.status >= 400);
  for (const reader of readers) {
    const last = (await rest(reader)).trimEnd().split('\n\n').at(-1)!;
    assert.match(last, /"message":"the server is shutting down".*"code":"unavailable"/);
  }
  assert.equal((await running.ended).code, 0);
});

/** Processes whose parent is `parent`, and theirs. */
function descendants(parent: number): number[] {
  const children = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => statusOf(name, 'PPid') === String(parent))
    .map(Number);
  return children.flatMap((child) => [child, ...descendants(child)]);
}

function statusOf(process: number | string, field: string): string | undefined {
  try {
    const status = readFileSync(`/proc/${process}/status`, 'utf8');
    return new RegExp(`^${field}:\\s*(.*)$`, 'm').exec(status)?.[1];
  } catch {
    return undefined;
  }
}

const engineOf = (server: number): number =>
  descendants(server).find((process) => statusOf(process, 'Name') === 'rose engine')!;

async function gone(process: number): Promise<void> {
  for (let i = 0; i < 1000 && statusOf(process, 'State')?.startsWith('Z') === false; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.notEqual(statusOf(process, 'State')?.startsWith('Z'), false, `process ${process} goes on`);
}

describe('the engine is a process of its own', { skip: process.platform !== 'linux' }, () => {
  test('its end fails its requests, and the server says that it is not ready', async () => {
    const { running, url } = await serving('tiny-chat');
    const readers = await Promise.all([1, 2].map(() => streaming(url, { n: 4 })));
    process.kill(engineOf(running.process.pid!), 'SIGKILL');
    for (const reader of readers) {
      const last = (await rest(reader)).trimEnd().split('\n\n').at(-1)!;
      assert.match(last, /"message":"the engine stopped: its process ended with SIGKILL".*"code":"unavailable"/);
    }
    assert.equal((await fetch(`${url}/v2/health/ready`)).status, 400);
    assert.equal((await fetch(`${url}/v2/models/tiny-chat/ready`)).status, 400);
    const late = await fetch(`${url}/v2/models/tiny-chat/generate`, {
      method: 'POST',
      body: JSON.stringify({ text_input: 'x' }),
    });
    assert.equal(late.status, 503);
    assert.match(await late.text(), /the engine stopped/);
    const [, metrics] = /metrics (\S+)/.exec(running.stderr())!;
    assert.equal((await fetch(metrics)).status, 200);
    assert.equal((await fetch(`${url}/metrics`)).status, 404);
    assert.match(running.stderr(), /the engine stopped: its process ended with SIGKILL; not ready any more/);
    running.process.kill('SIGTERM');
    assert.equal((await running.ended).code, 0);
  });

  test('it is started again where that is asked for: refused meanwhile, ready again afterwards', async () => {
    const { running, url } = await serving('tiny-chat', '--restart-engine', '1');
    const reader = await streaming(url, {});
    process.kill(engineOf(running.process.pid!), 'SIGKILL');
    assert.match(await rest(reader), /"message":"the engine stopped: its process ended with SIGKILL"/);
    const early = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'tiny-chat', prompt: 'Once', max_tokens: 4 }),
    });
    assert.deepEqual([early.status, early.headers.get('retry-after')], [503, '5']);
    assert.equal((await fetch(`${url}/v2/health/ready`)).status, 400);
    await running.until(/the engine is ready again, \d+\.\d\d s after it stopped/);
    assert.equal((await fetch(`${url}/v2/health/ready`)).status, 200);
    assert.match(await rest(await streaming(url, { max_tokens: 4 })), /\[DONE\]/);
    const [, metrics] = /metrics (\S+)/.exec(running.stderr())!;
    assert.match(await (await fetch(metrics)).text(), /^rose_engine_restarts_total 1$/m);
    assert.match(running.stderr(), /ended with SIGKILL; starting it again/);
    running.process.kill('SIGTERM');
    assert.equal((await running.ended).code, 0);
  });

  test('it heeds signals to the group of processes no more than the server tells it, and ends with the server', async () => {
    const { running, url } = await serving('tiny-chat');
    const engine = engineOf(running.process.pid!);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.kill(engine, signal);
    const reader = await streaming(url, { max_tokens: 30 });
    assert.match(await rest(reader), /\[DONE\]/);
    for (const process_ of descendants(running.process.pid!))
      if (process_ !== engine) process.kill(process_, 'SIGKILL');
    await gone(engine);
    await running.ended;
  });
});

test('a second signal does not wait', async () => {
  const { running, url } = await serving('tiny-chat');
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'tiny-chat',
      prompt: 'Once',
      max_tokens: 1900,
      n: 8,
      ignore_eos: true,
      stream: true,
    }),
  });
  const reader = response.body!.getReader();
  await reader.read();
  running.process.kill('SIGTERM');
  await running.until(/stopping/);
  // Within a moment of the first one it would be taken for a copy of it.
  await new Promise((resolve) => setTimeout(resolve, 400));
  running.process.kill('SIGTERM');
  assert.equal((await running.ended).code, 143);
  await reader.cancel().catch(() => {});
});
