import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Tcgen05Instruction } from '../src/atoms/descriptors.ts';
import { fenceBarrierInit, mbarrier } from '../src/atoms/barrier.ts';
import { clusterSync, mapShared } from '../src/atoms/cluster.ts';
import { barrier, loadFrom, moved, sharedBytes, special, storeVector } from '../src/atoms/record.ts';
import { tmaLoad } from '../src/atoms/tma.ts';
import { tmemRegisters, type TmemShape } from '../src/atoms/tcgen05-shapes.ts';
import { tmemAllocate, tmemFree, tmemLoad, tmemStore, tmemWait } from '../src/atoms/tcgen05.ts';
import { walk, type Value } from '../src/ir/ir.ts';
import { verifyKernel } from '../src/ir/verify.ts';
import { runPasses } from '../src/passes/passes.ts';
import type { SimulatorOptions, SimulatorResult } from '../src/sim/api.ts';
import { simulate } from '../src/sim/simulate.ts';
import { decodeFloat, encodeFloat, type SmallFloat } from '../src/types/numeric.ts';
import { tcgen05Product, type Mistake, type ProductFacts } from './fixtures/tcgen05-product.ts';
import { tcgen05Tile } from './fixtures/tcgen05-tile.ts';
import { recordKernel, tensor, thread } from './record-kernel.ts';
import { kinds, UNVERIFIED } from './sim-kernel.ts';

const SCHEDULES: readonly SimulatorOptions[] = [
  { schedule: 'round-robin' },
  { schedule: 'late' },
  { schedule: 'random', seed: 3 },
];

/** Whole numbers from -6 to 6. */
function small(i: number): number {
  return ((i * 7 + Math.floor(i / 13) * 5) % 13) - 6;
}

type Element = Tcgen05Instruction['a'];

/** Numbers as an element's bits, in words. */
function encoded(element: Element, numbers: readonly number[]): Uint32Array {
  const bytes = element === 'tf32' ? 4 : element === 'f16' || element === 'bf16' ? 2 : 1;
  const out = new DataView(new ArrayBuffer(numbers.length * bytes));
  for (const [i, x] of numbers.entries()) {
    if (element === 'tf32') out.setFloat32(4 * i, x, true);
    else if (element === 'i8' || element === 'u8') out.setInt8(i, x);
    else if (bytes === 2) out.setUint16(2 * i, encodeFloat(element as SmallFloat, x), true);
    else out.setUint8(i, encodeFloat(element as SmallFloat, x));
  }
  return new Uint32Array(out.buffer);
}

interface Run {
  readonly result: SimulatorResult;
  /** D's words: CTA, lane, column. */
  readonly words: Uint32Array;
  readonly expected: (row: number, column: number) => number;
}

function run(facts: ProductFacts, options: SimulatorOptions = {}): Run {
  const { instruction, group = 1 } = facts;
  const { m, n, a, b } = instruction;
  const depth = a === 'tf32' ? 8 : a === 'f16' || a === 'bf16' ? 16 : 32;
  const [x, y] = [
    Array.from({ length: m * depth }, (_, i) => (a === 'u8' ? Math.abs(small(i)) : small(i))),
    Array.from({ length: n * depth }, (_, i) => (b === 'u8' ? Math.abs(small(i + 500)) : small(i + 500))),
  ];
  const words = new Uint32Array(group * 128 * n);
  const result = simulate(runPasses(tcgen05Product(facts)), {
    grid: [group, 1, 1],
    args: { a: encoded(a, x), b: encoded(b, y), d: words },
    options: { ...(facts.mistake ? UNVERIFIED : {}), ...options },
  });
  const expected = (row: number, column: number): number => {
    let sum = 0;
    for (let k = 0; k < depth; k++) sum += x[row * depth + k] * y[column * depth + k];
    return sum;
  };
  return { result, words, expected };
}

function numberOf(d: Tcgen05Instruction['d'], word: number): number {
  if (d === 'f32') return new Float32Array(new Uint32Array([word]).buffer)[0];
  return d === 'i32' ? word | 0 : decodeFloat('f16', word & 0xffff);
}

const BF16 = { kind: 'f16', d: 'f32', a: 'bf16', b: 'bf16', m: 128, n: 16 } as const;

/** Where PTX ISA 9.0 puts element (row, column) of D: CTA, lane, column. */
type Where = (row: number, column: number, n: number) => [number, number, number];

