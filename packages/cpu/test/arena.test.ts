import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Activation, AttentionCommand, CacheLayer, PackedMatrix, ScratchNeed, SequenceLayout } from '@rose/cpu';
import { Bench } from './support.ts';

const bench = await Bench.open({ threads: 2, family: 'plain' }, 1 << 20);
const { cpu } = bench;

test('allocations are zeroed, aligned, and refused with both figures when the arena is full', async () => {
  const arena = await cpu.createArena(100_000);
  assert.equal(arena.capacity, 2 * 65536);
  const first = arena.alloc(10);
  assert.ok(first >= 64 && first % 64 === 0);
  assert.equal(arena.used, first + 10);
  assert.equal(arena.alloc(1) % 64, 0);
  assert.equal(arena.alloc(1, 4096) % 4096, 0);
  const left = arena.capacity - arena.used;
  assert.throws(() => arena.alloc(left + 1), {
    name: 'RangeError',
    message: new RegExp(`full: ${left + 1} bytes asked for, ${left} of ${arena.capacity} left`),
  });
  for (const bytes of [-1, NaN, 1.5, Infinity]) assert.throws(() => arena.alloc(bytes), RangeError);
  arena.alloc(left, 1);
  assert.equal(arena.used, arena.capacity);
  arena.close();
});

test('what is given back is zeroed before it is given out again', async () => {
  const arena = await cpu.createArena(65536);
  const mark = arena.used;
  for (const bytes of [1000, 300, 2000, 50, 1500]) {
    const pointer = arena.alloc(bytes);
    assert.ok(arena.u8(pointer, bytes).every((byte) => byte === 0));
    arena.u8(pointer, bytes).fill(0xff);
    const behind = arena.alloc(64);
    assert.ok(arena.u8(behind, 64).every((byte) => byte === 0));
    arena.u8(behind, 64).fill(0xff);
    arena.release(mark);
    assert.equal(arena.used, mark);
  }
  for (const wrong of [-1, 0, arena.used + 1, NaN]) assert.throws(() => arena.release(wrong), RangeError);
  arena.close();
});

test('arenas have sizes from 1 byte to 4 GiB', async () => {
  for (const bytes of [0, -1, NaN, 4 * 1024 ** 3 + 1]) await assert.rejects(cpu.createArena(bytes), RangeError);
  const arena = await cpu.createArena(4 * 1024 ** 3);
  const high = arena.alloc(4 * 1024 ** 3 - 64, 64);
  arena.f32(high + 4 * 1024 ** 3 - 128, 1)[0] = 7;
  assert.equal(arena.f32(high + 4 * 1024 ** 3 - 128, 1)[0], 7);
  arena.close();
});

test('scratch and matrices take what was told before', async () => {
  const arena = await cpu.createArena(1 << 20);
  const need: ScratchNeed = { maxRows: 9, maxInputs: 70, maxContext: 100, maxHeadDim: 64, maxWidth: 33 };
  let before = arena.used;
  arena.reserve(need);
  assert.equal(arena.used - before, cpu.scratchBytes(need));
  for (const format of ['f32', 'bf16', 'int8', 'int4'] as const) {
    before = Math.ceil(arena.used / 64) * 64;
    const matrix = arena.matrix(33, 65, format);
    assert.equal(matrix.pointer, before);
    assert.equal(matrix.bytes, cpu.matrixBytes(33, 65, format));
    assert.equal(arena.used, before + matrix.bytes);
  }
  for (const [outputs, inputs] of [
    [0, 1],
    [1, 0],
    [1.5, 1],
  ]) {
    assert.throws(() => arena.matrix(outputs, inputs, 'f32'), RangeError);
  }
  arena.close();
});

