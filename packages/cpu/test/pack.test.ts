import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MatrixFormat, PackedMatrix, SourceDtype } from '@rose/cpu';
import { Bench, WAYS, bf16Bits, bf16Values, random, sameBits } from './support.ts';

const ways = await Promise.all(WAYS.map((way) => Bench.open(way)));
const [OUTPUTS, INPUTS] = [75, 13];
const values = random(OUTPUTS * INPUTS, 1);

/** What a file of each type holds of the values, and what those are exactly. */
const sources: Record<SourceDtype, { put: (bench: Bench) => number; exact: Float32Array; bytes: number }> = {
  F32: { put: (bench) => bench.floats(values), exact: values, bytes: 4 },
  F16: {
    put: (bench) => bench.halves(Float16Array.from(values)),
    exact: Float32Array.from(Float16Array.from(values)),
    bytes: 2,
  },
  BF16: { put: (bench) => bench.halves(bf16Bits(values)), exact: bf16Values(values), bytes: 2 },
};

/** Rows of a packed matrix as an embedding looks them up. */
function rowsOf(bench: Bench, table: PackedMatrix, rows: readonly number[]): Float32Array {
  return bench.run((program) => {
    const output = bench.room(rows.length * INPUTS);
    program.embed({ table, index: bench.ints(rows), output, rows: rows.length, width: INPUTS });
    return () => bench.read(output, rows.length * INPUTS);
  });
}

const ALL = Array.from({ length: OUTPUTS }, (_, i) => i);

for (const format of ['f32', 'bf16'] as const satisfies MatrixFormat[]) {
  for (const [dtype, { put, exact, bytes }] of Object.entries(sources) as [SourceDtype, (typeof sources)['F32']][]) {
    test(`${dtype} packed as ${format} at once and in pieces, read row by row`, () => {
      const expected = format === 'bf16' ? bf16Values(exact) : exact;
      for (const bench of ways) {
        const mark = bench.arena.used;
        const matrix = bench.arena.matrix(OUTPUTS, INPUTS, format);
        assert.equal(matrix.bytes, bench.cpu.matrixBytes(OUTPUTS, INPUTS, format));
        const source = put(bench);
        bench.arena.pack(matrix, 0, OUTPUTS, source, dtype);
        sameBits(rowsOf(bench, matrix, ALL), expected, `at once, ${bench.name}`);

        const pieces = bench.arena.matrix(OUTPUTS, INPUTS, format);
        for (const [first, end] of [
          [40, 75],
          [0, 7],
          [7, 40],
        ]) {
          bench.arena.pack(pieces, first, end - first, source + first * INPUTS * bytes, dtype);
        }
        sameBits(rowsOf(bench, pieces, ALL), expected, `in pieces, ${bench.name}`);
        bench.arena.release(mark);
      }
    });
  }
}

test('float32 is rounded to bfloat16 to nearest, ties to even', () => {
  const f = (word: number): number => new Float32Array(Uint32Array.of(word).buffer)[0];
  const words = [0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0xbf808000, 0x7f7fffff, 0x7f800000, 0x80000000];
  const expected = [0x3f800000, 0x3f820000, 0x3f810000, 0x3f800000, 0xbf800000, 0x7f800000, 0x7f800000, 0x80000000];
  for (const bench of ways) {
    const mark = bench.arena.used;
    const matrix = bench.arena.matrix(words.length, 1, 'bf16');
    bench.arena.pack(matrix, 0, words.length, bench.floats(words.map(f)), 'F32');
    const got = bench.run((program) => {
      const output = bench.room(words.length);
      const index = bench.ints(words.map((_, i) => i));
      program.embed({ table: matrix, index, output, rows: words.length, width: 1 });
      return () => bench.read(output, words.length);
    });
    sameBits(got, Float32Array.from(expected, f), bench.name);
    bench.arena.release(mark);
  }
});

test('every type is widened to float32 exactly', () => {
  for (const bench of ways) {
    for (const [dtype, { put, exact }] of Object.entries(sources) as [SourceDtype, (typeof sources)['F32']][]) {
      const mark = bench.arena.used;
      const target = bench.room(values.length);
      bench.arena.widen(put(bench), dtype, values.length, target);
      sameBits(bench.read(target, values.length), exact, `${dtype}, ${bench.name}`);
      bench.arena.release(mark);
    }
  }
});

test('embedding from a table equals embedding from a packed matrix; accumulation adds', () => {
  const index = [74, 0, 31, 32, 5, 5];
  for (const dtype of ['f32', 'bf16'] as const) {
    const exact = dtype === 'bf16' ? bf16Values(values) : values;
    const picked = Float32Array.from(index.flatMap((row) => [...exact.subarray(row * INPUTS, (row + 1) * INPUTS)]));
    for (const bench of ways) {
      const mark = bench.arena.used;
      const source = sources[dtype === 'bf16' ? 'BF16' : 'F32'].put(bench);
      const matrix = bench.arena.matrix(OUTPUTS, INPUTS, dtype);
      bench.arena.pack(matrix, 0, OUTPUTS, source, dtype === 'bf16' ? 'BF16' : 'F32');
      for (const table of [{ pointer: source, dtype }, matrix]) {
        const [once, twice] = bench.run((program) => {
          const outputs = [bench.room(picked.length), bench.room(picked.length)];
          const command = { table, index: bench.ints(index), rows: index.length, width: INPUTS };
          for (const output of outputs) program.embed({ ...command, output });
          program.embed({ ...command, output: outputs[1], accumulate: true });
          return () => outputs.map((output) => bench.read(output, picked.length));
        });
        sameBits(once, picked, `${dtype}, ${bench.name}`);
        sameBits(
          twice,
          picked.map((value) => value + value),
          `${dtype} twice, ${bench.name}`,
        );
      }
      bench.arena.release(mark);
    }
  }
});
