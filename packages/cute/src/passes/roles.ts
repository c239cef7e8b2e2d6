import { cloneNode } from '../ir/clone.ts';
import { walk, type KernelIR, type Region, type Value } from '../ir/ir.ts';

/**
 * Gives each role of a kernel, a branch whose warps set their own number of registers, its own addresses of shared memory.
 * They are constants, but assemblers keep one that several roles use in a register of all of them, and spill it where the
 * smallest has none left.
 */
export function separateRoles(kernel: KernelIR): void {
  walk(kernel.body, (node) => {
    for (const region of node.regions) {
      const at = region.findIndex(({ op }) => op === 'set_max_registers');
      if (at >= 0) region.splice(at + 1, 0, ...ownAddresses(kernel, region));
    }
  });
}

/** Copies of the addresses that come from outside of a region; the region uses these from now on. */
function ownAddresses(kernel: KernelIR, region: Region): Region {
  const inside = new Set<Value>();
  walk(region, ({ results }) => {
    for (const result of results) inside.add(result);
  });
  const copies: Region = [];
  const own = new Map<Value, Value>();
  walk(region, (node) => {
    for (const [i, arg] of node.args.entries()) {
      if (arg.node.op !== 'shared_address' || inside.has(arg)) continue;
      if (!own.has(arg)) copies.push(cloneNode(arg.node, own, kernel));
      node.args[i] = own.get(arg)!;
    }
  });
  return copies;
}
