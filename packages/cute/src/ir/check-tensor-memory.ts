import { KernelError } from './error.ts';
import { formatPosition, walk, type KernelIR, type Node, type Region } from './ir.ts';

/** Rules of tensor memory that can be seen without running a kernel. */
export function checkTensorMemory(kernel: KernelIR): void {
  let group: Node | undefined;
  let loads = false;
  walk(kernel.body, (node) => {
    if (!node.op.startsWith('tcgen05_')) return;
    if (node.op === 'tcgen05_load') loads = true;
    if (node.attributes.cta_group === undefined) return;
    group ??= node;
    if (group.attributes.cta_group === node.attributes.cta_group) return;
    throw new KernelError(
      `${node.op} works with ${String(node.attributes.cta_group)} CTAs, ${group.op} at ${formatPosition(group.position)} with ` +
        `${String(group.attributes.cta_group)}; all of a kernel's tcgen05 instructions have the same group`,
      node.position,
    );
  });
  if (loads) follow(kernel.body, new Map());
}

/**
 * Checks that registers of a load are left alone until the warp has waited. A loop's body is followed twice, so that what
 * one round leaves under way is seen by the next.
 *
 * @param flight the load of each value that is on its way, by the value's number
 */
function follow(nodes: Region, flight: Map<number, Node>): void {
  for (const node of nodes) {
    for (const arg of node.args) {
      const load = flight.get(arg.id);
      if (!load) continue;
      throw new KernelError(
        `${node.op} uses what the tcgen05_load at ${formatPosition(load.position)} brings before it is there: call ` +
          "tmemWait('load') between them",
        node.position,
      );
    }
    switch (node.op) {
      case 'tcgen05_load':
        for (const value of node.results) flight.set(value.id, node);
        break;
      case 'tcgen05_wait':
        if (node.attributes.direction === 'load') flight.clear();
        break;
      case 'if': {
        const other = new Map(flight);
        follow(node.regions[0], flight);
        follow(node.regions[1], other);
        for (const [id, load] of other) flight.set(id, load);
        break;
      }
      default:
        for (let round = 0; round < (node.op === 'loop' ? 2 : 1); round++)
          for (const region of node.regions) follow(region, flight);
    }
  }
}
