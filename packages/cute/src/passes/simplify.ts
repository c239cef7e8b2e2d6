import { makeNode } from '../ir/builder.ts';
import type { Attributes, KernelIR, Node, Position, Region, Value } from '../ir/ir.ts';
import { OPS } from '../ir/ops.ts';
import { printAttribute } from '../ir/print.ts';
import type { TypeName } from '../types/dtype.ts';
import { attributeOf, fold, knownOf } from './fold.ts';
import { rewrite, type Rewriter } from './identities.ts';
import { Ranges } from './range.ts';

/**
 * One walk in program order that folds constants, uses bit-exact identities, merges equal computations over the regions
 * that they dominate, and gives a slot's reader the value that was last put there, where that is known.
 */
export function simplify(kernel: KernelIR): void {
  kernel.body = new Simplifier(kernel).region(kernel.body, new Map());
}

/** Offsets that a load or store takes into its instruction. */
const MOST_IMMEDIATE = 2 ** 23;

class Simplifier implements Rewriter {
  readonly ranges: Ranges;
  private readonly kernel: KernelIR;
  private readonly replaced = new Map<Value, Value>();
  /** Computations that are visible here, by operation, operands and attributes; the keys of each open region. */
  private readonly seen = new Map<string, Value>();
  private readonly open: string[][] = [];
  private readonly assigned = new Map<Node, Set<number>>();
  private out: Region = [];
  private position: Position | undefined;

  constructor(kernel: KernelIR) {
    this.kernel = kernel;
    this.ranges = new Ranges(kernel);
  }

  /** `slots`: the values that slots are known to hold; changed to what holds at the region's end. */
  region(nodes: Region, slots: Map<number, Value>): Region {
    const before = this.out;
    const out: Region = [];
    this.out = out;
    this.open.push([]);
    for (const node of nodes) {
      this.node(node, slots);
      if (JUMPS.has(node.op)) break;
    }
    for (const key of this.open.pop()!) this.seen.delete(key);
    this.out = before;
    return out;
  }

  build(op: string, type: TypeName, args: readonly Value[], attributes: Attributes = {}): Value {
    return this.pure(makeNode(this.kernel, op, this.position!, { args, types: [type], attributes }));
  }

  constant(type: TypeName, value: number | bigint): Value {
    return this.build('const', type, [], { value: attributeOf(value) });
  }

  private node(node: Node, slots: Map<number, Value>): void {
    this.position = node.position;
    for (const [i, arg] of node.args.entries()) node.args[i] = this.replaced.get(arg) ?? arg;
    if (node.regions.length > 0) return this.control(node, slots);
    if (node.op === 'get') return this.read(node, slots);
    if (node.op === 'set') slots.set(node.slots[0].id, node.args[0]);
    else if (node.op !== 'slot') for (const slot of node.slots) slots.delete(slot.id);
    if (OPS[node.op].effect === 'pure' && node.results.length === 1) {
      const value = this.pure(node);
      if (value !== node.results[0]) this.replace(node.results[0], value);
      return;
    }
    if (node.op === 'load' || node.op === 'store') this.immediate(node);
    this.out.push(node);
  }

  private replace(value: Value, by: Value): void {
    this.replaced.set(value, by);
    if (value.divisor > by.divisor) by.divisor = value.divisor;
  }

  private read(node: Node, slots: Map<number, Value>): void {
    const id = node.slots[0].id;
    const known = slots.get(id);
    if (known) return this.replace(node.results[0], known);
    slots.set(id, node.results[0]);
    this.out.push(node);
  }

  /** A node without effects: another value for its result, or its own after it was put into the region. */
  private pure(node: Node): Value {
    const [result] = node.results;
    if (node.op !== 'const') {
      const known = fold(node);
      if (known !== undefined) return this.constant(result.type, known);
      const other = rewrite(node, this);
      if (other && other.type === result.type) return other;
    }
    const key = keyOf(node);
    const before = this.seen.get(key);
    if (before) return before;
    this.seen.set(key, result);
    this.open[this.open.length - 1].push(key);
    this.out.push(node);
    return result;
  }

  /** Takes the constant part of an address into the access. */
  private immediate(node: Node): void {
    const address = node.args[0].node;
    if (address.op !== 'ptr_add') return;
    const moved = Number(address.attributes.bytes ?? 0);
    const bytes = moved + Number(node.attributes.bytes ?? 0);
    if (moved === 0 || Math.abs(bytes) >= MOST_IMMEDIATE) return;
    const { bytes: _, ...attributes } = address.attributes;
    node.args[0] = address.args[1]
      ? this.build('ptr_add', node.args[0].type, address.args, attributes)
      : address.args[0];
    node.attributes = { ...node.attributes, bytes };
  }

  private control(node: Node, slots: Map<number, Value>): void {
    if (node.op === 'if') {
      const known = knownOf(node.args[0]);
      if (known !== undefined) {
        for (const inner of node.regions[known === 0 ? 1 : 0]) {
          this.node(inner, slots);
          // What follows is never reached, but it may be the end of a region that needs no jump.
          if (JUMPS.has(inner.op)) break;
        }
        return;
      }
      node.regions = node.regions.map((region) => this.region(region, new Map(slots)));
    } else if (node.op === 'loop') {
      // A later round starts with what the one before it has put into the slots.
      for (const id of this.assignedIn(node)) slots.delete(id);
      this.loop(node, slots);
    } else node.regions = node.regions.map((region) => this.region(region, new Map(slots)));
    for (const id of this.assignedIn(node)) slots.delete(id);
    this.out.push(node);
  }

  /** The latch is reached from the middle of the body, too: it gets what is known before the loop, not what the body knows. */
  private loop(node: Node, slots: Map<number, Value>): void {
    const [body, latch] = node.regions;
    node.regions = [this.region(body, new Map(slots)), this.region(latch, new Map(slots))];
  }

  private assignedIn(node: Node): Set<number> {
    let set = this.assigned.get(node);
    if (set) return set;
    set = new Set();
    for (const region of node.regions) {
      for (const inner of region) {
        if (inner.op !== 'get' && inner.op !== 'slot') for (const slot of inner.slots) set.add(slot.id);
        if (inner.regions.length > 0) for (const id of this.assignedIn(inner)) set.add(id);
      }
    }
    this.assigned.set(node, set);
    return set;
  }
}

const JUMPS = new Set(['break', 'continue', 'return', 'trap']);

function keyOf(node: Node): string {
  let key = `${node.op} ${node.results[0].type}`;
  for (const arg of node.args) key += ` ${arg.id}`;
  for (const name in node.attributes) key += ` ${name}=${printAttribute(node.attributes[name])}`;
  return key;
}
