import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const bin = fileURLToPath(new URL('../bin', import.meta.url));
const { PLATFORM_PACKAGES, compileCache } = createRequire(import.meta.url)('../bin/launch.cjs') as {
  PLATFORM_PACKAGES: Record<string, string>;
  compileCache: (environment: NodeJS.ProcessEnv, platform: string, home: string) => string | undefined;
};

const temporary = mkdtempSync(join(tmpdir(), 'rose-launch-'));
after(() => rmSync(temporary, { recursive: true }));

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs JavaScript; `onOutput` may act on the process while it runs. */
function run(
  code: string,
  args: readonly string[] = [],
  onOutput?: (kill: (signal: NodeJS.Signals) => void) => void,
): Promise<Ended> {
  const child = spawn(process.execPath, ['--eval', code, '--', ...args]);
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data) => {
    stdout += data;
    onOutput?.((signal) => child.kill(signal));
  });
  child.stderr.on('data', (data) => (stderr += data));
  return new Promise<Ended>((resolve) => {
    child.on('close', (exitCode, signal) => resolve({ code: exitCode, signal, stdout, stderr }));
  });
}

/** Code that launches other code, as the launcher does for the program. */
function launching(code: string): string {
  return `require(${JSON.stringify(join(bin, 'launch.cjs'))}).run(process.execPath, ['--eval', ${JSON.stringify(code)}])`;
}

test("the program's exit code and output are the launcher's", async () => {
  const ended = await run(launching('console.log("out"); console.error("err"); process.exitCode = 7'));
  assert.deepEqual(ended, { code: 7, signal: null, stdout: 'out\n', stderr: 'err\n' });
});

test('a signal reaches the program, which may end in its own way', async () => {
  const program = `process.on('SIGTERM', () => { console.log('bye'); process.exit(3); });
    setInterval(() => {}, 1000); console.log('up');`;
  let sent = false;
  const ended = await run(launching(program), [], (kill) => {
    if (!sent) kill('SIGTERM');
    sent = true;
  });
  assert.equal(ended.code, 3);
  assert.equal(ended.stdout, 'up\nbye\n');
});

test('a program that a signal ended ends the launcher by the same one', async () => {
  const ended = await run(launching(`process.kill(process.pid, 'SIGKILL'); setInterval(() => {}, 1000)`));
  assert.equal(ended.signal, 'SIGKILL');
});

test('a Node.js that is not there is one line', async () => {
  const ended = await run(`require(${JSON.stringify(join(bin, 'launch.cjs'))}).run('/no/such/node', [])`);
  assert.equal(ended.code, 1);
  assert.match(ended.stderr, /^rose: cannot run \/no\/such\/node: .*\n$/);
});

/** An installed package without sources, whose program says which Node.js it runs on. */
function installation(name: string): string {
  const home = join(temporary, name);
  cpSync(bin, join(home, 'bin'), { recursive: true });
  mkdirSync(join(home, 'dist'));
  writeFileSync(join(home, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(home, 'dist', 'main.js'), 'console.log(process.versions.node, process.argv.slice(2).join())');
  return home;
}

/** Runs an installation's command as a Node.js of this version would. */
function asVersion(home: string, version: string, args: readonly string[]): Promise<Ended> {
  const command = join(home, 'bin', 'rose.cjs');
  return run(
    `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } });
     process.argv.splice(1, 0, ${JSON.stringify(command)}); require(${JSON.stringify(command)});`,
    args,
  );
}

test('a new Node.js runs the program itself', async () => {
  const ended = await asVersion(installation('new'), '24.11.0', ['serve', '--port', '1']);
  assert.deepEqual(ended, { code: 0, signal: null, stdout: '24.11.0 serve,--port,1\n', stderr: '' });
});

test('an old Node.js runs the program on the one that was installed with it', async () => {
  const home = installation('old');
  const modules = join(home, 'node_modules', PLATFORM_PACKAGES[`${process.platform}-${process.arch}`], 'bin');
  mkdirSync(modules, { recursive: true });
  writeFileSync(join(modules, '..', 'package.json'), '{}');
  symlinkSync(process.execPath, join(modules, process.platform === 'win32' ? 'node.exe' : 'node'));
  const ended = await asVersion(home, '20.20.2', ['--version']);
  assert.deepEqual(ended, { code: 0, signal: null, stdout: `${process.versions.node} --version\n`, stderr: '' });
});

test('an old Node.js alone says what to do', async () => {
  const ended = await asVersion(installation('alone'), '24.10.9', []);
  assert.equal(ended.code, 1);
  assert.match(ended.stderr, /^rose: this is Node\.js 24\.10\.9 .* Rose runs on 24\.11 or newer.*--omit=optional.*\n$/);
});

test('what Node.js compiles is kept beside the other caches, unless somebody chose otherwise', () => {
  assert.equal(compileCache({}, 'linux', '/u'), join('/u', '.cache', 'rose', 'node'));
  assert.equal(compileCache({ XDG_CACHE_HOME: '/c' }, 'linux', '/u'), join('/c', 'rose', 'node'));
  assert.equal(compileCache({ ROSE_CACHE_DIR: '/r' }, 'linux', '/u'), join('/r', 'node'));
  assert.equal(compileCache({}, 'darwin', '/u'), join('/u', 'Library', 'Caches', 'rose', 'node'));
  assert.equal(compileCache({ LOCALAPPDATA: 'l' }, 'win32', '/u'), join('l', 'rose', 'node'));
  assert.equal(compileCache({ NODE_COMPILE_CACHE: '/n' }, 'linux', '/u'), undefined);
  assert.equal(compileCache({ NODE_DISABLE_COMPILE_CACHE: '1' }, 'linux', '/u'), undefined);
});
