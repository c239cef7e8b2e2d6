import { Value, type Slot } from '../ir/ir.ts';
import { describe } from '../trace/convert.ts';
import { Fragment } from '../trace/fragment.ts';
import type { Indexed } from '../trace/symbols.ts';
import type { TypeName } from '../types/dtype.ts';
import type { MatrixDescriptor } from './descriptors.ts';
import {
  accumulatorRegister,
  MMA_SHAPES,
  mmaShape,
  wgmmaShape,
  type AccumulatorElement,
  type MatrixElement,
  type ProductTypes,
} from './mma-shapes.ts';
import {
  addressIn,
  constantOr,
  emit,
  integer,
  newSlot,
  predicate,
  readSlot,
  result,
  results,
  typed,
  writeSlot,
} from './record.ts';
import type { Int, Place } from './record.ts';

/** 32 bits of a matrix fragment: one f32 or tf32, two 16-bit or four 8-bit elements, low first. */
export type Word = Int;

export interface MatrixLoadOptions {
  readonly count: 1 | 2 | 4;
  readonly transpose?: boolean;
  /** `m8n8` of 16 bits (default); of 8 bits, for sm_100a: `m16n16`, transposed, and `m8n16`, whose elements are unpacked. */
  readonly shape?: 'm8n8' | 'm16n16' | 'm8n16';
  /** 16 elements of 6 or 4 bits at the beginning of a row of 16 bytes, unpacked into the low bits of bytes. */
  readonly source?: 'b6x16_p32' | 'b4x16_p64';
}

export interface MatrixStoreOptions {
  readonly transpose?: boolean;
  /** `m8n8` of 16 bits (default) or `m16n8` of 8 bits, transposed, for sm_100a. */
  readonly shape?: 'm8n8' | 'm16n8';
}

/**
 * A warp loads matrices from shared memory: lane i gives the address of row i (16 bytes); see `ldmatrixAtom` for what a
 * lane gets, one word of each matrix, two of a matrix of 16 x 16.
 */
export function ldmatrix(from: Place, options: MatrixLoadOptions): Word[] {
  const { count, transpose = false, shape, source } = options;
  const words = shape === 'm16n16' ? 2 * count : count;
  const types = Array.from({ length: words }, (): TypeName => 'b32');
  const attributes = { count, transpose, ...(shape ? { shape } : {}), ...(source ? { source } : {}) };
  return results('ldmatrix', types, { args: [addressIn(from, ['ptr.shared'])], attributes });
}

/** A warp stores matrices to shared memory: `ldmatrix` the other way. */
export function stmatrix(to: Place, words: readonly Word[], options: MatrixStoreOptions = {}): void {
  const { transpose = false, shape } = options;
  const args = [addressIn(to, ['ptr.shared']), ...words.map((word) => typed(word, 'b32'))];
  emit('stmatrix', { args, attributes: { count: words.length, transpose, ...(shape ? { shape } : {}) } });
}

/** A warp transposes an 8 x 8 matrix of 16-bit elements in registers. */
export function movmatrix(word: Word): Word {
  return result('movmatrix', 'b32', { args: [typed(word, 'b32')] });
}

/**
 * A warp multiplies: A (M x K) times B (N x K) plus C (M x N). Fragments as `mmaThreadValues` says: words of A and B,
 * registers of C (f16 in pairs).
 *
 * @param shape e.g. `m16n8k16`
 * @returns the registers of the sum
 * @throws RangeError for a shape and types that the hardware does not have
 */
export function mma(
  shape: string,
  types: ProductTypes,
  a: readonly Word[],
  b: readonly Word[],
  c: readonly Int[],
): Int[] {
  const form = mmaShape(shape, types);
  if (!form) {
    const known = MMA_SHAPES.filter(({ a: ofA, b: ofB, d }) => ofA === types.a && ofB === types.b && d === types.d);
    const shapes = known.map((one) => one.shape).join(', ');
    throw new RangeError(
      `there is no mma ${shape} of ${types.a} and ${types.b} into ${types.d}` + (shapes ? `; there is ${shapes}` : ''),
    );
  }
  const what = `mma ${shape} of ${types.a}`;
  checkCount('A', a, form.registers.a, what);
  checkCount('B', b, form.registers.b, what);
  checkCount('C', c, form.registers.d, what);
  const sum = accumulatorRegister(types.d);
  const words = [...a, ...b].map((word) => typed(word, 'b32'));
  const args = [...words, ...c.map((value) => typed(value, sum))];
  return results(
    'mma',
    c.map(() => sum),
    { args, attributes: { shape, ...types } },
  );
}

function checkCount(name: string, words: readonly unknown[], expected: number, what: string): void {
  if (words.length === expected) return;
  throw new RangeError(`${what} takes ${expected} registers of ${name} from each lane, not ${words.length}`);
}

/**
 * The sums of a warpgroup's products, 64 x N, in registers that stay where they are while the tensor cores work. Value v
 * of a thread lies where `wgmmaThreadValues` says.
 */
