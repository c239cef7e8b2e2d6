import type { Needs } from '../ir/op-info.ts';
import type { TypeName } from '../types/dtype.ts';

/**
 * Shapes and types of the tensor cores' instructions, as data. Sources: PTX ISA 9.0, "Matrix multiply-accumulate
 * operation using mma instruction" and "Asynchronous warpgroup level matrix instructions".
 */

/** Elements of the operands A and B. */
export type MatrixElement = 'f16' | 'bf16' | 'tf32' | 'e4m3' | 'e5m2' | 'i8' | 'u8';
/** Elements of C and D. */
export type AccumulatorElement = 'f32' | 'f16' | 'i32';

/** One form of `mma.sync`, or of `wgmma` for a fixed N. */
export interface MmaShape {
  /** As PTX spells it, e.g. `m16n8k16`. */
  readonly shape: string;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly a: MatrixElement;
  readonly b: MatrixElement;
  readonly d: AccumulatorElement;
  /** 32-bit registers of a thread for A, B and D (and C). */
  readonly registers: { readonly a: number; readonly b: number; readonly d: number };
  readonly needs: Needs;
}

/** Types that are multiplied together, with what they add up in and the K of 32 bytes of a row. */
export interface ProductTypes {
  readonly a: MatrixElement;
  readonly b: MatrixElement;
  readonly d: AccumulatorElement;
}

const BITS: Readonly<Record<MatrixElement | AccumulatorElement, number>> = {
  f16: 16,
  bf16: 16,
  tf32: 32,
  e4m3: 8,
  e5m2: 8,
  i8: 8,
  u8: 8,
  f32: 32,
  i32: 32,
};

/** The type of one register of an accumulator: f16 comes in pairs. */
export function accumulatorRegister(d: AccumulatorElement): TypeName {
  return d === 'f16' ? 'f16x2' : d;
}

const FLOAT8 = ['e4m3', 'e5m2'] as const;
const INT8 = ['i8', 'u8'] as const;

function pairs(elements: readonly MatrixElement[], sums: readonly AccumulatorElement[]): ProductTypes[] {
  return elements.flatMap((a) => elements.flatMap((b) => sums.map((d) => ({ a, b, d }))));
}

function mma(m: number, n: number, k: number, types: readonly ProductTypes[], needs: Needs): MmaShape[] {
  return types.map(({ a, b, d }) => ({
    ...{ shape: `m${m}n${n}k${k}`, m, n, k, a, b, d, needs },
    registers: {
      a: (m * k * BITS[a]) / 1024,
      b: (n * k * BITS[b]) / 1024,
      d: (m * n * BITS[d]) / 1024,
    },
  }));
}

const AMPERE: Needs = { isa: 7, target: 'sm_80' };
const HALF = pairs(['f16'], ['f32', 'f16']);
const BRAIN = pairs(['bf16'], ['f32']);

/** `mma.sync`: a warp multiplies fragments in registers. */
export const MMA_SHAPES: readonly MmaShape[] = [
  ...mma(16, 8, 8, [...HALF, ...BRAIN], AMPERE),
  ...mma(16, 8, 16, [...HALF, ...BRAIN], AMPERE),
  ...mma(16, 8, 4, pairs(['tf32'], ['f32']), AMPERE),
  ...mma(16, 8, 8, pairs(['tf32'], ['f32']), AMPERE),
  ...mma(16, 8, 16, pairs(INT8, ['i32']), AMPERE),
  ...mma(16, 8, 32, pairs(INT8, ['i32']), AMPERE),
  ...mma(16, 8, 32, pairs(FLOAT8, ['f32']), { isa: 8.4, target: 'sm_89' }),
  ...mma(16, 8, 32, pairs(FLOAT8, ['f16']), { isa: 8.7, target: 'sm_89' }),
  ...mma(16, 8, 16, pairs(FLOAT8, ['f32', 'f16']), { isa: 8.7, target: 'sm_89' }),
];

/** Types that `wgmma` multiplies. */
export const WGMMA_TYPES: readonly ProductTypes[] = [
  ...HALF,
  ...BRAIN,
  ...pairs(['tf32'], ['f32']),
  ...pairs(FLOAT8, ['f32', 'f16']),
  ...pairs(INT8, ['i32']),
];

/** The N that `wgmma` takes: multiples of 8 to 256; for integers 24 and multiples of 16. */
export function wgmmaColumns(a: MatrixElement): number[] {
  const all = Array.from({ length: 32 }, (_, i) => 8 * (i + 1));
  return a === 'i8' || a === 'u8' ? all.filter((n) => n === 8 || n === 24 || n % 16 === 0) : all;
}

/**
 * The form of `wgmma` (64 x N x 32 bytes of K) with these types.
 *
 * @throws RangeError where there is none.
 */
export function wgmmaShape(n: number, { a, b, d }: ProductTypes): MmaShape {
  const known = WGMMA_TYPES.some((types) => types.a === a && types.b === b && types.d === d);
  if (!known) throw new RangeError(`wgmma does not multiply ${a} by ${b} into ${d}`);
  if (!wgmmaColumns(a).includes(n)) {
    throw new RangeError(`wgmma of ${a} has no N of ${n}: it is one of ${wgmmaColumns(a).join(', ')}`);
  }
  const k = 256 / BITS[a];
  return {
    ...{ shape: `m64n${n}k${k}`, m: 64, n, k, a, b, d },
    registers: { a: 4, b: 0, d: (64 * n * BITS[d]) / (128 * 32) },
    needs: { isa: 8, target: 'sm_90a' },
  };
}

/** The form of `mma.sync` with that shape and these types, if there is one. */
export function mmaShape(shape: string, { a, b, d }: ProductTypes): MmaShape | undefined {
  return MMA_SHAPES.find((form) => form.shape === shape && form.a === a && form.b === b && form.d === d);
}
