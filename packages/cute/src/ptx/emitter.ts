import { KernelError } from '../ir/error.ts';
import { textOf } from '../ir/attributes.ts';
import type { KernelIR, Node, Region, Slot, Value } from '../ir/ir.ts';
import type { Needs } from '../ir/op-info.ts';
import { OPS } from '../ir/ops.ts';
import { TYPES } from '../types/dtype.ts';
import { supports, type Arch } from './arch.ts';
import { constantBits, immediate } from './constants.ts';
import { LineTable } from './lines.ts';
import type { PrintSite } from './ring.ts';
import { classOf, REGISTER_TYPES, type RegisterClass } from './registers.ts';

/** Writes one node as PTX. */
export type EmitNode = (emitter: Emitter, node: Node) => void;

/** A piece of a wider register: bits [index * bits, (index + 1) * bits) of `word`. */
export interface Part {
  readonly word: string;
  readonly wordBits: number;
  readonly index: number;
  readonly bits: number;
}

/** Where `break` and `continue` go. */
interface Target {
  readonly exit: string;
  readonly next: string | undefined;
}

/**
 * The state of an emission: registers, instructions so far, and the ISA version that they need. Emitters of the
 * families (scalar.ts, memory.ts, ...) use it like this:
 *
 *     export const EXAMPLE_EMITTERS: Record<string, EmitNode> = {
 *       elect: (e, node) => {
 *         e.line(`elect.sync _|${e.define(node.results[0])}, 0xffffffff`);
 *       },
 *       set_max_registers: (e, node) => {
 *         e.line(`setmaxnreg.${textOf(node, 'direction')}.sync.aligned.u32 ${numberOf(node, 'count')}`);
 *       },
 *     };
 */
export class Emitter {
  readonly kernel: KernelIR;
  readonly arch: Arch;
  /** Lowest PTX ISA version that has all that was emitted. */
  isa: number;
  readonly lines: LineTable = new LineTable();
  /** Instructions; an empty text is a place that was kept and never needed. */
  readonly code: string[] = [];
  /** Instructions that run first: constants and cache policies, wherever they are used. */
  readonly prologue: string[] = [];
  /** Module-scope declarations. */
  readonly globals: Set<string> = new Set();
  /** Where the kernel prints and asserts, by the numbers that its records carry. */
  readonly sites: PrintSite[] = [];

  private readonly table: Readonly<Record<string, EmitNode>>;
  private readonly registers: (string | undefined)[] = [];
  private readonly slots: (string | undefined)[] = [];
  private readonly parts = new Map<number, Part>();
  private readonly places = new Map<number, () => void>();
  private readonly counts: Record<RegisterClass, number> = { p: 0, h: 0, r: 0, d: 0, q: 0 };
  private readonly shared = new Map<string, string>();
  private readonly targets = new Map<string, Target[]>();
  private labels = 0;
  private current: Node | undefined;

  constructor(kernel: KernelIR, arch: Arch, table: Readonly<Record<string, EmitNode>>) {
    this.kernel = kernel;
    this.arch = arch;
    this.isa = arch.isa;
    this.table = table;
  }

  /** One instruction, without the semicolon. */
  line(text: string): void {
    this.code.push(`  ${text};`);
  }

  /** Raises the ISA version, and refuses an architecture without the feature. */
  need(isa: number, target: Needs['target'] = 'sm_80', what?: string): void {
    if (isa > this.isa) this.isa = isa;
    if (supports(this.arch, target)) return;
    throw this.error(
      `${what ?? this.current?.op ?? 'this'} needs ${target}, the kernel is compiled for ${this.arch.name}`,
    );
  }

  /** An error at the node that is being emitted. */
  error(message: string): KernelError {
    return new KernelError(message, this.current?.position);
  }

  /** A new register for a result. */
  define(value: Value): string {
    return (this.registers[value.id] = this.temporary(classOf(value.type)));
  }

  /** Lets a result be the register of something else: registers of values are written once, so that this is free. */
  alias(value: Value, register: string, part?: Part): void {
    this.registers[value.id] = register;
    if (part) this.parts.set(value.id, part);
  }

  /** A new register. */
  temporary(kind: RegisterClass): string {
    return `%${kind}${this.counts[kind]++}`;
  }

  /** An operand: the register of a value, or an immediate where it is a constant that PTX can write. */
  use(value: Value): string {
    if (value.node.op === 'const') {
      const text = immediate(value);
      if (text !== undefined) return text;
    }
    return this.register(value);
  }

