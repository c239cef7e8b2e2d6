import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { FakeHub } from '../../engine/test/checkpoint/fake-hub.ts';
import { rose } from './rose.ts';

const hub = new FakeHub();
const home = mkdtempSync(join(tmpdir(), 'rose-pull-'));
const environment: NodeJS.ProcessEnv = {
  HF_HOME: home,
  HF_HUB_CACHE: undefined,
  HUGGINGFACE_HUB_CACHE: undefined,
  HF_HUB_OFFLINE: undefined,
  HF_TOKEN: undefined,
};

before(async () => {
  await hub.start();
  environment.HF_ENDPOINT = hub.url;
  hub.add('org/tiny', fileURLToPath(new URL('../../../test/checkpoints/bert-mean', import.meta.url)));
});
after(async () => {
  await hub.stop();
  rmSync(home, { recursive: true });
});

test('rose pull fetches a model once and prints where it lies', async () => {
  const first = await rose(['pull', 'org/tiny'], '', environment);
  assert.equal(first.code, 0, first.stderr);
  const directory = first.stdout.trimEnd();
  assert.ok(existsSync(join(directory, 'model.safetensors')));
  assert.match(first.stderr, /^downloading model\.safetensors \(.*\)$/m);
  assert.match(first.stderr, /^downloaded model\.safetensors \(.*\)$/m);

  const second = await rose(['pull', 'org/tiny'], '', environment);
  assert.deepEqual([second.code, second.stdout, second.stderr], [0, first.stdout, '']);
});

test('what was pulled is used by its name, without the network', async () => {
  const ended = await rose(['info', 'org/tiny'], '', { ...environment, HF_HUB_OFFLINE: '1' });
  assert.equal(ended.code, 0, ended.stderr);
  assert.match(ended.stdout, /BertModel/);
});

test('a model that the hub does not have is one paragraph and exit code 3', async () => {
  const ended = await rose(['pull', 'org/none'], '', environment);
  assert.equal(ended.code, 3);
  assert.match(ended.stderr, /^rose: .*org\/none.*\n$/);
});
