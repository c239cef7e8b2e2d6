import { makeNode } from '../ir/builder.ts';
import { walk, type KernelIR, type Node, type Region, type Value } from '../ir/ir.ts';
import { sharedPointers, type SharedPointers } from '../ir/pointers.ts';

/**
 * What threads write to shared memory is not yet visible to the units that copy and multiply on their own (the async
 * proxy): between the two there has to be a proxy fence, executed by the thread that wrote (PTX ISA, "Async proxy").
 * This inserts one before the synchronisation that follows such writes, or before the reading instruction itself where
 * the same thread goes straight on to it. Fences that are already there count.
 */
export function fenceProxies(kernel: KernelIR): void {
  const pointers = sharedPointers(kernel);
  const read = readByUnits(kernel, pointers);
  if (read.size > 0) new Fences(kernel, pointers, read).region(kernel.body, false);
}

/** Operands that the async proxy reads, by operation. */
const READERS: Readonly<Record<string, (node: Node) => readonly Value[]>> = {
  tma_store: (node) => [node.args[1]],
  bulk_store: (node) => [node.args[1]],
  bulk_copy_cluster: (node) => [node.args[1]],
  wgmma: (node) => node.args.filter((value) => value.type === 'u64'),
  tcgen05_mma: (node) => node.args.filter((value) => value.type === 'u64'),
  tcgen05_copy: (node) => [node.args[1]],
};

/** Where a thread tells others that it has written. */
const SIGNALS = new Set([
  'barrier',
  'barrier_arrive',
  'barrier_reduce',
  'mbarrier_arrive',
  'mbarrier_expect',
  'cluster_arrive',
  'warp_sync',
]);

const WRITERS = new Set(['store', 'stmatrix', 'atomic', 'reduce', 'cp_async']);

/** Stands for memory that cannot be told apart. */
const ANYWHERE = -1;

function readByUnits(kernel: KernelIR, { roots }: SharedPointers): Set<number> {
  const read = new Set<number>();
  walk(kernel.body, (node) => {
    for (const value of READERS[node.op]?.(node) ?? []) read.add(roots.get(value) ?? ANYWHERE);
  });
  return read;
}

class Fences {
  private readonly kernel: KernelIR;
  private readonly pointers: SharedPointers;
  private readonly read: ReadonlySet<number>;

  constructor(kernel: KernelIR, pointers: SharedPointers, read: ReadonlySet<number>) {
    this.kernel = kernel;
    this.pointers = pointers;
    this.read = read;
  }

  /** Follows a region, changing it; `dirty`: there are writes without a fence after them. Returns that at its end. */
  region(nodes: Region, dirty: boolean): boolean {
    for (let i = 0; i < nodes.length; i++) {
      const node = nodes[i];
      if (dirty && (SIGNALS.has(node.op) || READERS[node.op])) {
        nodes.splice(
          i++,
          0,
          makeNode(this.kernel, 'fence_proxy_async', node.position, { attributes: { space: 'shared' } }),
        );
        dirty = false;
      }
      if (node.op === 'fence_proxy_async') dirty = false;
      else if (this.writes(node)) dirty = true;
      else if (node.regions.length > 0) dirty = this.branches(node, dirty);
    }
    return dirty;
  }

  private branches(node: Node, dirty: boolean): boolean {
    if (node.op === 'if') {
      const ends = node.regions.map((region) => this.region(region, dirty));
      return ends.some(Boolean);
    }
    // A second time with what the first round left; a break may leave before the end.
    let after = dirty;
    for (let round = 0; round < 2; round++)
      for (const region of node.regions) after = this.region(region, after || dirty);
    return after || dirty || this.leavesDirty(node);
  }

  /** Whether a loop or block writes at all: a break may come between the write and its fence. */
  private leavesDirty(node: Node): boolean {
    let writes = false;
    walk([node], (inner) => {
      writes ||= this.writes(inner);
    });
    return writes;
  }

  private writes(node: Node): boolean {
    if (!WRITERS.has(node.op)) return false;
    const [address] = node.args;
    if (address.type !== 'ptr.shared' && address.type !== 'ptr.cluster') return false;
    const root = this.pointers.roots.get(address);
    return root === undefined || this.read.has(ANYWHERE) || this.read.has(root);
  }
}
