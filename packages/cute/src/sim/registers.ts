import type { Slot, Value } from '../ir/ir.ts';
import { FLOAT_FORMATS, encodeFloat, type SmallFloat } from '../types/numeric.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import { KernelError } from '../ir/error.ts';
import { isBig, isLong, viewOf, type View } from './lanes.ts';
import type { RegisterFile } from './machine.ts';

/** Where a value lies in a warp's registers: lane i at index `at + i` of a view. 128 bits: the upper half 32 further on. */
export interface Operand {
  readonly view: View;
  readonly at: number;
  readonly type: TypeName;
  readonly bits: number;
}

/** The number, or bits, of a `const` node as lanes hold it. */
export function constantOf(value: Value): number | bigint {
  const { type, node } = value;
  const raw = node.attributes['value'];
  if (isBig(type)) {
    const whole = BigInt(typeof raw === 'number' || typeof raw === 'string' ? raw : Number(raw));
    return type === 'i64' ? BigInt.asIntN(64, whole) : BigInt.asUintN(type === 'b128' ? 128 : 64, whole);
  }
  const x = numberFrom(raw);
  if (Object.hasOwn(FLOAT_FORMATS, type))
    return encodeFloat(type as SmallFloat, x, 'rn', type === 'e4m3' || type === 'e5m2');
  switch (type) {
    case 'pred':
      return raw === true || (typeof raw === 'number' && raw !== 0) ? 1 : 0;
    case 'f32':
    case 'tf32':
      return Math.fround(x);
    case 'f64':
    case 'ptr.global':
    case 'ptr.generic':
      return x;
    case 'u32':
    case 'ptr.shared':
    case 'ptr.cluster':
    case 'ptr.tmem':
      return x >>> 0;
    case 'i8':
      return (x << 24) >> 24;
    case 'i16':
      return (x << 16) >> 16;
    case 'u8':
    case 'b8':
      return x & 0xff;
    case 'u16':
    case 'b16':
    case 'e4m3x2':
    case 'e5m2x2':
      return x & 0xffff;
    default:
      return x | 0;
  }

  function numberFrom(attribute: unknown): number {
    if (attribute === 'nan') return NaN;
    if (attribute === 'inf') return Infinity;
    if (attribute === '-inf') return -Infinity;
    const x = Number(attribute);
    if (Number.isNaN(x)) throw new KernelError(`const of ${type} has no value`, node.position);
    return x;
  }
}

/** Gives values and slots places in registers. */
export class Registers {
  words: number = 0;
  longs: number = 0;
  private readonly values = new Map<number, Operand>();
  private readonly slots = new Map<number, Operand>();
  private readonly constants: { operand: Operand; value: number | bigint }[] = [];

  private place(type: TypeName): Operand {
    const { bits } = TYPES[type];
    if (!isLong(type)) return { view: viewOf(type), at: 32 * this.words++, type, bits };
    const at = 32 * this.longs;
    this.longs += type === 'b128' ? 2 : 1;
    return { view: viewOf(type), at, type, bits };
  }

  of(value: Value): Operand {
    let operand = this.values.get(value.id);
    if (operand === undefined) {
      operand = this.place(value.type);
      this.values.set(value.id, operand);
      if (value.node.op === 'const') this.constants.push({ operand, value: constantOf(value) });
    }
    return operand;
  }

  slot(slot: Slot): Operand {
    let operand = this.slots.get(slot.id);
    if (operand === undefined) this.slots.set(slot.id, (operand = this.place(slot.type)));
    return operand;
  }

  /** Puts constants that instructions read from registers into a new file. */
  putConstants(file: RegisterFile): void {
    for (const { operand, value } of this.constants) {
      for (let lane = 0; lane < 32; lane++) write(file, operand, lane, value);
    }
  }
}

/** A lane's value as generated code holds it. */
export function read(warp: RegisterFile, { view, at, type }: Operand, lane: number): number | bigint {
  if (type === 'b128') return warp.Q[at + lane] | (warp.Q[at + 32 + lane] << 64n);
  return warp[view][at + lane];
}

export function write(warp: RegisterFile, { view, at, type }: Operand, lane: number, value: number | bigint): void {
  if (view === 'q') warp.q[at + lane] = value as bigint;
  else if (view === 'Q') {
    warp.Q[at + lane] = value as bigint;
    if (type === 'b128') warp.Q[at + 32 + lane] = (value as bigint) >> 64n;
  } else warp[view][at + lane] = value as number;
}

/** A lane's integer, address or predicate of at most 32 bits, or a bigint's number. */
export function readNumber(warp: RegisterFile, operand: Operand, lane: number): number {
  return Number(warp[operand.view][operand.at + lane]);
}
