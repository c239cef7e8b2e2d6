import assert from 'node:assert/strict';
import test from 'node:test';
import { MMA_SHAPES, wgmmaShape, type MatrixElement, type MmaShape } from '../src/atoms/mma-shapes.ts';
import { mmaAtom, wgmmaAtom } from '../src/atoms/thread-values.ts';
import type { Value } from '../src/ir/ir.ts';
import { Layout } from '../src/layout/layout.ts';
import type { SimulatorResult } from '../src/sim/api.ts';
import { simulate } from '../src/sim/simulate.ts';
import type { TypeName } from '../src/types/dtype.ts';
import { encodeFloat, f16ToF32, f32Bits } from '../src/types/numeric.ts';
import { kinds, KernelWriter, tensor, UNVERIFIED } from './sim-kernel.ts';

/** Fragments by the layouts of `atoms/`, which were written from the same figures by somebody else. */

const BITS: Record<MatrixElement, number> = { f16: 16, bf16: 16, tf32: 32, e4m3: 8, e5m2: 8, i8: 8, u8: 8 };

/** Bits of a small whole number. */
function encode(element: MatrixElement, value: number): number {
  if (element === 'i8' || element === 'u8') return value & 0xff;
  return element === 'tf32' ? f32Bits(value) : encodeFloat(element, value);
}

/** Small whole numbers, exact in every format; u8 has no negative ones. */
function numbers(count: number, seed: number, element: MatrixElement): number[] {
  return Array.from({ length: count }, (_, i) => {
    const value = (Math.imul(i + seed, 2654435761) >>> 13) % 7;
    return element === 'u8' ? value : value - 3;
  });
}

function offset(layout: Layout, thread: number, value: number): number {
  return Number(layout.at(thread, value));
}

/** The words that a lane holds of a matrix. */
function wordsOf(
  layout: Layout,
  matrix: readonly number[],
  element: MatrixElement,
  thread: number,
  words: number,
): number[] {
  const per = 32 / BITS[element];
  return Array.from({ length: words }, (_, r) => {
    let word = 0;
    for (let e = 0; e < per; e++)
      word |= encode(element, matrix[offset(layout, thread, r * per + e)]) << (BITS[element] * e);
    return word;
  });
}

function testMma(form: MmaShape): void {
  test(`mma ${form.shape} of ${form.a} and ${form.b} into ${form.d}`, () => {
    const { m, n, k, registers } = form;
    const atom = mmaAtom(form);
    const [a, b] = [numbers(m * k, 1, form.a), numbers(n * k, 2, form.b)];
    const c = numbers(m * n, 3, 'i8');
    const count = registers.a + registers.b + registers.d;
    const input = new Int32Array(32 * count);
    const sum: TypeName = form.d === 'f16' ? 'f16x2' : form.d;
    const encodeSum = (value: number): number => (form.d === 'f32' ? f32Bits(value) : value);
    for (let lane = 0; lane < 32; lane++) {
      const sums =
        form.d === 'f16'
          ? wordsOf(atom.c, c, 'f16', lane, registers.d)
          : Array.from({ length: registers.d }, (_, i) => encodeSum(c[offset(atom.c, lane, i)]));
      input.set(
        [...wordsOf(atom.a, a, form.a, lane, registers.a), ...wordsOf(atom.b, b, form.b, lane, registers.b), ...sums],
        lane * count,
      );
    }
    const w = new KernelWriter({ params: [tensor('x', 'b32', 'read'), tensor('y', 'b32')], threads: 32 });
    const lane = w.special('laneid');
    const row = w.at(w.param(0), lane, 4 * count);
    const args = Array.from({ length: count }, (_, i) =>
      w.load(w.at(row, i), i < registers.a + registers.b ? 'b32' : sum),
    );
    const types = Array.from({ length: registers.d }, () => sum);
    const { results } = w.emit('mma', {
      args,
      types,
      attributes: { shape: form.shape, a: form.a, b: form.b, d: form.d },
    });
    for (const [i, value] of results.entries()) w.store(w.at(w.at(w.param(1), lane, 4 * registers.d), i), value);
    const y = new Int32Array(32 * registers.d);
    assert.deepEqual(kinds(simulate(w.kernel, { grid: [1, 1, 1], args: { x: input, y } })), []);
    const values =
      form.d === 'f32'
        ? new Float32Array(y.buffer)
        : form.d === 'i32'
          ? y
          : Float32Array.from(new Uint16Array(y.buffer), f16ToF32);
    const perLane = values.length / 32;
    for (let thread = 0; thread < 32; thread++) {
      for (let i = 0; i < perLane; i++) {
        const at = offset(atom.c, thread, i);
        const [r, column] = [at % m, Math.floor(at / m)];
        let expected = c[at];
        for (let j = 0; j < k; j++) expected += a[r + m * j] * b[column + n * j];
        if (values[thread * perLane + i] !== expected)
          assert.fail(`(${r}, ${column}): ${values[thread * perLane + i]}, not ${expected}`);
      }
    }
  });
}

