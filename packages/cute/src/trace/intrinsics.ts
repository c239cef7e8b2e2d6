import { setAsmModel, type AsmModel } from '../ir/asm-model.ts';
import type { Attributes, Value } from '../ir/ir.ts';
import { isLayout, type AnyLayout } from '../layout/composed.ts';
import { Layout, makeLayout } from '../layout/layout.ts';
import { size as sizeOf } from '../layout/slice.ts';
import { leavesOf, type IntTuple } from '../layout/tuple.ts';
import { bitsOf, TYPES, type TypeName } from '../types/dtype.ts';
import { quotient } from './arithmetic.ts';
import { Range } from './control.ts';
import { condition, constant, convert, describe, isDevice, operand } from './convert.ts';
import { need } from './state.ts';
import { isTensor, makeTensor, type Tensor } from './tensor.ts';
import { typeNameOf, type i32, type Scalar, type ScalarType, type u32, type u64 } from './types.ts';

/** Functions of the device for authors of kernels. Those of numbers alone compute at compile time. */

function special(name: string): () => i32 {
  return () => need(name).builder.value('special', 'i32', { attributes: { name } }) as unknown as i32;
}

/** Index of the thread in its CTA. */
export const tid: () => i32 = special('tid.x');
export const tidY: () => i32 = special('tid.y');
export const tidZ: () => i32 = special('tid.z');
/** Index of the CTA in the grid. */
export const bid: () => i32 = special('ctaid.x');
export const bidY: () => i32 = special('ctaid.y');
export const bidZ: () => i32 = special('ctaid.z');
/** CTAs of the grid. */
export const gdim: () => i32 = special('nctaid.x');
export const gdimY: () => i32 = special('nctaid.y');
export const gdimZ: () => i32 = special('nctaid.z');
/** Threads of a CTA. */
export const bdim: () => i32 = special('ntid.x');
export const laneId: () => i32 = special('laneid');
/** Rank of the CTA in its cluster. */
export const clusterRank: () => i32 = special('cluster_ctarank');

/** Index of the warp in a CTA of one dimension. */
export function warpId(): i32 {
  const trace = need('warpId');
  return trace.builder.value('shr', 'i32', {
    args: [tid() as unknown as Value, constant(trace, 5, 'u32')],
  }) as unknown as i32;
}

/** Cycles of the multiprocessor. */
export function clock(): u64 {
  return need('clock').builder.value('clock', 'u64', { attributes: { name: 'clock64' } }) as unknown as u64;
}

/** A loop of the device from `start` to `end` (or from 0), whatever the numbers are; `unroll`: 0 the assembler decides, 1 never. */
export function range(
  start: number,
  end?: number,
  step: number = 1,
  options: { readonly unroll?: number } = {},
): Iterable<i32> {
  if (step === 0) need('range').fail('a loop needs a step other than 0');
  const loop =
    end === undefined ? new Range(0, start, 1, options.unroll ?? 0) : new Range(start, end, step, options.unroll ?? 0);
  return loop;
}

/** Waits until all threads of the CTA are here; what they wrote to shared memory before is seen by all after. */
export function sync(): void {
  need('sync').builder.emit('barrier', { attributes: { id: 0 } });
}

export function syncWarp(mask: number = 0xffffffff): void {
  need('syncWarp').builder.emit('warp_sync', { attributes: { mask } });
}

interface ShuffleOptions {
  /** Lanes of a group: a power of two to 32. */
  readonly width?: number;
}

function shuffle(mode: string, value: unknown, lane: unknown, { width = 32 }: ShuffleOptions = {}): unknown {
  const trace = need('a shuffle');
  if (!isDevice(value)) return value;
  const bits = TYPES[value.type].bits;
  if (bits > 32 || value.type === 'pred') trace.fail(`lanes exchange values of at most 32 bits, not ${value.type}`);
  const narrow = bits < 32;
  const whole = narrow ? widened(value) : value;
  const out = trace.builder.value('shuffle', whole.type, {
    args: [whole, operand(trace, lane, 'i32', 'lane')],
    attributes: { mode, width, mask: 0xffffffff },
  });
  return narrow ? narrowed(out, value.type) : out;
}

