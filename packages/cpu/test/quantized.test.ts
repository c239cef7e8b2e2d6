import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { createCpu, type Arena, type Cpu, type PackedMatrix, type SourceDtype, type TileFamily } from '../src/index.ts';

type Format = 'int8' | 'int4';
const formats: readonly Format[] = ['int8', 'int4'];
const GROUP = 32;

/*
 * A scalar reference that does what the kernels say they do: the same integers, and floats rounded to float32 in the
 * same order, so that results can be compared bit by bit.
 */

const f = Math.fround;

/** a * b + c rounded once to float32, as a fused multiply-add rounds. Exact for products of float32. */
function fma(a: number, b: number, c: number): number {
  const product = a * b;
  let sum = product + c;
  if (!Number.isFinite(sum)) return f(sum);
  // The error of the float64 sum (Knuth). If there is one, round the sum to odd: then rounding again does no harm.
  const other = sum - product;
  const error = product - (sum - other) + (c - other);
  if (error !== 0) {
    const bits = new BigInt64Array(new Float64Array([sum]).buffer);
    if ((bits[0] & 1n) === 0n) {
      bits[0] += error > 0 === sum > 0 ? 1n : -1n;
      sum = new Float64Array(bits.buffer)[0];
    }
  }
  return f(sum);
}

function nearestEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

interface QuantizedGroup {
  readonly integers: readonly number[];
  readonly scale: number;
}

/** (0 + 1) + (2 + 3), each rounded. */
function sumOfLanes(lanes: readonly number[]): number {
  return f(f(lanes[0] + lanes[1]) + f(lanes[2] + lanes[3]));
}

function quantizeGroup(x: readonly number[], largest: number): QuantizedGroup {
  const magnitude = x.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  if (magnitude < 2 ** -100) return { integers: x.map(() => 0), scale: 0 };
  const maximum = largest < 0 && x.includes(-magnitude) ? -magnitude : magnitude;
  const factor = f(largest / maximum);
  const integers = x.map((v) => nearestEven(f(v * factor)));
  if (largest > 0) return { integers, scale: f(maximum / largest) };
  const cut = integers.map((v) => Math.min(v, -largest - 1));
  const [above, below] = [
    [0, 0, 0, 0],
    [0, 0, 0, 0],
  ];
  cut.forEach((q, i) => {
    above[i & 3] = fma(x[i], q, above[i & 3]);
    below[i & 3] += q * q;
  });
  return { integers: cut, scale: f(sumOfLanes(above) / sumOfLanes(below)) };
}

function groupsOf(row: Float32Array, largest: number): QuantizedGroup[] {
  const groups: QuantizedGroup[] = [];
  for (let k = 0; k < row.length; k += GROUP) {
    const group = [...row.subarray(k, k + GROUP)];
    while (group.length < GROUP) group.push(0);
    groups.push(quantizeGroup(group, largest));
  }
  return groups;
}

const weightGroups = (row: Float32Array, format: Format): QuantizedGroup[] =>
  groupsOf(row, format === 'int8' ? 127 : -8);
const inputGroups = (row: Float32Array, format: Format): QuantizedGroup[] =>
  groupsOf(row, format === 'int8' ? 32767 : 127);

function product(a: readonly QuantizedGroup[], w: readonly QuantizedGroup[]): number {
  let total = 0;
  a.forEach((group, g) => {
    const sum = group.integers.reduce((s, v, i) => s + v * w[g].integers[i], 0);
    total = fma(f(sum), f(group.scale * w[g].scale), total);
  });
  return total;
}

/** Random numbers, most of them small, from a linear congruential generator. */
function random(count: number, seed: number): Float32Array {
  let state = seed;
  const next = (): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  return Float32Array.from({ length: count }, () => {
    const gauss = next() + next() + next() + next() - 2;
    return gauss * 2 ** Math.floor(4 * next());
  });
}

/** Row-major values as a file holds them, and what they are worth as float32. */
function asSource(values: Float32Array, dtype: SourceDtype): { bytes: Uint8Array; exact: Float32Array } {
  if (dtype === 'F32') return { bytes: new Uint8Array(values.slice().buffer), exact: values };
  if (dtype === 'F16') {
    const halves = new Float16Array(values);
    return { bytes: new Uint8Array(halves.buffer), exact: new Float32Array(halves) };
  }
  const words = Uint16Array.from(new Uint32Array(values.slice().buffer), (word) => word >>> 16);
  const exact = new Float32Array(Uint32Array.from(words, (word) => word << 16).buffer);
  return { bytes: new Uint8Array(words.buffer), exact };
}

class Bench {
  readonly cpu: Cpu;
  readonly arena: Arena;

  private constructor(cpu: Cpu, arena: Arena) {
    this.cpu = cpu;
    this.arena = arena;
  }

