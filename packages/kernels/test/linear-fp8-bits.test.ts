import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel, simulate } from '@rose/cute';
import { makeCase, simulatorArguments } from '../src/check.ts';
import linearFp8 from '../src/linear_fp8.ts';
import linearFp8Mma from '../src/linear_fp8_mma.ts';
import linearFp8Small from '../src/linear_fp8_small.ts';
import quantise from '../src/quantise.ts';
import quantiseBlocks from '../src/quantise_blocks.ts';
import { specialise, type KernelCase, type KernelModule } from '../src/spec.ts';
import { leavesOf } from '../src/support/linear.ts';
import { GROUP, groupsOf, linearFp8KernelFor, scalePitch } from '../src/support/linear-fp8.ts';
import { decode } from '../src/support/storage.ts';
import { SIMULATOR } from './support.ts';

/** A row's bits are the same in both kernels of an architecture, for every number of rows, position and tile. */

type Inputs = Readonly<Record<string, Uint8Array>>;

/** Runs a case; tensors that `given` names have its bytes. Gives the bytes of all tensors afterwards. */
async function run(module: KernelModule, wanted: KernelCase, given: Inputs = {}): Promise<Record<string, Uint8Array>> {
  const s = specialise(module, wanted);
  const { args } = makeCase(module, s);
  const tensors: Record<string, Uint8Array> = {};
  for (const [name, argument] of Object.entries(args)) {
    if (typeof argument === 'number') continue;
    tensors[name] = argument.bytes.subarray(argument.offset, argument.offset + argument.length);
    if (given[name]) tensors[name].set(given[name]);
  }
  await SIMULATOR.run(module.trace(s), args, module.grid(s, { multiprocessors: 2 }));
  return tensors;
}

/** Columns `first` to `first + count` of a matrix whose rows have `pitch` elements, in rows of `ownPitch`. */
function columnsOf(
  bytes: Uint8Array,
  size: number,
  pitch: number,
  first: number,
  count: number,
  ownPitch: number,
): Uint8Array {
  const rows = bytes.length / size / pitch;
  const part = new Uint8Array(rows * ownPitch * size);
  for (let row = 0; row < rows; row++) {
    const from = (row * pitch + first) * size;
    part.set(bytes.subarray(from, from + count * size), row * ownPitch * size);
  }
  return part;
}

interface BitCase {
  readonly columns: number;
  readonly depth: number;
  readonly rows: number;
  readonly options: NonNullable<KernelCase['options']>;
  readonly tile: number;
}

const CASES: readonly BitCase[] = [
  { rows: 131, columns: 72, depth: 336, options: { bias: true, residual: true }, tile: 64 },
  { rows: 18, columns: 128, depth: 256, options: { gate: 'silu', type: 'f16' }, tile: 128 },
  { rows: 17, columns: 64, depth: 1024, options: { leaves: 8, output: 'f32' }, tile: 128 },
  { rows: 19, columns: 64, depth: 512, options: { leaves: 4, scales: 'row' }, tile: 128 },
];

for (const { rows, columns, depth, options, tile } of CASES) {
  test(`${rows} rows, ${columns} x ${depth}, ${JSON.stringify(options)}: equal bits, everywhere`, async () => {
    const dims = { rows, columns, depth };
    const whole = await run(linearFp8, { dims, options, tuning: { tile, turns: 1, ctas: rows > 128 ? 2 : 1 } });
    assert.ok(
      whole.y.some((byte) => byte !== 0),
      'the product is not zero everywhere',
    );
    for (const [first, count] of [
      [rows - 1, 1],
      [3, 13],
    ]) {
      const part = (name: string): Uint8Array => {
        const own = whole[name].length / rows;
        return whole[name].slice(first * own, (first + count) * own);
      };
      const scales = options['scales'] ?? 'block';
      const xScale =
        scales === 'block'
          ? columnsOf(whole.xScale, 4, scalePitch(rows), first, count, scalePitch(count))
          : scales === 'row'
            ? part('xScale')
            : whole.xScale;
      const { y: _none, ...tensors } = whole;
      const inputs = { ...tensors, x: part('x'), xScale, ...(whole.residual ? { residual: part('residual') } : {}) };
      const some: KernelCase = { dims: { ...dims, rows: count }, options };
      const [leaves, gated] = [Number(options['leaves'] ?? 1), 'gate' in options];
      const split = Math.min(2, leaves);
      for (const [module, tuning] of count === 1
        ? ([[linearFp8Small, {}]] as const)
        : ([
            [linearFp8Small, { split, stages: 2, groups: 1 }],
            [linearFp8Small, { rows: 16, split, share: 2, stages: 2, groups: 1 }],
            [linearFp8, { tile: leaves > 2 || gated ? 128 : 192, turns: 1, ctas: 2 }],
          ] as const)) {
        const { y } = await run(module, { ...some, tuning }, inputs);
        assert.deepEqual(y, part('y'), `${module.name}, rows ${first} to ${first + count}`);
      }
    }
  });
}