  /** The register of a value, where an immediate is not allowed (vectors, addresses, matrix operands). */
  register(value: Value): string {
    const known = this.registers[value.id];
    if (known !== undefined) return known;
    const place = this.places.get(value.id);
    if (place) {
      place();
      return this.registers[value.id]!;
    }
    if (value.node.op === 'const') return this.constant(classOf(value.type), constantBits(value));
    throw this.error(`value %${value.id} of ${value.node.op} is used where it is not computed`);
  }

  /** A register with these bits, set once at the start of the kernel. */
  constant(kind: RegisterClass, bits: bigint): string {
    if (kind === 'p') return this.once(`p${bits}`, 'p', (d) => `setp.${bits === 0n ? 'ne' : 'eq'}.u32 ${d}, 0, 0`);
    const text = `0x${bits.toString(16)}`;
    if (kind !== 'q') return this.once(`${kind}${bits}`, kind, (d) => `mov.${REGISTER_TYPES[kind]} ${d}, ${text}`);
    const low = this.constant('d', bits & 0xffffffffffffffffn);
    const high = this.constant('d', bits >> 64n);
    this.need(8.3);
    return this.once(`q${bits}`, 'q', (d) => `mov.b128 ${d}, {${low}, ${high}}`);
  }

  /** A register that one instruction at the kernel's start computes, shared by all that ask with the same key. */
  once(key: string, kind: RegisterClass, instruction: (register: string) => string): string {
    let register = this.shared.get(key);
    if (register === undefined) {
      this.shared.set(key, (register = this.temporary(kind)));
      this.prologue.push(`  ${instruction(register)};`);
    }
    return register;
  }

  /** The mutable register of a slot. */
  slot(slot: Slot): string {
    return (this.slots[slot.id] ??= this.temporary(classOf(slot.type)));
  }

  /**
   * Says that results are pieces of a register, low first, without taking it apart: that is written here, but only if
   * somebody asks for a piece on its own.
   */
  split(values: readonly Value[], word: string, wordBits: number, first = 0): void {
    const place = this.code.push('') - 1;
    let done = false;
    const take = (): void => {
      if (done) return;
      done = true;
      const saved = this.code.length;
      this.takeApart(values, word, wordBits, first);
      const lines = this.code.splice(saved);
      this.code[place] = lines.join('\n');
    };
    for (const [i, value] of values.entries()) {
      const bits = TYPES[value.type].bits;
      if (bits === wordBits) {
        this.registers[value.id] = word;
        continue;
      }
      this.parts.set(value.id, { word, wordBits, index: first + i, bits });
      this.places.set(value.id, take);
    }
  }

  /** The wider register that a value is a piece of, if it is one. */
  part(value: Value): Part | undefined {
    return this.parts.get(value.id);
  }

  /** A register of `wordBits` bits with these values in it, low first; the one they were split from, if they were. */
  join(values: readonly Value[], wordBits: number): string {
    if (values.length === 1) return this.register(values[0]);
    const first = this.parts.get(values[0].id);
    if (first?.wordBits === wordBits && first.index === 0) {
      if (values.every((value, i) => isPart(this.parts.get(value.id), first.word, i))) return first.word;
    }
    // Two bytes that lie in one half of a word come out as that half.
    if (wordBits === 16 && first?.bits === 8 && first.wordBits === 32 && first.index % 2 === 0) {
      if (isPart(this.parts.get(values[1].id), first.word, first.index + 1)) {
        const halves = [this.temporary('h'), this.temporary('h')];
        this.line(`mov.b32 {${halves.join(', ')}}, ${first.word}`);
        return halves[first.index / 2];
      }
    }
    return this.pack(values, wordBits);
  }

  private pack(values: readonly Value[], wordBits: number): string {
    const bits = TYPES[values[0].type].bits;
    if (bits !== 8) {
      const word = this.temporary(wordBits === 32 ? 'r' : wordBits === 64 ? 'd' : 'q');
      if (wordBits === 128) this.need(8.3);
      const pieces = wordBits === 128 && bits < 64 ? this.halves(values) : values.map((value) => this.register(value));
      this.line(`mov.b${wordBits} ${word}, {${pieces.join(', ')}}`);
      return word;
    }
    if (wordBits === 64) {
      const word = this.temporary('d');
      this.line(`mov.b64 ${word}, {${this.join(values.slice(0, 4), 32)}, ${this.join(values.slice(4), 32)}}`);
      return word;
    }
    if (wordBits === 128) {
      this.need(8.3);
      const word = this.temporary('q');
      this.line(`mov.b128 ${word}, {${this.halves(values).join(', ')}}`);
      return word;
    }
    const pairs: string[] = [];
    for (let i = 0; i < values.length; i += 2) {
      const pair = this.temporary('r');
      this.line(`mov.b32 ${pair}, {${this.register(values[i])}, ${this.register(values[i + 1])}}`);
      pairs.push(pair);
    }
    const word = this.temporary('r');
    this.line(`prmt.b32 ${word}, ${pairs[0]}, ${pairs[1] ?? pairs[0]}, 0x6420`);
    if (wordBits === 32) return word;
    const half = this.temporary('h');
    this.line(`cvt.u16.u32 ${half}, ${word}`);
    return half;
  }

