/**
 * Descriptors that tell the tensor cores where an operand lies in shared memory, and what a tcgen05.mma multiplies.
 * Source: PTX ISA 9.0, "Matrix descriptor format" (wgmma), "Shared memory descriptor" and "Instruction descriptor"
 * (tcgen05).
 */

/** How 16-byte pieces of rows are exchanged inside a tile of shared memory: the span of one swizzled row, in bytes. */
export type SwizzleMode = 'none' | '32' | '64' | '128';

export const SWIZZLE_MODES: readonly SwizzleMode[] = ['none', '32', '64', '128'];

/** Everything of a matrix descriptor but the address. Bytes; multiples of 16 below 2^18. */
export interface MatrixDescriptor {
  /** Leading dimension byte offset. */
  readonly leading: number;
  /** Stride dimension byte offset. */
  readonly stride: number;
  readonly swizzle: SwizzleMode;
  /** Position of the pattern's start inside its repeat, 0..7; 0 where the tile is aligned to the repeat. */
  readonly baseOffset?: number;
}

const WGMMA_SWIZZLE: Readonly<Record<SwizzleMode, bigint>> = { none: 0n, '128': 1n, '64': 2n, '32': 3n };
const TCGEN05_SWIZZLE: Readonly<Record<SwizzleMode, bigint>> = { none: 0n, '128': 2n, '64': 4n, '32': 6n };

/** A byte count as the 14-bit field that holds it. */
function field(name: string, bytes: number): bigint {
  if (!Number.isInteger(bytes) || bytes < 0 || bytes >= 1 << 18 || bytes % 16 !== 0) {
    throw new RangeError(`${name} of a matrix descriptor is a multiple of 16 bytes below 262144, not ${bytes}`);
  }
  return BigInt(bytes >> 4);
}

function base(descriptor: MatrixDescriptor, address: number): bigint {
  const offset = descriptor.baseOffset ?? 0;
  if (!Number.isInteger(offset) || offset < 0 || offset > 7) {
    throw new RangeError(`the base offset of a matrix descriptor is 0 to 7, not ${offset}`);
  }
  return (
    field('the address', address) |
    (field('the leading offset', descriptor.leading) << 16n) |
    (field('the stride offset', descriptor.stride) << 32n) |
    (BigInt(offset) << 49n)
  );
}

/** 64 bits for wgmma: address [0, 14), leading [16, 30), stride [32, 46), base offset [49, 52), swizzle [62, 64). */
export function encodeWgmmaDescriptor(descriptor: MatrixDescriptor, address = 0): bigint {
  return base(descriptor, address) | (WGMMA_SWIZZLE[descriptor.swizzle] << 62n);
}

/**
 * 64 bits for tcgen05: as wgmma's, with version 1 in [46, 48), `absoluteLeading` (the leading offset is an address, not
 * a distance) in bit 52 and the swizzle in [61, 64).
 */
export function encodeTcgen05Descriptor(
  descriptor: MatrixDescriptor & { readonly absoluteLeading?: boolean },
  address = 0,
): bigint {
  return (
    base(descriptor, address) |
    (1n << 46n) |
    (descriptor.absoluteLeading ? 1n << 52n : 0n) |
    (TCGEN05_SWIZZLE[descriptor.swizzle] << 61n)
  );
}

/** A wgmma descriptor taken apart: byte counts and names. */
export function decodeWgmmaDescriptor(bits: bigint): MatrixDescriptor & { address: number; baseOffset: number } {
  const bytes = (at: bigint): number => Number((bits >> at) & 0x3fffn) << 4;
  const code = (bits >> 62n) & 3n;
  return {
    address: bytes(0n),
    leading: bytes(16n),
    stride: bytes(32n),
    baseOffset: Number((bits >> 49n) & 7n),
    swizzle: SWIZZLE_MODES.find((mode) => WGMMA_SWIZZLE[mode] === code) ?? 'none',
  };
}

