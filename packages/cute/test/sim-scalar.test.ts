import assert from 'node:assert/strict';
import test from 'node:test';
import type { Value } from '../src/ir/ir.ts';
import { simulate } from '../src/sim/simulate.ts';
import type { TypeName } from '../src/types/dtype.ts';
import { f32Bits } from '../src/types/numeric.ts';
import { MORE_CASES } from './more-scalar-cases.ts';
import { FIRST_CASES, type ScalarCase } from './scalar-cases.ts';
import { kinds, KernelWriter, tensor } from './sim-kernel.ts';

type Number = number | bigint;

/** What an expression of constants gives in lane 0. */
function evaluate(type: TypeName, write: (w: KernelWriter) => Value): Number {
  const w = new KernelWriter({ params: [tensor('out', type)], threads: 1 });
  const value = write(w);
  const view: Record<string, new (length: number) => { [i: number]: Number; BYTES_PER_ELEMENT: number }> = {
    f32: Float32Array,
    f64: Float64Array,
    i32: Int32Array,
    u32: Uint32Array,
    i64: BigInt64Array,
    u64: BigUint64Array,
    i16: Int16Array,
    u16: Uint16Array,
    f16: Uint16Array,
    bf16: Uint16Array,
    e4m3: Uint8Array,
    e5m2: Uint8Array,
    i8: Int8Array,
    u8: Uint8Array,
    b32: Uint32Array,
    bf16x2: Uint32Array,
    f16x2: Uint32Array,
    e4m3x2: Uint16Array,
  };
  if (type === 'pred') throw new TypeError('select a number');
  w.store(w.param(0), value);
  const out = new view[type](1);
  const result = simulate(w.kernel, { grid: [1, 1, 1], args: { out: out as unknown as Uint8Array } });
  assert.deepEqual(kinds(result), []);
  return out[0];
}

/** One operation on constants. */
function operation(
  op: string,
  type: TypeName,
  args: readonly [TypeName, number | string][],
  attributes: Record<string, number | string | boolean> = {},
): Number {
  return evaluate(type, (w) =>
    w.value(
      op,
      type,
      args.map(([t, x]) => w.constant(t, x)),
      attributes,
    ),
  );
}

const CASES: readonly ScalarCase[] = [...FIRST_CASES, ...MORE_CASES];

for (const [op, type, args, expected, attributes] of CASES) {
  const name = `${op} ${args.map(([t, x]) => `${t} ${x}`).join(', ')} ${JSON.stringify(attributes ?? {})} is ${type} ${expected}`;
  test(name, () => {
    assert.ok(
      Object.is(operation(op, type, args, attributes), expected),
      `got ${operation(op, type, args, attributes)}`,
    );
  });
}

for (const [left, right, holds] of [
  [1, 2, ['ne', 'lt', 'le', 'neu', 'ltu', 'leu', 'num']],
  [2, 2, ['eq', 'le', 'ge', 'equ', 'leu', 'geu', 'num']],
  ['nan', 2, ['equ', 'neu', 'ltu', 'leu', 'gtu', 'geu', 'nan']],
] as const) {
  test(`comparisons of ${left} and ${right}`, () => {
    const all = ['eq', 'ne', 'lt', 'le', 'gt', 'ge', 'equ', 'neu', 'ltu', 'leu', 'gtu', 'geu', 'num', 'nan'];
    const found = all.filter((name) =>
      evaluate('i32', (w) => {
        const p = w.value('compare', 'pred', [w.constant('f32', left), w.constant('f32', right)], { test: name });
        return w.value('select', 'i32', [p, w.constant('i32', 1), w.constant('i32', 0)]);
      }),
    );
    assert.deepEqual(found, holds);
  });
}

test('unpack gives the elements, low first', () => {
  const value = evaluate('u32', (w) => {
    const parts = w.emit('unpack', {
      args: [w.constant('u64', '0x1122334455667788')],
      types: ['u16', 'u16', 'u16', 'u16'],
    });
    return w.value('convert', 'u32', [parts.results[2]]);
  });
  assert.equal(value, 0x3344);
});

test('a NaN with a payload and 128 bits pass through registers as they are', () => {
  const w = new KernelWriter({ params: [tensor('x', 'b128'), tensor('y', 'b128')], threads: 1 });
  w.store(w.param(1), w.load(w.param(0), 'b128', { align: 16 }), { align: 16 });
  const x = Uint32Array.of(1, 0x7f812345, 0xffffffff, 0x80000000);
  const y = new Uint32Array(4);
  assert.deepEqual(kinds(simulate(w.kernel, { grid: [1, 1, 1], args: { x, y } })), []);
  assert.deepEqual(y, x);
  const v = new KernelWriter({ params: [tensor('x', 'f32'), tensor('y', 'f32')], threads: 1 });
  v.store(v.param(1), v.load(v.param(0), 'f32'));
  const [from, to] = [Float32Array.of(0), Uint32Array.of(0)];
  new Uint32Array(from.buffer)[0] = 0x7f812345;
  simulate(v.kernel, { grid: [1, 1, 1], args: { x: from, y: to } });
  assert.equal(to[0], 0x7f812345);
  assert.equal(f32Bits(1), 0x3f800000);
});
