import type { Value } from '../ir/ir.ts';
import type { TypeName } from '../types/dtype.ts';
import type { MBarrier } from './barrier.ts';
import {
  encodeTcgen05Instruction,
  encodeScaledInstruction,
  type MatrixDescriptor,
  type ScaledInstruction,
  type Tcgen05Instruction,
} from './descriptors.ts';
import { addressIn, emit, integer, predicate, result, results, typed, type Int, type Place } from './record.ts';
import { tmemRegisters, type TmemShape } from './tcgen05-shapes.ts';

/** Tensor memory and its tensor cores (sm_100a). `group`: 2 where two CTAs of a cluster work together. */
export interface GroupOption {
  readonly group?: 1 | 2;
}

function groupOf(options: GroupOption): { cta_group: number } {
  return { cta_group: options.group ?? 1 };
}

/** A warp allocates columns of tensor memory (a power of two, 32 to 512); the address is written to shared memory. */
export function tmemAllocate(to: Place, columns: number, options: GroupOption = {}): void {
  emit('tcgen05_alloc', { args: [addressIn(to, ['ptr.shared'])], attributes: { columns, ...groupOf(options) } });
}

/** The same warp frees them before the kernel ends. */
export function tmemFree(address: Place, columns: number, options: GroupOption = {}): void {
  emit('tcgen05_dealloc', { args: [addressIn(address, ['ptr.tmem'])], attributes: { columns, ...groupOf(options) } });
}

/** This CTA allocates no more: others may. */
export function tmemRelinquish(options: GroupOption = {}): void {
  emit('tcgen05_relinquish', { attributes: groupOf(options) });
}

export interface TmemAccess {
  readonly shape: TmemShape;
  readonly repeat: number;
  /** 16x32bx2: columns between the halves. */
  readonly halfOffset?: number;
  /** Two 16-bit columns to a register. */
  readonly pack?: boolean;
}

function accessOf({ shape, repeat, halfOffset }: TmemAccess): Record<string, number | string> {
  return { shape, repeat, ...(halfOffset === undefined ? {} : { half_offset: halfOffset }) };
}

/** A warp loads from its lanes of tensor memory; use the words behind `tmemWait('load')`. */
export function tmemLoad(from: Place, access: TmemAccess): Int[] {
  const types = Array.from({ length: tmemRegisters(access.shape, access.repeat) }, (): TypeName => 'b32');
  const attributes = { ...accessOf(access), ...(access.pack ? { pack: true } : {}) };
  return results('tcgen05_load', types, { args: [addressIn(from, ['ptr.tmem'])], attributes });
}

/** A warp stores to its lanes of tensor memory. */
export function tmemStore(to: Place, words: readonly Int[], access: TmemAccess): void {
  const attributes = { ...accessOf(access), ...(access.pack ? { unpack: true } : {}) };
  const args = [addressIn(to, ['ptr.tmem']), ...words.map((word) => typed(word, 'b32'))];
  emit('tcgen05_store', { args, attributes });
}

/** Waits for this thread's loads or stores of tensor memory. */
export function tmemWait(direction: 'load' | 'store'): void {
  emit('tcgen05_wait', { attributes: { direction } });
}

/** Where an operand lies in shared memory. */
export function tcgen05Descriptor(place: Place, fields: MatrixDescriptor): Value {
  const { leading, stride, swizzle, baseOffset = 0 } = fields;
  return result('tcgen05_descriptor', 'u64', {
    args: [addressIn(place, ['ptr.shared'])],
    attributes: { leading, stride, swizzle, base_offset: baseOffset },
  });
}

export interface Tcgen05Options extends GroupOption {
  /** False: the product replaces what D holds. */
  readonly accumulate?: boolean | Int;
}

/**
 * One thread starts a product: D (tensor memory) = A times B, plus D. A is a descriptor, or a place in tensor memory.
 * Done when a barrier that `tcgen05Commit` named says so.
 */
export function tcgen05Mma(
  d: Place,
  a: Value,
  b: Value,
  instruction: Tcgen05Instruction,
  options: Tcgen05Options = {},
): void {
  const inTensorMemory = a.type === 'ptr.tmem';
  const code = integer(encodeTcgen05Instruction(instruction), 'u32');
  const args = [addressIn(d, ['ptr.tmem']), a, b, code, predicate(options.accumulate ?? true)];
  const attributes = { kind: instruction.kind, ...groupOf(options), ...(inTensorMemory ? { a_tmem: true } : {}) };
  emit('tcgen05_mma', { args, attributes });
}

/** `tcgen05Mma` with scales of blocks, which lie in tensor memory. `block`: how many scales a row has per instruction. */
export function tcgen05ScaledMma(
  d: Place,
  a: Value,
  b: Value,
  scales: { readonly a: Place; readonly b: Place; readonly block: '1X' | '2X' | '4X' },
  instruction: ScaledInstruction,
  options: Tcgen05Options = {},
): void {
  const code = integer(encodeScaledInstruction(instruction), 'u32');
  const places = [addressIn(scales.a, ['ptr.tmem']), addressIn(scales.b, ['ptr.tmem'])];
  const args = [addressIn(d, ['ptr.tmem']), a, b, code, predicate(options.accumulate ?? true), ...places];
  const attributes = { kind: instruction.kind, block: scales.block, ...groupOf(options) };
  emit('tcgen05_mma', { args, attributes: { ...attributes, ...(a.type === 'ptr.tmem' ? { a_tmem: true } : {}) } });
}

/** The barrier gets an arrival when this thread's products and copies so far are done. */
export function tcgen05Commit(barrier: MBarrier, options: GroupOption & { readonly multicast?: Int } = {}): void {
  const { multicast } = options;
  const args = multicast === undefined ? [barrier.address] : [barrier.address, integer(multicast, 'u16')];
  const attributes = { ...groupOf(options), ...(multicast === undefined ? {} : { multicast: true }) };
  emit('tcgen05_commit', { args, attributes });
}

/** Copies from shared to tensor memory, e.g. scales. `multicast`: how warps share it, see `TCGEN05_COPIES`. */
export function tcgen05Copy(
  to: Place,
  from: Value,
  options: GroupOption & { readonly shape: string; readonly multicast?: string; readonly source?: string },
): void {
  const { shape, multicast = '', source } = options;
  const attributes = { shape, multicast, ...groupOf(options), ...(source === undefined ? {} : { source }) };
  emit('tcgen05_copy', { args: [addressIn(to, ['ptr.tmem']), from], attributes });
}

/** Shifts rows of tensor memory down by one. */
export function tcgen05Shift(at: Place, options: GroupOption = {}): void {
  emit('tcgen05_shift', { args: [addressIn(at, ['ptr.tmem'])], attributes: groupOf(options) });
}

/** Orders tensor core work with a barrier of threads: before it on this side, after it on the other. */
export function tcgen05Fence(when: 'before_thread_sync' | 'after_thread_sync'): void {
  emit('tcgen05_fence', { attributes: { when } });
}
