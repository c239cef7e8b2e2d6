import { KernelError } from '../ir/error.ts';
import { walk, type KernelIR, type Node, type SharedAllocation } from '../ir/ir.ts';
import { sharedPointers } from '../ir/pointers.ts';

/** Statements of the kernel's body between which an allocation is in use. */
interface Lifetime {
  first: number;
  last: number;
}

/** Accesses that end with the statement; what runs beside the threads may still be under way later. */
const IMMEDIATE = new Set([
  'load',
  'store',
  'atomic',
  'reduce',
  'ldmatrix',
  'stmatrix',
  'ptr_add',
  'ptr_cast',
  'shared_address',
]);

/**
 * Gives every shared allocation its place. Two share one where the first is used only before, and the second only
 * after, a barrier of the whole CTA at the kernel's top level. Allocations that copies or tensor cores use on their own
 * keep their place for the whole kernel.
 */
export function allocateShared(kernel: KernelIR): void {
  if (kernel.shared.length === 0) return;
  const lifetimes = lifetimesOf(kernel);
  const barriers = kernel.body.flatMap((node, i) => (isFullBarrier(node) ? [i] : []));
  const placed: SharedAllocation[] = [];
  // The strictest alignment first, so that little is lost between.
  const order = kernel.shared.toSorted((a, b) => b.align - a.align || b.bytes - a.bytes || a.id - b.id);
  for (const allocation of order) {
    if (allocation.align < 1 || (allocation.align & (allocation.align - 1)) !== 0 || allocation.align > 1024) {
      throw new KernelError(
        `shared memory ${allocation.name}: alignment ${allocation.align} must be a power of two up to 1024`,
      );
    }
    const life = lifetimes.get(allocation.id)!;
    const taken = placed
      .filter((other) => !apart(lifetimes.get(other.id)!, life, barriers))
      .toSorted((a, b) => a.offset! - b.offset!);
    let offset = 0;
    for (const other of taken) {
      if (offset + allocation.bytes <= other.offset!) break;
      offset = Math.max(offset, alignUp(other.offset! + other.bytes, allocation.align));
    }
    allocation.offset = offset;
    placed.push(allocation);
  }
}

function alignUp(bytes: number, align: number): number {
  return Math.ceil(bytes / align) * align;
}

function isFullBarrier(node: Node): boolean {
  return node.op === 'barrier' && node.attributes.count === undefined;
}

function apart(a: Lifetime, b: Lifetime, barriers: readonly number[]): boolean {
  const [before, after] = a.last < b.first ? [a, b] : [b, a];
  return before.last < after.first && barriers.some((at) => at > before.last && at < after.first);
}

function lifetimesOf(kernel: KernelIR): Map<number, Lifetime> {
  const { roots, escaped } = sharedPointers(kernel);
  const lifetimes = new Map<number, Lifetime>();
  const everywhere = (id: number): void => {
    lifetimes.set(id, { first: 0, last: kernel.body.length });
  };
  for (const { id } of kernel.shared) if (escaped.has(id)) everywhere(id);
  for (const [at, statement] of kernel.body.entries()) {
    walk([statement], (node) => {
      for (const arg of node.args) {
        const id = roots.get(arg);
        if (id === undefined || escaped.has(id)) continue;
        if (!IMMEDIATE.has(node.op)) {
          everywhere(id);
          continue;
        }
        const life = lifetimes.get(id);
        if (life) life.last = Math.max(life.last, at);
        else lifetimes.set(id, { first: at, last: at });
      }
    });
  }
  // What nobody uses takes its place beside the others.
  for (const { id } of kernel.shared) if (!lifetimes.has(id)) everywhere(id);
  return lifetimes;
}