export class Accumulators implements Indexed {
  [index: number]: Int;
  readonly n: number;
  readonly element: AccumulatorElement;
  readonly slots: readonly Slot[];

  constructor(n: number, element: AccumulatorElement = 'f32') {
    const count = element === 'f16' ? n / 4 : n / 2;
    this.n = n;
    this.element = element;
    this.slots = Array.from({ length: count }, (_, i) => newSlot(accumulatorRegister(element), `sum${i}`));
  }

  get length(): number {
    return this.slots.length;
  }

  /** Register i, as `sums[i]` in a kernel; read it behind `wgmmaWait`. */
  get(index: number): Int {
    return readSlot(this.slot(index));
  }

  set(index: number, value: Int): void {
    writeSlot(this.slot(index), value);
  }

  getElement(index: unknown): unknown {
    return this.get(index as number);
  }

  putElement(index: unknown, value: unknown): void {
    this.set(index as number, value as Int);
  }

  /** A copy of all registers, in order. */
  values(): Fragment {
    return new Fragment(
      this.slots.map((slot) => readSlot(slot)),
      accumulatorRegister(this.element),
    );
  }

  fill(value: Int): void {
    for (const slot of this.slots) writeSlot(slot, value);
  }

  private slot(index: number): Slot {
    const slot = constantOr(index) === undefined ? undefined : this.slots[index];
    if (slot) return slot;
    throw new RangeError(
      `a thread has ${this.length} accumulators, with numbers known while tracing; there is no ${String(index)}`,
    );
  }
}

/** Where an operand of wgmma lies: an address in shared memory and the form of the tile. */
export function wgmmaDescriptor(place: Place, fields: MatrixDescriptor): Value {
  const { leading, stride, swizzle, baseOffset = 0 } = fields;
  return result('wgmma_descriptor', 'u64', {
    args: [addressIn(place, ['ptr.shared'])],
    attributes: { leading, stride, swizzle, base_offset: baseOffset },
  });
}

/** A descriptor of something so many bytes further on (multiple of 16). */
export function descriptorAdd(descriptor: Value, bytes: Int): Value {
  const known = constantOr(bytes);
  if (known === 0) return descriptor;
  if (known !== undefined) return result('descriptor_add', 'u64', { args: [descriptor], attributes: { bytes: known } });
  return result('descriptor_add', 'u64', { args: [descriptor, integer(bytes, 'i32')] });
}

export interface WgmmaOptions {
  readonly a: MatrixElement;
  readonly b?: MatrixElement;
  /** False: the sums start at zero with this product. */
  readonly accumulate?: boolean;
  /** Operands whose M (A) or N (B) is contiguous in shared memory; 16-bit elements only. */
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  readonly negateA?: boolean;
  readonly negateB?: boolean;
}

/** A descriptor in shared memory, as an operand of wgmma. */
function descriptorOf(name: string, value: unknown): Value {
  if (value instanceof Value && value.type === 'u64') return value;
  throw new TypeError(
    `wgmma takes ${name} as a descriptor, not ${describe(value)}: wgmmaDescriptor(tile, ...) makes one`,
  );
}

/**
 * A warpgroup multiplies A (64 x 32 bytes of K; a descriptor, or four words in registers) by B (N x 32 bytes of K) and
 * adds to the accumulators. Runs on until `wgmmaWait`; nobody may touch the accumulators, A's registers or the shared
 * memory in between.
 */
export function wgmma(sums: Accumulators, a: Value | readonly Word[], b: Value, options: WgmmaOptions): void {
  const types = { a: options.a, b: options.b ?? options.a, d: sums.element };
  const { shape } = wgmmaShape(sums.n, types);
  const registers = Array.isArray(a);
  const first = registers ? (a as readonly Word[]).map((word) => typed(word, 'b32')) : [descriptorOf('A', a)];
  if (registers) checkCount('A', first, 4, `wgmma ${shape} of ${types.a}`);
  emit('wgmma', {
    args: [...first, descriptorOf('B', b), predicate(options.accumulate ?? true)],
    slots: sums.slots,
    attributes: {
      ...{ shape, ...types, a_registers: registers },
      ...{ transpose_a: options.transposeA ?? false, transpose_b: options.transposeB ?? false },
      ...{ negate_a: options.negateA ?? false, negate_b: options.negateB ?? false },
    },
  });
}

/** Orders writes of registers before the next wgmma: before the first one, and after accumulators were changed. */
export function wgmmaFence(): void {
  emit('wgmma_fence');
}

/** Closes the group of this warpgroup's products so far. */
export function wgmmaCommit(): void {
  emit('wgmma_commit');
}

/** Waits until at most `groups` groups still run; the accumulators that are read afterwards are named. */
export function wgmmaWait(groups: number = 0, ...sums: readonly Accumulators[]): void {
  emit('wgmma_wait', { attributes: { groups }, slots: sums.flatMap((sum) => sum.slots) });
}