/** A tcgen05 descriptor taken apart: byte counts and names. */
export function decodeTcgen05Descriptor(
  bits: bigint,
): MatrixDescriptor & { address: number; baseOffset: number; absoluteLeading: boolean } {
  const code = (bits >> 61n) & 7n;
  return {
    ...decodeWgmmaDescriptor(bits),
    swizzle: SWIZZLE_MODES.find((mode) => TCGEN05_SWIZZLE[mode] === code) ?? 'none',
    absoluteLeading: ((bits >> 52n) & 1n) === 1n,
  };
}

/** Element types of `tcgen05.mma` operands. */
export type Tcgen05Element = 'f16' | 'bf16' | 'tf32' | 'e4m3' | 'e5m2' | 'e2m3' | 'e3m2' | 'e2m1' | 'u8' | 'i8';

/** What a `tcgen05.mma` multiplies. */
export interface Tcgen05Instruction {
  readonly kind: 'f16' | 'tf32' | 'f8f6f4' | 'i8';
  readonly d: 'f16' | 'f32' | 'i32';
  readonly a: Tcgen05Element;
  readonly b: Tcgen05Element;
  /** 64 or 128 (128 or 256 with cta_group 2). */
  readonly m: number;
  /** Multiple of 8 (16 where M is 128 or more) to 256. */
  readonly n: number;
  readonly negateA?: boolean;
  readonly negateB?: boolean;
  /** Operands whose M or N dimension is contiguous. */
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  /** Integer sums saturate. */
  readonly saturate?: boolean;
}

const KIND_FORMATS: Readonly<Record<Tcgen05Instruction['kind'], Readonly<Partial<Record<Tcgen05Element, number>>>>> = {
  f16: { f16: 0, bf16: 1 },
  tf32: { tf32: 2 },
  f8f6f4: { e4m3: 0, e5m2: 1, e2m3: 3, e3m2: 4, e2m1: 5 },
  i8: { u8: 0, i8: 1 },
};
const SUM_FORMATS = { f16: 0, f32: 1, i32: 2 } as const;

/**
 * 32 bits for `tcgen05.mma` without block scales: saturate bit 3, D [4, 6), A [7, 10), B [10, 13), negate 13 and 14,
 * transpose 15 and 16, N/8 [17, 23), M/16 [24, 29).
 *
 * @throws RangeError for types or a shape that the kind does not have.
 */
export function encodeTcgen05Instruction(instruction: Tcgen05Instruction): number {
  const { kind, d, m, n } = instruction;
  const a = KIND_FORMATS[kind][instruction.a];
  const b = KIND_FORMATS[kind][instruction.b];
  if (a === undefined || b === undefined) {
    throw new RangeError(`tcgen05.mma kind ${kind} does not multiply ${instruction.a} by ${instruction.b}`);
  }
  const sums =
    kind === 'i8' ? ['i32'] : kind === 'tf32' ? ['f32'] : kind === 'f16' && a === 1 ? ['f32'] : ['f16', 'f32'];
  if (!sums.includes(d))
    throw new RangeError(`tcgen05.mma of ${instruction.a} adds up in ${sums.join(' or ')}, not ${d}`);
  checkShape(m, n);
  return (
    ((instruction.saturate ? 1 : 0) << 3) |
    (SUM_FORMATS[d] << 4) |
    (a << 7) |
    (b << 10) |
    ((instruction.negateA ? 1 : 0) << 13) |
    ((instruction.negateB ? 1 : 0) << 14) |
    ((instruction.transposeA ? 1 : 0) << 15) |
    ((instruction.transposeB ? 1 : 0) << 16) |
    ((n / 8) << 17) |
    ((m / 16) << 24)
  );
}

/**
 * What the 32 bits of `encodeTcgen05Instruction` say.
 *
 * @throws RangeError for codes that the kind does not have.
 */