function widened(value: Value): Value {
  const trace = need('a shuffle');
  const bits = TYPES[value.type].bits === 16 ? 'u16' : 'u8';
  const raw = value.type === bits ? value : trace.builder.value('bitcast', bits, { args: [value] });
  return convert(raw, 'u32');
}

function narrowed(value: Value, type: TypeName): unknown {
  const trace = need('a shuffle');
  const bits = TYPES[type].bits === 16 ? 'u16' : 'u8';
  const raw = convert(value, bits);
  return type === bits ? raw : trace.builder.value('bitcast', type, { args: [raw] });
}

/** The value of lane `lane ^ mask`. All lanes of the warp take part. */
export function shuffleXor<T>(value: T, mask: number, options?: ShuffleOptions): T {
  return shuffle('bfly', value, mask, options) as T;
}

/** The value of a lane. */
export function shuffleIndex<T>(value: T, lane: number, options?: ShuffleOptions): T {
  return shuffle('idx', value, lane, options) as T;
}

/** The value of the lane `delta` before this one. */
export function shuffleUp<T>(value: T, delta: number, options?: ShuffleOptions): T {
  return shuffle('up', value, delta, options) as T;
}

/** The value of the lane `delta` after this one. */
export function shuffleDown<T>(value: T, delta: number, options?: ShuffleOptions): T {
  return shuffle('down', value, delta, options) as T;
}

function vote(name: string, type: TypeName, value: unknown): unknown {
  const trace = need('a vote');
  const asked = isDevice(value) ? condition(trace, value) : constant(trace, Boolean(value), 'pred');
  return trace.builder.value('vote', type, { args: [asked], attributes: { function: name, mask: 0xffffffff } });
}

/** Whether a condition holds in all lanes of the warp. */
export function all(value: boolean): boolean {
  return vote('all', 'pred', value) as boolean;
}

export function any(value: boolean): boolean {
  return vote('any', 'pred', value) as boolean;
}

/** The lanes in which a condition holds, as bits. */
export function ballot(value: boolean): u32 {
  return vote('ballot', 'u32', value) as u32;
}

/** The quotient rounded towards zero; `/` is for floats. */
export function idiv(a: number, b: number): i32 {
  return quotient(a, b) as i32;
}

/** The bits of a value as another type of the same width. */
export function bitcast<K extends TypeName>(type: ScalarType<K> | K, value: unknown): Scalar<K> {
  const trace = need('bitcast');
  const to = typeNameOf(type);
  if (!isDevice(value)) return trace.fail(`bitcast takes a device value, not ${describe(value)}`);
  if (TYPES[value.type].bits !== TYPES[to].bits) {
    trace.fail(`${value.type} has ${TYPES[value.type].bits} bits and ${to} ${TYPES[to].bits}: bitcast keeps the width`);
  }
  if (value.type === to) return value as unknown as Scalar<K>;
  return trace.builder.value('bitcast', to, { args: [value] }) as unknown as Scalar<K>;
}

/** Prints to the host's buffer; `{}` stands for a value. For debugging: it costs an atomic and several stores. */
export function printf(format: string, ...values: readonly unknown[]): void {
  const trace = need('printf');
  const places = format.split('{}').length - 1;
  if (places !== values.length) trace.fail(`the format has ${places} {} and ${values.length} values are given`);
  const args = values.map((value) =>
    isDevice(value) ? value : constant(trace, value as number, Number.isInteger(value) ? 'i32' : 'f32'),
  );
  trace.builder.emit('print', { args, attributes: { format } });
}

/** Ends the grid with an error that names this line, where the condition does not hold. */
export function deviceAssert(holds: boolean, message: string): void {
  const trace = need('deviceAssert');
  if (!isDevice(holds)) {
    if (!holds) trace.fail(`assertion failed at compile time: ${message}`);
    return;
  }
  trace.builder.emit('assert', { args: [condition(trace, holds)], attributes: { message } });
}

export interface AsmOptions {
  /** What it does besides giving results. Default `sync`: nothing moves over it, and it stays though nobody needs its results. */
  readonly effect?: 'pure' | 'read' | 'write' | 'sync';
  /** Least PTX ISA version and architecture. */
  readonly isa?: number;
  readonly target?: string;
  /** What it does to a thread's registers, for the simulator, which refuses `asm` without. Not for accesses of memory. */
  readonly model?: AsmModel;
}

