import type { TypeName } from '../types/dtype.ts';

/** Operations in other CTAs' and other devices' memory, as data (PTX ISA 9.0, `red.async`, `multimem`). */

export const REDUCE_ASYNC: Readonly<Record<string, readonly TypeName[]>> = {
  add: ['u32', 'i32', 'u64'],
  min: ['u32', 'i32'],
  max: ['u32', 'i32'],
  inc: ['u32'],
  dec: ['u32'],
  and: ['b32'],
  or: ['b32'],
  xor: ['b32'],
};

/** How many values of a type one multimem access moves. */
export const MULTIMEM_TYPES: Readonly<Record<string, readonly number[]>> = {
  u32: [1],
  i32: [1],
  u64: [1],
  i64: [1],
  b32: [1],
  b64: [1],
  f32: [1, 2, 4],
  f64: [1],
  f16x2: [1, 2, 4],
  bf16x2: [1, 2, 4],
};

/** `multimem.ld_reduce`: types of each operation. */
export const MULTIMEM_LOADS: Readonly<Record<string, readonly string[]>> = {
  add: ['u32', 'i32', 'u64', 'f32', 'f64', 'f16x2', 'bf16x2'],
  min: ['u32', 'i32', 'u64', 'i64', 'f16x2', 'bf16x2'],
  max: ['u32', 'i32', 'u64', 'i64', 'f16x2', 'bf16x2'],
  and: ['b32', 'b64'],
  or: ['b32', 'b64'],
  xor: ['b32', 'b64'],
};

/** `multimem.red`: types of each operation. */
export const MULTIMEM_REDUCTIONS: Readonly<Record<string, readonly string[]>> = {
  ...MULTIMEM_LOADS,
  min: ['u32', 'i32', 'u64', 'i64'],
  max: ['u32', 'i32', 'u64', 'i64'],
};
