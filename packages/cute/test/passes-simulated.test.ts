import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runPasses } from '../src/passes/passes.ts';
import { simulate } from '../src/sim/simulate.ts';
import type { KernelIR } from '../src/ir/ir.ts';
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

test('optimised kernels give the same bits in the simulator', () => {
  for (let seed = 1000; seed < 1030; seed++) {
    const kernel: KernelIR = { ...randomKernel(seed), threads: [1, 1, 1] };
    const plain = run(runPasses(kernel, { optimise: false }), seed);
    assert.equal(run(runPasses(kernel), seed), plain, `seed ${seed}`);
  }
});
