/**
 * Forms of the tensor memory's instructions (sm_100a), as data. Source: PTX ISA 9.0, "TensorCore 5th generation family
 * instructions".
 */

/** Lanes and bits of one access: 32-bit registers of a thread at repeat 1, and the largest repeat. */
export const TMEM_ACCESS = {
  '16x64b': { registers: 1, most: 128 },
  '16x128b': { registers: 2, most: 64 },
  '16x256b': { registers: 4, most: 32 },
  '32x32b': { registers: 1, most: 128 },
  '16x32bx2': { registers: 1, most: 128 },
} as const;

export type TmemShape = keyof typeof TMEM_ACCESS;

export const TMEM_SHAPES: readonly TmemShape[] = ['16x64b', '16x128b', '16x256b', '32x32b', '16x32bx2'];

/** Registers of a thread that a load or store moves. */
export function tmemRegisters(shape: TmemShape, repeat: number): number {
  const { registers, most } = TMEM_ACCESS[shape];
  if (repeat < 1 || repeat > most || !Number.isInteger(Math.log2(repeat))) {
    throw new RangeError(`tensor memory ${shape} repeats a power of two of times, at most ${most}, not ${repeat}`);
  }
  return registers * repeat;
}

/** A cell of tensor memory, relative to the address of an access. */
export interface TmemCell {
  readonly lane: number;
  readonly column: number;
}

/**
 * The cell that a lane of the warp holds in one of its registers, without packing. Source: the figures "Matrix
 * fragments for shape ..." of the PTX ISA. The second half of 16x32bx2 counts from its own start.
 */
export function tmemCell(shape: TmemShape, lane: number, register: number): TmemCell {
  const [quarter, row] = [lane % 4, lane >> 2];
  switch (shape) {
    case '32x32b':
      return { lane, column: register };
    case '16x64b':
      return { lane: row + 8 * (lane & 1), column: ((lane >> 1) & 1) + 2 * register };
    case '16x128b':
      return { lane: row + 8 * (register & 1), column: quarter + 4 * (register >> 1) };
    case '16x256b':
      return {
        lane: row + 8 * ((register >> 1) & 1),
        column: 2 * quarter + (register & 1) + 8 * (register >> 2),
      };
    default:
      return { lane: lane % 16, column: register };
  }
}

/** Kinds of `tcgen05.mma`: K of one instruction (32 bytes of a row; 4-bit kinds 64), and scale vectors per kind. */
export const TCGEN05_KINDS = {
  f16: { k: 16, scales: [] },
  tf32: { k: 8, scales: [] },
  f8f6f4: { k: 32, scales: [] },
  i8: { k: 32, scales: [] },
  mxf8f6f4: { k: 32, scales: ['1X'] },
  mxf4: { k: 64, scales: ['2X'] },
  mxf4nvf4: { k: 64, scales: ['2X', '4X'] },
} as const;

export type Tcgen05Kind = keyof typeof TCGEN05_KINDS;

export const TCGEN05_KIND_NAMES: readonly Tcgen05Kind[] = [
  'f16',
  'tf32',
  'f8f6f4',
  'i8',
  'mxf8f6f4',
  'mxf4',
  'mxf4nvf4',
];

/** Shapes of `tcgen05.cp` and how each may be spread over the warps' lanes. */
export const TCGEN05_COPIES: Readonly<Record<string, readonly string[]>> = {
  '128x256b': [''],
  '4x256b': [''],
  '128x128b': [''],
  '64x128b': ['warpx2::02_13', 'warpx2::01_23'],
  '32x128b': ['warpx4'],
};

/** What `tcgen05.cp` and `ldmatrix` may unpack on the way: 6- and 4-bit elements padded to bytes. */
export const UNPACKED_FORMATS: readonly string[] = ['b6x16_p32', 'b4x16_p64'];
