import { KernelError } from './error.ts';
import { formatPosition, type KernelIR, type Node, type Region } from './ir.ts';

/** Products under way: groups that were committed, oldest first, and the one that is open. A slot maps to its wgmma. */
interface Flight {
  groups: Map<number, Node>[];
  open: Map<number, Node>;
}

/**
 * Checks that accumulators are left alone between a wgmma and the wait for it: the tensor cores write them in the
 * meantime. A loop's body is followed twice, so that what one round leaves under way is seen by the next.
 */
export function checkAccumulators(kernel: KernelIR): void {
  if (!uses(kernel.body)) return;
  follow(kernel.body, { groups: [], open: new Map() });
}

function uses(nodes: Region): boolean {
  return nodes.some((node) => node.op === 'wgmma' || node.regions.some(uses));
}

function follow(nodes: Region, flight: Flight): void {
  for (const node of nodes) {
    switch (node.op) {
      case 'wgmma':
        for (const slot of node.slots) flight.open.set(slot.id, node);
        break;
      case 'wgmma_commit':
        flight.groups.push(flight.open);
        flight.open = new Map();
        break;
      case 'wgmma_wait': {
        const left = Number(node.attributes.groups ?? 0);
        flight.groups.splice(0, Math.max(0, flight.groups.length - left));
        break;
      }
      case 'if': {
        const other = copy(flight);
        follow(node.regions[0], flight);
        follow(node.regions[1], other);
        // What is under way on either side: the longer queue, and the open ones of both.
        if (other.groups.length > flight.groups.length) flight.groups = other.groups;
        for (const [slot, by] of other.open) flight.open.set(slot, by);
        break;
      }
      case 'loop':
        for (let round = 0; round < 2; round++) for (const region of node.regions) follow(region, flight);
        break;
      case 'block':
        follow(node.regions[0], flight);
        break;
      default:
        untouched(node, flight);
    }
  }
}

function untouched(node: Node, { groups, open }: Flight): void {
  if (node.op === 'slot') return;
  for (const slot of node.slots) {
    const by = open.get(slot.id) ?? groups.find((group) => group.has(slot.id))?.get(slot.id);
    if (!by) continue;
    const verb = node.op === 'get' ? 'read' : 'written';
    throw new KernelError(
      `accumulator ${slot.name} is ${verb} while the wgmma at ${formatPosition(by.position)} may still write it; ` +
        'commit and wait before',
      node.position,
    );
  }
}

function copy({ groups, open }: Flight): Flight {
  return { groups: [...groups], open: new Map(open) };
}