/**
 * PTX in place: `$0`, `$1`... in the template are first the results, of the types in `results`, then the operands, which
 * are device values.
 */
export function asm(
  template: string,
  results: readonly (ScalarType<TypeName> | TypeName)[],
  operands: readonly unknown[],
  { model, ...options }: AsmOptions = {},
): number[] {
  const trace = need('asm');
  const args = operands.map((value, i) =>
    isDevice(value) ? value : trace.fail(`operand ${i} of asm is ${describe(value)}: give it a type, e.g. i32(...)`),
  );
  const attributes: Attributes = { template, effect: 'sync', ...options };
  if (model) {
    if (options.effect === 'read' || options.effect === 'write') {
      trace.fail(`a model of asm computes with registers, and this one has the effect ${options.effect}`);
    }
    setAsmModel(attributes, model);
  }
  return trace.builder.emit('asm', { args, types: results.map((type) => typeNameOf(type)), attributes })
    .results as unknown as number[];
}

/**
 * How long L2 shall keep what an access or a copy touches: for `policy` of loads, stores and asynchronous copies.
 *
 * @param fraction of the accesses that it is for, above 0 to 1; the others are as usual
 */
export function cachePolicy(
  l2: 'evict_first' | 'evict_last' | 'evict_unchanged' | 'evict_normal',
  fraction: number = 1,
): u64 {
  const trace = need('cachePolicy');
  if (!(fraction > 0 && fraction <= 1))
    trace.fail(`a cache policy is for a share above 0 to 1 of accesses, not ${fraction}`);
  return trace.builder.value('cache_policy', 'u64', { attributes: { l2, fraction } }) as unknown as u64;
}

export interface SharedOptions {
  /** Bytes, a power of two to 1024. Default 16; swizzled tiles of TMA and wgmma want 1024. */
  readonly align?: number;
  /** For messages. Default: the type, and the line where it is made. */
  readonly name?: string;
}

/**
 * Shared memory of the CTA: a tensor of `shape` (compact, first mode fastest) or of a layout. It lives from its first to
 * its last use; pieces whose lives do not meet may share their place. Its bytes hold nothing at first.
 */
export function shared<K extends TypeName>(
  type: ScalarType<K> | K,
  shape: number | IntTuple | AnyLayout,
  options: SharedOptions = {},
): Tensor<Scalar<K>> {
  const trace = need('shared memory');
  const { kernel, builder } = trace;
  const element = typeNameOf(type);
  const layout = isLayout(shape) ? shape : makeLayout(shape);
  const { align = 16, name = `${element} of line ${builder.position.line}` } = options;
  if (!Number.isInteger(Math.log2(align)) || align > 1024) {
    trace.fail(`shared memory is aligned to a power of two to 1024 bytes, not to ${align}`);
  }
  const id = kernel.shared.length;
  kernel.shared.push({ id, name, bytes: Math.ceil((elementsOf(layout) * bitsOf(element)) / 8), align, element });
  const address = builder.value('shared_address', 'ptr.shared', { attributes: { id } });
  address.divisor = align;
  return makeTensor<Scalar<K>>({ address, offset: 0, layout, type: element, space: 'shared', param: undefined });
}

/** Elements from the first to the last; a swizzle permutes inside of its blocks. */
function elementsOf(layout: AnyLayout): number {
  const plain = layout instanceof Layout ? layout : layout.inner;
  const shape = leavesOf(plain.shape);
  const stride = leavesOf(plain.stride as IntTuple);
  let last = 0;
  let count = 1;
  for (const [i, extent] of shape.entries()) {
    const step = stride[i];
    if (typeof extent !== 'number' || typeof step !== 'number') {
      return need('shared memory').fail(
        `the size of shared memory is known at compile time, and that of ${String(layout)} is not`,
      );
    }
    last += (extent - 1) * step;
    count *= extent;
  }
  return layout instanceof Layout ? last + 1 : Math.max(last + 1, count);
}

/** Number of elements of a tensor, a layout or a shape. */
export function size(of: Tensor<unknown> | AnyLayout | IntTuple): number {
  return isTensor(of) ? of.size : (sizeOf(of) as number);
}