for (const form of MMA_SHAPES) {
  // Mixed 8-bit types differ in nothing but the decoding, which e4m3 x e5m2 and i8 x u8 have both.
  if (form.a === form.b || form.a === 'e4m3' || form.a === 'i8') testMma(form);
}

test('ldmatrix, stmatrix and movmatrix: rows to fragments and back, transposed or not', () => {
  for (const transpose of [false, true]) {
    const w = new KernelWriter({
      params: [tensor('x', 'b32', 'read'), tensor('y', 'b32'), tensor('z', 'b32')],
      threads: 32,
    });
    const lane = w.special('laneid');
    const [part, back] = [w.shared('part', 512), w.shared('back', 512)];
    const row = w.at(part, lane, 16);
    w.store(row, w.loads(w.at(w.param(0), lane, 16), 'b32', 4, { align: 16 }), { align: 16 });
    w.emit('warp_sync');
    const words = w.emit('ldmatrix', {
      args: [row],
      types: ['b32', 'b32', 'b32', 'b32'],
      attributes: { count: 4, transpose },
    }).results;
    for (const [i, word] of words.entries()) w.store(w.at(w.at(w.param(1), lane, 16), i), word);
    const turned = words.map((word) => w.value('movmatrix', 'b32', [word]));
    // Transposed by movmatrix and stored the other way: the rows as they were.
    w.emit('stmatrix', { args: [w.at(back, lane, 16), ...turned], attributes: { count: 4, transpose: !transpose } });
    w.emit('warp_sync');
    w.store(w.at(w.param(2), lane, 16), w.loads(w.at(back, lane, 16), 'b32', 4, { align: 16 }), { align: 16 });
    const x = Uint16Array.from({ length: 256 }, (_, i) => i);
    const [y, z] = [new Uint16Array(256), new Uint16Array(256)];
    const result = simulate(w.kernel, { grid: [1, 1, 1], args: { x, y, z } });
    assert.deepEqual(
      result.findings.map((finding) => finding.message),
      [],
    );
    for (let lane = 0; lane < 32; lane++) {
      for (let i = 0; i < 8; i++) {
        const [matrix, e] = [i >> 1, i & 1];
        const [r, c] = [lane >> 2, 2 * (lane & 3) + e];
        assert.equal(y[lane * 8 + i], matrix * 64 + (transpose ? c * 8 + r : r * 8 + c));
      }
    }
    assert.deepEqual(z, x);
  }
});

/** Loads matrices of 8 bits from rows that the lanes address, and the bytes of the lanes' words. */
function loaded8(rows: number, attributes: Record<string, string | number | boolean>, words: number, x: Uint8Array) {
  const w = new KernelWriter({ params: [tensor('x', 'b32', 'read'), tensor('y', 'b32')], threads: 32 });
  const lane = w.special('laneid');
  const part = w.shared('part', 512);
  const row = w.at(part, lane, 16);
  w.store(row, w.loads(w.at(w.param(0), lane, 16), 'b32', 4, { align: 16 }), { align: 16 });
  w.emit('warp_sync');
  const types = Array.from({ length: words }, (): TypeName => 'b32');
  const { results } = w.emit('ldmatrix', { args: [row], types, attributes });
  for (const [i, word] of results.entries()) w.store(w.at(w.at(w.param(1), lane, 4 * words), i), word);
  const y = new Uint8Array(128 * words);
  const given = new Uint8Array(512);
  given.set(x.subarray(0, 16 * rows));
  const result = simulate(w.kernel, { grid: [1, 1, 1], args: { x: given, y } });
  assert.deepEqual(
    result.findings.map((finding) => finding.message),
    [],
  );
  return y;
}

