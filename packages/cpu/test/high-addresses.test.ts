import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { createCpu, type Arena } from '@rose/cpu';
import { random } from './support.ts';

const ROWS = 5;
const WIDTH = 40;
const HEAD = 8;
const HEADS = 4;

/** Beyond 2 GiB an address is negative as a 32-bit integer: every command must still find its operands there. */
test('operands and scratch beyond 2 GiB give the bits that they give below', async () => {
  const cpu = await createCpu({ threads: 2, hugePages: false });
  after(() => cpu.close());
  const low = await cpu.createArena(1 << 20);
  const high = await cpu.createArena(2 ** 31 + (1 << 20));
  high.alloc(2 ** 31);
  const expected = compute(low);
  const found = compute(high);
  for (const name of Object.keys(expected)) {
    assert.ok(expected[name].some((value) => value !== 0));
    assert.deepEqual(found[name], expected[name], name);
  }
});

function compute(arena: Arena): Record<string, Float32Array> {
  arena.reserve({ maxRows: ROWS, maxInputs: WIDTH, maxContext: 32, maxHeadDim: HEAD, maxWidth: WIDTH });
  const program = arena.program();
  const results: Record<string, { pointer: number; length: number }> = {};
  const floats = (length: number, seed: number): number => {
    const pointer = arena.alloc(4 * length);
    arena.f32(pointer, length).set(random(length, seed));
    return pointer;
  };
  const ints = (...values: number[]): number => {
    const pointer = arena.alloc(4 * values.length);
    arena.i32(pointer, values.length).set(values);
    return pointer;
  };
  const result = (name: string, length: number): number => {
    const pointer = arena.alloc(4 * length);
    results[name] = { pointer, length };
    return pointer;
  };

  const input = floats(ROWS * WIDTH, 1);
  const source = arena.alloc(4 * WIDTH * WIDTH);
  arena.f32(source, WIDTH * WIDTH).set(random(WIDTH * WIDTH, 2));
  for (const format of ['f32', 'int8', 'int4'] as const) {
    const weight = arena.matrix(WIDTH - 3, WIDTH, format);
    arena.pack(weight, 0, WIDTH - 3, source, 'F32');
    program.linear({ input, weight, output: result(format, ROWS * (WIDTH - 3)), rows: ROWS });
  }
  new Uint16Array(arena.memory.buffer, source, WIDTH * WIDTH).fill(0x3c01);
  const halves = arena.matrix(WIDTH, WIDTH, 'f32');
  arena.pack(halves, 0, WIDTH, source, 'F16');
  program.linear({ input, weight: halves, output: result('halves', ROWS * WIDTH), rows: ROWS });

  const index = ints(4, 0, 3);
  const table = { pointer: input, dtype: 'f32' } as const;
  program.embed({ table, index, output: result('embed', 3 * WIDTH), rows: 3, width: WIDTH });
  program.embed({ table: halves, index, output: result('packed', 3 * WIDTH), rows: 3, width: WIDTH, accumulate: true });
  program.gather({ input, index, output: result('gather', 3 * WIDTH), rows: 3, width: WIDTH });
  const norm = { epsilon: 1e-6, input, weight: floats(WIDTH, 3), bias: floats(WIDTH, 4), rows: ROWS, width: WIDTH };
  program.norm({ ...norm, kind: 'rms', add: floats(ROWS * WIDTH, 5), output: result('rms', ROWS * WIDTH) });
  program.norm({ ...norm, kind: 'layer', output: result('layer', ROWS * WIDTH) });
  const gate = { input, rows: ROWS, size: WIDTH / 2, activation: 'silu' } as const;
  program.gate({ ...gate, output: result('gate', (ROWS * WIDTH) / 2) });
  program.summarize({ input, rows: ROWS, width: WIDTH, output: result('summarize', 4 * ROWS) });

  const rowStart = ints(0, 2, ROWS);
  const pool = { input, rowStart, sequences: 2, width: WIDTH };
  program.pool({ ...pool, kind: 'mean', output: result('mean', 2 * WIDTH) });
  program.pool({ ...pool, kind: 'last', output: result('last', 2 * WIDTH) });

  const layout = { sequences: 2, rowStart, start: ints(15, 0), pageStart: ints(0, 2), pageTable: ints(2, 0, 1) };
  const qStride = 3 * HEADS * HEAD;
  const qkv = floats(ROWS * qStride, 6);
  const cache = { pointer: floats(3 * HEADS * 2 * 16 * HEAD, 7), dtype: 'f32', kvHeads: HEADS, headDim: HEAD } as const;
  const rope = { cos: floats(32 * HEAD, 8), sin: floats(32 * HEAD, 9), dim: HEAD };
  program.cache({ qkv, rows: ROWS, heads: HEADS, cache, layout, rope });
  const output = result('attention', ROWS * HEADS * HEAD);
  const heads = { q: qkv, qStride, output, heads: HEADS, cache, layout, maxContext: 32 };
  program.attention({ ...heads, mask: 'causal', window: 0, scale: 0.3 });
  program.run();

  const indices = arena.alloc(4 * WIDTH);
  const values = result('candidates', WIDTH);
  assert.ok(arena.candidates(input, WIDTH, 0, indices, values, WIDTH) > 0);
  return Object.fromEntries(
    Object.entries(results).map(([name, { pointer, length }]) => [name, arena.f32(pointer, length).slice()]),
  );
}
