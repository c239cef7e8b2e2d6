import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ProgramCache } from '@rose/cuda';
import { compileKernel } from '@rose/cute';
import { specialise, type KernelModule } from '@rose/kernels';
import { kernelNamed } from '../src/device/cuda/kernels.ts';
import { Programs, sourceVersion } from '../src/device/cuda/programs.ts';

const directory = await mkdtemp(join(tmpdir(), 'rose-programs-'));
after(() => rm(directory, { recursive: true }));

/** A kernel of the library, and how often it was traced. */
function counted(name: string): { module: KernelModule; traces: () => number; restore: () => void } {
  const module = kernelNamed(name);
  const { trace } = module;
  let traces = 0;
  const writable = module as { trace: KernelModule['trace'] };
  writable.trace = (s) => (traces++, trace(s));
  return { module, traces: () => traces, restore: () => void (writable.trace = trace) };
}

test('a program is made once for each specialisation, architecture and version of the sources', async () => {
  const { module, traces, restore } = counted('rmsnorm');
  try {
    const [one, other] = [1024, 2048].map((columns) => specialise(module, { dims: { rows: 4, columns } }));
    const cold = new Programs(new ProgramCache({ directory }), 'version');
    const program = cold.programOf(module, one, 'sm_90a');
    assert.deepEqual(program, compileKernel(module.trace(one), { arch: 'sm_90a' }).program);
    const made = traces();
    const warm = new Programs(new ProgramCache({ directory }), 'version');
    assert.deepEqual(warm.programOf(module, one, 'sm_90a'), program);
    assert.equal(traces(), made);
    warm.programOf(module, other, 'sm_90a');
    warm.programOf(module, one, 'sm_80');
    new Programs(new ProgramCache({ directory }), 'another version').programOf(module, one, 'sm_90a');
    assert.equal(traces(), made + 3);
    const files = await readdir(directory);
    assert.equal(files.length, 4);
    // A damaged entry is made again.
    for (const file of files) {
      const path = join(directory, file);
      const bytes = await readFile(path);
      bytes[bytes.length - 20] ^= 1;
      await writeFile(path, bytes);
    }
    assert.deepEqual(warm.programOf(module, one, 'sm_90a'), program);
    assert.equal(traces(), made + 4);
  } finally {
    restore();
  }
});

test('a kernel that is not the library’s is never taken for one by its name', () => {
  const module = { ...kernelNamed('rmsnorm') };
  const one = specialise(module, { dims: { rows: 4, columns: 64 } });
  let traces = 0;
  const own = { ...module, trace: (s: typeof one) => (traces++, module.trace(s)) };
  const programs = new Programs(new ProgramCache({ directory }), 'version');
  programs.programOf(own, one, 'sm_90a');
  programs.programOf(own, one, 'sm_90a');
  assert.equal(traces, 2);
});

test('the version of the sources is a hash that stays', () => {
  assert.match(sourceVersion(), /^[0-9a-f]{64}$/);
  assert.equal(sourceVersion(), sourceVersion());
});
