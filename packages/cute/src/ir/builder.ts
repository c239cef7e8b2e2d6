import type { TypeName } from '../types/dtype.ts';
import { KernelError } from './error.ts';
import { Value, type Attributes, type KernelIR, type Node, type Position, type Region, type Slot } from './ir.ts';

/** What a node is made of besides its operation; everything is optional. */
export interface NodeParts {
  readonly args?: readonly Value[];
  /** Types of the results, in order. */
  readonly types?: readonly TypeName[];
  readonly attributes?: Attributes;
  readonly slots?: readonly Slot[];
  readonly regions?: readonly Region[];
}

/** Nodes of a recording, far more than a kernel that an assembler compiles in seconds has; Rose's largest has 11,000. */
export const MOST_NODES = 250_000;

/** Appends nodes to the region that is open, at the position that is set. */
export class Builder {
  readonly kernel: KernelIR;
  position: Position;
  private readonly open: Region[];
  private readonly full: () => never;
  private recorded = 0;

  /** @param full called beyond MOST_NODES, to throw what says why; a recording without end would take all memory. */
  constructor(kernel: KernelIR, position: Position, full: () => never = tooLong) {
    this.kernel = kernel;
    this.position = position;
    this.full = full;
    this.open = [kernel.body];
  }

  /** The region that nodes are appended to. */
  get region(): Region {
    return this.open[this.open.length - 1];
  }

  /** How many regions are open; the kernel's body alone is 1. */
  get depth(): number {
    return this.open.length;
  }

  emit(op: string, parts: NodeParts = {}): Node {
    if (++this.recorded > MOST_NODES) this.full();
    const node = makeNode(this.kernel, op, this.position, parts);
    this.region.push(node);
    return node;
  }

  /** The one result of a node that has one. */
  value(op: string, type: TypeName, parts: Omit<NodeParts, 'types'> = {}): Value {
    return this.emit(op, { ...parts, types: [type] }).results[0];
  }

  /** A new slot; its `slot` node declares it here. A slot is read only after it was set. */
  slot(type: TypeName, name: string): Slot {
    const slot: Slot = { id: this.kernel.slotCount++, type, name };
    this.emit('slot', { slots: [slot] });
    return slot;
  }

  /** Opens a region: nodes go there until `close`. */
  enter(region: Region): void {
    this.open.push(region);
  }

  /**
   * Puts the node that is open in the region at `depth` (1: the kernel's body) into a new node with one region, and
   * continues in there: what follows at that depth becomes part of the new node.
   */
  wrap(depth: number, op: string, attributes: Attributes): Node {
    const region = this.open[depth - 1];
    const child = region.pop();
    if (!child || depth >= this.open.length) throw new RangeError('there is no open node at this depth');
    const node = makeNode(this.kernel, op, child.position, { attributes, regions: [[child]] });
    region.push(node);
    this.open.splice(depth, 0, node.regions[0]);
    return node;
  }

  close(): void {
    if (this.open.length === 1) throw new RangeError('the body of a kernel is closed by its end');
    this.open.pop();
  }
}

function tooLong(): never {
  throw new KernelError(`the kernel records more than ${MOST_NODES} operations`);
}

/** A node that is in no region yet; passes put it where they want it. */
export function makeNode(kernel: KernelIR, op: string, position: Position, parts: NodeParts = {}): Node {
  const node: Node = {
    op,
    args: [...(parts.args ?? [])],
    results: [],
    attributes: parts.attributes ?? {},
    slots: [...(parts.slots ?? [])],
    regions: [...(parts.regions ?? [])],
    position,
  };
  for (const type of parts.types ?? []) node.results.push(new Value(kernel.values++, type, node));
  return node;
}
