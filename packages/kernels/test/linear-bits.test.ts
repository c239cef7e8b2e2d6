import assert from 'node:assert/strict';
import { test } from 'node:test';
import { simulate } from '@rose/cute';
import { makeCase, simulatorArguments } from '../src/check.ts';
import linear from '../src/linear.ts';
import linearMma from '../src/linear_mma.ts';
import linearSmall from '../src/linear_small.ts';
import linearTcgen05 from '../src/linear_tcgen05.ts';
import { specialise, type KernelCase, type KernelModule } from '../src/spec.ts';
import { leavesOf, linearKernelFor } from '../src/support/linear.ts';
import { interleaveGate } from '../src/support/linear-epilogue.ts';
import { runCase } from './support.ts';

/** A row's bits are the same in every kernel, for every number of rows, position and tile. */

const rowsOf = (bytes: Uint8Array, rows: number, first: number, count: number): Uint8Array => {
  const row = bytes.length / rows;
  return bytes.slice(first * row, (first + count) * row);
};

interface BitCase {
  readonly columns: number;
  readonly depth: number;
  readonly rows: number;
  readonly options: NonNullable<KernelCase['options']>;
  readonly tile?: number;
}

const CASES: readonly BitCase[] = [
  { rows: 131, columns: 72, depth: 328, options: { bias: true, activation: 'gelu', residual: true }, tile: 64 },
  { rows: 67, columns: 128, depth: 128, options: { gate: 'silu', type: 'f16' }, tile: 128 },
  { rows: 17, columns: 64, depth: 1024, options: { leaves: 8, activation: 'tanh', output: 'f32' }, tile: 128 },
  { rows: 20, columns: 128, depth: 64, options: { gate: 'relu', bias: true } },
  { rows: 19, columns: 64, depth: 256, options: { leaves: 2, scale: true }, tile: 192 },
];

for (const { rows, columns, depth, options, tile } of CASES) {
  const text = JSON.stringify(options);
  test(`${rows} rows, ${columns} x ${depth}, ${text}: equal bits in all kernels and positions`, async () => {
    const dims = { rows, columns, depth };
    const whole = await runCase(linear, { dims, options, tuning: { tile: tile ?? 128, ctas: rows > 128 ? 2 : 1 } });
    assert.ok(
      whole.y.some((byte) => byte !== 0),
      'the product is not zero everywhere',
    );
    const mma = await runCase(linearMma, { dims, options });
    assert.deepEqual(mma.y, whole.y, 'mma.sync as wgmma');
    for (const [first, count] of [
      [rows - 1, 1],
      [3, 13],
    ]) {
      const part = (name: string): Uint8Array => rowsOf(whole[name], rows, first, count);
      const given = { x: part('x'), w: whole.w, ...(whole.residual ? { residual: part('residual') } : {}) };
      const some: KernelCase = { dims: { ...dims, rows: count }, options };
      for (const [module, tuning] of [
        [linearSmall, {}],
        [linearSmall, { split: Math.min(2, Number(options['leaves'] ?? 1)), stages: 2 }],
        [linearSmall, { rows: 16, split: Math.min(4, Number(options['leaves'] ?? 1)), share: 2, stages: 2 }],
        [linearMma, {}],
      ] as const) {
        const { y } = await runCase(module, { ...some, tuning }, given);
        assert.deepEqual(y, part('y'), `${module.name}, rows ${first} to ${first + count}`);
      }
    }
  });
}

