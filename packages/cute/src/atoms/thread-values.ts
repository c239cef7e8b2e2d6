import { Layout, makeLayout } from '../layout/layout.ts';
import { upcast } from '../layout/recast.ts';
import type { CopyAtomLayouts } from '../layout/tiled-copy.ts';
import type { MmaAtomLayouts } from '../layout/tiled-mma.ts';
import type { MatrixElement, MmaShape } from './mma-shapes.ts';

/**
 * Which thread holds which elements, for the algebra's TiledMma and TiledCopy: layouts (thread, value) -> element of the
 * tile, first dimension fastest. Sources: PTX ISA 9.0, the fragment figures of mma, wgmma, ldmatrix and stmatrix.
 */

/** Elements in a 32-bit register. */
const ELEMENTS: Readonly<Record<MatrixElement, number>> = { f16: 2, bf16: 2, tf32: 1, e4m3: 4, e5m2: 4, i8: 4, u8: 4 };

/** `mma.sync`: four threads share a row of A and C and a column of B, each with the elements of one register. */
export function mmaAtom({ m, n, k, a, b, registers }: MmaShape): MmaAtomLayouts {
  const [va, vb] = [ELEMENTS[a], ELEMENTS[b]];
  const quads = [4, 8];
  return {
    shape: [m, n, k],
    threads: makeLayout(32),
    a: new Layout(
      [quads, [va, 2, registers.a / 2]],
      [
        [m * va, 1],
        [m, 8, m * 4 * va],
      ],
    ),
    b: new Layout(
      [quads, [vb, registers.b]],
      [
        [n * vb, 1],
        [n, n * 4 * vb],
      ],
    ),
    c: new Layout(
      [quads, [2, 2]],
      [
        [2 * m, 1],
        [m, 8],
      ],
    ),
  };
}

/** `wgmma`: each warp has 16 rows, laid out as those of `mma.sync`; B, and A without registers, are everybody's. */
export function wgmmaAtom({ m, n, k, a }: MmaShape, aInRegisters: boolean): MmaAtomLayouts {
  const v = ELEMENTS[a];
  const warps = [4, 8, 4];
  const everybody = (rows: number): Layout => new Layout([128, [rows, k]], [0, [1, rows]]);
  return {
    shape: [m, n, k],
    threads: makeLayout(128),
    a: aInRegisters
      ? new Layout(
          [warps, [v, 2, 2]],
          [
            [m * v, 1, 16],
            [m, 8, m * 4 * v],
          ],
        )
      : everybody(m),
    b: everybody(n),
    c: new Layout(
      [warps, [2, 2, n / 8]],
      [
        [2 * m, 1, 16],
        [m, 8, 8 * m],
      ],
    ),
  };
}

/** A copy's layouts in bits as layouts in elements. */
function inElements(
  threads: number,
  source: Layout,
  destination: Layout,
  reference: Layout,
  bits: number,
): CopyAtomLayouts {
  const [s, d, r] = [source, destination, reference].map((layout) => upcast(layout, bits) as Layout);
  return { threads: makeLayout(threads), source: s, destination: d, reference: r };
}

/** One thread copies neighbouring elements at once: ld/st, cp.async, a bulk copy. */
export function plainCopyAtom(elements: number): CopyAtomLayouts {
  const whole = new Layout([1, elements], [0, 1]);
  return { threads: makeLayout(1), source: whole, destination: whole, reference: whole };
}

/** (lane, bit) -> bit of the stack of matrices, as the registers hold it. */
function matrixWords(count: number, transpose: boolean): Layout {
  if (!transpose) return new Layout([32, [32, count]], [32, [1, 1024]]);
  return new Layout(
    [
      [4, 8],
      [16, 2, count],
    ],
    [
      [256, 16],
      [1, 128, 1024],
    ],
  );
}

/** (lane, bit) -> bit of the stack, as lanes address it: lane i row i; lanes beyond the rows repeat them. */
function matrixRows(count: number): Layout {
  return count === 4 ? new Layout([32, 128], [128, 1]) : new Layout([[8 * count, 4 / count], 128], [[128, 0], 1]);
}

/**
 * `ldmatrix` of 8 x 8 matrices of 16 bits: lane i gives the address of row i of the stack, and gets two neighbouring
 * elements of a row of every matrix (transposed: of a column).
 *
 * @param bits of an element, at most 16 (transposed: exactly 16)
 */
export function ldmatrixAtom(count: 1 | 2 | 4, transpose: boolean, bits: number = 16): CopyAtomLayouts {
  checkElement(transpose, bits);
  const words = matrixWords(count, transpose);
  return inElements(32, matrixRows(count), words, words, bits);
}

/** `stmatrix`: `ldmatrix` the other way. */
export function stmatrixAtom(count: 1 | 2 | 4, transpose: boolean, bits: number = 16): CopyAtomLayouts {
  checkElement(transpose, bits);
  const words = matrixWords(count, transpose);
  return inElements(32, words, matrixRows(count), words, bits);
}

function checkElement(transpose: boolean, bits: number): void {
  const sizes = transpose ? [16] : [4, 8, 16, 32];
  if (sizes.includes(bits)) return;
  throw new RangeError(
    `matrices of 16-bit pieces ${transpose ? 'that are transposed ' : ''}do not move ${bits}-bit elements`,
  );
}
