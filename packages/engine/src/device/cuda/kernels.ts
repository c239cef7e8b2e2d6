import { KERNELS, type KernelModule } from '@rose/kernels';
import { assert } from '../../errors.ts';

const BY_NAME: ReadonlyMap<string, KernelModule> = new Map(KERNELS.map((module) => [module.name, module]));

/** A kernel of the library. */
export function kernelNamed(name: string): KernelModule {
  const module = BY_NAME.get(name);
  assert(module, `the library has no kernel ${name}`);
  return module;
}