test('commands with operands that kernels would trust are refused when they are appended', () => {
  const { program, arena } = bench;
  const rows = 1;
  const width = 8;
  const weight: PackedMatrix = arena.matrix(4, 8, 'f32');
  const layout: SequenceLayout = { sequences: 1, rowStart: 64, start: 64, pageStart: 64, pageTable: 64 };
  const cache: CacheLayer = { pointer: 64, dtype: 'f32', kvHeads: 2, headDim: 16 };
  const attention: AttentionCommand = {
    ...{ q: 64, qStride: 64, output: 64, heads: 4, cache, layout, window: 0, scale: 1, maxContext: 9 },
    mask: 'causal',
  };
  const input = 64;
  const output = 64;
  const refused: [RegExp, () => void][] = [
    [/rows.*not 0/, () => program.linear({ input, weight, output, rows: 0 })],
    [/rows.*not 1.5/, () => program.normalize({ input, rows: 1.5, width })],
    [/rows.*not NaN/, () => program.gate({ input, output, rows: NaN, size: 8, activation: 'silu' })],
    [/width.*not 0/, () => program.summarize({ input, rows, width: 0, output })],
    [/width.*not -1/, () => program.gather({ input, index: 64, output, rows, width: -1 })],
    [/no activation 'swish'/, () => program.activate({ input, rows, width, activation: 'swish' as Activation })],
    [/no activation 'swish'/, () => program.linear({ input, weight, output, rows, activation: 'swish' as Activation })],
    [
      /'median' is none of/,
      () => program.pool({ kind: 'median' as 'mean', input, rowStart: 64, output, sequences: 1, width }),
    ],
    [/sequences.*not 0/, () => program.pool({ kind: 'mean', input, rowStart: 64, output, sequences: 0, width })],
    [/layer norm.*bias/, () => program.norm({ kind: 'layer', epsilon: 0, input, weight: 64, output, rows, width })],
    [
      /scratch \(row\)/,
      () => program.norm({ kind: 'rms', epsilon: 0, input, add: 64, weight: 64, output, rows, width: 600 }),
    ],
    [
      /scratch \(row\)/,
      () => {
        const table = { pointer: 64, dtype: 'f32' } as const;
        program.embed({ table, index: 64, output, rows, width: 600, accumulate: true });
      },
    ],
    [/scratch \(scores\)/, () => program.attention({ ...attention, maxContext: 2000 })],
    [/4 heads.*3 key-value/, () => program.attention({ ...attention, cache: { ...cache, kvHeads: 3 } })],
    [/sequences.*not 0/, () => program.attention({ ...attention, layout: { ...layout, sequences: 0 } })],
    [
      /heads of 24 cannot be cached as bf16/,
      () => program.attention({ ...attention, cache: { ...cache, dtype: 'bf16', headDim: 24 } }),
    ],
    [
      /heads of 8 cannot be cached as bf16/,
      () => program.cache({ qkv: 64, rows, heads: 4, cache: { ...cache, dtype: 'bf16', headDim: 8 }, layout }),
    ],
    [
      /RoPE.*not 18/,
      () => program.cache({ qkv: 64, rows, heads: 4, cache, layout, rope: { cos: 64, sin: 64, dim: 18 } }),
    ],
    [/rows 3 to 5.*4 rows/, () => arena.pack(weight, 3, 2, 64, 'F32')],
    [/'F64' is none of/, () => arena.pack(weight, 0, 2, 64, 'F64' as 'F32')],
  ];
  program.reset();
  for (const [message, append] of refused) assert.throws(append, { name: 'RangeError', message });
  // Nothing of what was refused is in the list.
  program.run();
});

test('scratch must be set aside before commands that need it', async () => {
  const arena = await cpu.createArena(1 << 16);
  const program = arena.program();
  const weight = arena.matrix(4, 8, 'f32');
  assert.throws(() => program.linear({ input: 64, weight, output: 64, rows: 1 }), /scratch \(tile\): 0 are reserved/);
  arena.close();
});

test('a list grows to thousands of commands and has an end', () => {
  const { program, arena } = bench;
  const mark = arena.used;
  const input = bench.floats([1]);
  const append = (): void => program.normalize({ input, rows: 1, width: 1 });
  program.reset();
  for (let i = 0; i < 20_000; i++) append();
  program.run();
  assert.throws(() => {
    for (let i = 0; i < 1_000_000; i++) append();
  }, /the command list is full/);
  program.reset();
  append();
  program.run();
  arena.release(mark);
});