const LANE_BYTES = Uint8Array.from({ length: 512 }, (_, i) => Math.imul(i + 1, 2654435761) >>> 24);

test('ldmatrix of 16 x 16 matrices of 8 bits: bits go where CuTe says', () => {
  for (const count of [1, 2]) {
    // (lane, bit) -> bit of the matrices: SM100_U8x8_LDSM_T and SM100_U8x16_LDSM_T of CuTe.
    const rows = new Layout([[2, 2, 4, 2], 128], [[128, 1024, 256, count === 2 ? 2048 : 0], 1]);
    const words = new Layout(
      [
        [4, 8],
        [8, 2, 2, 2 * count],
      ],
      [
        [256, 8],
        [1, 128, 64, 1024],
      ],
    );
    const bytesOfMatrix = new Uint8Array(256 * count);
    for (let lane = 0; lane < 16 * count; lane++) {
      for (let i = 0; i < 16; i++) bytesOfMatrix[Number(rows.at(lane, 8 * i)) / 8] = LANE_BYTES[16 * lane + i];
    }
    const y = loaded8(16 * count, { count, shape: 'm16n16', transpose: true }, 2 * count, LANE_BYTES);
    for (let lane = 0; lane < 32; lane++) {
      for (let i = 0; i < 8 * count; i++) {
        assert.equal(
          y[lane * 8 * count + i],
          bytesOfMatrix[Number(words.at(lane, 8 * i)) / 8],
          `lane ${lane}, byte ${i}`,
        );
      }
    }
  }
});

test('ldmatrix unpacks elements of 4 and 6 bits into the low bits of bytes', () => {
  for (const [source, bits] of [
    ['b4x16_p64', 4],
    ['b6x16_p32', 6],
  ] as const) {
    for (const count of [1, 2, 4]) {
      const y = loaded8(8 * count, { count, shape: 'm8n16', source }, count, LANE_BYTES);
      for (let lane = 0; lane < 32; lane++) {
        for (let i = 0; i < 4 * count; i++) {
          const row = LANE_BYTES.subarray(16 * (8 * (i >> 2) + (lane >> 2)));
          const [at, e] = [bits * (4 * (lane & 3) + (i & 3)), (i: number) => (row[i >> 3] >> (i & 7)) & 1];
          const expected = Array.from({ length: bits }, (_, bit) => e(at + bit) << bit).reduce((a, b) => a | b, 0);
          assert.equal(y[lane * 4 * count + i], expected, `${source} x${count}, lane ${lane}, element ${i}`);
        }
      }
    }
  }
});

test('stmatrix of 16 x 8 matrices of 8 bits: bits go where CuTe says', () => {
  for (const count of [1, 2, 4]) {
    const w = new KernelWriter({ params: [tensor('x', 'b32', 'read'), tensor('y', 'b32')], threads: 32 });
    const lane = w.special('laneid');
    const part = w.shared('part', 512);
    const words = Array.from({ length: count }, (_, i) => w.load(w.at(w.at(w.param(0), lane, 4 * count), i), 'b32'));
    w.emit('stmatrix', {
      args: [w.at(part, lane, 16), ...words],
      attributes: { count, shape: 'm16n8', transpose: true },
    });
    w.emit('warp_sync');
    w.if(w.compare('lt', lane, 8 * count), () => {
      w.store(w.at(w.param(1), lane, 16), w.loads(w.at(part, lane, 16), 'b32', 4, { align: 16 }), { align: 16 });
    });
    const y = new Uint8Array(512);
    const result = simulate(w.kernel, { grid: [1, 1, 1], args: { x: LANE_BYTES, y } });
    assert.deepEqual(
      result.findings.map((finding) => finding.message),
      [],
    );
    // (lane, bit) -> bit of the rows: SM100_U8x4_STSM_T, U8x8 and U8x16.
    const places = new Layout(
      [
        [4, 8],
        [8, 2, 2, count],
      ],
      [
        [256, 8],
        [1, 128, 64, 1024],
      ],
    );
    for (let lane = 0; lane < 32; lane++) {
      for (let i = 0; i < 4 * count; i++) {
        assert.equal(
          y[Number(places.at(lane, 8 * i)) / 8],
          LANE_BYTES[lane * 4 * count + i],
          `lane ${lane}, byte ${i}`,
        );
      }
    }
  }
});

