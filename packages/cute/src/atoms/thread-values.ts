import type { MatrixElement, MmaShape } from './mma-shapes.ts';

/**
 * Which thread holds which elements: layouts (thread, value) -> element of the tile, first dimension fastest, as data
 * for the algebra. Sources: PTX ISA 9.0, the fragment figures of mma, wgmma, ldmatrix and stmatrix.
 */

export type Numbers = number | readonly Numbers[];

/** A layout written out: shape and stride of the same form. */
export interface LayoutNumbers {
  readonly shape: Numbers;
  readonly stride: Numbers;
}

/** Layouts of a tensor core's instruction: A is (M, K), B is (N, K), C is (M, N). */
export interface MmaThreadValues {
  /** Threads that work together. */
  readonly threads: number;
  readonly shape: readonly [m: number, n: number, k: number];
  readonly a: LayoutNumbers;
  readonly b: LayoutNumbers;
  readonly c: LayoutNumbers;
}

/** Layouts of a copy's instruction: (thread, bit) -> bit of the piece that all of them copy. */
export interface CopyThreadValues {
  readonly threads: number;
  readonly source: LayoutNumbers;
  readonly destination: LayoutNumbers;
  /** The one that numbers a thread's values. */
  readonly reference: LayoutNumbers;
}

const ELEMENTS: Readonly<Record<MatrixElement, number>> = { f16: 2, bf16: 2, tf32: 1, e4m3: 4, e5m2: 4, i8: 4, u8: 4 };

/** `mma.sync`: four threads share a row of A and C and a column of B, each with the elements of one register. */
export function mmaThreadValues({ m, n, k, a, b, registers }: MmaShape): MmaThreadValues {
  const [va, vb] = [ELEMENTS[a], ELEMENTS[b]];
  return {
    threads: 32,
    shape: [m, n, k],
    a: {
      shape: [
        [4, 8],
        [va, 2, registers.a / 2],
      ],
      stride: [
        [m * va, 1],
        [m, 8, m * 4 * va],
      ],
    },
    b: {
      shape: [
        [4, 8],
        [vb, registers.b],
      ],
      stride: [
        [n * vb, 1],
        [n, n * 4 * vb],
      ],
    },
    c: {
      shape: [
        [4, 8],
        [2, 2],
      ],
      stride: [
        [2 * m, 1],
        [m, 8],
      ],
    },
  };
}

/** `wgmma`: each warp has 16 rows, laid out as those of `mma.sync`; B, and A without registers, are everybody's. */
export function wgmmaThreadValues({ m, n, k, a }: MmaShape, aInRegisters: boolean): MmaThreadValues {
  const v = ELEMENTS[a];
  const shared = (rows: number): LayoutNumbers => ({ shape: [128, [rows, k]], stride: [0, [1, rows]] });
  return {
    threads: 128,
    shape: [m, n, k],
    a: aInRegisters
      ? {
          shape: [
            [4, 8, 4],
            [v, 2, 2],
          ],
          stride: [
            [m * v, 1, 16],
            [m, 8, m * 4 * v],
          ],
        }
      : shared(m),
    b: shared(n),
    c: {
      shape: [
        [4, 8, 4],
        [2, 2, n / 8],
      ],
      stride: [
        [2 * m, 1, 16],
        [m, 8, 8 * m],
      ],
    },
  };
}

/** A thread copies so many bits from one place to another: ld/st, cp.async, and a bulk copy by one thread. */
export function plainCopy(bits: number): CopyThreadValues {
  const whole: LayoutNumbers = { shape: [1, bits], stride: [0, 1] };
  return { threads: 1, source: whole, destination: whole, reference: whole };
}

/**
 * `ldmatrix` of 8 x 8 matrices of 16 bits: lane i gives the address of row i of the stack, and gets two neighbouring
 * elements of a row of every matrix (transposed: of a column).
 */
export function ldmatrixThreadValues(count: 1 | 2 | 4, transpose: boolean): CopyThreadValues {
  const destination: LayoutNumbers = transpose
    ? {
        shape: [
          [4, 8],
          [16, 2, count],
        ],
        stride: [
          [256, 16],
          [1, 128, 1024],
        ],
      }
    : { shape: [32, [32, count]], stride: [32, [1, 1024]] };
  // Lanes beyond the rows give no address: they are written as if they gave the first ones again.
  const source: LayoutNumbers =
    count === 4
      ? { shape: [32, 128], stride: [128, 1] }
      : { shape: [[8 * count, 4 / count], 128], stride: [[128, 0], 1] };
  return { threads: 32, source, destination, reference: destination };
}

/** `stmatrix`: `ldmatrix` the other way. */
export function stmatrixThreadValues(count: 1 | 2 | 4, transpose: boolean): CopyThreadValues {
  const { source, destination } = ldmatrixThreadValues(count, transpose);
  return { threads: 32, source: destination, destination: source, reference: destination };
}