test('the columns of q, k and v have the bits of the product in one piece, in all kernels', async () => {
  const { dims, split } = { dims: { rows: 18, columns: 264, depth: 192 }, split: { keys: 72, values: 56 } };
  const options = { bias: true, scale: true } as const;
  const whole = await runCase(linearMma, { dims, options });
  const own = [dims.columns - split.keys - split.values, split.keys, split.values];
  const part = (first: number, columns: number): Uint8Array =>
    Uint8Array.from({ length: dims.rows * columns * 2 }, (_, i) => {
      const [row, byte] = [Math.floor(i / (2 * columns)), i % (2 * columns)];
      return whole.y[row * dims.columns * 2 + first * 2 + byte];
    });
  const expected = [part(0, own[0]), part(own[0], own[1]), part(own[0] + own[1], own[2])];
  for (const module of [linear, linearSmall, linearMma, linearTcgen05]) {
    const wanted = { dims: { ...dims, ...split }, options: { ...options, split: 'qkv' } };
    const { q, k, v } = await runCase(module, wanted, whole);
    assert.deepEqual([q, k, v], expected, module.name);
  }
});

test('the sums of subtrees, added by the upper tree, are the whole product', async () => {
  const [rows, columns, depth] = [3, 64, 1024];
  const options = { leaves: 8, output: 'f32' } as const;
  const whole = await runCase(linearSmall, { dims: { rows, columns, depth }, options });
  const shard = (bytes: Uint8Array, count: number, ranks: number, rank: number): Uint8Array => {
    const own = (depth / ranks) * 2;
    return Uint8Array.from(
      { length: count * own },
      (_, i) => bytes[Math.floor(i / own) * depth * 2 + rank * own + (i % own)],
    );
  };
  for (const ranks of [2, 4, 8]) {
    let sums: Float32Array[] = [];
    for (let rank = 0; rank < ranks; rank++) {
      const { y } = await runCase(
        rank % 2 === 0 ? linearSmall : linearMma,
        { dims: { rows, columns, depth: depth / ranks }, options: { ...options, leaves: 8 / ranks } },
        { x: shard(whole.x, rows, ranks, rank), w: shard(whole.w, columns, ranks, rank) },
      );
      sums.push(new Float32Array(y.slice().buffer));
    }
    while (sums.length > 1) {
      sums = sums.flatMap((sum, i) => (i % 2 === 0 ? [sum.map((value, j) => value + sums[i + 1][j])] : []));
    }
    assert.deepEqual(new Uint8Array(sums[0].buffer), Uint8Array.from(whole.y), `${ranks} ranks`);
  }
});

test('tcgen05: the tile does not follow the rows, and a row has the same bits alone and beside others', async () => {
  const options = { leaves: 2, residual: true } as const;
  const dims = { rows: 259, columns: 64, depth: 256 };
  const whole = await runCase(linearTcgen05, { dims, options });
  assert.deepEqual(
    specialise(linearTcgen05, { dims: { ...dims, rows: 1 }, options }).tuning,
    specialise(linearTcgen05, { dims, options }).tuning,
  );
  const part = (name: string): Uint8Array => rowsOf(whole[name], dims.rows, 255, 3);
  const given = { x: part('x'), w: whole.w, residual: part('residual') };
  for (const tuning of [{}, { pair: false, tile: 64 }]) {
    const { y } = await runCase(linearTcgen05, { dims: { ...dims, rows: 3 }, options, tuning }, given);
    assert.deepEqual(y, part('y'), JSON.stringify(tuning));
  }
  const mma = await runCase(linearMma, { dims: { ...dims, rows: 3 }, options }, given);
  assert.deepEqual(mma.y, part('y'), 'in the simulator, where all tensor cores add up alike');
});

test('the order in which warps run and copies end changes nothing', async () => {
  for (const [module, wanted] of [
    [linear, { dims: { rows: 9, columns: 128, depth: 128 }, tuning: { tile: 128, ctas: 2 } }],
    [linearTcgen05, { dims: { rows: 9, columns: 64, depth: 640 }, options: { leaves: 2 } }],
    [
      linearSmall,
      { dims: { rows: 9, columns: 64, depth: 256 }, options: { leaves: 2 }, tuning: { stages: 2, step: 64 } },
    ],
  ] as const) {
    const usual = await runCase(module, wanted);
    const s = specialise(module, wanted);
    for (const schedule of ['late', 'random'] as const) {
      const { args } = makeCase(module, s);
      const plain = simulatorArguments(args);
      const grid = module.grid(s, { multiprocessors: 2 });
      const { findings } = simulate(module.trace(s), { grid, args: plain, options: { schedule } });
      assert.deepEqual(findings, []);
      const y = args['y'];
      assert.ok(typeof y !== 'number');
      assert.deepEqual(y.bytes.subarray(y.offset, y.offset + y.length), usual.y);
    }
  }
});