  static async open(family: TileFamily, threads: number): Promise<Bench> {
    const cpu = await createCpu({ threads, family });
    const arena = await cpu.createArena(8 << 20);
    arena.reserve({ maxRows: 80, maxInputs: 512, maxContext: 16, maxHeadDim: 16, maxWidth: 16 });
    return new Bench(cpu, arena);
  }

  /** Packed in two parts, as a fused matrix is. */
  pack(values: Float32Array, outputs: number, format: Format, dtype: SourceDtype = 'F32'): PackedMatrix {
    const inputs = values.length / outputs;
    const matrix = this.arena.matrix(outputs, inputs, format);
    assert.equal(matrix.bytes, this.cpu.matrixBytes(outputs, inputs, format));
    const { bytes } = asSource(values, dtype);
    const mark = this.arena.used;
    const source = this.arena.alloc(bytes.length);
    this.arena.u8(source, bytes.length).set(bytes);
    const first = Math.floor(outputs / 3);
    this.arena.pack(matrix, 0, first, source, dtype);
    this.arena.pack(matrix, first, outputs - first, source + (first * bytes.length) / outputs, dtype);
    this.arena.release(mark);
    return matrix;
  }

  linear(input: Float32Array, weight: PackedMatrix, stride: number = weight.inputs): Float32Array {
    const rows = input.length / weight.inputs;
    const mark = this.arena.used;
    const from = this.arena.alloc(4 * rows * stride);
    const to = this.arena.alloc(4 * rows * weight.outputs);
    for (let row = 0; row < rows; row++) {
      this.arena
        .f32(from + 4 * row * stride, weight.inputs)
        .set(input.subarray(row * weight.inputs, (row + 1) * weight.inputs));
    }
    const program = this.arena.program();
    program.linear({ input: from, inputStride: stride, weight, output: to, rows });
    program.run();
    const output = this.arena.f32(to, rows * weight.outputs).slice();
    this.arena.release(mark);
    return output;
  }
}

function assertSameBits(actual: Float32Array, expected: Float32Array, what: string): void {
  const [a, e] = [new Int32Array(actual.slice().buffer), new Int32Array(expected.slice().buffer)];
  assert.equal(a.length, e.length, what);
  const at = a.findIndex((word, i) => word !== e[i]);
  assert.equal(at, -1, `${what}: element ${at} is ${actual[at]} instead of ${expected[at]}`);
}

const benches = {
  plain: await Bench.open('plain', 1),
  wide: await Bench.open('wide', 1),
  two: await Bench.open('wide', 2),
};
after(() => Promise.all(Object.values(benches).map(({ cpu }) => cpu.close())));

for (const format of formats) {
  describe(`${format} weights`, () => {
    test('every bit as the scalar reference, for all sizes, rows and families', () => {
      for (const [outputs, inputs, rows] of [
        [32, 32, 1],
        [64, 96, 4],
        [1, 1, 1],
        [7, 33, 3],
        [45, 100, 6],
        [70, 256, 9],
        [96, 511, 5],
      ]) {
        const weights = random(outputs * inputs, 7 * outputs + inputs);
        const input = random(rows * inputs, 11 * inputs + rows);
        const w = Array.from({ length: outputs }, (_, n) =>
          weightGroups(weights.subarray(n * inputs, (n + 1) * inputs), format),
        );
        const a = Array.from({ length: rows }, (_, m) =>
          inputGroups(input.subarray(m * inputs, (m + 1) * inputs), format),
        );
        const expected = Float32Array.from({ length: rows * outputs }, (_, i) =>
          product(a[Math.floor(i / outputs)], w[i % outputs]),
        );
        for (const [name, bench] of Object.entries(benches)) {
          const mark = bench.arena.used;
          const matrix = bench.pack(weights, outputs, format);
          assertSameBits(bench.linear(input, matrix), expected, `${name} [${rows}, ${inputs}] x [${outputs}]`);
          bench.arena.release(mark);
        }
      }
    });

    test('a row has the same bits among 1 to 70 rows, in both families, with one thread and two', () => {
      const [outputs, inputs] = [75, 160];
      const weights = random(outputs * inputs, 3);
      const input = random(70 * inputs, 4);
      const matrices = Object.values(benches).map((bench) => ({ bench, matrix: bench.pack(weights, outputs, format) }));
      const alone = new Float32Array(70 * outputs);
      for (let row = 0; row < 70; row++) {
        const { bench, matrix } = matrices[0];
        alone.set(bench.linear(input.subarray(row * inputs, (row + 1) * inputs), matrix), row * outputs);
      }
      for (const { bench, matrix } of matrices) {
        for (let rows = 1; rows <= 70; rows++) {
          const result = bench.linear(input.subarray(0, rows * inputs), matrix);
          assertSameBits(result, alone.subarray(0, rows * outputs), `${rows} rows`);
        }
      }
    });
  });
}
