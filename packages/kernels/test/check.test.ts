import assert from 'node:assert/strict';
import { test } from 'node:test';
import { f32, kernel } from '@rose/cute';
import { checkParameters } from '../src/check-parameters.ts';
import { checkKernel, compareCase, makeCase, toleranceOf, type Executor } from '../src/check.ts';
import { combinations, defineKernel, input, output, scalar, specialise, type KernelModule } from '../src/spec.ts';
import { KERNELS } from '../src/index.ts';
import { decode, encode, halfUlp, round } from '../src/support/storage.ts';

const double: KernelModule = defineKernel({
  name: 'double',
  summary: 'y = factor * x',
  dims: { n: 'elements' },
  options: { type: ['bf16', 'f32'] },
  tuning: { threads: [32, 64] },
  choose: ({ n }) => ({ threads: n > 100 ? 64 : 32 }),
  args: ({ n }, { type }) => ({
    x: input(type, [n]),
    y: output(type, [n], { roundings: 0, why: 'one product' }),
    factor: scalar('f32', 2),
  }),
  trace: () => assert.fail('not traced here'),
  grid: () => [1, 1, 1],
  reference: ({ x, factor }) => ({ y: x.map((v) => v * factor) }),
  roofline: ({ n }, { type }) => ({ bytes: (type === 'f32' ? 8 : 4) * n, flops: n }),
  cases: [{ dims: { n: 10 } }],
});

/** Computes `double` as a kernel would, on the bytes. */
function executor(change: (y: Float64Array) => void = () => {}): Executor<undefined> {
  return {
    name: 'test',
    run(_kernel, { x, y, factor }) {
      assert.ok(typeof x === 'object' && typeof y === 'object' && typeof factor === 'number');
      const result = decode(x.type, x.bytes.subarray(x.offset, x.offset + x.length)).map((v) => v * factor);
      change(result);
      y.bytes.set(encode(y.type, result), y.offset);
    },
  };
}

const device = { multiprocessors: 4 };

test('a right kernel passes', async () => {
  const report = await checkKernel(double, specialise(double, double.cases[0]), executor(), undefined, device);
  assert.equal(report.passed, true);
  assert.equal(report.outputs[0].worst, 0);
});

test('one wrong element is found and named', async () => {
  const s = specialise(double, { dims: { n: 10 }, options: { type: 'f32' } });
  const report = await checkKernel(
    double,
    s,
    executor((y) => (y[7] *= 1 + 2 ** -22)),
    undefined,
    device,
  );
  assert.equal(report.passed, false);
  assert.equal(report.outputs[0].wrong, 1);
  assert.deepEqual(report.outputs[0].at.index, [7]);
});

test('elements that are not written fail: the poison is no number', () => {
  const s = specialise(double, double.cases[0]);
  const report = compareCase(double, s, makeCase(double, s), 'test');
  assert.equal(report.outputs[0].wrong, 10);
});

test('writes around a tensor and into an input are faults', () => {
  const s = specialise(double, double.cases[0]);
  const data = makeCase(double, s);
  const { x, y } = data.args;
  assert.ok(typeof x === 'object' && typeof y === 'object');
  x.bytes[x.offset] ^= 1;
  y.bytes[y.offset + y.length] = 0;
  const { faults } = compareCase(double, s, data, 'test');
  assert.match(faults.join('\n'), /x: an input was changed/);
  assert.match(faults.join('\n'), /y: bytes behind the tensor were written \(first at byte 20\)/);
});

test('choices that are not there are refused by name', () => {
  assert.throws(() => specialise(double, { dims: {} }), /size n is undefined/);
  assert.throws(
    () => specialise(double, { dims: { n: 1 }, options: { type: 'f64' } }),
    /type = f64 is not known; it can be bf16, f32/,
  );
  assert.throws(
    () => specialise(double, { dims: { n: 1 }, options: { kind: 'f64' } }),
    /kind = f64 is not known; there are type/,
  );
  assert.equal(specialise(double, { dims: { n: 200 } }).tuning.threads, 64);
  assert.equal([...combinations({ a: [1, 2], b: [3, 4, 5] })].length, 6);
});

