import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MMA_SHAPES, wgmmaShape } from '../src/atoms/mma-shapes.ts';
import { mmaAtom, wgmmaAtom } from '../src/atoms/thread-values.ts';
import { makeLayout } from '../src/layout/layout.ts';
import { TiledMma, type Operand } from '../src/layout/tiled-mma.ts';

/*
 * Which elements of a tile a thread holds, as the partition of the layout algebra says, against the formulas that the
 * PTX ISA gives for (row, column) of each fragment element.
 */

type Place = readonly [first: number, second: number];

/** Elements, as coordinates of the tile, that the partition gives to a thread, value after value, rest after rest. */
function partitioned(mma: TiledMma, operand: Operand, rows: number, columns: number, thread: number): Place[] {
  const [part, offset] = mma.partition(operand, makeLayout([rows, columns]), thread);
  return Array.from({ length: Number(part.size) }, (_value, i) => {
    const element = Number(part.at(i)) + Number(offset);
    return [element % rows, Math.floor(element / rows)];
  });
}

function m16n8k16(): TiledMma {
  const form = MMA_SHAPES.find(({ shape, a, d }) => shape === 'm16n8k16' && a === 'bf16' && d === 'f32');
  assert.ok(form);
  return new TiledMma(mmaAtom(form), makeLayout([2, 2, 1]));
}

/** PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type". */
const FRAGMENTS: Readonly<Record<Operand, readonly [count: number, place: (lane: number, i: number) => Place]>> = {
  A: [
    8,
    (lane, i) => [
      (lane >> 2) + (i < 2 || (i >= 4 && i < 6) ? 0 : 8),
      i < 4 ? (lane % 4) * 2 + (i & 1) : (lane % 4) * 2 + (i & 1) + 8,
    ],
  ],
  // The ISA's B is (K, N); CuTe's (N, K).
  B: [4, (lane, i) => [lane >> 2, i < 2 ? (lane % 4) * 2 + (i & 1) : (lane % 4) * 2 + (i & 1) + 8]],
  C: [4, (lane, i) => [i < 2 ? lane >> 2 : (lane >> 2) + 8, (lane % 4) * 2 + (i & 1)]],
};

test('m16n8k16: 2 x 2 warps over a tile of 64 x 32 x 32', () => {
  const mma = m16n8k16();
  const tile = { M: 64, N: 32, K: 32 };
  const operands: readonly (readonly [Operand, 'M' | 'N', 'N' | 'K', Place, Place])[] = [
    // operand, modes, extents of the atom, atoms of all warps
    ['A', 'M', 'K', [16, 16], [2, 1]],
    ['B', 'N', 'K', [8, 16], [2, 1]],
    ['C', 'M', 'N', [16, 8], [2, 2]],
  ];
  for (const [operand, first, second, atom, warps] of operands) {
    const [rows, columns] = [tile[first], tile[second]];
    const rests = [rows / (atom[0] * warps[0]), columns / (atom[1] * warps[1])] as const;
    const [count, place] = FRAGMENTS[operand];
    const held = new Map<string, number>();
    for (let thread = 0; thread < 128; thread += 1) {
      const warp = Math.floor(thread / 32);
      // Warps are laid out with M first: warp = m + 2 n.
      const at = { M: warp % 2, N: Math.floor(warp / 2), K: 0 };
      const expected: Place[] = [];
      for (let j = 0; j < rests[1]; j += 1) {
        for (let i = 0; i < rests[0]; i += 1) {
          for (let value = 0; value < count; value += 1) {
            const [row, column] = place(thread % 32, value);
            expected.push([row + atom[0] * (at[first] + warps[0] * i), column + atom[1] * (at[second] + warps[1] * j)]);
          }
        }
      }
      assert.deepEqual(partitioned(mma, operand, rows, columns, thread), expected, `${operand} of thread ${thread}`);
      for (const element of expected) held.set(String(element), (held.get(String(element)) ?? 0) + 1);
    }
    assert.equal(held.size, rows * columns);
    // A is shared by the warps along N, B by those along M.
    assert.ok([...held.values()].every((times) => times === (operand === 'C' ? 1 : 2)));
  }
});

test('wgmma m64n64k16: two warpgroups over a tile of 128 x 128 x 32', () => {
  const form = wgmmaShape(64, { a: 'bf16', b: 'bf16', d: 'f32' });
  const mma = new TiledMma(wgmmaAtom(form, true), makeLayout([2, 1, 1]));
  assert.equal(mma.size, 256);
  const seen = new Set<string>();
  for (let thread = 0; thread < 256; thread += 1) {
    const [group, warp, lane] = [Math.floor(thread / 128), Math.floor(thread / 32) % 4, thread % 32];
    // PTX ISA, "Register Fragments and Shared Memory Matrix Layouts", figures of D and of A of wgmma.m64nNk16.
    const row = (i: number): number => 64 * group + 16 * warp + (lane >> 2) + 8 * (Math.floor(i / 2) % 2);
    const accumulator: Place[] = Array.from({ length: 64 }, (_value, at) => {
      const [rest, i] = [Math.floor(at / 32), at % 32];
      return [row(i), 64 * rest + 8 * Math.floor(i / 4) + (lane % 4) * 2 + (i % 2)];
    });
    assert.deepEqual(partitioned(mma, 'C', 128, 128, thread), accumulator, `C of thread ${thread}`);
    for (const element of accumulator) seen.add(String(element));
    const registers: Place[] = Array.from({ length: 16 }, (_value, at) => {
      const [rest, i] = [Math.floor(at / 8), at % 8];
      return [row(i), 16 * rest + (lane % 4) * 2 + (i % 2) + 8 * Math.floor(i / 4)];
    });
    assert.deepEqual(partitioned(mma, 'A', 128, 32, thread), registers, `A of thread ${thread}`);
  }
  // 256 threads with 64 elements each cover 128 x 128 only where no element is held twice.
  assert.equal(seen.size, 128 * 128);
});