export function decodeTcgen05Instruction(kind: Tcgen05Instruction['kind'], bits: number): Required<Tcgen05Instruction> {
  const operand = (at: number): Tcgen05Element => {
    const code = (bits >>> at) & 7;
    const found = Object.entries(KIND_FORMATS[kind]).find(([, known]) => known === code);
    if (!found) throw new RangeError(`format ${code} is none of kind ${kind}`);
    return found[0] as Tcgen05Element;
  };
  const sums = (['f16', 'f32', 'i32'] as const)[(bits >>> 4) & 3];
  if (sums === undefined) throw new RangeError('the accumulator has format 3, which there is not');
  const flag = (at: number): boolean => ((bits >>> at) & 1) === 1;
  const instruction = {
    ...{ kind, d: sums, a: operand(7), b: operand(10), m: 16 * ((bits >>> 24) & 31), n: 8 * ((bits >>> 17) & 63) },
    ...{ negateA: flag(13), negateB: flag(14), transposeA: flag(15), transposeB: flag(16), saturate: flag(3) },
  };
  if (encodeTcgen05Instruction(instruction) !== bits) {
    throw new RangeError(`bits 0x${bits.toString(16)} are those of another kind of product, e.g. a sparse one`);
  }
  return instruction;
}

/** What a `tcgen05.mma` with block scales multiplies: kinds mxf8f6f4, mxf4 and mxf4nvf4. */
export interface ScaledInstruction {
  readonly kind: 'mxf8f6f4' | 'mxf4' | 'mxf4nvf4';
  readonly a: Tcgen05Element;
  readonly b: Tcgen05Element;
  readonly m: number;
  readonly n: number;
  /** Type of the scales; mxf8f6f4 and mxf4 have ue8m0. */
  readonly scale: 'ue4m3' | 'ue8m0';
  /** Which byte of the scales' tensor memory columns holds A's and B's: 0..3. */
  readonly scaleA?: number;
  readonly scaleB?: number;
  readonly negateA?: boolean;
  readonly negateB?: boolean;
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
}

/**
 * 32 bits for `tcgen05.mma` with block scales: B's scale [4, 6), A [7, 10), B [10, 13) (mxf4: [10, 12)), negate 13 and
 * 14, transpose 15 and 16, N/8 [17, 23), scale type 23, M/128 [27, 29), A's scale [29, 31).
 */
export function encodeScaledInstruction(instruction: ScaledInstruction): number {
  const { kind, m, n, scale } = instruction;
  const formats = kind === 'mxf8f6f4' ? KIND_FORMATS.f8f6f4 : { e2m1: 1 };
  const a = formats[instruction.a as 'e2m1'];
  const b = formats[instruction.b as 'e2m1'];
  if (a === undefined || b === undefined) {
    throw new RangeError(`tcgen05.mma kind ${kind} does not multiply ${instruction.a} by ${instruction.b}`);
  }
  if (scale === 'ue4m3' && kind !== 'mxf4nvf4') throw new RangeError(`kind ${kind} has scales of type ue8m0`);
  checkShape(m, n);
  if (m % 128 !== 0) throw new RangeError(`tcgen05.mma with block scales has M of 128 or 256, not ${m}`);
  const places = [instruction.scaleA ?? 0, instruction.scaleB ?? 0];
  for (const place of places) {
    if (!Number.isInteger(place) || place < 0 || place > 3)
      throw new RangeError(`a scale lies in byte 0 to 3, not ${place}`);
  }
  const bits =
    (places[1] << 4) |
    (a << 7) |
    (b << 10) |
    ((instruction.negateA ? 1 : 0) << 13) |
    ((instruction.negateB ? 1 : 0) << 14) |
    ((instruction.transposeA ? 1 : 0) << 15) |
    ((instruction.transposeB ? 1 : 0) << 16) |
    ((n / 8) << 17) |
    ((scale === 'ue8m0' ? 1 : 0) << 23) |
    ((m / 128) << 27) |
    (places[0] << 29);
  return bits >>> 0;
}

function checkShape(m: number, n: number): void {
  if (m !== 64 && m !== 128 && m !== 256) throw new RangeError(`tcgen05.mma has M of 64, 128 or 256, not ${m}`);
  const step = m === 64 ? 8 : 16;
  if (n % step !== 0 || n < step || n > 256) {
    throw new RangeError(`tcgen05.mma with M = ${m} has N a multiple of ${step} to 256, not ${n}`);
  }
}
