import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { createCpu, type Arena, type LinearCommand, type PackedMatrix, type SourceDtype } from '../src/index.ts';
import { CpuArena, matrixBytes } from '../src/arena.ts';
import { fusedMultiplyAdd } from '../src/fused.ts';
import { emitModule } from '../src/kernels/module.ts';
import { Team } from '../src/team/team.ts';
import { bf16Bits, bf16Values, random, sameBits, WAYS } from './support.ts';

type Format = 'int8' | 'int4';
const formats: readonly Format[] = ['int8', 'int4'];
const GROUP = 32;
const ARENA = 8 << 20;
const NEED = { maxRows: 80, maxInputs: 512, maxContext: 16, maxHeadDim: 16, maxWidth: 512 };

/*
 * A scalar reference that does what the kernels say they do: the same integers, and floats rounded to float32 in the
 * same order, so that results are compared bit by bit.
 */

const f = Math.fround;

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
  // int4: -8..7, and the scale of least squared error.
  const cut = integers.map((v) => Math.min(v, -largest - 1));
  const above = [0, 0, 0, 0];
  const below = [0, 0, 0, 0];
  cut.forEach((q, i) => {
    above[i & 3] = fusedMultiplyAdd(x[i], q, above[i & 3]);
    below[i & 3] += q * q;
  });
  return { integers: cut, scale: f(sumOfLanes(above) / sumOfLanes(below)) };
}

function groupsOf(row: Float32Array, largest: number): QuantizedGroup[] {
  return Array.from({ length: Math.ceil(row.length / GROUP) }, (_, g) => {
    const group = [...row.subarray(g * GROUP, (g + 1) * GROUP)];
    while (group.length < GROUP) group.push(0);
    return quantizeGroup(group, largest);
  });
}

function rowsOf(values: Float32Array, width: number): Float32Array[] {
  return Array.from({ length: values.length / width }, (_, i) => values.subarray(i * width, (i + 1) * width));
}

function reference(input: Float32Array, weights: Float32Array, inputs: number, format: Format): Float32Array {
  const a = rowsOf(input, inputs).map((row) => groupsOf(row, format === 'int8' ? 32767 : 127));
  const w = rowsOf(weights, inputs).map((row) => groupsOf(row, format === 'int8' ? 127 : -8));
  const dot = (x: readonly QuantizedGroup[], y: readonly QuantizedGroup[]): number =>
    x.reduce((total, { integers, scale }, g) => {
      const sum = integers.reduce((s, v, i) => s + v * y[g].integers[i], 0);
      return fusedMultiplyAdd(f(sum), f(scale * y[g].scale), total);
    }, 0);
  return Float32Array.from(a.flatMap((x) => w.map((y) => dot(x, y))));
}

/** Numbers of several magnitudes. */
function wideRandom(length: number, seed: number): Float32Array {
  const exponents = random(length, seed + 1000);
  return random(length, seed).map((x, i) => x ** 3 * 2 ** Math.floor(4 * exponents[i]));
}

function copyIn(arena: Arena, values: Float32Array | Uint16Array | Float16Array): number {
  const pointer = arena.alloc(values.byteLength);
  arena.u8(pointer, values.byteLength).set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  return pointer;
}

/** Packed in two parts, as a fused matrix is. */
function packed(
  arena: Arena,
  source: Float32Array | Uint16Array | Float16Array,
  outputs: number,
  format: Format,
  dtype: SourceDtype = 'F32',
): PackedMatrix {
  const matrix = arena.matrix(outputs, source.length / outputs, format);
  const mark = arena.used;
  const pointer = copyIn(arena, source);
  const first = Math.floor(outputs / 3);
  arena.pack(matrix, 0, first, pointer, dtype);
  arena.pack(matrix, first, outputs - first, pointer + (first * source.byteLength) / outputs, dtype);
  arena.release(mark);
  return matrix;
}

type Extras = Pick<LinearCommand, 'bias' | 'activation'>;

function linear(arena: Arena, input: Float32Array, weight: PackedMatrix, extras: Extras = {}): Float32Array {
  const rows = input.length / weight.inputs;
  const mark = arena.used;
  const output = arena.alloc(4 * rows * weight.outputs);
  const program = arena.program();
  program.linear({ input: copyIn(arena, input), weight, output, rows, ...extras });
  program.run();
  const result = arena.f32(output, rows * weight.outputs).slice();
  arena.release(mark);
  return result;
}

