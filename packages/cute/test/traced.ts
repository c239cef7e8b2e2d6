import assert from 'node:assert/strict';
import { walk, type KernelIR, type Node } from '../src/ir/ir.ts';
import { verifyKernel } from '../src/ir/verify.ts';
import { runPasses } from '../src/passes/passes.ts';
import type { SimulatorArgument } from '../src/sim/api.ts';
import { simulate } from '../src/sim/simulate.ts';

/** Traced kernels, looked at and run. */

export function nodesOf(ir: KernelIR, op: string): Node[] {
  const found: Node[] = [];
  walk(ir.body, (node) => {
    if (node.op === op) found.push(node);
  });
  return found;
}

/** Widths of the accesses of one kind, in elements. */
export function widths(ir: KernelIR, op: 'load' | 'store'): unknown[] {
  return nodesOf(ir, op).map((node) => node.attributes.count);
}

/** Runs it as it was traced and after the passes; both must be without findings. */
export function run(
  ir: KernelIR,
  args: () => Record<string, SimulatorArgument>,
  grid = 1,
): Record<string, SimulatorArgument> {
  verifyKernel(ir);
  let last: Record<string, SimulatorArgument> = {};
  for (const one of [ir, runPasses(ir)]) {
    const given = args();
    const { findings } = simulate(one, { grid: [grid, 1, 1], args: given });
    assert.deepEqual(
      findings.map(({ message }) => message),
      [],
    );
    last = given;
  }
  return last;
}

export const counting = (length: number): Float32Array => Float32Array.from({ length }, (_v, i) => i);
