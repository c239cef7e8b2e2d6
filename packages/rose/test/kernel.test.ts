import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { listDevices, loadDriver } from '@rose/cuda';
import { CommanderError } from 'commander';
import { kernelCommand } from '../src/commands/kernel.ts';
import { ExitCode, exitCodeOf, explain } from '../src/errors.ts';

/** `rose kernel`, as somebody uses it who follows docs/write-a-kernel.md with a file outside of the repository. */

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const page = readFileSync(new URL('../../../docs/write-a-kernel.md', import.meta.url), 'utf8');
const folder = mkdtempSync(join(tmpdir(), 'rose-kernel-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** The first block on the page behind some words. */
function blockBehind(words: string): string {
  const at = page.indexOf(words);
  assert.ok(at >= 0, `the page says ${words}`);
  return page
    .slice(at)
    .split(/\n```\w*\n/)[1]
    .split('\n```')[0];
}

const AXPY = blockBehind('## A whole file');

function save(name: string, text: string): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

function rose(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const flags = ['--disable-warning=ExperimentalWarning', '--conditions=development'];
  return spawnSync(process.execPath, [...flags, main, 'kernel', ...args], { encoding: 'utf8', cwd: folder });
}

/** What a command says that ends with an error, and its exit code, without a process of its own. */
async function refused(...args: string[]): Promise<{ status: number; stderr: string }> {
  let stderr = '';
  const command = kernelCommand()
    .exitOverride()
    .configureOutput({ writeErr: (text) => void (stderr += text) });
  for (const inner of command.commands) inner.copyInheritedSettings(command);
  try {
    await command.parseAsync(args, { from: 'user' });
    return { status: 0, stderr };
  } catch (error) {
    const status = error instanceof CommanderError ? ExitCode.usage : exitCodeOf(error);
    return { status, stderr: stderr || explain(error) };
  }
}

test('the file of the page is simulated and compiled as the page says', () => {
  const file = save('axpy.ts', AXPY);
  const sim = rose('sim', file);
  assert.equal(sim.status, 0, sim.stderr);
  assert.equal(sim.stdout.trim(), blockBehind('The first prints'));
  const ptx = rose('ptx', file, '--set', 'n=4096,threads=128');
  assert.equal(ptx.status, 0, ptx.stderr);
  assert.match(ptx.stdout, /\.target sm_90a[^]*\.file \d+ "[^"]*axpy\.ts"[^]*ld\.global\.v4\.b32[^]*fma\.rn\.f32/);
});

test('TypeScript accepts the file with the tsconfig.json of the page', () => {
  const root = fileURLToPath(new URL('../../../', import.meta.url));
  save('axpy.ts', AXPY);
  const config = JSON.parse(
    blockBehind('The commands do not check types').replaceAll('/path/to/rose/', root),
  ) as object;
  save('tsconfig.json', JSON.stringify({ ...config, files: ['axpy.ts'] }));
  const tsc = spawnSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', folder]);
  assert.equal(String(tsc.stdout), '');
  assert.equal(tsc.status, 0);
});

test('a wrong result, and an access out of bounds, fail with the line', () => {
  const wrong = save('wrong.ts', AXPY.replaceAll('fma(a, v, ys[i])', 'fma(a, v, -ys[i])'));
  const sim = rose('sim', wrong, '--set', 'n=1024');
  assert.equal(sim.status, 2);
  assert.match(sim.stdout, /^FAIL axpy[^]*elements wrong, worst at/);

  const beyond = save('beyond.ts', AXPY.replace('first + 4 <= x.shape[0]', 'first <= x.shape[0]'));
  const report = rose('sim', beyond, '--set', 'n=1027');
  assert.equal(report.status, 2);
  assert.match(report.stdout, /out-of-bounds: [^]*beyond\.ts:\d+/);
});

test('a case with findings fails, though its outputs are right', () => {
  const racy = AXPY.replace("'use gpu';", "'use gpu';\n    const s = shared(f32, 1);\n    s[0] = tid();")
    .replace('s[0] = tid()', 's[0] = f32(tid())')
    .replace('bid, f32', 'bid, shared, f32');
  const report = rose('sim', save('racy.ts', racy), '--set', 'n=1024');
  assert.equal(report.status, 2);
  assert.match(report.stdout, /^FAIL axpy[^]*\n {2}race: /);
});

test('outputs that must be exact, and those that nobody wrote, are told as such', () => {
  const partly = AXPY.replace(", { roundings: 0, why: 'one fma, rounded once' }", '').replace(
    'mine(z).store',
    'if (tid() < 32) mine(z).store',
  );
  const { stdout } = rose('sim', save('partly.ts', partly), '--set', 'n=1024');
  assert.match(stdout, /z: must be exact; \d+ of 1024 elements wrong \(896 never written\), worst at \[\d+\]: /);
});

test('what a person gets wrong is told in a sentence', async () => {
  const file = save('good.ts', AXPY);
  for (const [args, message] of [
    [['sim', 'nothing.ts'], /there is no file nothing\.ts/],
    [['sim', save('empty.ts', 'export const x = 1;')], /has no kernel: end it with `export default defineKernel/],
    [['sim', save('broken.ts', 'export default (')], /cannot be loaded/],
    [['sim', file, '--set', 'm=3'], /axpy has no m\. Sizes: n\. Tuning: threads \(256, 128, 512\)/],
    [['sim', file, '--set', 'n=0'], /size n is 0; it must be a whole number from 1/],
    [['sim', save('none.ts', AXPY.replace('({ z: x.map', '({ w: x.map'))], /kernel axpy: the reference gives no z/],
    [
      ['sim', save('short.ts', AXPY.replace('({ z: x.map((v, i) => a * v + y[i]) })', '({ z: x.subarray(1) })'))],
      /the reference of z has 1023 elements, the tensor 1024/,
    ],
    [
      ['sim', save('types.ts', AXPY.replace("x: input('f32'", "x: input('bf16'"))],
      /x is f32 in params and bf16 in args: they must be the same/,
    ],
    [
      ['ptx', save('shapes.ts', AXPY.replace("x: input('f32', [n]", "x: input('f32', [n, 2]"))],
      /x is f32 \[1024\] in params and f32 \[1024, 2\] in args/,
    ],
    [
      ['sim', save('size.ts', AXPY.replace("y: f32.tensor('n')", "y: f32.tensor('m')"))],
      /the size m of a tensor in params has no value: dims gives n; .* scalar\('i32'/,
    ],
    [['sim', file, '--set', 'n=many'], /size n is "many"; it must be a whole number from 1/],
    [['sim', file, '--set', '=3'], /--set =3: write name=value/],
    [['sim', folder], /is a directory/],
    [['sim', file, '--set', 'threads=64'], /it can be 256, 128, 512/],
    [['sim', file, '--schedule', 'worst'], /it can be round-robin, random or late/],
    [['ptx', file, '--arch', 'sm_12'], /sm_12/],
  ] as const) {
    const { status, stderr } = await refused(...args);
    assert.equal(status, 2, `${args.join(' ')}: ${stderr}`);
    assert.match(stderr, message);
    assert.doesNotMatch(stderr, /\n\s+at /);
  }
});

test('a ptxas that was named and cannot be run is an error', () => {
  const flags = ['--disable-warning=ExperimentalWarning', '--conditions=development'];
  const env = { ...process.env, ROSE_PTXAS: join(folder, 'nope') };
  const ended = spawnSync(process.execPath, [...flags, main, 'kernel', 'ptx', 'rmsnorm'], { encoding: 'utf8', env });
  assert.equal(ended.status, 2);
  assert.match(ended.stderr, /ptxas cannot be run \(.*nope\).*correct ROSE_PTXAS/);
});

test('what is wrong while a file is loaded or recorded has one place, its line', () => {
  for (const [args, message] of [
    [
      ['sim', save('part.ts', AXPY.replace(/ {2}reference: .*\n/, ''))],
      /part\.ts cannot be loaded: kernel axpy has no reference/,
    ],
    [
      ['sim', save('extent.ts', AXPY.replace("y: f32.tensor('n')", 'y: f32.tensor(NaN)'))],
      /not NaN[^]*\n {2}at .*extent\.ts:8$/m,
    ],
    [
      ['sim', save('own.ts', AXPY.replace("'use gpu';", "'use gpu'; throw new Error('mine');"))],
      /axpy: mine\n {2}at .*own\.ts:12\n$/,
    ],
  ] as const) {
    const { status, stderr } = rose(...args);
    assert.equal(status, 2, stderr);
    assert.match(stderr, message);
    assert.equal(stderr.split('\n  at ').length, 2, stderr);
  }
});

test("what the file's own functions throw is no fault of Rose, and has its line", () => {
  const file = save('throws.ts', AXPY.replace('({ z: x.map', '({ z: q.map'));
  const { status, stderr } = rose('sim', file);
  assert.equal(status, 2);
  assert.match(stderr, /^rose: kernel axpy: q is not defined\n {2}at [^\n]*throws\.ts:\d+:\d+\n/);
});

test(
  'without a GPU there is one sentence and an exit code',
  { skip: hasDriver() && 'this machine has a driver' },
  () => {
    const { status, stderr } = rose('run', 'rmsnorm');
    assert.equal(status, 5);
    assert.match(stderr, /^rose: No NVIDIA driver was found/);
  },
);

function hasDriver(): boolean {
  try {
    return listDevices(loadDriver()).length > 0;
  } catch {
    return false;
  }
}