test('a matrix instruction that only some lanes execute', () => {
  const w = new KernelWriter({ params: [tensor('y', 'b32')], threads: 32 });
  const part = w.shared('part', 128);
  w.if(w.compare('lt', w.special('laneid'), 8), () => {
    w.emit('ldmatrix', { args: [part], types: ['b32'], attributes: { count: 1 } });
  });
  const args = { y: new Int32Array(1) };
  const result = simulate(w.kernel, { grid: [1, 1, 1], args, options: UNVERIFIED });
  assert.deepEqual(kinds(result), ['barrier-divergence']);
});

interface Plan {
  readonly n: number;
  readonly element?: MatrixElement;
  readonly d?: 'f32' | 'f16' | 'i32';
  readonly swizzle?: 'none' | '32' | '64' | '128';
  /** The descriptors' swizzle, where it differs from how the tiles lie. */
  readonly claimed?: 'none' | '32' | '64' | '128';
  readonly transposeB?: boolean;
  readonly registersA?: boolean;
  readonly stride?: number;
  readonly omit?: 'fence' | 'proxy' | 'wait' | 'commit';
  readonly steps?: number;
}

/** Byte of (row, k) in a tile: K contiguous, or MN contiguous with swizzle 128 (64 elements a row). */
function tileByte(row: number, k: number, rows: number, bytes: number, swizzle: string, mn: boolean): number {
  const mask = { none: 0, '32': 1, '64': 3, '128': 7 }[swizzle]!;
  const plain = mn
    ? (row % 64) * 2 + Math.floor(row / 64) * 8192 + k * 128
    : swizzle === 'none'
      ? (row % 8) * 16 + (row >> 3) * 128 + ((k * bytes) >> 4) * rows * 16 + ((k * bytes) & 15)
      : row * Number(swizzle) + k * bytes;
  return plain ^ (((plain >> 7) & mask) << 4);
}

