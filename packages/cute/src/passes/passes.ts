import { cloneKernel } from '../ir/clone.ts';
import type { KernelIR } from '../ir/ir.ts';
import { printKernel } from '../ir/print.ts';
import { removeDead } from './dead.ts';
import { fenceProxies } from './fences.ts';
import { pairConversions } from './pairs.ts';
import { separateRoles } from './roles.ts';
import { allocateShared } from './shared.ts';
import { simplify } from './simplify.ts';
import { unrollLoops } from './unroll.ts';
import { vectorise } from './vectorise.ts';

/** Changes a kernel in place; its meaning, to the last bit, stays. */
export interface Pass {
  readonly name: string;
  readonly run: (kernel: KernelIR) => void;
}

/** What optimises, in order. */
const OPTIMISATIONS: readonly Pass[] = [
  { name: 'unroll', run: unrollLoops },
  { name: 'simplify', run: simplify },
  { name: 'vectorise', run: vectorise },
  { name: 'pairs', run: pairConversions },
  { name: 'roles', run: separateRoles },
  { name: 'dead', run: removeDead },
];

/** What every kernel needs before it can be emitted or simulated. */
const LOWERING: readonly Pass[] = [
  { name: 'fences', run: fenceProxies },
  { name: 'shared', run: allocateShared },
];

export interface PassOptions {
  /** Absent or true: optimise; false: only what a kernel needs to run. */
  readonly optimise?: boolean;
  /** Is told the kernel's text after each pass. */
  readonly trace?: (pass: string, text: string) => void;
}

/** A copy of a kernel after all passes; the kernel stays as it was traced. */
export function runPasses(kernel: KernelIR, options: PassOptions = {}): KernelIR {
  const copy = cloneKernel(kernel);
  const passes = options.optimise === false ? LOWERING : [...OPTIMISATIONS, ...LOWERING];
  for (const pass of passes) {
    pass.run(copy);
    options.trace?.(pass.name, printKernel(copy));
  }
  return copy;
}
