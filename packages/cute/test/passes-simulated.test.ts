import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runPasses } from '../src/passes/passes.ts';
import { simulate } from '../src/sim/simulate.ts';
import { compileKernel } from '../src/compile.ts';
import { walk, type KernelIR } from '../src/ir/ir.ts';
import { parseKernel } from '../src/ir/parse.ts';
import { printKernel } from '../src/ir/print.ts';
import { verifyKernel } from '../src/ir/verify.ts';
import { assemble, WITHOUT_PTXAS } from './ptxas.ts';
import { random, RANDOM_BYTES, randomKernel } from './random-kernel.ts';

/** What a kernel of one thread leaves in its tensor, in the simulator. */
function run(kernel: KernelIR, seed: number): string {
  const x = new Float32Array(RANDOM_BYTES / 4);
  const next = random(seed);
  for (let i = 0; i < x.length; i++) x[i] = next(2000) / 8 - 100;
  const { findings } = simulate(kernel, { grid: [1, 1, 1], args: { x } });
  assert.deepEqual(
    findings.map(({ message }) => message),
    [],
  );
  return Buffer.from(x.buffer).toString('hex');
}

test('optimised kernels of all families of operations give the same bits, and read back from their text', () => {
  const families = new Set<string>();
  for (let seed = 1; seed <= 40; seed++) {
    const kernel: KernelIR = { ...randomKernel(seed, true), threads: [1, 1, 1] };
    verifyKernel(kernel);
    walk(kernel.body, ({ op }) => families.add(op));
    const optimised = runPasses(kernel);
    verifyKernel(optimised);
    const text = printKernel(optimised);
    assert.equal(printKernel(parseKernel(text)), text, `seed ${seed}`);
    assert.equal(run(optimised, seed), run(runPasses(kernel, { optimise: false }), seed), `seed ${seed}`);
  }
  for (const op of [
    'bfe',
    'bfi',
    'prmt',
    'lop3',
    'shf',
    'dp4a',
    'mad',
    'mulhi',
    'mulwide',
    'fma',
    'pack',
    'sqrt',
    'brev',
  ]) {
    assert.ok(families.has(op), op);
  }
});

test('random kernels of all families assemble', { skip: WITHOUT_PTXAS }, () => {
  for (let seed = 1; seed <= 12; seed++) {
    const { program } = compileKernel(randomKernel(seed, true), { arch: 'sm_90a' });
    assert.equal(assemble(program.ptx, 'sm_90a').errors, '', `seed ${seed}`);
  }
});

test('optimised kernels give the same bits in the simulator', () => {
  for (let seed = 1000; seed < 1030; seed++) {
    const kernel: KernelIR = { ...randomKernel(seed), threads: [1, 1, 1] };
    const plain = run(runPasses(kernel, { optimise: false }), seed);
    assert.equal(run(runPasses(kernel), seed), plain, `seed ${seed}`);
  }
});
