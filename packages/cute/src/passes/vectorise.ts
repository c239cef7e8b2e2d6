import { alignmentOf } from '../ir/align.ts';
import { makeNode } from '../ir/builder.ts';
import type { KernelIR, Node, Region, Value } from '../ir/ir.ts';
import { OPS } from '../ir/ops.ts';
import { printAttribute } from '../ir/print.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import { replaceValues } from './rewrite.ts';

/** Bytes of the widest access that every architecture has. */
const WIDEST = 16;

/**
 * Merges loads, and stores, of neighbouring elements from one base into one access where the base's alignment is known
 * to allow it. Loads move up to the first of them, stores down to the last, and never over another access that might
 * touch the same memory, a synchronisation or a branch.
 */
export function vectorise(kernel: KernelIR): void {
  const replaced = new Map<Value, Value>();
  const run = (nodes: Region): Region => {
    for (const node of nodes) node.regions = node.regions.map(run);
    return new Vectoriser(kernel, nodes, replaced).run();
  };
  kernel.body = run(kernel.body);
  replaceValues(kernel, replaced);
}

interface Access {
  readonly at: number;
  readonly node: Node;
  readonly offset: number;
  readonly bytes: number;
}

class Vectoriser {
  private readonly kernel: KernelIR;
  private readonly nodes: Region;
  private readonly replaced: Map<Value, Value>;
  private readonly loads = new Map<string, Access[]>();
  private stores: Access[] = [];
  private storeKey = '';
  /** What takes the place of a node; nothing: it is dropped. */
  private readonly edits = new Map<number, Node | undefined>();

  constructor(kernel: KernelIR, nodes: Region, replaced: Map<Value, Value>) {
    this.kernel = kernel;
    this.nodes = nodes;
    this.replaced = replaced;
  }

  run(): Region {
    for (const [at, node] of this.nodes.entries()) this.visit(at, node);
    this.flushLoads();
    this.flushStores();
    if (this.edits.size === 0) return this.nodes;
    return this.nodes.flatMap((node, at) => {
      if (!this.edits.has(at)) return [node];
      const edit = this.edits.get(at);
      return edit ? [edit] : [];
    });
  }

  private visit(at: number, node: Node): void {
    const key = keyOf(node);
    if (key !== undefined && node.op === 'load') {
      if (node.attributes.order !== 'nc') this.flushStores();
      const list = this.loads.get(key);
      if (list) list.push(this.access(at, node));
      else this.loads.set(key, [this.access(at, node)]);
      return;
    }
    if (key !== undefined && node.op === 'store') {
      this.flushLoads();
      if (key !== this.storeKey) this.flushStores();
      this.storeKey = key;
      this.stores.push(this.access(at, node));
      return;
    }
    const { effect } = OPS[node.op];
    if (effect === 'pure' || node.op === 'get' || node.op === 'set' || node.op === 'slot') return;
    this.flushStores();
    if (effect !== 'read') this.flushLoads();
  }

  private access(at: number, node: Node): Access {
    const values = node.op === 'load' ? node.results : node.args.slice(1);
    const offset = Number(node.attributes.bytes ?? 0);
    return { at, node, offset, bytes: (values.length * TYPES[values[0].type].bits) / 8 };
  }

  private flushLoads(): void {
    for (const list of this.loads.values()) this.merge(list);
    this.loads.clear();
  }

  private flushStores(): void {
    this.merge(this.stores);
    this.stores = [];
    this.storeKey = '';
  }

  private merge(list: Access[]): void {
    if (list.length < 2) return;
    const base = list[0].node.args[0];
    const align = alignmentOf(this.kernel, base);
    const sorted = list.toSorted((a, b) => a.offset - b.offset || a.at - b.at);
    // Stores to one place have an order; it is kept.
    if (sorted.some((access, i) => i > 0 && access.offset < sorted[i - 1].offset + sorted[i - 1].bytes)) return;
    for (let first = 0; first < sorted.length;) {
      const count = runLength(sorted, first, align);
      if (count > 1) this.replace(sorted.slice(first, first + count));
      first += count;
    }
  }

  private replace(group: readonly Access[]): void {
    const [{ node: first, offset }] = group;
    const ordered = group.toSorted((a, b) => a.at - b.at);
    const load = first.op === 'load';
    const place = load ? ordered[0] : ordered[ordered.length - 1];
    const bytes = group.reduce((sum, access) => sum + access.bytes, 0);
    const values = group.flatMap(({ node }) => (load ? node.results : node.args.slice(1)));
    const node = makeNode(this.kernel, first.op, place.node.position, {
      args: load ? [first.args[0]] : [first.args[0], ...values],
      types: load ? values.map((value): TypeName => value.type) : [],
      attributes: { ...first.attributes, count: values.length, align: bytes, bytes: offset },
    });
    if (load) for (const [i, value] of values.entries()) this.replaced.set(value, node.results[i]);
    for (const { at } of group) this.edits.set(at, undefined);
    this.edits.set(place.at, node);
  }
}

/** How many accesses from `first` on make one aligned access of a power of two of bytes; 1 if none do. */
function runLength(sorted: readonly Access[], first: number, align: number): number {
  const start = sorted[first].offset;
  let best = 1;
  let end = start;
  for (let i = first; i < sorted.length && sorted[i].offset === end; i++) {
    end += sorted[i].bytes;
    const bytes = end - start;
    if (bytes > WIDEST) break;
    if ((bytes & (bytes - 1)) === 0 && align % bytes === 0 && start % bytes === 0) best = i - first + 1;
  }
  return best;
}

/** Accesses with the same key differ in their offset only; others are left alone. */
function keyOf(node: Node): string | undefined {
  if (node.op !== 'load' && node.op !== 'store') return undefined;
  const order = node.attributes.order ?? 'weak';
  if (order !== 'weak' && order !== 'nc') return undefined;
  const values = node.op === 'load' ? node.results : node.args.slice(1);
  // A cache policy as operand would need to be the same one.
  if (node.op === 'load' ? node.args.length > 1 : values.length !== Number(node.attributes.count ?? 1))
    return undefined;
  if (values.some((value) => value.type !== values[0].type)) return undefined;
  let key = `${node.args[0].id} ${values[0].type}`;
  for (const [name, value] of Object.entries(node.attributes)) {
    if (name !== 'bytes' && name !== 'align' && name !== 'count') key += ` ${name}=${printAttribute(value)}`;
  }
  return key;
}