/** One warpgroup: tiles of A (64 x depth) and B (n x depth) from global memory to shared memory as they are, then wgmma. */
function multiply(plan: Plan): { result: SimulatorResult; wrong: number } {
  const {
    n,
    element = 'bf16',
    d = 'f32',
    swizzle = '128',
    transposeB = false,
    registersA = false,
    omit,
    steps = 2,
  } = plan;
  const bytes = BITS[element] / 8;
  const form = wgmmaShape(n, { a: element, b: element, d });
  const depth = form.k * steps;
  const sum: TypeName = d === 'f16' ? 'f16x2' : d;
  const sizeA = 64 * 128;
  const sizeB = Math.max(transposeB ? Math.ceil(n / 64) * 8192 : n * 128, 8192);
  const w = new KernelWriter({
    params: [
      tensor('a', 'b32', 'read'),
      tensor('b', 'b32', 'read'),
      tensor('fragments', 'b32', 'read'),
      tensor('out', 'b32'),
    ],
    threads: 128,
  });
  const tid = w.special('tid.x');
  const [tileA, tileB] = [w.shared('A', sizeA, 1024), w.shared('B', sizeB, 1024)];
  for (const [tile, source, size] of [
    [tileA, 0, sizeA],
    [tileB, 1, sizeB],
  ] as const) {
    for (let at = 0; at < size; at += 2048) {
      const [to, from] = [w.at(tile, at, 1), w.at(w.param(source), at, 1)];
      w.store(w.at(to, tid, 16), w.loads(w.at(from, tid, 16), 'b32', 4, { align: 16 }), { align: 16 });
    }
  }
  const sums = Array.from({ length: form.registers.d }, (_, i) => w.slot(sum, `sum${i}`));
  for (const slot of sums) w.set(slot, w.value('const', sum, [], { value: 0 }));
  if (omit !== 'proxy') w.emit('fence_proxy_async', { attributes: { space: 'shared' } });
  w.barrier();
  if (omit !== 'fence') w.emit('wgmma_fence');
  const claimed = plan.claimed ?? swizzle;
  const describe = (tile: Value, rows: number, mn: boolean): Value =>
    w.value('wgmma_descriptor', 'u64', [tile], {
      leading: mn ? 8192 : swizzle === 'none' ? rows * 16 : 16,
      stride: plan.stride ?? (mn ? 1024 : swizzle === 'none' ? 128 : 8 * Number(swizzle)),
      swizzle: claimed,
    });
  const [descriptorA, descriptorB] = [describe(tileA, 64, false), describe(tileB, n, transposeB)];
  for (let step = 0; step < steps; step++) {
    const next = (descriptor: Value, rows: number, mn: boolean): Value => {
      const moved = mn ? step * form.k * 128 : swizzle === 'none' ? step * 2 * rows * 16 : step * 32;
      return moved === 0 ? descriptor : w.value('descriptor_add', 'u64', [descriptor], { bytes: moved });
    };
    const a = registersA
      ? w.loads(w.at(w.at(w.param(2), tid, 16), step * 2048, 1), 'b32', 4, { align: 16 })
      : [next(descriptorA, 64, false)];
    w.emit('wgmma', {
      args: [...a, next(descriptorB, n, transposeB), w.constant('pred', step > 0 || d !== 'f16')],
      slots: sums,
      attributes: { shape: form.shape, a: element, b: element, d, a_registers: registersA, transpose_b: transposeB },
    });
  }
  if (omit !== 'commit') w.emit('wgmma_commit');
  if (omit !== 'wait') w.emit('wgmma_wait', { attributes: { groups: 0 } });
  const row = w.at(w.param(3), tid, 4 * sums.length);
  for (const [i, slot] of sums.entries()) w.store(w.at(row, i), w.get(slot));

  const [a, b] = [numbers(64 * depth, 4, element), numbers(n * depth, 5, element)];
  const fill = (size: number, rows: number, matrix: number[], mn: boolean): Uint8Array => {
    const out = new Uint8Array(size);
    const view = new DataView(out.buffer);
    for (let r = 0; r < rows; r++) {
      for (let k = 0; k < depth; k++) {
        const at = tileByte(r, k, rows, bytes, swizzle, mn);
        const bits = encode(element, matrix[r + rows * k]);
        if (bytes === 1) out[at] = bits;
        else if (bytes === 2) view.setUint16(at, bits, true);
        else view.setUint32(at, bits, true);
      }
    }
    return out;
  };
  const fragments = new Int32Array(128 * 4 * steps);
  const atom = wgmmaAtom(form, true);
  for (let step = 0; step < steps; step++) {
    const part = a.slice(64 * form.k * step, 64 * form.k * (step + 1));
    for (let t = 0; t < 128; t++) fragments.set(wordsOf(atom.a, part, element, t, 4), (128 * step + t) * 4);
  }
  const out = new Int32Array(128 * sums.length);
  const args = { a: fill(sizeA, 64, a, false), b: fill(sizeB, n, b, transposeB), fragments, out };
  const result = simulate(w.kernel, { grid: [1, 1, 1], args, ...(omit ? { options: UNVERIFIED } : {}) });
  const values =
    d === 'f32'
      ? new Float32Array(out.buffer)
      : d === 'i32'
        ? out
        : Float32Array.from(new Uint16Array(out.buffer), f16ToF32);
  const perThread = values.length / 128;
  let wrong = 0;
  for (let t = 0; t < 128; t++) {
    for (let i = 0; i < perThread; i++) {
      const at = offset(atom.c, t, i);
      let expected = 0;
      for (let k = 0; k < depth; k++) expected += a[(at % 64) + 64 * k] * b[Math.floor(at / 64) + n * k];
      if (values[t * perThread + i] !== expected) wrong++;
    }
  }
  return { result, wrong };
}

