import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const temporary = mkdtempSync(join(tmpdir(), 'rose-setup-'));
after(() => rmSync(temporary, { recursive: true }));

/** Installs a Node.js in the place of npm's platform package, after saying that it was called. */
const NPM = `
const fs = require('fs'), path = require('path');
const { PLATFORM_PACKAGES } = require(path.join(process.cwd(), 'packages/rose/bin/launch.cjs'));
fs.appendFileSync('npm-calls', process.argv.slice(2).join(' ') + '\\n');
if (process.env.FAKE_NPM_ERROR) { console.error('npm error ' + process.env.FAKE_NPM_ERROR); process.exit(1); }
setTimeout(() => {
  const home = path.join('node_modules', PLATFORM_PACKAGES[process.platform + '-' + process.arch]);
  fs.rmSync('node_modules', { recursive: true, force: true });
  fs.mkdirSync(path.join(home, 'bin'), { recursive: true });
  fs.writeFileSync(path.join(home, 'package.json'), '{}');
  fs.symlinkSync(process.execPath, path.join(home, 'bin', 'node'));
}, 300);`;

/** A checkout with nothing but the set-up, and an npm that only pretends. */
function checkout(name: string): string {
  const directory = join(temporary, name);
  for (const file of ['scripts/setup.cjs', 'packages/rose/bin/launch.cjs', 'package-lock.json']) {
    mkdirSync(dirname(join(directory, file)), { recursive: true });
    cpSync(join(root, file), join(directory, file));
  }
  writeFileSync(join(directory, 'npm-cli.js'), NPM);
  return directory;
}

async function setUp(
  directory: string,
  environment: Record<string, string> = {},
): Promise<{ code: number | null; errors: string }> {
  const child = spawn(process.execPath, [join(directory, 'scripts', 'setup.cjs')], {
    env: {
      ...process.env,
      npm_execpath: join(directory, 'npm-cli.js'),
      npm_node_execpath: process.execPath,
      ...environment,
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  const errors = await text(child.stderr);
  return { code: await ended, errors };
}

function calls(directory: string): number {
  const file = join(directory, 'npm-calls');
  return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n').length : 0;
}

test('installs once, again when the lockfile changed, and again when the installation is gone', async () => {
  const directory = checkout('lockfile');
  for (const expected of [1, 1]) {
    assert.equal((await setUp(directory)).code, 0);
    assert.equal(calls(directory), expected);
  }
  assert.match(readFileSync(join(directory, 'npm-calls'), 'utf8'), /^ci --include=dev --include=optional/);
  writeFileSync(join(directory, 'package-lock.json'), '{"lockfileVersion": 3}');
  await setUp(directory);
  assert.equal(calls(directory), 2);
  rmSync(join(directory, 'node_modules'), { recursive: true });
  await setUp(directory);
  assert.equal(calls(directory), 3);
});

test('programs of npm scripts run on the Node.js that was installed', async () => {
  const directory = checkout('linked');
  await setUp(directory);
  assert.equal(realpathSync(join(directory, 'node_modules', '.bin', 'node')), realpathSync(process.execPath));
});

test('two at once install once', async () => {
  const directory = checkout('two');
  const results = await Promise.all([setUp(directory), setUp(directory), setUp(directory)]);
  assert.deepEqual(
    results.map(({ code }) => code),
    [0, 0, 0],
  );
  assert.equal(calls(directory), 1);
});

test('the lock of a process that is gone does not hold anybody up', async () => {
  const directory = checkout('stale');
  const gone = spawn(process.execPath, ['--version'], { stdio: 'ignore' });
  await new Promise((resolve) => gone.on('exit', resolve));
  mkdirSync(join(directory, '.cache'));
  writeFileSync(join(directory, '.cache', 'setup.lock'), String(gone.pid));
  assert.equal((await setUp(directory)).code, 0);
  assert.equal(existsSync(join(directory, '.cache', 'setup.lock')), false);
});

for (const [message, advice] of [
  ['code ECONNREFUSED', /could not reach its package registry/],
  ['code EAI_AGAIN', /could not reach its package registry/],
  ['code EUSAGE', /do not fit each other/],
  ['code ENOSPC', /the disk is full/],
  ['code EACCES', /may not write/],
  ['code EINTEGRITY', /damaged/],
  ['something else', /npm ci failed \(exit code 1\)/],
] as const) {
  test(`npm's "${message}" is explained, and the next set-up tries again`, async () => {
    const directory = checkout(message.replaceAll(' ', '-'));
    const { code, errors } = await setUp(directory, { FAKE_NPM_ERROR: message });
    assert.equal(code, 1);
    assert.match(errors, advice);
    assert.ok(errors.includes(`npm error ${message}`), 'npm itself is heard');
    assert.equal((await setUp(directory)).code, 0);
    assert.equal(calls(directory), 2);
  });
}

test('a machine without npm is told so', async () => {
  const directory = checkout('no-npm');
  const { code, errors } = await setUp(directory, { npm_execpath: '', PATH: directory });
  assert.equal(code, 1);
  assert.match(errors, /npm was not found/);
});
