import { fileName } from './file-name.ts';
import { plainUse } from './plain-use.ts';
import { DynamicInt, type Leaf } from '../layout/leaf.ts';
import type { TypeName } from '../types/dtype.ts';

/**
 * The IR of a kernel: structured control flow, values in static single assignment, and mutable slots for what the
 * kernel's author assigns more than once. `ops.ts` says what each operation takes, gives and does.
 */

/** Where a node comes from. `line` and `column` start at 1. `inlinedAt` is the call in the function that called. */
export interface Position {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** Name of the function around it, if it has one. */
  readonly name?: string;
  readonly inlinedAt?: Position;
}

/** What a node knows at compile time. Plain data: the text form prints and parses it. */
export type Attribute = number | string | boolean | readonly Attribute[];
export type Attributes = Readonly<Record<string, Attribute>>;

/** How values compute with each other while a kernel is traced; the trace sets it, nobody else computes with values. */
export interface ValueArithmetic {
  binary(op: 'add' | 'sub' | 'mul' | 'div' | 'rem' | 'xor' | 'and' | 'shl' | 'shr', left: Leaf, right: Leaf): Leaf;
}

/** One register's worth of data, written once. */
export class Value extends DynamicInt {
  static arithmetic: ValueArithmetic | undefined;

  /** Unique within a kernel. */
  readonly id: number;
  readonly type: TypeName;
  /** The node that gives it. */
  readonly node: Node;
  /** Known divisor of an integer, at least 1; for addresses the known alignment in bytes. */
  divisor: number = 1;

  constructor(id: number, type: TypeName, node: Node) {
    super();
    this.id = id;
    this.type = type;
    this.node = node;
  }

  add(other: Leaf): Leaf {
    return compute('add', this, other);
  }
  sub(other: Leaf): Leaf {
    return compute('sub', this, other);
  }
  mul(other: Leaf): Leaf {
    return compute('mul', this, other);
  }
  div(other: Leaf): Leaf {
    return compute('div', this, other);
  }
  rem(other: Leaf): Leaf {
    return compute('rem', this, other);
  }
  subFrom(left: number): Leaf {
    return compute('sub', left, this);
  }
  divInto(left: number): Leaf {
    return compute('div', left, this);
  }
  remInto(left: number): Leaf {
    return compute('rem', left, this);
  }
  xor(other: Leaf): Leaf {
    return compute('xor', this, other);
  }
  and(other: Leaf): Leaf {
    return compute('and', this, other);
  }
  shl(bits: number): Leaf {
    return compute('shl', this, bits);
  }
  shr(bits: number): Leaf {
    return compute('shr', this, bits);
  }
  override toString(): string {
    return this.divisor === 1 ? '?' : `?{div=${this.divisor}}`;
  }
  /** A value of the device prints, as in layouts, but is no number; whoever asks for one forgot the transform. */
  [Symbol.toPrimitive](hint: string): string {
    if (hint === 'string') return this.toString();
    const error = new TypeError();
    error.message = plainUse(this.type, (error.stack ?? '').replace(/^.*\[Symbol\.toPrimitive\].*$/m, ''));
    throw error;
  }
}

function compute(op: Parameters<ValueArithmetic['binary']>[0], left: Leaf, right: Leaf): Leaf {
  if (!Value.arithmetic) throw new TypeError('device values compute only while a kernel is traced');
  return Value.arithmetic.binary(op, left, right);
}

/** A register that is assigned more than once; `get`, `set` and operations with `slots` use it. */
export interface Slot {
  /** Unique among a kernel's slots. */
  readonly id: number;
  readonly type: TypeName;
  /** The author's name of it. */
  readonly name: string;
}

/** A list of nodes with one entry. */
export type Region = Node[];

export interface Node {
  readonly op: string;
  args: Value[];
  /** Filled once, when the node is made. */
  readonly results: Value[];
  attributes: Attributes;
  /** Slots that the node reads, writes or declares, by the order that its operation says. */
  slots: Slot[];
  regions: Region[];
  position: Position;
}

/** The shape of a tensor parameter; what only the launch knows is undefined. */
export interface DeclaredShape {
  readonly extents: readonly (number | undefined)[];
  /** Row-major without gaps. */
  readonly compact: boolean;
  /** Elements from the first to the last one. */
  readonly elements: number | undefined;
}

export type KernelParameter =
  /** `extent`: a name in the shapes of tensors, whose number the launch tells. */
  | { readonly kind: 'value'; readonly name: string; readonly type: TypeName; readonly extent?: true }
  /** Address of a tensor's first element in global memory. `align`: bytes that divide it (checked at launch). */
  | {
      readonly kind: 'tensor';
      readonly name: string;
      readonly element: TypeName;
      readonly align: number;
      readonly access: 'read' | 'write' | 'readwrite';
      /** What was declared, for those who make the argument; the text form leaves it out. */
      readonly declared?: DeclaredShape;
    }
  /** A CUtensorMap of 128 bytes, passed by value (`__grid_constant__`); `boxBytes`: what one copy moves, if it is known. */
  | { readonly kind: 'tensormap'; readonly name: string; readonly boxBytes?: number };

/** A piece of a CTA's shared memory. */
export interface SharedAllocation {
  readonly id: number;
  readonly name: string;
  readonly bytes: number;
  /** Bytes; a power of two from 1 to 1024. */
  readonly align: number;
  readonly element: TypeName;
  /** Byte offset in the CTA's shared memory; set by the allocation pass, which lets disjoint lifetimes overlap. */
  offset?: number;
}

export interface KernelIR {
  readonly name: string;
  readonly params: KernelParameter[];
  readonly shared: SharedAllocation[];
  body: Region;
  /** Threads of a CTA in x, y, z. */
  readonly threads: readonly [number, number, number];
  /** CTAs of a cluster; absent: none. */
  readonly cluster?: readonly [number, number, number];
  /** CTAs that shall fit a multiprocessor side by side (`.minnctapersm`). */
  readonly minBlocks?: number;
  /** Most registers a thread may take (`.maxnreg`). */
  readonly maxRegisters?: number;
  /** The kernel may start before the one before it in the stream has ended: it calls `grid_dependency_wait` itself. */
  readonly overlapsPrevious?: boolean;
  /** Numbers handed out so far, so that passes can make more. */
  values: number;
  slotCount: number;
}

/** Where a kernel's own code begins, for what concerns it as a whole. Parameters have no line. */
export function beginOf(kernel: KernelIR): Position | undefined {
  return kernel.body.find(({ op }) => op !== 'param')?.position;
}

/** Calls `visit` for every node, outer ones first, in program order. */
export function walk(region: Region, visit: (node: Node, region: Region) => void): void {
  for (const node of [...region]) {
    visit(node, region);
    for (const inner of node.regions) walk(inner, visit);
  }
}

/** `file:line:column`, with the chain of calls it was inlined through. */
export function formatPosition(position: Position): string {
  const here = `${fileName(position.file)}:${position.line}:${position.column}`;
  return position.inlinedAt ? `${here} (called at ${formatPosition(position.inlinedAt)})` : here;
}