  private halves(values: readonly Value[]): string[] {
    const middle = values.length / 2;
    return [this.join(values.slice(0, middle), 64), this.join(values.slice(middle), 64)];
  }

  private takeApart(values: readonly Value[], word: string, wordBits: number, first: number): void {
    const bits = TYPES[values[0].type].bits;
    if (bits === 8) {
      for (const [i, value] of values.entries()) this.registers[value.id] = this.byte(word, wordBits, first + i);
      return;
    }
    const names = Array.from({ length: wordBits / bits }, (_, i) => {
      const value = values[i - first];
      return value ? this.define(value) : this.temporary(bits === 16 ? 'h' : bits === 32 ? 'r' : 'd');
    });
    if (wordBits === 128) {
      this.need(8.3);
      if (bits < 64) {
        const middle = [this.temporary('d'), this.temporary('d')];
        this.line(`mov.b128 {${middle.join(', ')}}, ${word}`);
        const half = names.length / 2;
        this.line(`mov.b64 {${names.slice(0, half).join(', ')}}, ${middle[0]}`);
        this.line(`mov.b64 {${names.slice(half).join(', ')}}, ${middle[1]}`);
        return;
      }
    }
    this.line(`mov.b${wordBits} {${names.join(', ')}}, ${word}`);
  }

  /** A 16-bit register whose lower half is byte `index` of a register. */
  private byte(word: string, wordBits: number, index: number): string {
    if (wordBits === 16 && index === 0) return word;
    const byte = this.temporary('h');
    if (wordBits === 16) this.line(`shr.u16 ${byte}, ${word}, 8`);
    else if (wordBits > 64) throw this.error('bytes are taken from registers of at most 64 bits');
    else {
      const shifted = index === 0 ? word : this.temporary(wordBits === 32 ? 'r' : 'd');
      if (index > 0) this.line(`shr.u${wordBits} ${shifted}, ${word}, ${8 * index}`);
      this.line(`cvt.u16.u${wordBits} ${byte}, ${shifted}`);
    }
    return byte;
  }

  /** A label that is new in this kernel. */
  label(stem: string): string {
    return `$${stem}_${this.labels++}`;
  }

  place(label: string): void {
    this.code.push(`${label}:`);
  }

  /** Emits a region whose `break` and `continue` with this label go to these labels. */
  within(name: string, target: Target, emit: () => void): void {
    const stack = this.targets.get(name) ?? [];
    this.targets.set(name, stack);
    stack.push(target);
    emit();
    stack.pop();
  }

  /** Where a `break` or `continue` node goes. */
  targetOf(node: Node): string {
    const name = textOf(node, 'label');
    const target = this.targets.get(name)?.at(-1);
    const label = node.op === 'break' ? target?.exit : target?.next;
    if (label === undefined) throw this.error(`${node.op} to ${name}, which is not around it`);
    return label;
  }

  /** Emits nodes in order; what follows a jump is never reached and left out. */
  region(nodes: Region): void {
    for (const node of nodes) {
      this.node(node);
      if (isJump(node)) return;
    }
  }

  node(node: Node): void {
    const before = this.current;
    this.current = node;
    const info = OPS[node.op];
    const emit = this.table[node.op];
    if (!info || !emit) throw this.error(`operation ${node.op} is unknown`);
    if (info.needs) {
      const needs = info.needs(node.attributes);
      this.need(needs.isa, needs.target, node.op);
    }
    if (node.op !== 'const') this.lines.directives(node.position, this.code);
    emit(this, node);
    this.current = before;
  }

  /** `.reg` declarations of all registers so far. */
  declarations(): string[] {
    const out: string[] = [];
    for (const kind of ['p', 'h', 'r', 'd', 'q'] as const) {
      if (this.counts[kind] > 0) out.push(`  .reg .${REGISTER_TYPES[kind]} %${kind}<${this.counts[kind]}>;`);
    }
    return out;
  }
}

/** Whether a node never goes on to the next one of its region. */
export function isJump(node: Node): boolean {
  return node.op === 'break' || node.op === 'continue' || node.op === 'return' || node.op === 'trap';
}

function isPart(part: Part | undefined, word: string, index: number): boolean {
  return part !== undefined && part.word === word && part.index === index;
}