test('numbers are rounded to nearest even, saturate where the type does, and come back from their bytes', () => {
  assert.equal(round('bf16', 1 + 2 ** -8), 1);
  assert.equal(round('bf16', 1 + 3 * 2 ** -8), 1 + 2 ** -6);
  assert.equal(round('e4m3', 17), 16);
  assert.equal(round('e4m3', 1000), 448);
  assert.equal(round('f16', 65520), Infinity);
  assert.equal(round('e4m3', 2 ** -10), 0);
  assert.equal(halfUlp('bf16', 1.5), 2 ** -8);
  assert.equal(halfUlp('bf16', 2 ** -130), 2 ** -134);
  for (const type of ['bf16', 'f16', 'f32', 'e4m3', 'e5m2'] as const) {
    const numbers = Float64Array.from({ length: 400 }, (_, i) => round(type, (i % 2 ? -1 : 1) * 1.037 ** (i - 200)));
    assert.deepEqual(decode(type, encode(type, numbers)), numbers, type);
  }
  assert.deepEqual([...encode('e4m3', Float64Array.of(0, 1, -448, 2 ** -9, 2 ** -6))], [0, 0x38, 0xfe, 1, 8]);
});

test('a tolerance is half a unit in the last place and what float32 adds', () => {
  assert.equal(toleranceOf('f32', undefined, 1, 1), 0);
  assert.equal(toleranceOf('bf16', { roundings: 0, why: '' }, 1, 1), 2 ** -8);
  assert.equal(toleranceOf('f32', { roundings: 2, why: '' }, 1, 8), 2 ** -24 + 2 ** -20);
});

/** What any right kernel may give: the reference, rounded once. */
/** Kernels that leave a part of an output unwritten; NaN, the poison, is what is expected there. */
const LEAVES_OUT: ReadonlySet<string> = new Set([
  'attention_decode',
  'linear_grouped',
  'linear_grouped_mma',
  'linear_grouped_small',
]);

test('the parameters of every kernel are those of its arguments', () => {
  for (const module of KERNELS) {
    const s = specialise(module, module.cases[0]);
    checkParameters(module, s, module.trace(s));
  }
});

test('arguments that are not those of the parameters are told by name', () => {
  const traced = kernel(
    { name: 'double', params: { x: f32.tensor('n'), y: f32.tensor('n'), factor: f32 }, threads: 32 },
    () => {
      'use gpu';
    },
  );
  const module = { ...double, trace: () => traced.trace({ dims: { n: 10 } }) };
  const check = (args: KernelModule['args']): void => {
    const s = specialise(double, { dims: { n: 10 }, options: { type: 'f32' } });
    checkParameters({ ...module, args }, s, module.trace());
  };
  const right = { x: input('f32', [10]), y: output('f32', [10]), factor: scalar('f32', 2) };
  check(() => right);
  for (const [wrong, message] of [
    [{ ...right, x: input('bf16', [10]) }, /x is f32 in params and bf16 in args/],
    [{ ...right, y: output('f32', [5, 2]) }, /y is f32 \[10\] in params and f32 \[5, 2\] in args/],
    [{ ...right, x: input('f32', [20]) }, /x is f32 \[10\] in params and f32 \[20\]/],
    [{ ...right, factor: scalar('i32', 2) }, /factor is f32 in params and i32 in args/],
    [{ ...right, factor: input('f32', [1]) }, /factor is a number \(f32\), and args gives it a tensor/],
    [{ ...right, more: scalar('i32', 2) }, /args gives more, and params has x, y, factor/],
    [{ x: right.x, y: right.y }, /parameter factor is missing in args/],
  ] as const) {
    assert.throws(() => check(() => wrong), message);
  }
});

test('every reference, rounded to the outputs’ types, is within its own bounds', () => {
  for (const module of KERNELS) {
    for (const wanted of module.cases.filter(({ large }) => !large)) {
      const s = specialise(module, wanted);
      const data = makeCase(module, s);
      const reference = module.reference(data.values as never, s.dims, s.options);
      for (const [name, argument] of Object.entries(data.args)) {
        if (typeof argument === 'number' || argument.access === 'read') continue;
        const expected = reference[name];
        const numbers = expected instanceof Float64Array ? expected : expected.values;
        const numeric = numbers.filter((v) => !Number.isNaN(v)).length;
        // Scales of groups lie in rows that are padded to multiples of four.
        const leavesOut = LEAVES_OUT.has(module.name) || name === 'scales';
        const whole = leavesOut ? numeric > 0 : numeric === numbers.length;
        assert.ok(whole, `${module.name}: ${name}`);
        argument.bytes.set(encode(argument.type, numbers), argument.offset);
      }
      const report = compareCase(module, s, data, 'reference');
      assert.equal(report.passed, true, `${module.name} ${JSON.stringify(wanted)}`);
      const { bytes, flops } = report.roofline;
      assert.ok(bytes > 0 && flops >= 0);
    }
  }
});