const PLANS: Record<string, Plan> = {
  'bf16, swizzle 128': { n: 64, steps: 4 },
  'f16 into f16, swizzle 64': { n: 24, element: 'f16', d: 'f16', swizzle: '64' },
  'f16, swizzle 32': { n: 8, element: 'f16', swizzle: '32', steps: 1 },
  'bf16 without swizzle': { n: 40, swizzle: 'none' },
  'tf32, swizzle 128': { n: 16, element: 'tf32' },
  'e4m3, swizzle 128': { n: 32, element: 'e4m3' },
  'i8, swizzle 64': { n: 32, element: 'i8', d: 'i32', swizzle: '64' },
  'bf16, N contiguous': { n: 128, transposeB: true },
  'bf16, A in registers': { n: 32, registersA: true },
};

for (const [name, plan] of Object.entries(PLANS)) {
  test(`wgmma: ${name}`, () => {
    const { result, wrong } = multiply(plan);
    assert.deepEqual(
      result.findings.map((finding) => finding.message),
      [],
    );
    assert.equal(wrong, 0);
  });
}

test('a descriptor with the wrong swizzle or stride gives wrong numbers, or leaves the tile', () => {
  assert.ok(multiply({ n: 64, claimed: '64', stride: 1024 }).wrong > 1000);
  assert.ok(multiply({ n: 64, stride: 512 }).wrong > 1000);
  const { result } = multiply({ n: 64, stride: 65536 });
  assert.ok(kinds(result).includes('descriptor'));
  assert.match(result.findings[0].message, /the descriptor of [AB] .* puts element \(\d+, \d+\) outside/);
});

for (const [omit, kind, message] of [
  ['fence', 'wgmma', /accumulator sum0 was written and no wgmma_fence/],
  ['proxy', 'proxy-fence', /read by the async proxy without a fence/],
  ['wait', 'wgmma', /accumulator sum0 is read while a wgmma adds to it/],
  ['commit', 'wgmma', /accumulator sum0 is read while a wgmma adds to it/],
] as const) {
  test(`wgmma without ${omit}`, () => {
    const { result } = multiply({ n: 8, omit });
    assert.equal(result.findings[0].kind, kind);
    assert.match(result.findings[0].message, message);
  });
}

test('warpgroups wait for registers that others give back, and for those that nobody does', () => {
  const build = (given: number): SimulatorResult => {
    const w = new KernelWriter({ params: [tensor('y', 'b32')], threads: 384 });
    w.if(
      w.compare('lt', w.special('warpid'), 8),
      () => w.emit('set_max_registers', { attributes: { count: 232, direction: 'inc' } }),
      () => w.emit('set_max_registers', { attributes: { count: given, direction: 'dec' } }),
    );
    return simulate(w.kernel, { grid: [1, 1, 1], args: { y: new Int32Array(1) } });
  };
  // 384 threads are launched with 168 each.
  assert.deepEqual(kinds(build(40)), []);
  const [{ kind, message }] = build(48).findings;
  assert.equal(kind, 'deadlock');
  assert.match(message, /232 registers a thread: the CTA has 64512, and its other warps hold 58112 of them/);
});

test('warps of a group that disagree about registers or products', () => {
  const build = (warps: number): SimulatorResult => {
    const w = new KernelWriter({ params: [tensor('y', 'b32')], threads: 128 });
    w.if(w.compare('lt', w.special('warpid'), warps), () =>
      w.emit('set_max_registers', { attributes: { count: 40, direction: 'dec' } }),
    );
    return simulate(w.kernel, { grid: [1, 1, 1], args: { y: new Int32Array(1) }, options: UNVERIFIED });
  };
  assert.deepEqual(kinds(build(4)), []);
  assert.deepEqual(kinds(build(3)), ['registers']);
});
