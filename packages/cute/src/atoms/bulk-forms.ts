import type { TypeName } from '../types/dtype.ts';

/** What bulk copies may do on arrival, and the fields of a tensor map, as data (PTX ISA 9.0, "Data movement"). */

/** `cp.reduce.async.bulk` into global memory: the types of each operation. */
export const BULK_REDUCTIONS: Readonly<Record<string, readonly TypeName[]>> = {
  add: ['u32', 'i32', 'u64', 'f32', 'f64', 'f16', 'bf16'],
  min: ['u32', 'i32', 'u64', 'i64', 'f16', 'bf16'],
  max: ['u32', 'i32', 'u64', 'i64', 'f16', 'bf16'],
  inc: ['u32'],
  dec: ['u32'],
  and: ['b32', 'b64'],
  or: ['b32', 'b64'],
  xor: ['b32', 'b64'],
};

/** `cp.reduce.async.bulk.tensor`: the type is the tensor map's. */
export const TENSOR_REDUCTIONS: readonly string[] = ['add', 'min', 'max', 'inc', 'dec', 'and', 'or', 'xor'];

export interface TensormapField {
  readonly bits: 32 | 64;
  /** One value per dimension: `index` says which. */
  readonly indexed: boolean;
  /** The value is part of the instruction. */
  readonly constant: boolean;
}

/** Fields that `tensormap.replace` sets. */
export const TENSORMAP_FIELDS: Readonly<Record<string, TensormapField>> = {
  global_address: { bits: 64, indexed: false, constant: false },
  rank: { bits: 32, indexed: false, constant: false },
  box_dim: { bits: 32, indexed: true, constant: false },
  global_dim: { bits: 32, indexed: true, constant: false },
  global_stride: { bits: 64, indexed: true, constant: false },
  element_stride: { bits: 32, indexed: true, constant: false },
  elemtype: { bits: 32, indexed: false, constant: true },
  interleave_layout: { bits: 32, indexed: false, constant: true },
  swizzle_mode: { bits: 32, indexed: false, constant: true },
  fill_mode: { bits: 32, indexed: false, constant: true },
};
