import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { transform } from '../src/transform/transform.ts';

const REGISTER = new URL('../src/register.ts', import.meta.url).href;
const RUNTIME = new URL('../src/runtime.ts', import.meta.url).href;
const PACKAGE = fileURLToPath(new URL('..', import.meta.url));

/** A directory outside of the repository, from where the package can be imported. */
const home = mkdtempSync(join(tmpdir(), 'rose-kernel-'));
after(() => rmSync(home, { recursive: true, force: true }));
mkdirSync(join(home, 'node_modules', '@rose'), { recursive: true });
symlinkSync(PACKAGE, join(home, 'node_modules', '@rose', 'cute'), 'junction');

const KERNEL = `
import { f32, kernel, tid, type Tensor } from '@rose/cute';

export const twice = kernel({ name: 'twice', params: { y: f32.tensor(32) }, threads: 32 }, ({ y }) => {
  'use gpu';
  y[tid()] = double(y, tid());
});

function double(y: Tensor<f32>, i: number): f32 {
  'use gpu';
  return y[i] * 2;
}
`;
writeFileSync(join(home, 'kernel.ts'), KERNEL);
const PRINT = `import { isMainThread } from 'node:worker_threads';
import { printKernel } from '@rose/cute';
import { twice } from './kernel.ts';
console.log(isMainThread, printKernel(twice.trace({})));
`;
writeFileSync(join(home, 'print.ts'), PRINT);
writeFileSync(
  join(home, 'worker.ts'),
  `import { Worker } from 'node:worker_threads';
new Worker(new URL('./print.ts', import.meta.url));
`,
);
writeFileSync(
  join(home, 'late.ts'),
  `await import(${JSON.stringify(REGISTER)});
await import('./print.ts');
`,
);
writeFileSync(
  join(home, 'within.ts'),
  `import ${JSON.stringify(REGISTER)};
import './kernel.ts';
`,
);

/** Where Node.js keeps compiled code in these tests, and the transform what it made. */
const CACHE = join(home, 'compiled');

function node(file: string, ...flags: string[]): string {
  const args = ['--disable-warning=ExperimentalWarning', '--conditions=development', ...flags, join(home, file)];
  return execFileSync(process.execPath, args, {
    encoding: 'utf8',
    stdio: 'pipe',
    env: { ...process.env, NODE_OPTIONS: '', NODE_COMPILE_CACHE: CACHE },
  });
}

test('--import transforms kernels outside of the repository; their nodes name the file as it was written', () => {
  const out = node('print.ts', `--import=${REGISTER}`);
  assert.match(out, /^true kernel "twice"/);
  assert.match(out, /kernel\.ts" 6 \d+/);
  assert.match(out, /kernel\.ts" 11 \d+ "double" in/);
});

test('threads that the program starts have the hook too', () => {
  assert.match(node('worker.ts', `--import=${REGISTER}`), /^false kernel "twice"/);
});

test('an import before the kernel is imported is early enough', () => {
  assert.match(node('late.ts'), /^true kernel "twice"/);
});

test('an import beside the kernel is too late, and the error says what to do', () => {
  assert.throws(() => node('within.ts'), /kernel twice was not transformed: .*--import @rose\/cute\/register/);
});

test('a file that was transformed beforehand needs no hook', () => {
  const out = transform(KERNEL, 'kernel.ts', { runtime: RUNTIME }) ?? '';
  writeFileSync(join(home, 'built.js'), out);
  writeFileSync(join(home, 'package.json'), '{"type":"module"}');
  const print = readFileSync(join(home, 'print.ts'), 'utf8').replace('./kernel.ts', './built.js');
  writeFileSync(join(home, 'print-built.ts'), print);
  const plain = node('print-built.ts');
  assert.match(plain, /^true kernel "twice"/);
  // With the hook it is left as it is.
  assert.equal(node('print-built.ts', `--import=${REGISTER}`), plain);
});

test('what a file became is kept beside compiled code, and made anew when the file is another', () => {
  writeFileSync(join(home, 'other.ts'), KERNEL.replaceAll('double', 'twofold'));
  writeFileSync(join(home, 'print-other.ts'), PRINT.replace('./kernel.ts', './other.ts'));
  const print = (): string => node('print-other.ts', `--import=${REGISTER}`);
  const first = print();
  assert.match(first, /"twofold" in/);
  const keptFiles = (): string[] =>
    readdirSync(CACHE, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.includes('rose-kernels') && name.endsWith('.js'))
      .map((name) => join(CACHE, name));
  const [kept, ...more] = keptFiles().filter((name) => readFileSync(name, 'utf8').includes('twofold'));
  assert.deepEqual(more, []);
  assert.equal(print(), first);
  // It is read where it is whole: what stands there then is what runs.
  const text = readFileSync(kept, 'utf8');
  const other = text.slice(0, text.lastIndexOf('\n//# ')).replace("name: 'twice'", "name: 'kept'");
  const hash = createHash('sha256')
    .update(JSON.stringify([other]))
    .digest('hex');
  writeFileSync(kept, `${other}\n//# ${hash}`);
  assert.match(print(), /kernel "kept"/);
  for (const damaged of ['', text.slice(0, 100), text.replace("name: 'twice'", "name: 'wrong'")]) {
    writeFileSync(kept, damaged);
    assert.equal(print(), first);
    assert.equal(readFileSync(kept, 'utf8'), text);
  }
  const before = keptFiles().length;
  writeFileSync(join(home, 'other.ts'), KERNEL.replaceAll('double', 'twofold').replace("name: 'twice'", "name: 'two'"));
  assert.match(print(), /kernel "two"/);
  assert.equal(keptFiles().length, before + 1);
});
