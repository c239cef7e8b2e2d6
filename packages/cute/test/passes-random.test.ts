import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel } from '../src/compile.ts';
import type { KernelIR } from '../src/ir/ir.ts';
import { parseKernel } from '../src/ir/parse.ts';
import { printKernel } from '../src/ir/print.ts';
import { verifyKernel } from '../src/ir/verify.ts';
import { runPasses } from '../src/passes/passes.ts';
import { interpret } from './interpret.ts';
import { assemble, WITHOUT_PTXAS } from './ptxas.ts';
import { random, RANDOM_BYTES, randomKernel } from './random-kernel.ts';

const SEEDS = Array.from({ length: 300 }, (_, i) => i + 1);

/** Memory after a few threads, one after the other. */
function run(kernel: KernelIR, seed: number): string {
  const memory = new DataView(new ArrayBuffer(RANDOM_BYTES));
  const next = random(seed);
  for (let at = 0; at < RANDOM_BYTES; at += 4) memory.setFloat32(at, next(2000) / 8 - 100, true);
  for (const thread of [0, 1, 33, 63]) interpret(kernel, memory, thread);
  return Buffer.from(memory.buffer).toString('hex');
}

test('the text form reads back to the same text, before and after passes', () => {
  for (const seed of SEEDS) {
    for (const kernel of [randomKernel(seed), runPasses(randomKernel(seed))]) {
      const text = printKernel(kernel);
      assert.equal(printKernel(parseKernel(text)), text, `seed ${seed}`);
    }
  }
});

test('passes keep every bit, and what they give verifies', () => {
  for (const seed of SEEDS) {
    const kernel = randomKernel(seed);
    verifyKernel(kernel);
    const text = printKernel(kernel);
    const after = runPasses(kernel);
    assert.equal(printKernel(kernel), text, `seed ${seed}: the kernel itself changed`);
    verifyKernel(after);
    assert.equal(run(after, seed), run(kernel, seed), `seed ${seed}`);
  }
});

test('random kernels assemble', { skip: WITHOUT_PTXAS }, () => {
  for (const seed of SEEDS.slice(0, 12)) {
    const { program } = compileKernel(randomKernel(seed), { arch: 'sm_90a' });
    assert.equal(assemble(program.ptx, 'sm_90a').errors, '', `seed ${seed}`);
  }
});
