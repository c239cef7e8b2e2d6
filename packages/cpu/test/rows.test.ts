import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Activation, NormCommand } from '@rose/cpu';
import { Bench, WAYS, close, random, sameBits } from './support.ts';

const ways = await Promise.all(WAYS.map((way) => Bench.open(way)));
const ROWS = 5;
const WIDTHS = [...Array.from({ length: 40 }, (_, i) => i + 1), 64, 257];

/** Run the same on every way to compute: all must give the bits of the first. */
function everywhere(message: string, run: (bench: Bench) => Float32Array): Float32Array {
  const first = run(ways[0]);
  for (const bench of ways.slice(1)) sameBits(run(bench), first, `${message}, ${bench.name}`);
  return first;
}

function rowsOf(values: ArrayLike<number>, width: number): number[][] {
  return Array.from({ length: values.length / width }, (_, r) =>
    Array.from({ length: width }, (_, i) => values[r * width + i]),
  );
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}

for (const kind of ['rms', 'layer'] as const) {
  test(`${kind} norm of widths 1 to 40, alone and with an addition that is kept or not`, () => {
    for (const width of WIDTHS) {
      const x = random(ROWS * width, width);
      const y = random(ROWS * width, width + 1);
      const w = random(width, width + 2);
      const b = random(width, width + 3);
      for (const add of ['none', 'dropped', 'kept', 'in place'] as const) {
        const run = (bench: Bench): Float32Array =>
          bench.run((program) => {
            const [input, output, sums] = [bench.floats(x), bench.room(x.length), bench.room(x.length)];
            const kept = { none: 0, dropped: 0, kept: sums, 'in place': input }[add];
            const command: NormCommand = {
              ...{ kind, epsilon: 1e-5, input, output, rows: ROWS, width, weight: bench.floats(w) },
              ...(kind === 'layer' ? { bias: bench.floats(b) } : {}),
              ...(add === 'none' ? {} : { add: bench.floats(y), sum: kept }),
            };
            program.norm(command);
            return () => Float32Array.of(...bench.read(output, x.length), ...bench.read(kept || input, x.length));
          });
        const got = everywhere(`${width} wide, ${add}`, run);
        const total = x.map((value, i) => (add === 'none' ? value : value + y[i]));
        const normed = rowsOf(total, width).flatMap((row) => {
          const mean = kind === 'layer' ? sum(row) / width : 0;
          const scale = 1 / Math.sqrt(sum(row.map((value) => (value - mean) ** 2)) / width + 1e-5);
          return row.map((value, i) => (value - mean) * scale * w[i] + (kind === 'layer' ? b[i] : 0));
        });
        close(got.subarray(0, x.length), normed, 3e-6, `${kind} ${width} ${add}`);
        sameBits(got.slice(x.length), add === 'kept' || add === 'in place' ? total : x, `sum ${width} ${add}`);
      }
    }
  });
}

