import { test } from 'node:test';
import type { MatrixFormat } from '@rose/cpu';
import { fusedMultiplyAdd } from '../src/fused.ts';
import { Bench, WAYS, bf16Bits, bf16Values, close, random, sameBits } from './support.ts';

const ways = await Promise.all(WAYS.map((way) => Bench.open(way)));

interface Case {
  readonly format: MatrixFormat;
  readonly rows: number;
  readonly inputs: number;
  readonly outputs: number;
}

/** Rows of x times W^T, W rounded to the format. */
function product(
  bench: Bench,
  { format, rows, inputs, outputs }: Case,
  x: Float32Array,
  w: Float32Array,
): Float32Array {
  return bench.run((program) => {
    const weight = bench.arena.matrix(outputs, inputs, format);
    const source = format === 'bf16' ? bench.halves(bf16Bits(w)) : bench.floats(w);
    bench.arena.pack(weight, 0, outputs, source, format === 'bf16' ? 'BF16' : 'F32');
    const output = bench.room(rows * outputs);
    program.linear({ input: bench.floats(x.subarray(0, rows * inputs)), weight, output, rows });
    return () => bench.read(output, rows * outputs);
  });
}

for (const format of ['f32', 'bf16'] as const) {
  test(`${format}: each element is one chain of fused multiply-adds over the inputs`, () => {
    for (const [outputs, inputs] of [
      [1, 1],
      [31, 3],
      [32, 8],
      [33, 17],
      [70, 129],
    ]) {
      const shape = { format, rows: 5, inputs, outputs };
      const x = random(5 * inputs, 1);
      const w = random(outputs * inputs, 2);
      const exact = format === 'bf16' ? bf16Values(w) : w;
      const expected = new Float32Array(5 * outputs).map((_, i) => {
        const [row, column] = [Math.floor(i / outputs) * inputs, (i % outputs) * inputs];
        let sum = 0;
        for (let k = 0; k < inputs; k++) sum = fusedMultiplyAdd(x[row + k], exact[column + k], sum);
        return sum;
      });
      for (const bench of ways) {
        sameBits(product(bench, shape, x, w), expected, `${outputs} x ${inputs}, ${bench.name}`);
      }
    }
  });

  test(`${format}: close to float64`, () => {
    const [rows, inputs, outputs] = [3, 500, 40];
    const x = random(rows * inputs, 3);
    const w = random(outputs * inputs, 4);
    const exact = format === 'bf16' ? bf16Values(w) : w;
    const expected = Array.from({ length: rows * outputs }, (_, i) => {
      const [row, column] = [Math.floor(i / outputs) * inputs, (i % outputs) * inputs];
      let sum = 0;
      for (let k = 0; k < inputs; k++) sum += x[row + k] * exact[column + k];
      return sum;
    });
    for (const bench of ways)
      close(product(bench, { format, rows, inputs, outputs }, x, w), expected, 2e-5, bench.name);
  });

  test(`${format}: the number of rows, the family and the number of threads do not change a bit`, () => {
    // 70 outputs end within a panel; 5 are fewer panels than threads, which then share the rows.
    for (const outputs of [70, 5]) {
      const inputs = 40;
      const x = random(70 * inputs, 5);
      const w = random(outputs * inputs, 6);
      const whole = product(ways[0], { format, rows: 70, inputs, outputs }, x, w);
      for (const bench of ways) {
        for (let rows = 1; rows <= 70; rows++) {
          const part = product(bench, { format, rows, inputs, outputs }, x, w);
          sameBits(part, whole.subarray(0, rows * outputs), `${rows} rows, ${outputs} outputs, ${bench.name}`);
        }
      }
    }
  });

  test(`${format}: bias, activation and the input's stride`, () => {
    const [rows, inputs, outputs, stride] = [9, 24, 45, 31];
    const x = random(rows * stride, 7);
    const w = random(outputs * inputs, 8);
    const bias = random(outputs, 9);
    const dense = Float32Array.from(
      { length: rows * inputs },
      (_, i) => x[Math.floor(i / inputs) * stride + (i % inputs)],
    );
    const plain = product(ways[0], { format, rows, inputs, outputs }, dense, w);
    for (const bench of ways) {
      const got = bench.run((program) => {
        const weight = bench.arena.matrix(outputs, inputs, format);
        const source = format === 'bf16' ? bench.halves(bf16Bits(w)) : bench.floats(w);
        bench.arena.pack(weight, 0, outputs, source, format === 'bf16' ? 'BF16' : 'F32');
        const output = bench.room(rows * outputs);
        program.linear({
          input: bench.floats(x),
          inputStride: stride,
          weight,
          bias: bench.floats(bias),
          output,
          rows,
          activation: 'relu',
        });
        return () => bench.read(output, rows * outputs);
      });
      const expected = plain.map((value, i) => Math.max(0, Math.fround(value + bias[i % outputs])));
      sameBits(got, expected, bench.name);
    }
  });
}