const arenas: { readonly name: string; readonly arena: Arena }[] = [];
for (const options of WAYS) {
  const cpu = await createCpu(options);
  after(() => cpu.close());
  const arena = await cpu.createArena(ARENA);
  arena.reserve(NEED);
  arenas.push({ name: `${options.family}, ${options.threads} threads`, arena });
}
// This machine takes one of the two; each must give the same sums.
for (const family of ['plain', 'wide'] as const) {
  for (const sums of ['pairs', 'fours'] as const) {
    const module = new WebAssembly.Module(emitModule(family, sums));
    const arena = new CpuArena(Team.solo(), module, family, ARENA, () => undefined);
    arena.reserve(NEED);
    arenas.push({ name: `${family}, ${sums}`, arena });
  }
}
const [{ arena: first }] = arenas;

for (const format of formats) {
  describe(`${format} weights`, () => {
    test('every bit as the scalar reference, for all sizes and ways', () => {
      for (const [outputs, inputs, rows] of [
        [32, 32, 1],
        [64, 96, 4],
        [1, 1, 1],
        [7, 33, 3],
        [45, 100, 6],
        [70, 256, 9],
        [96, 511, 5],
        [300, 64, 2],
      ]) {
        const weights = wideRandom(outputs * inputs, 7 * outputs + inputs);
        const input = wideRandom(rows * inputs, 11 * inputs + rows);
        const expected = reference(input, weights, inputs, format);
        for (const { name, arena } of arenas) {
          const mark = arena.used;
          const matrix = packed(arena, weights, outputs, format);
          sameBits(linear(arena, input, matrix), expected, `${name}: [${rows}, ${inputs}] x ${outputs}`);
          arena.release(mark);
        }
      }
    });

    test('a row has the same bits among 1 to 70 rows', () => {
      const [outputs, inputs, most] = [75, 160, 70];
      const weights = wideRandom(outputs * inputs, 3);
      const input = wideRandom(most * inputs, 4);
      const alone = new Float32Array(most * outputs);
      for (const { name, arena } of arenas) {
        const mark = arena.used;
        const matrix = packed(arena, weights, outputs, format);
        rowsOf(input, inputs).forEach((row, i) => {
          const result = linear(arena, row, matrix);
          if (arena === first) alone.set(result, i * outputs);
          else sameBits(result, alone.subarray(i * outputs, (i + 1) * outputs), `${name}: row ${i}`);
        });
        for (let rows = 1; rows <= most; rows++) {
          const result = linear(arena, input.subarray(0, rows * inputs), matrix);
          sameBits(result, alone.subarray(0, rows * outputs), `${name}: ${rows} rows`);
        }
        arena.release(mark);
      }
    });

    test('weights from files in bfloat16 and float16 are those same numbers in float32', () => {
      const [outputs, inputs] = [9, 75];
      const values = wideRandom(outputs * inputs, 5);
      // The least subnormal of float16, the largest subnormal and finite values, and zeros of both signs.
      values.set([2 ** -24, -(2 ** -14 - 2 ** -24), 65504, -65504, 0, -0], 40);
      values.fill(2 ** -20, 3 * inputs, 3 * inputs + GROUP);
      const halves = new Float16Array(values);
      const input = wideRandom(2 * inputs, 6);
      for (const [dtype, source, exact] of [
        ['F16', halves, new Float32Array(halves)],
        ['BF16', bf16Bits(values), bf16Values(values)],
      ] as const) {
        const mark = first.used;
        const actual = linear(first, input, packed(first, source, outputs, format, dtype));
        sameBits(actual, reference(input, exact, inputs, format), dtype);
        first.release(mark);
      }
    });

    test('the error against the product of unrounded numbers', () => {
      const [outputs, inputs, rows] = [64, 512, 8];
      const weights = random(outputs * inputs, 8).map((x, i) => x + random(1, i)[0] + random(1, i + 77)[0]);
      const input = random(rows * inputs, 9);
      const mark = first.used;
      const actual = linear(first, input, packed(first, weights, outputs, format));
      first.release(mark);
      let [error, size] = [0, 0];
      rowsOf(input, inputs).forEach((x, m) =>
        rowsOf(weights, inputs).forEach((w, n) => {
          const exact = x.reduce((sum, v, k) => sum + v * w[k], 0);
          error += (actual[m * outputs + n] - exact) ** 2;
          size += exact ** 2;
        }),
      );
      // A step of the largest weight / 127 (/ 8) leaves an error of step / sqrt(12); the largest of 32 is about 2.2 sigma.
      const relative = Math.sqrt(error / size);
      const expected = 2.2 / (format === 'int8' ? 127 : 8) / Math.sqrt(12);
      assert.ok(relative < 1.15 * expected, `relative error ${relative}, expected ${expected}`);
    });

    test('bias and activation', () => {
      const [outputs, inputs, rows] = [50, 64, 3];
      const weights = random(outputs * inputs, 10);
      const input = random(rows * inputs, 11);
      const bias = random(outputs, 12);
      const expected = reference(input, weights, inputs, format).map((x, i) => Math.max(0, f(x + bias[i % outputs])));
      for (const { name, arena } of arenas) {
        const mark = arena.used;
        const matrix = packed(arena, weights, outputs, format);
        const extras: Extras = { bias: copyIn(arena, bias), activation: 'relu' };
        sameBits(linear(arena, input, matrix, extras), expected, name);
        arena.release(mark);
      }
    });

    test('rows that lie apart', () => {
      const [outputs, inputs, rows, stride] = [40, 70, 5, 96];
      const weights = random(outputs * inputs, 13);
      const apart = random(rows * stride, 14);
      const input = Float32Array.from(rowsOf(apart, stride).flatMap((row) => [...row.subarray(0, inputs)]));
      const mark = first.used;
      const weight = packed(first, weights, outputs, format);
      const output = first.alloc(4 * rows * outputs);
      const program = first.program();
      program.linear({ input: copyIn(first, apart), inputStride: stride, weight, output, rows });
      program.run();
      sameBits(first.f32(output, rows * outputs), reference(input, weights, inputs, format), 'apart');
      first.release(mark);
    });

    test('zeros give zero, tiny numbers too; infinities and NaN give NaN to their own row and column alone', () => {
      const [outputs, inputs, rows] = [33, 96, 6];
      const weights = random(outputs * inputs, 15);
      weights.fill(0, 2 * inputs, 3 * inputs);
      weights[5 * inputs + 40] = Infinity;
      weights[7 * inputs + 95] = NaN;
      const input = random(rows * inputs, 16);
      input.fill(0, 0, inputs);
      input[inputs + 3] = NaN;
      input[2 * inputs + 50] = -Infinity;
      input.fill(2 ** -101, 3 * inputs, 4 * inputs);
      input.fill(0, 4 * inputs, 4 * inputs + GROUP);
      for (const { name, arena } of arenas) {
        const mark = arena.used;
        const result = linear(arena, input, packed(arena, weights, outputs, format));
        arena.release(mark);
        rowsOf(result, outputs).forEach((row, m) =>
          row.forEach((value, n) => {
            const what = `${name}: row ${m}, column ${n} is ${value}`;
            if (m === 1 || m === 2 || n === 5 || n === 7) assert.ok(Number.isNaN(value), what);
            else if (m === 0 || m === 3 || n === 2) assert.equal(value, 0, what);
            else assert.ok(Number.isFinite(value) && value !== 0, what);
          }),
        );
      }
    });

    test('what a matrix takes is told before, and what cannot be done is refused', () => {
      const mark = first.used;
      const matrix = first.matrix(33, 65, format);
      // Two panels of three groups: 32 x 32 weights and 32 scales each.
      assert.equal(matrix.bytes, 2 * 3 * (GROUP * 32 * (format === 'int8' ? 1 : 0.5) + 4 * 32));
      assert.equal(matrixBytes(33, 65, format), matrix.bytes);
      const program = first.program();
      assert.throws(
        () => program.linear({ input: 64, weight: matrix, output: 64, rows: 4000 }),
        /needs \d+ bytes of scratch.*: \d+ are reserved/,
      );
      assert.throws(
        () => program.embed({ table: matrix, index: 64, output: 64, rows: 1, width: 65 }),
        new RegExp(`packed as ${format} cannot be looked up`),
      );
      first.release(mark);
    });
  });
}
