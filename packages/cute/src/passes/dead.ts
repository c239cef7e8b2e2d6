import type { KernelIR, Node, Region } from '../ir/ir.ts';
import { OPS } from '../ir/ops.ts';

/** Drops what gives only results that nobody uses, slots that nobody reads, and branches that do nothing. */
export function removeDead(kernel: KernelIR): void {
  const used = new Set<number>();
  const read = new Set<number>();
  collectReads(kernel.body, read);
  kernel.body = sweep(kernel.body, used, read);
}

/** Slots that a `get` or an operation in place reads. */
function collectReads(nodes: Region, read: Set<number>): void {
  for (const node of nodes) {
    if (node.op !== 'set' && node.op !== 'slot') for (const slot of node.slots) read.add(slot.id);
    for (const region of node.regions) collectReads(region, read);
  }
}

/** From the last node to the first: what is used later is known when its node comes up. */
function sweep(nodes: Region, used: Set<number>, read: ReadonlySet<number>): Region {
  const kept: Region = [];
  for (let i = nodes.length - 1; i >= 0; i--) {
    const node = nodes[i];
    if ((node.op === 'set' || node.op === 'slot') && !read.has(node.slots[0].id)) continue;
    // A loop's latch runs after its body, and sees its values.
    for (let r = node.regions.length - 1; r >= 0; r--) node.regions[r] = sweep(node.regions[r], used, read);
    if (!isLive(node, used)) continue;
    for (const arg of node.args) used.add(arg.id);
    kept.push(node);
  }
  return kept.reverse();
}

function isLive(node: Node, used: ReadonlySet<number>): boolean {
  if (node.op === 'if') return node.regions.some((region) => region.length > 0);
  if (node.op === 'block') return node.regions[0].length > 0;
  if (!canDrop(node)) return true;
  return node.results.some((result) => used.has(result.id));
}

function canDrop(node: Node): boolean {
  if (node.op === 'asm') return node.attributes.effect === 'pure' || node.attributes.effect === 'read';
  const { effect } = OPS[node.op];
  if (effect === 'pure') return true;
  if (effect !== 'read') return false;
  // Ordered and volatile loads are there for what they do to the order of things.
  const order = node.attributes.order ?? 'weak';
  return order === 'weak' || order === 'nc';
}
