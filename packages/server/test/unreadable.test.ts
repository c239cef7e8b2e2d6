import assert from 'node:assert/strict';
import { chmodSync, renameSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { RepositoryOptions } from '@rose/server';
import type { Backend } from '../src/backend/backend.ts';
import { fingerprint } from '../src/repository/layout.ts';
import { Loading } from '../src/repository/loading.ts';
import { prepareModel } from '../src/repository/prepare.ts';
import { config, IDENTITY, makeRepository, model, numbers, write } from './repository-kit.ts';
import { serve, until, type Serving } from './serving.ts';

const NOBODY = 65_534;
const good = { 'config.pbtxt': config('TYPE_INT32'), '1/model.ts': IDENTITY };
const first = config('TYPE_INT32', 'version_policy { specific { versions: 1 } }');
/** A backend that is only looked at. */
const NOTHING: Backend = {
  files: ['model.ts'],
  complete: () => Promise.reject(new Error('nobody asks')),
  load: () => Promise.reject(new Error('nobody asks')),
};
const labelled = config('TYPE_INT32').replace('name: "OUT"', 'name: "OUT" label_filename: "labels.txt"');

function repository(t: TestContext, models: Readonly<Record<string, Readonly<Record<string, string>>>>): string {
  const files = Object.entries(models).flatMap(([name, own]) =>
    Object.entries(own).map(([path, text]) => [`${name}/${path}`, text]),
  );
  return makeRepository(t, Object.fromEntries(files) as Record<string, string>);
}

function explicit(directory: string, ...loadModels: string[]): { repository: RepositoryOptions } {
  return { repository: { directories: [directory], mode: 'explicit', loadModels } };
}

/** What a load is refused with. */
async function refusal({ post }: Serving, name: string): Promise<string> {
  const response = await post(`/v2/repository/models/${name}/load`, '');
  assert.ok(response.status === 400 || response.status === 500, `${name}: ${response.status}`);
  return (await response.json()).error;
}

test('a file or directory that is something else is named with its path and why it cannot be read', async (t) => {
  const { 'config.pbtxt': text, '1/model.ts': code } = good;
  const directory = repository(t, {
    good,
    folder: { 'config.pbtxt/.empty': '', '1/model.ts': code },
    dangling: { '1/model.ts': code },
    circle: { '1/model.ts': code },
    code: { 'config.pbtxt': text, '1/model.ts/.empty': '' },
    lost: { 'config.pbtxt': text, '1/.empty': '' },
    labels: { 'config.pbtxt': labelled, '1/model.ts': code, 'labels.txt/.empty': '' },
    checkpoint: { 'config.pbtxt': 'backend: "rose"', '1/model.json/.empty': '' },
  });
  const at = (path: string): string => join(directory, path);
  symlinkSync('nowhere', at('dangling/config.pbtxt'));
  symlinkSync('config.pbtxt', at('circle/config.pbtxt'));
  symlinkSync('nowhere', at('lost/1/model.ts'));
  const server = await serve(t, explicit(directory, 'good'));
  const expected: Record<string, string> = {
    folder: `failed to read ${at('folder/config.pbtxt')}: ${at('folder/config.pbtxt')} is no file`,
    dangling: `failed to read ${at('dangling/config.pbtxt')}: it is a link to what is not there`,
    circle: `failed to read ${at('circle/config.pbtxt')}: its links lead in a circle`,
    code: `${at('code/1/model.ts')} is no file`,
    lost: "there is no model.ts or model.mts or model.js or model.mjs in the version's directory",
    labels: "cannot read label_filename 'labels.txt' of output 'OUT' of labels: ",
    checkpoint: `${at('checkpoint/1/model.json')} is no file`,
  };
  for (const [name, message] of Object.entries(expected)) {
    const told = await refusal(server, name);
    assert.ok(told.includes(message), `${name}: ${told}`);
  }
  // Nothing of that touched what answers.
  assert.equal((await server.post('/v2/models/good/infer', numbers(1))).status, 200);
});

test(
  'what the user that the server runs as may not read is named',
  { skip: process.platform === 'win32' },
  async (t) => {
    const directory = repository(t, {
      whole: good,
      version: good,
      settings: good,
      labels: { ...good, 'config.pbtxt': labelled, 'labels.txt': 'a\nb' },
      code: good,
      older: { ...good, 'config.pbtxt': first, '2/model.ts': IDENTITY },
    });
    const server = await serve(t, explicit(directory));
    const closed = ['whole', 'version/1', 'settings/config.pbtxt', 'labels/labels.txt', 'code/1/model.ts'];
    // Its policy does not want it.
    const unwanted = join(directory, 'older/2');
    const paths = closed.map((path) => join(directory, path));
    for (const path of [...paths, unwanted]) chmodSync(path, 0);
    chmodSync(directory, 0o755);
    // Nothing is forbidden to root, whom containers run tests as: files are looked at as somebody else.
    const root = process.geteuid?.() === 0;
    if (root) process.seteuid?.(NOBODY);
    try {
      for (const path of paths) {
        const name = path.slice(directory.length + 1).split('/')[0];
        const told = await refusal(server, name);
        assert.match(told, /permission denied: the user that the server runs as may not read it/, name);
        assert.ok(told.includes(name === 'labels' ? "'labels.txt'" : path), `${name}: ${told}`);
      }
      // In mode poll the whole directory is watched while a part of it loads.
      const loading = new Loading('older', () => {});
      await loading.watch(() => fingerprint(join(directory, 'older')));
      await loading.giveUpIfChanged();
      loading.end();
      assert.equal(loading.outdated, false);
      const backends = new Map([['typescript', NOTHING]]);
      const { signal } = new AbortController();
      const { versions } = await prepareModel('older', join(directory, 'older'), backends, undefined, signal);
      assert.deepEqual(
        versions.map(({ number }) => number),
        [1],
      );
    } finally {
      if (root) process.seteuid?.(0);
      for (const path of [...paths, unwanted]) chmodSync(path, 0o755);
    }
    // As soon as it may be read, it is.
    assert.equal((await server.post('/v2/repository/models/settings/load', '')).status, 200);
  },
);

test('mode poll: a repository that is away is told once, models go on, and its return is told', async (t) => {
  const directory = makeRepository(t, {});
  const [there, away] = [join(directory, 'models'), join(directory, 'away')];
  const code = model("{ OUT: tensor('INT32', [1], Int32Array.of(1)) }");
  write(there, { 'm/config.pbtxt': good['config.pbtxt'], 'm/1/model.ts': code });
  const { post, log } = await serve(t, { repository: { directories: [there], mode: 'poll', pollSeconds: 0.02 } });
  const told = (text: string): number => log.filter((line) => line.includes(text)).length;
  const gone = `cannot read the model repository ${there}: there is no such file or directory; until it can be read, models stay as they are`;
  const back = 'the model repository can be read again: changes are followed';
  for (const times of [1, 2]) {
    renameSync(there, away);
    await until(() => told(gone) === times, 'the repository is missed');
    // Several more looks go by.
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.deepEqual([told(gone), told(back)], [times, times - 1]);
    assert.equal((await post('/v2/models/m/infer', numbers(0))).status, 200);
    assert.equal((await post('/v2/repository/index', '')).status, 500);
    renameSync(away, there);
    await until(() => told(back) === times, 'the repository is found again');
    assert.equal((await post('/v2/models/m/infer', numbers(0))).status, 200);
  }
});
