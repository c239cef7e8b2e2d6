import { walk, type KernelIR, type Node, type Value } from './ir.ts';

/** Operations through which an address or a descriptor of shared memory passes on. */
const DERIVING = new Set([
  'ptr_add',
  'ptr_cast',
  'ptr_bits',
  'bitcast',
  'map_shared',
  'wgmma_descriptor',
  'tcgen05_descriptor',
  'descriptor_add',
  'convert',
  'add',
  'or',
]);

/**
 * Which shared allocations the values of a kernel may point into, by value: addresses and descriptors made of them.
 * An allocation whose address went where it cannot be followed (a slot, memory, select, asm) is in `escaped`.
 */
export interface SharedPointers {
  readonly roots: ReadonlyMap<Value, number>;
  readonly escaped: ReadonlySet<number>;
}

export function sharedPointers(kernel: KernelIR): SharedPointers {
  const roots = new Map<Value, number>();
  const escaped = new Set<number>();
  walk(kernel.body, (node) => {
    if (node.op === 'shared_address') {
      roots.set(node.results[0], Number(node.attributes.id));
      return;
    }
    for (const [i, arg] of node.args.entries()) {
      const root = roots.get(arg);
      if (root === undefined) continue;
      if (i === 0 && DERIVING.has(node.op)) for (const result of node.results) roots.set(result, root);
      else if (!isAccess(node, i)) escaped.add(root);
    }
  });
  return { roots, escaped };
}

/** Whether operand `i` is used as an address or descriptor, rather than kept somewhere. */
function isAccess(node: Node, i: number): boolean {
  switch (node.op) {
    case 'set':
    case 'select':
    case 'asm':
    case 'pack':
    case 'shuffle':
      return false;
    case 'store':
    case 'atomic':
    case 'reduce':
    case 'store_async':
      return i === 0 || (node.op === 'store_async' && i === node.args.length - 1);
    default:
      return true;
  }
}