const CASES: readonly (readonly [name: string, facts: ProductFacts, where: Where])[] = [
  ['bf16, M 128', { instruction: BF16 }, (row, column) => [0, row, column]],
  [
    'f16 with sums in f16, M 64: sixteen lanes of each warp',
    { instruction: { ...BF16, a: 'f16', b: 'f16', d: 'f16', m: 64, n: 24 } },
    (row, column) => [0, 32 * Math.floor(row / 16) + (row % 16), column],
  ],
  [
    'tf32',
    { instruction: { kind: 'tf32', d: 'f32', a: 'tf32', b: 'tf32', m: 128, n: 32 } },
    (row, column) => [0, row, column],
  ],
  [
    'e4m3 times e5m2',
    { instruction: { kind: 'f8f6f4', d: 'f32', a: 'e4m3', b: 'e5m2', m: 128, n: 16 } },
    (row, column) => [0, row, column],
  ],
  [
    'i8 times u8',
    { instruction: { kind: 'i8', d: 'i32', a: 'i8', b: 'u8', m: 128, n: 16 } },
    (row, column) => [0, row, column],
  ],
  [
    'a pair of CTAs, M 256',
    { instruction: { ...BF16, m: 256, n: 32 }, group: 2 },
    (row, column) => [row >> 7, row & 127, column],
  ],
  [
    'a pair of CTAs, M 128: the halves of N below each other',
    { instruction: { ...BF16, m: 128, n: 32 }, group: 2 },
    (row, column, n) => [row >> 6, (row & 63) + (column < n / 2 ? 0 : 64), column % (n / 2)],
  ],
  ['A stored to tensor memory', { instruction: BF16, a: 'store' }, (row, column) => [0, row, column]],
  ['A copied to tensor memory', { instruction: BF16, a: 'copy' }, (row, column) => [0, row, column]],
  [
    'A copied to tensor memory by a pair',
    { instruction: { ...BF16, m: 256 }, group: 2, a: 'copy' },
    (row, column) => [row >> 7, row & 127, column],
  ],
];

for (const [name, facts, where] of CASES) {
  test(`tcgen05.mma ${name}: every element where the ISA puts it`, () => {
    const { m, n, d } = facts.instruction;
    for (const options of SCHEDULES) {
      const { result, words, expected } = run(facts, options);
      assert.deepEqual(
        result.findings.map(({ message }) => message),
        [],
      );
      for (let row = 0; row < m; row++) {
        for (let column = 0; column < n; column++) {
          const [cta, lane, at] = where(row, column, n);
          const found = numberOf(d, words[(cta * 128 + lane) * n + at]);
          assert.equal(found, expected(row, column), `row ${row}, column ${column}`);
        }
      }
    }
  });
}

const MISTAKES: readonly (readonly [mistake: Mistake, kind: string, message: RegExp])[] = [
  ['no allocation', 'tensor-memory', /column 0 of tensor memory is not in one allocation/],
  ['too few columns', 'tensor-memory', /columns 0 to 63 of tensor memory are not in one allocation/],
  ['no commit', 'race', /tcgen05Commit it to an mbarrier/],
  ['no fence after the commit', 'race', /tcgen05Fence\('after_thread_sync'\)/],
  ['not waited for', 'race', /wait for/],
  ['never freed', 'tensor-memory', /256 columns of tensor memory were not freed/],
  ['freed twice', 'tensor-memory', /from column 0 on were not, nothing was/],
  ['allocated after relinquishing', 'tensor-memory', /tmemRelinquish last/],
  ['every lane multiplies', 'tensor-memory', /one thread starts a tcgen05_mma, and 32/],
  ["another warp's lanes", 'tensor-memory', /warp 1 reaches lanes 32 to 63 .* begins at lane 0/],
  ['D from nowhere', 'uninitialised', /lane 0, column 0 of tensor memory is read before/],
  ['operands overwritten', 'async-pending', /is written while an asynchronous operation reads it/],
  ['stored A without a fence', 'race', /before_thread_sync/],
];

for (const [mistake, kind, message] of MISTAKES) {
  test(`tcgen05: ${mistake}`, () => {
    const way = mistake === 'stored A without a fence' ? { a: 'store' as const } : {};
    const instruction = mistake === 'too few columns' ? { ...BF16, n: 64 } : BF16;
    const { result } = run({ instruction, mistake, ...way }, { schedule: 'late' });
    const found = result.findings.find((finding) => finding.kind === kind && message.test(finding.message));
    assert.ok(found, result.findings.map((finding) => `${finding.kind}: ${finding.message}`).join('\n'));
  });
}