/** The error function in float64: its series, and a continued fraction of the complement for large arguments. */
function erf(x: number): number {
  if (Math.abs(x) > 3) {
    let fraction = 0;
    for (let k = 60; k > 0; k--) fraction = k / 2 / (Math.abs(x) + fraction);
    return Math.sign(x) * (1 - Math.exp(-x * x) / Math.sqrt(Math.PI) / (Math.abs(x) + fraction));
  }
  let [term, total] = [x, x];
  for (let n = 1; n < 80; n++) {
    term *= (-x * x) / n;
    total += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * total;
}

const activations: Record<Activation, (x: number) => number> = {
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  relu: (x) => Math.max(0, x),
  tanh: Math.tanh,
};

for (const [activation, reference] of Object.entries(activations) as [Activation, (x: number) => number][]) {
  test(`${activation} against float64, from -30 to 30, at 0 and at the ends`, () => {
    const x = Float32Array.from({ length: 1201 }, (_, i) => (i - 600) / 20);
    x.set([1e4, -1e4, 1e-30, -1e-30, 3e38]);
    const got = everywhere(activation, (bench) =>
      bench.run((program) => {
        const input = bench.floats(x);
        program.activate({ input, rows: 1, width: x.length, activation });
        return () => bench.read(input, x.length);
      }),
    );
    close(got, x.map(reference), 5e-7, activation);
    const nan = ways[0].run((program) => {
      const input = ways[0].floats([NaN, 1]);
      program.activate({ input, rows: 1, width: 2, activation });
      return () => ways[0].read(input, 2);
    });
    assert.ok(Number.isNaN(nan[0]) && !Number.isNaN(nan[1]), `${activation} of NaN is NaN`);
  });

  test(`${activation} as a gate of widths 1 to 40, one row and several`, () => {
    for (const size of WIDTHS) {
      for (const rows of [1, ROWS]) {
        const x = random(rows * 2 * size, size).map((value) => 4 * value);
        const got = everywhere(`${size} wide`, (bench) =>
          bench.run((program) => {
            const output = bench.room(rows * size);
            program.gate({ input: bench.floats(x), output, rows, size, activation });
            return () => bench.read(output, rows * size);
          }),
        );
        const expected = rowsOf(x, 2 * size).flatMap((row) =>
          row.slice(0, size).map((gate, i) => reference(gate) * row[size + i]),
        );
        close(got, expected, 2e-6, `${activation} ${size}`);
      }
    }
  });
}

test('normalize divides by the Euclidean length; a row of zeros stays zero', () => {
  for (const width of WIDTHS) {
    const x = random(ROWS * width, width);
    x.fill(0, 0, width);
    const got = everywhere(`${width} wide`, (bench) =>
      bench.run((program) => {
        const input = bench.floats(x);
        program.normalize({ input, rows: ROWS, width });
        return () => bench.read(input, x.length);
      }),
    );
    const expected = rowsOf(x, width).flatMap((row) => {
      const length = Math.max(Math.sqrt(sum(row.map((value) => value * value))), 1e-12);
      return row.map((value) => value / length);
    });
    close(got, expected, 5e-7, `${width}`);
  }
});

test('pool takes the first row, the last one, the mean, the maximum or the sum over the square root', () => {
  const starts = [0, 1, 4, 11];
  const references = {
    cls: (column: number[]) => column[0],
    last: (column: number[]) => column.at(-1)!,
    mean: (column: number[]) => sum(column) / column.length,
    max: (column: number[]) => Math.max(...column),
    mean_sqrt: (column: number[]) => sum(column) / Math.sqrt(column.length),
  };
  for (const width of [1, 7, 8, 40, 65]) {
    const x = random(11 * width, width);
    for (const [kind, reference] of Object.entries(references) as [
      keyof typeof references,
      (c: number[]) => number,
    ][]) {
      const got = everywhere(`${kind} ${width}`, (bench) =>
        bench.run((program) => {
          const output = bench.room(3 * width);
          const [input, rowStart] = [bench.floats(x), bench.ints(starts)];
          program.pool({ kind, input, rowStart, output, sequences: 3, width });
          return () => bench.read(output, 3 * width);
        }),
      );
      const rows = rowsOf(x, width);
      const expected = [0, 1, 2].flatMap((s) =>
        Array.from({ length: width }, (_, i) => reference(rows.slice(starts[s], starts[s + 1]).map((row) => row[i]))),
      );
      close(got, expected, 5e-7, `${kind} ${width}`);
    }
  }
});

test('gather copies rows in any order, with repetitions', () => {
  const index = [3, 0, 3, 4, 1, 2, 0];
  for (const width of [1, 5, 32]) {
    const x = random(ROWS * width, width);
    const got = everywhere(`${width} wide`, (bench) =>
      bench.run((program) => {
        const output = bench.room(index.length * width);
        program.gather({ input: bench.floats(x), index: bench.ints(index), output, rows: index.length, width });
        return () => bench.read(output, index.length * width);
      }),
    );
    sameBits(got, Float32Array.from(index.flatMap((i) => rowsOf(x, width)[i])), `${width}`);
  }
});
