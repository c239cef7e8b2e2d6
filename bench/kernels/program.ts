import type { Program } from '@rose/cuda';
import { compileKernel, type KernelIR } from '@rose/cute';

/** A traced kernel as PTX with what a launch has to know. */
export function programOf(kernel: KernelIR, arch: string): Program {
  return compileKernel(kernel, { arch }).program;
}