test('the sums of subtrees, added by the upper tree, are the whole product', async () => {
  const [rows, columns, depth] = [4, 64, 1024];
  const options = { leaves: 8, output: 'f32' } as const;
  const whole = await run(linearFp8Small, { dims: { rows, columns, depth }, options });
  for (const ranks of [2, 4, 8]) {
    const shard = (name: string, size: number, pitch: number, rank: number): Uint8Array =>
      columnsOf(whole[name], size, pitch, (rank * pitch) / ranks, pitch / ranks, pitch / ranks);
    let sums: Float32Array[] = [];
    for (let rank = 0; rank < ranks; rank++) {
      const ownScales = whole.xScale.length / ranks;
      const { y } = await run(
        rank % 2 === 0 ? linearFp8Small : linearFp8,
        { dims: { rows, columns, depth: depth / ranks }, options: { ...options, leaves: 8 / ranks } },
        {
          ...{ x: shard('x', 1, depth, rank), w: shard('w', 1, depth, rank) },
          xScale: whole.xScale.slice(rank * ownScales, (rank + 1) * ownScales),
          wScale: shard('wScale', 4, groupsOf(depth), rank),
        },
      );
      sums.push(new Float32Array(y.slice().buffer));
    }
    while (sums.length > 1) {
      sums = sums.flatMap((sum, i) => (i % 2 === 0 ? [sum.map((value, j) => value + sums[i + 1][j])] : []));
    }
    assert.deepEqual(new Uint8Array(sums[0].buffer), Uint8Array.from(whole.y), `${ranks} ranks`);
  }
});

test('what quantise and quantise_blocks make is what a product takes', async () => {
  const [rows, columns, depth] = [5, 64, 384];
  for (const scales of ['block', 'row'] as const) {
    const of = { block: 'group', row: 'row' }[scales];
    const activations = await run(quantise, { dims: { rows, columns: depth }, options: { scales: of } });
    const weights =
      scales === 'block'
        ? await run(quantiseBlocks, { dims: { rows: columns, columns: depth } })
        : await run(quantise, { dims: { rows: columns, columns: depth }, options: { scales: of } });
    const given = { x: activations.y, xScale: activations.scales, w: weights.y, wScale: weights.scales };
    const wanted = { dims: { rows, columns, depth }, options: { scales, output: 'f32' } };
    const y = decode('f32', (await run(linearFp8Small, wanted, given)).y);
    const [x, w] = [decode('bf16', activations.x), decode('bf16', weights.w ?? weights.x)];
    let [error, size] = [0, 0];
    for (let i = 0; i < rows * columns; i++) {
      const [row, column] = [Math.floor(i / columns), i % columns];
      let sum = 0;
      for (let k = 0; k < depth; k++) sum += x[row * depth + k] * w[column * depth + k];
      error += (y[i] - sum) ** 2;
      size += sum ** 2;
    }
    // Three bits of fraction in both: each is off by a fortieth on the average.
    assert.ok(Math.sqrt(error / size) < 0.05, `${scales}: ${Math.sqrt(error / size)}`);
  }
});

test('the order in which warps run and copies end changes nothing', async () => {
  for (const [module, wanted] of [
    [linearFp8, { dims: { rows: 9, columns: 128, depth: 384 }, tuning: { tile: 128, turns: 2, ctas: 2 } }],
    [
      linearFp8Small,
      { dims: { rows: 9, columns: 64, depth: 512 }, options: { leaves: 2 }, tuning: { stages: 2, groups: 1 } },
    ],
    [linearFp8Mma, { dims: { rows: 9, columns: 64, depth: 512 } }],
  ] as const) {
    const usual = await run(module, wanted);
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

test('kernels, leaves and refusals', () => {
  assert.deepEqual(
    [1, 64, 65].map((rows) => linearFp8KernelFor(rows, 'sm_90a')),
    ['linear_fp8_small', 'linear_fp8_small', 'linear_fp8'],
  );
  assert.equal(linearFp8KernelFor(1, 'sm_89'), 'linear_fp8_mma');
  assert.equal(linearFp8KernelFor(1, 'sm_100a'), 'linear_fp8_mma');
  assert.throws(() => linearFp8KernelFor(1, 'sm_86'), /sm_86 does not multiply e4m3/);
  const mma = linearFp8Mma.trace(specialise(linearFp8Mma, { dims: { rows: 1, columns: 64, depth: 128 } }));
  assert.throws(() => compileKernel(mma, { arch: 'sm_80' }), /mma of e4m3 needs sm_89, .* sm_80/);
  assert.deepEqual(
    [14336, 4096, 512, 192].map((depth) => leavesOf(depth, true, GROUP)),
    [8, 8, 4, 1],
  );
  const refuse = (module: KernelModule, wanted: KernelCase, reason: RegExp): void => {
    assert.throws(() => specialise(module, wanted), reason);
  };
  refuse(linearFp8, { dims: { rows: 1, columns: 12, depth: 64 } }, /columns is 12; it must be a multiple of 8/);
  refuse(linearFp8Mma, { dims: { rows: 1, columns: 8, depth: 24 } }, /depth is 24; .* pad them with zeros to 16/);
  const uneven = { dims: { rows: 1, columns: 8, depth: 320 }, options: { leaves: 2 } };
  refuse(linearFp8Small, uneven, /2 leaves need a multiple of 256/);
  refuse(linearFp8Small, { dims: { rows: 65, columns: 64, depth: 64 } }, /65 rows do not fit/);
});
