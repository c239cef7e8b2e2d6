import { Layout, makeLayout } from '../layout/layout.ts';
import { makeCotiledCopy, type CopyAtomLayouts, type TiledCopy } from '../layout/tiled-copy.ts';
import { isTuple, type IntTuple } from '../layout/tuple.ts';
import { TMEM_ACCESS, tmemRegisters, type TmemShape } from './tcgen05-shapes.ts';

/**
 * Copies between registers, shared memory and tensor memory as tiled copies. Tensor memory is a layout of words: from one
 * column to the next 1, from one lane to the next 65536, as its addresses count; D of 128 x N is `(128,N):(65536,1)`.
 */

/** Words from one lane of tensor memory to the next. */
export const TMEM_LANE: number = 1 << 16;

/** Columns of an access at repeat 1, and its (lane, register) as a layout into (column, lane) of the access. */
function fragmentOf(shape: TmemShape, repeat: number): { columns: number; rows: number; words: Layout } {
  const { registers } = TMEM_ACCESS[shape];
  const count = tmemRegisters(shape, repeat);
  const rows = shape === '32x32b' ? 32 : 16;
  const columns = (32 * count) / rows;
  switch (shape) {
    case '32x32b':
      return { columns, rows, words: new Layout([32, count], [columns, 1]) };
    case '16x64b':
      return {
        ...{ columns, rows },
        words: new Layout([[2, 2, 8], repeat], [[8 * columns, 1, columns], 2]),
      };
    case '16x128b':
    case '16x256b': {
      const wide = registers / 2;
      return {
        ...{ columns, rows },
        words: new Layout(
          [
            [4, 8],
            [wide, 2, repeat],
          ],
          [
            [wide, columns],
            [1, 8 * columns, 4 * wide],
          ],
        ),
      };
    }
    default:
      throw new RangeError(`tensor memory ${shape} is two accesses that no one tile describes: copy the halves`);
  }
}

/** `tmemLoad` (or `tmemStore`) as an atom: (lane, word) of the registers to word of the access, columns first. */
export function tmemAtom(direction: 'load' | 'store', shape: TmemShape, repeat: number): CopyAtomLayouts {
  const { columns, rows, words } = fragmentOf(shape, repeat);
  // All lanes name all of the cells; the registers are what is numbered.
  const cells = new Layout([32, columns * rows], [0, 1]);
  const [source, destination] = direction === 'load' ? [cells, words] : [words, cells];
  return { threads: makeLayout(32), source, destination, reference: cells };
}

/**
 * `make_tmem_copy`: four warps load or store a tensor in tensor memory, each the 32 lanes that it reaches.
 *
 * @param tensor layout of the tensor in tensor memory, coordinate to word
 */
export function makeTmemCopy(direction: 'load' | 'store', shape: TmemShape, repeat: number, tensor: Layout): TiledCopy {
  const { columns, rows } = fragmentOf(shape, repeat);
  const addresses = new Layout(
    [
      [32, 4],
      [columns, rows],
    ],
    [
      [0, 32 * TMEM_LANE],
      [1, TMEM_LANE],
    ],
  );
  return makeCotiledCopy(tmemAtom(direction, shape, repeat), addresses, tensor);
}

/** Bits of a row, and to which lanes rows go: (row, copies) to lane. */
const ROWS: Readonly<Record<string, { readonly bits: number; readonly lanes: Layout }>> = {
  '128x256b': { bits: 256, lanes: new Layout([128, 1], [1, 0]) },
  '128x128b': { bits: 128, lanes: new Layout([128, 1], [1, 0]) },
  '64x128b warpx2::02_13': { bits: 128, lanes: new Layout([64, 2], [1, 64]) },
  '64x128b warpx2::01_23': { bits: 128, lanes: new Layout([[32, 2], 2], [[1, 64], 32]) },
  '32x128b warpx4': { bits: 128, lanes: new Layout([32, 4], [1, 32]) },
};

function rowsOf(shape: string, multicast: string): { bits: number; lanes: Layout } {
  const rows = ROWS[`${shape} ${multicast}`.trim()];
  if (!rows) throw new RangeError(`tcgen05Copy of shape ${shape} ${multicast} is no tiled copy`);
  return rows;
}

/** `tcgen05Copy` as an atom of one thread: rows of shared memory, each perhaps to several lanes. */
export function s2tAtom(shape: string, multicast: string = ''): CopyAtomLayouts {
  const { bits, lanes } = rowsOf(shape, multicast);
  const words = bits / 32;
  const [rows, copies] = [lanes.mode(0).size as number, lanes.mode(1).size as number];
  const whole = words * rows * copies;
  return {
    threads: makeLayout(1),
    source: new Layout([1, [words, rows, copies]], [0, [1, words, 0]]),
    destination: new Layout([1, whole], [0, 1]),
    reference: new Layout([1, whole], [0, 1]),
  };
}

/** `make_s2t_copy`: one thread copies from shared memory to a tensor in tensor memory. */
export function makeS2TCopy(shape: string, multicast: string, tensor: Layout): TiledCopy {
  const { bits, lanes } = rowsOf(shape, multicast);
  const inWords = (stride: IntTuple): IntTuple =>
    isTuple(stride) ? stride.map(inWords) : (stride as number) * TMEM_LANE;
  const addresses = new Layout([1, [bits / 32, lanes.shape]], [0, [1, inWords(lanes.stride as IntTuple)]]);
  return makeCotiledCopy(s2tAtom(shape, multicast), addresses, tensor);
}
