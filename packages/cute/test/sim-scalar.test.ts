import assert from 'node:assert/strict';
import test from 'node:test';
import type { Value } from '../src/ir/ir.ts';
import { simulate } from '../src/sim/simulate.ts';
import type { TypeName } from '../src/types/dtype.ts';
import { f32Bits } from '../src/types/numeric.ts';
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

const CASES: [string, TypeName, [TypeName, number | string][], Number, Record<string, number | string | boolean>?][] = [
  [
    'add',
    'i32',
    [
      ['i32', 2147483647],
      ['i32', 1],
    ],
    -2147483648,
  ],
  [
    'add',
    'u32',
    [
      ['u32', 4294967295],
      ['u32', 2],
    ],
    1,
  ],
  [
    'add',
    'i64',
    [
      ['i64', '9223372036854775807'],
      ['i64', 1],
    ],
    -(2n ** 63n),
  ],
  [
    'sub',
    'u64',
    [
      ['u64', 0],
      ['u64', 1],
    ],
    2n ** 64n - 1n,
  ],
  [
    'add',
    'i16',
    [
      ['i16', 32767],
      ['i16', 1],
    ],
    -32768,
  ],
  [
    'add',
    'f32',
    [
      ['f32', 16777216],
      ['f32', 1],
    ],
    16777216,
  ],
  [
    'mul',
    'i32',
    [
      ['i32', 123456789],
      ['i32', 987654321],
    ],
    Math.imul(123456789, 987654321),
  ],
  [
    'mul',
    'u64',
    [
      ['u64', '18446744073709551615'],
      ['u64', 3],
    ],
    2n ** 64n - 3n,
  ],
  [
    'mul',
    'bf16',
    [
      ['bf16', 1.0078125],
      ['bf16', 1.0078125],
    ],
    0x3f82,
  ],
  [
    'add',
    'f16',
    [
      ['f16', 2048],
      ['f16', 1],
    ],
    0x6800,
  ],
  [
    'fma',
    'f32',
    [
      ['f32', 1 + 2 ** -23],
      ['f32', 2 ** -24],
      ['f32', 1],
    ],
    1 + 2 ** -23,
  ],
  [
    'fma',
    'f16',
    [
      ['f16', 1.0009765625],
      ['f16', 1.0009765625],
      ['f16', -1.001953125],
    ],
    0x10,
  ],
  [
    'mad',
    'i32',
    [
      ['i32', 7],
      ['i32', -8],
      ['i32', 5],
    ],
    -51,
  ],
  [
    'div',
    'i32',
    [
      ['i32', -7],
      ['i32', 2],
    ],
    -3,
  ],
  [
    'div',
    'i32',
    [
      ['i32', -2147483648],
      ['i32', -1],
    ],
    -2147483648,
  ],
  [
    'div',
    'u32',
    [
      ['u32', 4294967295],
      ['u32', 2],
    ],
    2147483647,
  ],
  [
    'div',
    'f32',
    [
      ['f32', 1],
      ['f32', 3],
    ],
    Math.fround(1 / 3),
  ],
  [
    'div',
    'i64',
    [
      ['i64', '-9000000000000000000'],
      ['i64', 7],
    ],
    -9000000000000000000n / 7n,
  ],
  [
    'rem',
    'i32',
    [
      ['i32', -7],
      ['i32', 2],
    ],
    -1,
  ],
  [
    'rem',
    'u64',
    [
      ['u64', '18446744073709551615'],
      ['u64', 10],
    ],
    5n,
  ],
  [
    'min',
    'f32',
    [
      ['f32', 'nan'],
      ['f32', 2],
    ],
    2,
  ],
  [
    'min',
    'f32',
    [
      ['f32', 'nan'],
      ['f32', 2],
    ],
    NaN,
    { nan: true },
  ],
  [
    'max',
    'u32',
    [
      ['u32', 4294967295],
      ['u32', 1],
    ],
    4294967295,
  ],
  [
    'min',
    'i32',
    [
      ['i32', -1],
      ['i32', 1],
    ],
    -1,
  ],
  [
    'max',
    'bf16',
    [
      ['bf16', -2],
      ['bf16', 1],
    ],
    0x3f80,
  ],
  ['neg', 'f32', [['f32', 0]], -0],
  ['neg', 'bf16', [['bf16', 1]], 0xbf80],
  ['abs', 'i32', [['i32', -5]], 5],
  [
    'mulhi',
    'i32',
    [
      ['i32', -2147483648],
      ['i32', 2],
    ],
    -1,
  ],
  [
    'mulhi',
    'u32',
    [
      ['u32', 4294967295],
      ['u32', 4294967295],
    ],
    4294967294,
  ],
  [
    'mulhi',
    'u64',
    [
      ['u64', '18446744073709551615'],
      ['u64', 2],
    ],
    1n,
  ],
  [
    'mulwide',
    'i64',
    [
      ['i32', -2147483648],
      ['i32', 2147483647],
    ],
    -2147483648n * 2147483647n,
  ],
  [
    'mulwide',
    'u64',
    [
      ['u32', 4294967295],
      ['u32', 4294967295],
    ],
    4294967295n * 4294967295n,
  ],
  [
    'and',
    'b32',
    [
      ['b32', 0xff00ff00],
      ['b32', 0x0ff00ff0],
    ],
    0x0f000f00,
  ],
  [
    'xor',
    'u64',
    [
      ['u64', 5],
      ['u64', 3],
    ],
    6n,
  ],
  ['not', 'u32', [['u32', 0]], 4294967295],
  [
    'shl',
    'i32',
    [
      ['i32', 1],
      ['i32', 31],
    ],
    -2147483648,
  ],
  [
    'shl',
    'i32',
    [
      ['i32', 1],
      ['i32', 32],
    ],
    0,
  ],
  [
    'shr',
    'i32',
    [
      ['i32', -8],
      ['i32', 1],
    ],
    -4,
  ],
  [
    'shr',
    'i32',
    [
      ['i32', -8],
      ['i32', 40],
    ],
    -1,
  ],
  [
    'shr',
    'u32',
    [
      ['u32', 0x80000000],
      ['u32', 31],
    ],
    1,
  ],
  [
    'shl',
    'u64',
    [
      ['u64', 1],
      ['u32', 63],
    ],
    2n ** 63n,
  ],
  [
    'shr',
    'i64',
    [
      ['i64', -16],
      ['u32', 2],
    ],
    -4n,
  ],
  [
    'bfe',
    'u32',
    [
      ['u32', 0xabcdef12],
      ['u32', 8],
      ['u32', 8],
    ],
    0xef,
  ],
  [
    'bfe',
    'i32',
    [
      ['i32', 0xf0],
      ['i32', 4],
      ['i32', 4],
    ],
    -1,
  ],
  [
    'bfi',
    'b32',
    [
      ['b32', 0xf],
      ['b32', 0],
      ['i32', 8],
      ['i32', 4],
    ],
    0xf00,
  ],
  [
    'prmt',
    'b32',
    [
      ['b32', 0x33221100],
      ['b32', 0x77665544],
      ['b32', 0x7531],
    ],
    0x77553311,
  ],
  [
    'lop3',
    'b32',
    [
      ['b32', 0xf0f0],
      ['b32', 0xff00],
      ['b32', 0xaaaa],
    ],
    (0xf0f0 & 0xff00) ^ 0xaaaa,
    { lut: 0x6a },
  ],
  [
    'shf',
    'u32',
    [
      ['u32', 0x11223344],
      ['u32', 0x55667788],
      ['u32', 8],
    ],
    0x66778811,
    { direction: 'l', mode: 'wrap' },
  ],
  [
    'shf',
    'u32',
    [
      ['u32', 0x11223344],
      ['u32', 0x55667788],
      ['u32', 8],
    ],
    0x88112233,
    { direction: 'r', mode: 'clamp' },
  ],
  ['popc', 'u32', [['u32', 0xf0f0]], 8],
  ['popc', 'u32', [['u64', '18446744073709551615']], 64],
  ['clz', 'u32', [['u32', 1]], 31],
  ['clz', 'u32', [['u64', 1]], 63],
  ['brev', 'u32', [['u32', 1]], 0x80000000],
  [
    'dp4a',
    'i32',
    [
      ['b32', 0xff020304],
      ['b32', 0x01010101],
      ['i32', 10],
    ],
    18,
    { signs: 'ss' },
  ],
  [
    'dp4a',
    'u32',
    [
      ['b32', 0xff020304],
      ['b32', 0x01010101],
      ['u32', 10],
    ],
    274,
    { signs: 'uu' },
  ],
  ['convert', 'bf16', [['f32', 1 + 2 ** -8]], 0x3f80],
  ['convert', 'bf16', [['f32', 1 + 2 ** -8]], 0x3f81, { round: 'rp' }],
  ['convert', 'f32', [['bf16', -1.5]], -1.5],
  ['convert', 'f32', [['e4m3', 448]], 448],
  ['convert', 'e4m3', [['f32', 1000]], 0x7e],
  ['convert', 'e5m2', [['f32', -1e9]], 0xfb],
  ['convert', 'f16', [['f32', 1e9]], 0x7c00],
  ['convert', 'f16', [['f32', 1e9]], 0x7bff, { saturate: true }],
  ['convert', 'f16', [['f32', -3]], 0, { relu: true }],
  ['convert', 'i32', [['f32', -2.7]], -2],
  ['convert', 'i32', [['f32', 2.5]], 2, { round: 'rn' }],
  ['convert', 'i32', [['f32', 3e9]], 2147483647],
  ['convert', 'u8', [['f32', 300]], 255],
  ['convert', 'u32', [['f32', -3]], 0],
  ['convert', 'i64', [['f32', 'nan']], -(2n ** 63n)],
  ['convert', 'f32', [['i64', '9007199791611905']], Math.fround(9007200328482816)],
  ['convert', 'f32', [['u32', 4294967295]], 4294967296],
  ['convert', 'bf16', [['i32', 257]], 0x4380],
  ['convert', 'i64', [['i32', -5]], -5n],
  ['convert', 'u64', [['u32', 4294967295]], 4294967295n],
  ['convert', 'i8', [['i32', 200]], -56],
  ['convert', 'i8', [['i32', 200]], 127, { saturate: true }],
  ['convert', 'u32', [['i64', -1]], 4294967295],
  ['convert', 'f64', [['f32', 0.1]], Math.fround(0.1)],
  ['convert', 'f32', [['f64', 0.1]], Math.fround(0.1)],
  [
    'convert',
    'bf16x2',
    [
      ['f32', 1],
      ['f32', -2],
    ],
    0xc0003f80,
  ],
  [
    'convert',
    'e4m3x2',
    [
      ['f32', 1],
      ['f32', 1000],
    ],
    0x7e38,
  ],
  ['convert', 'f16x2', [['e4m3x2', 0x7e38]], 0x5f003c00],
  ['bitcast', 'u32', [['f32', 1]], 0x3f800000],
  ['bitcast', 'f32', [['u32', 0xc0000000]], -2],
  ['bitcast', 'u64', [['f64', 1]], 0x3ff0000000000000n],
  [
    'pack',
    'bf16x2',
    [
      ['bf16', 1],
      ['bf16', 2],
    ],
    0x40003f80,
  ],
  [
    'pack',
    'u64',
    [
      ['u32', 1],
      ['u32', 2],
    ],
    0x200000001n,
  ],
  [
    'pack',
    'b32',
    [
      ['u8', 1],
      ['u8', 2],
      ['u8', 3],
      ['u8', 255],
    ],
    0xff030201,
  ],
  ['approx', 'f32', [['f32', 3]], 8, { function: 'ex2' }],
  ['approx', 'f32', [['f32', 4]], 0.5, { function: 'rsqrt' }],
  ['approx', 'f32', [['f32', 2 ** -140]], -Infinity, { function: 'lg2' }],
  ['approx', 'f32', [['f32', -130]], 0, { function: 'ex2' }],
  ['sqrt', 'f32', [['f32', 2]], Math.fround(Math.SQRT2)],
  ['rcp', 'f32', [['f32', 3]], Math.fround(1 / 3)],
  ['descriptor_add', 'u64', [['u64', 5]], 7n, { bytes: 32 }],
  [
    'add',
    'bf16x2',
    [
      ['bf16x2', 0x3f803f80],
      ['bf16x2', 0x40003f80],
    ],
    0x40404000,
  ],
  [
    'fma',
    'f16x2',
    [
      ['f16x2', 0x3c003c00],
      ['f16x2', 0x40003c00],
      ['f16x2', 0x3c003c00],
    ],
    0x42004000,
  ],
];

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
