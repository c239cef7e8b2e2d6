import { walk, type KernelIR, type Value } from '../ir/ir.ts';

/** Uses other values in place of some, everywhere; chains of replacements are followed. */
export function replaceValues(kernel: KernelIR, replaced: ReadonlyMap<Value, Value>): void {
  if (replaced.size === 0) return;
  walk(kernel.body, (node) => {
    for (const [i, arg] of node.args.entries()) {
      let value = arg;
      for (let next = replaced.get(value); next; next = replaced.get(value)) value = next;
      node.args[i] = value;
    }
  });
}
