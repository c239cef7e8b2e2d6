import type { KernelIR } from '../src/ir/ir.ts';

/** Gives shared memory its places: one behind the other. */
export function prepare(kernel: KernelIR): KernelIR {
  let end = 0;
  for (const allocation of kernel.shared) {
    allocation.offset = Math.ceil(end / allocation.align) * allocation.align;
    end = allocation.offset + allocation.bytes;
  }
  return kernel;
}
