import type { KernelIR } from './ir/ir.ts';
import { verifyKernel } from './ir/verify.ts';
import { runPasses, type PassOptions } from './passes/passes.ts';
import { archOf } from './ptx/arch.ts';
import { emitPtx } from './ptx/emit.ts';
import type { ParameterPlace } from './ptx/params.ts';
import type { PrintSite } from './ptx/ring.ts';

export interface CompileOptions extends PassOptions {
  /** `sm_90a`, `sm_100a`, ... */
  readonly arch: string;
  /** Least PTX ISA version to write; absent: the lowest that serves. */
  readonly isa?: number;
}

/** PTX with the facts that a launch needs: plain data, which @rose/cuda takes. */
export interface Program {
  /** Name of the `.entry`. */
  readonly name: string;
  readonly ptx: string;
  /** In order; after them `ring`, the address of the print buffer, where the kernel prints or asserts. */
  readonly params: readonly ParameterPlace[];
  /** Bytes of the parameter buffer. */
  readonly paramBytes: number;
  /** Dynamic shared memory of a CTA, bytes. */
  readonly sharedBytes: number;
  readonly threads: readonly [number, number, number];
  readonly cluster?: readonly [number, number, number];
  readonly maxRegisters?: number;
  readonly overlapsPrevious?: boolean;
}

export interface Compiled {
  readonly program: Program;
  /** The kernel after all passes, as it was written. */
  readonly kernel: KernelIR;
  /** Where it prints and asserts: `decodeRing` reads the print buffer with them. */
  readonly sites: readonly PrintSite[];
  /** PTX ISA version and target of the program. */
  readonly isa: number;
  readonly target: string;
}

/**
 * Verifies a kernel, runs the passes over a copy, and writes PTX.
 *
 * @throws KernelError with file, line and what to do, where the kernel is wrong or the architecture lacks something.
 */
export function compileKernel(kernel: KernelIR, options: CompileOptions): Compiled {
  verifyKernel(kernel, archOf(options.arch));
  const lowered = runPasses(kernel, options);
  const { arch, isa } = options;
  const emitted = emitPtx(lowered, { arch, ...(isa !== undefined && { isa }) });
  const { threads, cluster, maxRegisters, overlapsPrevious } = kernel;
  // Before sm_90 grids of a stream never overlap.
  const overlaps = overlapsPrevious && archOf(arch).capability >= 90;
  const program: Program = {
    name: emitted.name,
    ptx: emitted.text,
    params: emitted.params,
    paramBytes: emitted.paramBytes,
    sharedBytes: emitted.sharedBytes,
    threads,
    ...(cluster && { cluster }),
    ...(maxRegisters !== undefined && { maxRegisters }),
    ...(overlaps && { overlapsPrevious }),
  };
  return { program, kernel: lowered, sites: emitted.sites, isa: emitted.isa, target: emitted.target };
}