test('tcgen05: registers of a load hold nothing before the warp has waited', () => {
  const { words, expected } = run({ instruction: BF16, mistake: 'no wait for the load' });
  assert.notEqual(numberOf('f32', words[0]), expected(0, 0));
});

test('tcgen05: the verifier finds registers that are used before the wait, and mixed groups', () => {
  const early = tcgen05Product({ instruction: BF16, mistake: 'no wait for the load' });
  assert.throws(() => verifyKernel(early), /store uses what the tcgen05_load at .*: call tmemWait\('load'\)/);
  const mixed = tcgen05Product({ instruction: BF16 });
  walk(mixed.body, (node) => {
    if (node.op === 'tcgen05_commit') node.attributes = { ...node.attributes, cta_group: 2 };
  });
  assert.throws(() => verifyKernel(mixed), /tcgen05_commit works with 2 CTAs, .* the same group/);
});

test('tcgen05 with TMA, swizzled tiles and several steps of K, in every schedule', () => {
  const bits = (value: number): number => encodeFloat('bf16', value);
  const a = Uint16Array.from({ length: 128 * 64 }, (_, i) => bits(small(i)));
  const b = Uint16Array.from({ length: 64 * 64 }, (_, i) => bits(small(i + 1000)));
  const map = (rows: number) => ({ element: 'bf16', shape: [64, rows], box: [64, rows], swizzle: '128' }) as const;
  const expected = Float32Array.from({ length: 128 * 64 }, (_, i) => {
    let sum = 0;
    for (let k = 0; k < 64; k++) sum += small(Math.floor(i / 64) * 64 + k) * small((i % 64) * 64 + k + 1000);
    return sum;
  });
  const kernel = runPasses(tcgen05Tile());
  for (const options of SCHEDULES) {
    const c = new Float32Array(128 * 64).fill(Number.NaN);
    const args = { a: { map: map(128), tensor: a }, b: { map: map(64), tensor: b }, c };
    assert.deepEqual(kinds(simulate(kernel, { grid: [1, 1, 1], args, options })), []);
    assert.deepEqual(c, expected);
  }
});

/** Each CTA of a pair loads a row; the copies report to the first one's barrier, and it writes both rows to y. */
function pairLoad(ctaGroup: 1 | 2): { result: (options: SimulatorOptions) => SimulatorResult; y: Float32Array } {
  const params = [{ kind: 'tensormap', name: 'x' } as const, tensor('y', 'f32', 'write')];
  const kernel = recordKernel('pair_load', { threads: [32, 1, 1], cluster: [2, 1, 1], params }, (x, out) => {
    'use gpu';
    const tile = sharedBytes('tile', 128, 128, 'f32');
    const full = mbarrier('full');
    const rank = special('ctaid.x');
    const t = thread();
    if (t === 0) {
      full.init(1);
      fenceBarrierInit();
      if (rank === 0) full.expect(2 * 128);
    }
    clusterSync();
    if (t === 0) tmaLoad(tile, x, [0, rank], full.on(0), { ctaGroup });
    if (rank === 0) {
      full.wait(0, { scope: 'cluster' });
      const mine = moved(tile, t, 4);
      storeVector(moved(out, t, 4), [loadFrom(mine, 'f32')], 'f32');
      storeVector(moved(out, t + 32, 4), [loadFrom(mapShared(mine, 1), 'f32')], 'f32');
    }
    clusterSync();
  });
  const x = Float32Array.from({ length: 64 }, (_, i) => i);
  const y = new Float32Array(64);
  const args = { x: { map: { element: 'f32', shape: [32, 2], box: [32, 1] } as const, tensor: x }, y };
  return { result: (options) => simulate(runPasses(kernel), { grid: [2, 1, 1], args, options }), y };
}

test('TMA copies of a pair may report to the first CTA, which then knows that both have ended', () => {
  for (const options of SCHEDULES) {
    const { result, y } = pairLoad(2);
    assert.deepEqual(kinds(result(options)), []);
    assert.deepEqual(
      y,
      Float32Array.from({ length: 64 }, (_, i) => i),
    );
  }
});

test('TMA copies of one CTA report to its own barrier', () => {
  const { findings } = pairLoad(1).result({});
  assert.match(findings[0].message, /only one of ctaGroup 2 may report to the other CTA of its pair/);
});

