import type { MatrixDescriptor, SwizzleMode } from './descriptors.ts';

/**
 * Descriptors from layouts. An operand of one wgmma or tcgen05.mma is an (MN, K) tile in shared memory; the hardware
 * takes it in the eight canonical forms of the PTX ISA 9.0 ("Strides", "Canonical layouts"). With T the elements of 16
 * bytes, pitch the elements of a swizzled row (16 bytes without swizzle), and offsets in elements before the swizzle:
 *
 *     K contiguous     ((8, m), (T, k)) : ((pitch, stride), (1, T or leading))      leading only without swizzle
 *     MN contiguous    ((pitch, m), (8, k)) : ((1, leading), (pitch, stride))       with swizzle
 *     MN contiguous    ((T, m), (8, k)) : ((1, stride), (T, leading))               without swizzle
 */

/** Which dimension of an operand is contiguous in shared memory. */
export type Major = 'k' | 'mn';

/** An operand's tile: where its elements lie, before the swizzle. */
export interface OperandTile {
  /** Rows (M of A, N of B) and K of the tile that one instruction reads. */
  readonly rows: number;
  readonly depth: number;
  /** Bits of an element. */
  readonly bits: number;
  readonly swizzle: SwizzleMode;
  /** Offset in elements of element (row, k), relative to (0, 0). */
  readonly offset: (row: number, k: number) => number;
}

interface Guess {
  readonly major: Major;
  /** In elements. */
  readonly leading: number;
  readonly stride: number;
  readonly expect: (row: number, k: number) => number;
}

/**
 * The descriptor of an operand's tile without its address, and which dimension is contiguous.
 *
 * @throws RangeError where the layout is none of the canonical ones: with the first element that is elsewhere.
 */
export function describeOperand(tile: OperandTile): MatrixDescriptor & { readonly major: Major } {
  const { rows, depth, bits, swizzle, offset } = tile;
  const vector = 128 / bits;
  if (depth % vector !== 0 || rows % 8 !== 0) {
    throw new RangeError(
      `an operand has rows in eights and K in pieces of 16 bytes, not ${rows} x ${depth} of ${bits} bits`,
    );
  }
  const pitch = swizzle === 'none' ? vector : (Number(swizzle) * 8) / bits;
  const kContiguous = offset(0, 1) === 1;
  if (!kContiguous && offset(1, 0) !== 1) {
    throw new RangeError('neither K nor the other dimension of the operand is contiguous in shared memory');
  }
  if (!kContiguous && bits !== 16) {
    throw new RangeError(
      `the tensor cores read operands of ${bits} bits only with a contiguous K: store it transposed`,
    );
  }
  const guess = kContiguous ? kMajor(tile, vector, pitch) : mnMajor(tile, vector, pitch);
  for (let row = 0; row < rows; row++) {
    for (let k = 0; k < depth; k++) {
      const [found, expected] = [offset(row, k), guess.expect(row, k)];
      if (found === expected) continue;
      throw new RangeError(
        `the layout is no canonical ${guess.major === 'k' ? 'K' : 'MN'}-major one with swizzle ${swizzle}: ` +
          `element (${row}, ${k}) lies at ${found}, the tensor core reads it at ${expected}`,
      );
    }
  }
  const bytes = (elements: number): number => (elements * bits) / 8;
  return { leading: bytes(guess.leading), stride: bytes(guess.stride), swizzle, major: guess.major };
}

function kMajor({ rows, depth, swizzle, offset }: OperandTile, vector: number, pitch: number): Guess {
  const stride = rows > 8 ? offset(8, 0) : 8 * pitch;
  const plain = swizzle === 'none';
  const column = plain && depth > vector ? offset(0, vector) : vector;
  if (!plain && depth > pitch) {
    throw new RangeError(`one instruction reads ${depth} elements of K; a row with swizzle ${swizzle} has ${pitch}`);
  }
  return {
    major: 'k',
    // With a swizzle the hardware does not read the leading offset; 16 is what everybody writes.
    leading: plain ? column : vector,
    stride,
    expect: (row, k) =>
      (row % 8) * pitch + Math.floor(row / 8) * stride + (k % vector) + Math.floor(k / vector) * column,
  };
}

function mnMajor({ rows, depth, swizzle, offset }: OperandTile, vector: number, pitch: number): Guess {
  const nextRows = rows > pitch ? offset(pitch, 0) : 8 * pitch;
  const nextDepth = depth > 8 ? offset(0, 8) : 8 * pitch;
  const plain = swizzle === 'none';
  return {
    major: 'mn',
    leading: plain ? nextDepth : nextRows,
    stride: plain ? nextRows : nextDepth,
    expect: (row, k) =>
      (row % pitch) +
      Math.floor(row / pitch) * nextRows +
      (k % 8) * (plain ? vector : pitch) +
      Math.floor(k / 8) * nextDepth,
  };
}

/**
 * The widest swizzle whose rows divide an operand of that many contiguous elements: fewest bank conflicts, fewest TMA
 * boxes.
 */
export function widestSwizzle(contiguous: number, elementBits: number): SwizzleMode {
  const bytes = (contiguous * elementBits) / 8;
  if (bytes % 16 !== 0) throw new RangeError(`a row of ${bytes} bytes is not made of 16-byte pieces`);
  if (bytes % 128 === 0) return '128';
  if (bytes % 64 === 0) return '64';
  return bytes % 32 === 0 ? '32' : 'none';
}

/** Bytes that the start of a swizzled tile is aligned to, so that its base offset is 0: eight rows of the pattern. */
export function swizzleAlignment(swizzle: SwizzleMode): number {
  return swizzle === 'none' ? 128 : 8 * Number(swizzle);
}