test('leaves follow from the depth, gates and values lie in eights', () => {
  assert.deepEqual(
    [14336, 4096, 256, 192, 64].map((depth) => leavesOf(depth, true)),
    [8, 8, 4, 1, 1],
  );
  assert.equal(leavesOf(14336, false), 1);
  assert.deepEqual(
    [1, 64, 65].map((rows) => linearKernelFor(rows, 'sm_90a')),
    ['linear_small', 'linear_small', 'linear'],
  );
  assert.equal(linearKernelFor(1, 'sm_80'), 'linear_mma');
  assert.deepEqual(
    [1, 65].map((rows) => linearKernelFor(rows, 'sm_100a')),
    ['linear_tcgen05', 'linear_tcgen05'],
  );
  assert.deepEqual(
    [...interleaveGate(16)].map((row) => (row < 16 ? `g${row}` : `v${row - 16}`)).join(' '),
    'g0 g1 g2 g3 g4 g5 g6 g7 v0 v1 v2 v3 v4 v5 v6 v7 g8 g9 g10 g11 g12 g13 g14 g15 v8 v9 v10 v11 v12 v13 v14 v15',
  );
  assert.throws(() => interleaveGate(12), /multiple of 8/);
});

test('what cannot be computed is refused with its reason', () => {
  const refuse = (module: KernelModule, wanted: KernelCase, reason: RegExp): void => {
    assert.throws(() => specialise(module, wanted), reason);
  };
  refuse(linear, { dims: { rows: 1, columns: 12, depth: 64 } }, /columns is 12; it must be a multiple of 8/);
  refuse(linear, { dims: { rows: 1, columns: 24, depth: 64 }, options: { gate: 'silu' } }, /multiple of 16/);
  refuse(linearMma, { dims: { rows: 1, columns: 8, depth: 20 } }, /depth is 20/);
  refuse(
    linear,
    { dims: { rows: 1, columns: 64, depth: 64 }, options: { gate: 'silu', activation: 'silu' } },
    /a gated layer has the activation of its gate/,
  );
  refuse(
    linearMma,
    { dims: { rows: 1, columns: 8, depth: 320 }, options: { leaves: 2 } },
    /2 leaves need a multiple of 128/,
  );
  const qkv = { rows: 1, columns: 64, depth: 64 };
  refuse(linear, { dims: qkv, options: { split: 'qkv' } }, /split=qkv needs the sizes keys and values/);
  refuse(linear, { dims: { ...qkv, keys: 0, values: 16 }, options: { split: 'qkv' } }, /size keys is 0/);
  refuse(linear, { dims: { ...qkv, keys: 16, values: 16 } }, /sizes of split=qkv alone/);
  refuse(
    linearMma,
    { dims: { ...qkv, keys: 48, values: 16 }, options: { split: 'qkv' } },
    /64 columns do not split into 48 of k, 16 of v/,
  );
  refuse(
    linearMma,
    { dims: { ...qkv, keys: 16, values: 16 }, options: { split: 'qkv', residual: true } },
    /neither a gate nor a residual/,
  );
  refuse(linearSmall, { dims: { rows: 65, columns: 64, depth: 64 } }, /65 rows do not fit/);
  refuse(
    linear,
    { dims: { rows: 1, columns: 64, depth: 128 }, options: { leaves: 2 }, tuning: { tile: 256 } },
    /smaller tile/,
  );
});
