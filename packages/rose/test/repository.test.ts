import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { rose, start } from './rose.ts';

const REPOSITORY = fileURLToPath(new URL('../../../examples/model-repository', import.meta.url));

test('rose serve serves a repository alone, and says what it loaded', async (t) => {
  const names = ['simple', 'simple_string', 'tiny_embed'];
  const explicit = ['--model-control-mode', 'explicit', ...names.flatMap((name) => ['--load-model', name])];
  const running = start(['serve', '--port', '0', '--model-repository', REPOSITORY, ...explicit]);
  // A server that a failed test leaves would keep it from ending.
  t.after(() => running.process.kill('SIGKILL'));
  const [, url] = await running.until(/listening on (\S+)/);
  await running.until(/model repository: simple\/1, simple_string\/1, tiny_embed\/1/);
  assert.equal((await fetch(`${url}/v2/health/ready`)).status, 200);
  assert.equal((await fetch(`${url}/v2/models/simple/versions/1/ready`)).status, 200);
  const { data } = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] };
  assert.deepEqual(
    data.map(({ id }) => id),
    ['tiny_embed'],
  );
  running.process.kill('SIGTERM');
  assert.equal((await running.ended).code, 0);
});

for (const mode of ['none', 'poll']) {
  test(`a model that never starts is no reason not to stop, while the server starts in mode ${mode}`, async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'rose-endless-'));
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    mkdirSync(join(directory, 'm', '1'), { recursive: true });
    const began = join(directory, 'began');
    writeFileSync(
      join(directory, 'm', '1', 'model.ts'),
      `import { writeFileSync } from 'node:fs'; writeFileSync('${began}', ''); for (;;);`,
    );
    const running = start(['serve', '--port', '0', '--model-repository', directory, '--model-control-mode', mode]);
    t.after(() => running.process.kill('SIGKILL'));
    while (!existsSync(began)) await new Promise((resolve) => setTimeout(resolve, 20));
    running.process.kill('SIGTERM');
    assert.equal((await running.ended).code, 143);
  });
}

test('options of a repository that cannot have an effect, or name nothing, are refused', async () => {
  const refused: [string[], number, RegExp][] = [
    [['--model-control-mode', 'poll'], 2, /--model-control-mode has no effect without --model-repository/],
    [['--model-repository', REPOSITORY, '--load-model', 'x'], 2, /without --model-control-mode explicit/],
    [['--model-repository', REPOSITORY, '--repository-poll-secs', '5'], 2, /without --model-control-mode poll/],
    [['--unload-seconds', '5'], 2, /--unload-seconds has no effect without --model-repository/],
    [['--cache-config', 'local,size=1000'], 2, /--cache-config has no effect without --model-repository/],
    [
      ['--model-repository', REPOSITORY, '--cache-config', 'redis,host=x'],
      2,
      /There is no cache "redis": Rose has local/,
    ],
    [['--model-repository', REPOSITORY, '--cache-config', 'local,size=0'], 2, /Give local,size=N/],
    [['--model-repository', REPOSITORY, '--rate-limit', 'on'], 2, /Allowed choices are off, execution_count/],
    [['--model-repository', REPOSITORY, '--rate-limit-resource', 'R:1'], 2, /without --rate-limit execution_count/],
    [['--model-repository', REPOSITORY, '--rate-limit-resource', 'R:1:0'], 2, /the CPU, which has no number/],
    [['--cors-origin', 'app.example.com'], 2, /'app\.example\.com' is no origin: write scheme:\/\/host\[:port\]/],
    [['--model-repository', 'nowhere'], 3, /there is no model repository "nowhere"/],
    [
      ['--model-repository', REPOSITORY, '--model-control-mode', 'explicit', '--load-model', 'nobody'],
      3,
      /failed to load 'nobody'/,
    ],
  ];
  for (const [args, code, pattern] of refused) {
    const ended = await rose(['serve', '--port', '0', ...args]);
    assert.equal(ended.code, code, ended.stderr);
    assert.match(ended.stderr, pattern);
    assert.doesNotMatch(ended.stderr, /\n {4}at /);
  }
});