/** (lane, register) to (lane, column) of tensor memory, as the figures of the PTX ISA draw them. */
const FRAGMENTS: readonly (readonly [TmemShape, rows: number, (lane: number, register: number) => [number, number]])[] =
  [
    ['32x32b', 32, (lane, j) => [lane, j]],
    ['16x64b', 16, (lane, j) => [Math.floor(lane / 4) + (lane % 2) * 8, 2 * j + (Math.floor(lane / 2) % 2)]],
    ['16x128b', 16, (lane, j) => [Math.floor(lane / 4) + (j % 2) * 8, 4 * Math.floor(j / 2) + (lane % 4)]],
    [
      '16x256b',
      16,
      (lane, j) => [
        Math.floor(lane / 4) + (Math.floor(j / 2) % 2) * 8,
        8 * Math.floor(j / 4) + 2 * (lane % 4) + (j % 2),
      ],
    ],
    ['16x32bx2', 16, (lane, j) => [lane % 16, j + (lane < 16 ? 0 : 24)]],
  ];

for (const [shape, rows, where] of FRAGMENTS) {
  for (const pack of [false, true]) {
    test(`tensor memory ${shape}${pack ? ', two halves a register' : ''}: stored and loaded where the ISA says`, () => {
      const repeat = 2;
      const words = 2 * tmemRegisters(shape, 1);
      const access = { shape, repeat, pack, ...(shape === '16x32bx2' ? { halfOffset: 24 } : {}) };
      const kernel = recordKernel(
        'fragments',
        { threads: [128, 1, 1], params: [tensor('out', 'b32', 'write'), tensor('raw', 'b32', 'write')] },
        (out, raw) => {
          'use gpu';
          const place = sharedBytes('tmem', 4, 4, 'u32');
          const t = thread();
          const warp = t >> 5;
          if (warp === 0) tmemAllocate(place, 64);
          barrier();
          const start = moved(loadFrom(place, 'ptr.tmem') as unknown as Value, warp * 32, 1 << 16);
          const upper = moved(start, 1, 1 << 20);
          const value = (i: number): number => t * 65536 + 32768 + i;
          const zeros = Array.from({ length: 64 }, () => warp >> 8);
          tmemStore(start, zeros, { shape: '32x32b', repeat: 64 });
          tmemWait('store');
          const ways = rows === 32 ? [start] : [start, upper];
          for (const [half, at] of ways.entries()) {
            tmemStore(
              at,
              Array.from({ length: words }, (_, i) => value(half * words + i)),
              access,
            );
            tmemWait('store');
            const loaded = tmemLoad(at, access);
            tmemWait('load');
            for (const [i, word] of loaded.entries()) {
              storeVector(moved(out, (t * 2 + half) * words + i, 4), [word], 'b32');
            }
          }
          const all = tmemLoad(start, { shape: '32x32b', repeat: 64 });
          tmemWait('load');
          for (const [i, word] of all.entries()) storeVector(moved(raw, t * 64 + i, 4), [word], 'b32');
          barrier();
          if (warp === 0) tmemFree(loadFrom(place, 'ptr.tmem') as unknown as Value, 64);
        },
      );
      const [out, raw] = [new Uint32Array(128 * 2 * words), new Uint32Array(128 * 64)];
      verifyKernel(kernel);
      assert.deepEqual(kinds(simulate(runPasses(kernel), { grid: [1, 1, 1], args: { out, raw } })), []);
      for (let thread = 0; thread < 128; thread++) {
        for (let half = 0; half < (rows === 32 ? 1 : 2); half++) {
          for (let i = 0; i < words; i++) {
            const word = (thread * 65536 + 32768 + half * words + i) >>> 0;
            assert.equal(out[(thread * 2 + half) * words + i], word);
            const [lane, column] = where(thread % 32, i);
            const row = 32 * (thread >> 5) + 16 * half + lane;
            if (!pack) assert.equal(raw[row * 64 + column], word);
            else {
              // 16x32bx2 counts the distance of its halves in columns.
              const first = shape === '16x32bx2' && thread % 32 >= 16 ? 24 + 2 * i : 2 * column;
              assert.deepEqual([...raw.subarray(row * 64 + first, row * 64 + first + 2)], [word & 0xffff, word >>> 16]);
            }
          }
        }
      }
    });
  }
}
