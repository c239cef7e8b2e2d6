import type { KernelIR } from './ir/ir.ts';
import { verifyKernel } from './ir/verify.ts';
import { runPasses, type PassOptions } from './passes/passes.ts';
import { archOf } from './ptx/arch.ts';
import { emitPtx, type EmittedPtx } from './ptx/emit.ts';

export interface CompileOptions extends PassOptions {
  /** `sm_90a`, `sm_100a`, ... */
  readonly arch: string;
  /** Least PTX ISA version to write; absent: the lowest that serves. */
  readonly isa?: number;
}

/** A kernel ready to be assembled: its PTX, and what a launch has to know. */
export interface Program extends EmittedPtx {
  /** The kernel after all passes, as it was emitted. */
  readonly kernel: KernelIR;
}

/**
 * Verifies a kernel, runs the passes over a copy, and writes PTX.
 *
 * @throws KernelError with file, line and what to do, where the kernel is wrong or the architecture lacks something.
 */
export function compileKernel(kernel: KernelIR, options: CompileOptions): Program {
  verifyKernel(kernel, archOf(options.arch));
  const lowered = runPasses(kernel, options);
  const emitted = emitPtx(
    lowered,
    options.isa === undefined ? { arch: options.arch } : { arch: options.arch, isa: options.isa },
  );
  return { ...emitted, kernel: lowered };
}
