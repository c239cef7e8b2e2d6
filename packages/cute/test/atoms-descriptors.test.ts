import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  decodeWgmmaDescriptor,
  encodeScaledInstruction,
  encodeTcgen05Descriptor,
  encodeTcgen05Instruction,
  encodeWgmmaDescriptor,
  type SwizzleMode,
} from '../src/atoms/descriptors.ts';

/** Bits [from, to) of a word. */
function bits(word: bigint | number, from: number, to: number): number {
  return Number((BigInt(word) >> BigInt(from)) & ((1n << BigInt(to - from)) - 1n));
}

test('wgmma descriptor: every field in its place', () => {
  const word = encodeWgmmaDescriptor({ leading: 16, stride: 1024, swizzle: '128', baseOffset: 5 }, 0x2c400);
  assert.equal(bits(word, 0, 14), 0x2c40);
  assert.equal(bits(word, 14, 16), 0);
  assert.equal(bits(word, 16, 30), 1);
  assert.equal(bits(word, 30, 32), 0);
  assert.equal(bits(word, 32, 46), 64);
  assert.equal(bits(word, 46, 49), 0);
  assert.equal(bits(word, 49, 52), 5);
  assert.equal(bits(word, 52, 62), 0);
  assert.equal(bits(word, 62, 64), 1);
  assert.equal(word, 0x400a_0040_0001_2c40n);
  assert.deepEqual(decodeWgmmaDescriptor(word), {
    ...{ address: 0x2c400, leading: 16, stride: 1024, swizzle: '128', baseOffset: 5 },
  });
  const codes = { none: 0, '128': 1, '64': 2, '32': 3 };
  for (const swizzle of Object.keys(codes) as SwizzleMode[]) {
    const other = encodeWgmmaDescriptor({ leading: 0, stride: 0, swizzle });
    assert.equal(other, BigInt(codes[swizzle]) << 62n);
    assert.equal(decodeWgmmaDescriptor(other).swizzle, swizzle);
  }
});

test('tcgen05 descriptor: version, leading mode and three bits of swizzle', () => {
  const word = encodeTcgen05Descriptor({ leading: 32, stride: 256, swizzle: '32', absoluteLeading: true }, 1024);
  assert.equal(bits(word, 0, 14), 64);
  assert.equal(bits(word, 16, 30), 2);
  assert.equal(bits(word, 32, 46), 16);
  assert.equal(bits(word, 46, 48), 1);
  assert.equal(bits(word, 49, 52), 0);
  assert.equal(bits(word, 52, 53), 1);
  assert.equal(bits(word, 53, 61), 0);
  assert.equal(bits(word, 61, 64), 6);
  const codes = { none: 0, '128': 2, '64': 4, '32': 6 };
  for (const swizzle of Object.keys(codes) as SwizzleMode[]) {
    const other = encodeTcgen05Descriptor({ leading: 0, stride: 0, swizzle });
    assert.equal(other, (BigInt(codes[swizzle]) << 61n) | (1n << 46n));
  }
});

test('offsets that the fields cannot hold are refused', () => {
  const descriptor = { leading: 16, stride: 1024, swizzle: '128' } as const;
  assert.throws(() => encodeWgmmaDescriptor(descriptor, 8), /the address .* multiple of 16 bytes/);
  assert.throws(() => encodeWgmmaDescriptor({ ...descriptor, stride: 1 << 18 }), /the stride offset .* below 262144/);
  assert.throws(() => encodeWgmmaDescriptor({ ...descriptor, leading: -16 }), /the leading offset/);
  assert.throws(() => encodeWgmmaDescriptor({ ...descriptor, baseOffset: 8 }), /0 to 7, not 8/);
});

test('tcgen05 instruction descriptor: every field in its place', () => {
  const word = encodeTcgen05Instruction({
    ...{ kind: 'f8f6f4', d: 'f32', a: 'e5m2', b: 'e2m1', m: 128, n: 256 },
    ...{ negateA: true, transposeB: true },
  });
  assert.equal(bits(word, 0, 4), 0);
  assert.equal(bits(word, 4, 6), 1);
  assert.equal(bits(word, 6, 7), 0);
  assert.equal(bits(word, 7, 10), 1);
  assert.equal(bits(word, 10, 13), 5);
  assert.equal(bits(word, 13, 17), 0b1001);
  assert.equal(bits(word, 17, 23), 32);
  assert.equal(bits(word, 23, 24), 0);
  assert.equal(bits(word, 24, 29), 8);
  assert.equal(bits(word, 29, 32), 0);
  // The common case: bf16 times bf16 into f32, 128 x 128.
  assert.equal(encodeTcgen05Instruction({ kind: 'f16', d: 'f32', a: 'bf16', b: 'bf16', m: 128, n: 128 }), 0x8200490);
  const integers = { kind: 'i8', d: 'i32', a: 'u8', b: 'i8', m: 64, n: 8, saturate: true } as const;
  assert.equal(encodeTcgen05Instruction(integers), (1 << 3) | (2 << 4) | (1 << 10) | (1 << 17) | (4 << 24));
});

test('tcgen05 instruction descriptor with block scales', () => {
  const word = encodeScaledInstruction({
    ...{ kind: 'mxf4nvf4', a: 'e2m1', b: 'e2m1', m: 256, n: 64, scale: 'ue4m3', scaleA: 3, scaleB: 2 },
    transposeA: true,
  });
  assert.equal(bits(word, 4, 6), 2);
  assert.equal(bits(word, 7, 10), 1);
  assert.equal(bits(word, 10, 12), 1);
  assert.equal(bits(word, 15, 17), 1);
  assert.equal(bits(word, 17, 23), 8);
  assert.equal(bits(word, 23, 24), 0);
  assert.equal(bits(word, 24, 27), 0);
  assert.equal(bits(word, 27, 29), 2);
  assert.equal(bits(word, 29, 31), 3);
  assert.equal(bits(word, 31, 32), 0);
  const mx = encodeScaledInstruction({ kind: 'mxf8f6f4', a: 'e4m3', b: 'e5m2', m: 128, n: 16, scale: 'ue8m0' });
  assert.equal(mx, (1 << 10) | (2 << 17) | (1 << 23) | (1 << 27));
});

test('products that tcgen05 does not have are refused', () => {
  const instruction = { kind: 'f16', d: 'f32', a: 'bf16', b: 'bf16', m: 128, n: 128 } as const;
  assert.throws(() => encodeTcgen05Instruction({ ...instruction, a: 'e4m3' }), /kind f16 does not multiply e4m3/);
  assert.throws(() => encodeTcgen05Instruction({ ...instruction, d: 'f16' }), /adds up in f32, not f16/);
  assert.throws(() => encodeTcgen05Instruction({ ...instruction, n: 8 }), /multiple of 16/);
  assert.throws(() => encodeTcgen05Instruction({ ...instruction, m: 32 }), /M of 64, 128 or 256/);
  const scaled = { kind: 'mxf4', a: 'e2m1', b: 'e2m1', m: 128, n: 16, scale: 'ue8m0' } as const;
  assert.throws(() => encodeScaledInstruction({ ...scaled, m: 64 }), /128 or 256, not 64/);
  assert.throws(() => encodeScaledInstruction({ ...scaled, scale: 'ue4m3' }), /type ue8m0/);
  assert.throws(() => encodeScaledInstruction({ ...scaled, a: 'e4m3' }), /does not multiply e4m3/);
});
