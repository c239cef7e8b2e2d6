import assert from 'node:assert/strict';
import { test } from 'node:test';
import linear from '../src/linear.ts';
import linearGrouped from '../src/linear_grouped.ts';
import linearGroupedMma from '../src/linear_grouped_mma.ts';
import linearGroupedSmall from '../src/linear_grouped_small.ts';
import { specialise, type KernelCase, type KernelModule } from '../src/spec.ts';
import { mostBlocks } from '../src/support/expert-tiles.ts';
import { groupedKernelFor } from '../src/support/linear-grouped.ts';
import { runCase } from './support.ts';

/** A row of an expert has the bits that `linear` gives it with that expert's weights, however rows are divided. */

const KERNELS = [linearGrouped, linearGroupedSmall, linearGroupedMma] as const;
const VARIANTS = [...KERNELS.map((module) => [module, {}] as const), [linearGrouped, { ctas: 2 }] as const];
const [EXPERTS, ROWS] = [3, 18];

const bytesOf = (list: readonly number[]): Uint8Array => new Uint8Array(Int32Array.from(list).buffer);

const part = (all: Uint8Array, parts: number, index: number): Uint8Array => {
  const length = all.length / parts;
  return all.slice(index * length, (index + 1) * length);
};

for (const wanted of [
  { dims: { rows: ROWS, columns: 64, depth: 128, experts: EXPERTS }, options: { gate: 'silu', bias: true } },
  { dims: { rows: ROWS, columns: 72, depth: 256, experts: EXPERTS }, options: { leaves: 2, scale: true, type: 'f16' } },
] as const) {
  test(`${JSON.stringify(wanted.options)}: the bits of linear, however rows are divided`, async () => {
    const { experts, ...dims } = wanted.dims;
    // Tensors are filled as in any case; what is run first gives them to the others.
    const filled = await runCase(linearGroupedMma, wanted);
    const wholes: Uint8Array[] = [];
    for (let expert = 0; expert < experts; expert++) {
      const own = Object.entries(filled).flatMap(([name, bytes]) => {
        if (name === 'x') return [[name, bytes]];
        return ['w', 'bias', 'scale'].includes(name) ? [[name, part(bytes, experts, expert)]] : [];
      });
      wholes.push((await runCase(linear, { dims, options: wanted.options }, Object.fromEntries(own))).y);
    }
    const width = wholes[0].length / ROWS;
    const divided: [form: string, groups: number[]][] = [
      ['contiguous', [0, 7, 7, 18]],
      ['contiguous', [2, 3, 17, 17]],
      ['contiguous', [0, 0, 18, 18]],
      ['contiguous', [5, 5, 5, 5]],
      ['masked', [6, 0, 3]],
    ];
    for (const [form, groups] of divided) {
      const expected = new Uint8Array(ROWS * width).fill(0xff);
      for (let expert = 0; expert < experts; expert++) {
        const first = form === 'masked' ? (expert * ROWS) / experts : groups[expert];
        const end = form === 'masked' ? first + groups[expert] : groups[expert + 1];
        expected.set(wholes[expert].subarray(first * width, end * width), first * width);
      }
      for (const [module, tuning] of VARIANTS) {
        const some: KernelCase = { ...wanted, options: { ...wanted.options, form }, tuning };
        const { y } = await runCase(module, some, {
          ...filled,
          y: new Uint8Array(ROWS * width).fill(0xff),
          groups: bytesOf(groups),
        });
        assert.deepEqual(y, expected, `${module.name}, ${form} ${String(groups)}`);
      }
    }
  });
}

test('grids hold every division of the rows into blocks', () => {
  const worst = (rows: number, experts: number, block: number): number => {
    // All ways to divide, by the first expert's rows.
    if (experts === 1) return Math.ceil(rows / block);
    return Math.max(
      ...Array.from({ length: rows + 1 }, (_, own) => Math.ceil(own / block) + worst(rows - own, experts - 1, block)),
    );
  };
  for (const [rows, experts, block] of [
    [1, 4, 8],
    [9, 3, 4],
    [16, 3, 4],
    [17, 4, 8],
    [3, 1, 2],
  ]) {
    assert.equal(mostBlocks(rows, experts, block, 'contiguous'), worst(rows, experts, block));
  }
  assert.equal(mostBlocks(60, 3, 16, 'masked'), 6);
});

test('the kernel follows from rows and experts; what cannot be computed is refused with its reason', () => {
  assert.equal(groupedKernelFor(8, 128, 'sm_90a'), 'linear_grouped_small');
  assert.equal(groupedKernelFor(32768, 128, 'sm_90a'), 'linear_grouped');
  assert.equal(groupedKernelFor(8, 128, 'sm_100a'), 'linear_grouped_mma');
  const refuse = (module: KernelModule, case_: KernelCase, reason: RegExp): void => {
    assert.throws(() => specialise(module, case_), reason);
  };
  for (const module of KERNELS) {
    const dims = { rows: 10, columns: 64, depth: 64, experts: 3 };
    refuse(module, { dims, options: { form: 'masked' } }, /10 rows are not 3 experts times a capacity/);
    refuse(module, { dims: { ...dims, experts: 2000 } }, /2000 experts are too many: at most 1024/);
    refuse(module, { dims: { ...dims, columns: 12 } }, /multiple of 8/);
  }
});
