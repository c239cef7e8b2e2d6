import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
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
  assert.match(running.stderr(), /device: cpu/);
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
