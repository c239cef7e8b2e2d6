import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { evaluateText } from '../src/layout/index.ts';

/** Expressions of random layouts and their values, which agree with the C++ templates; one `expression = value` a line. */
const cases = readFileSync(new URL('layout-cases.txt', import.meta.url), 'utf8')
  .trimEnd()
  .split('\n');

test('hundreds of expressions have the values of C++', () => {
  assert.ok(cases.length > 400);
  for (const line of cases) {
    const [expression, value] = line.split(' = ');
    assert.equal(evaluateText(expression), value, expression);
  }
});

const EXACT: readonly (readonly [expression: string, value: string])[] = [
  ['((8,8):(1,8))(3,4)', '35'],
  ['(8,8):(1,8)(_,3)', '(8):(1)'],
  ['(4,8):(?,1)', '(4,8):(?,1)'],
  ['(?{div=4},8):(8,1)', '(?{div=4},8):(8,1)'],
  ['(?{ i64 div=8 }):(1)', '(?{div=8}):(1)'],
  ['logical_divide((?{div=4},8):(8,1), <2:1,_>)', '((2,?{div=2}),8):((8,16),1)'],
  [
    'zipped_divide((?{div=128},?{div=64}):(?{div=64},1), (128,64))',
    '((128,64),(?,?)):((?{div=64},1),(?{div=8192},64))',
  ],
  ['coalesce((2,?):(1,2))', '(2,?):(1,2)'],
  ['complement(4:1, (4,?))', '?:4'],
  ['complement(4:?)', '(?,?):(1,?{div=4})'],
  ['Sw<3,4,3> o (8,64):(64,1)', 'S<3,4,3> o 0 o (8,64):(64,1)'],
  ['S<3,4,3>(128)', '144'],
  ['(_4,_8):(_1,_4)', '(4,8):(1,4)'],
  ['4@1@0', '4@1@0'],
  ['E<0,1>', '1@1@0'],
  ['make_identity_layout((4,8))(2,3)', '(2,3)'],
  ['make_layout((4,8), LayoutRight)', '(4,8):(8,1)'],
  ['make_layout(4:1, (2,3):(3,1))', '(4,(2,3)):(1,(3,1))'],
  ['make_ordered_layout((2,2,2,2), (0,2,3,1))', '(2,2,2,2):(1,4,8,2)'],
  ['composition(8:1 , 4)', '4:1'],
  ['(4,8):(1,4) o (2,2):(8,1)', '(2,2):(8,1)'],
  ['composition((4,6,8), <4:1, 3:2>)', '(4,3):(1,8)'],
  ['upcast<4>((8,3):(1,8))', '(2,3):(1,2)'],
  ['recast_layout<16,8>(S<3,3,3> o 0 o (8,64):(64,1))', 'S<3,4,3> o 0 o (8,128):(128,1)'],
  ['size<1>((4,(2,3)):(1,(4,8)))', '6'],
  ['get<1,0>((4,(2,3)):(1,(4,8)))', '2:4'],
  ['rank((4,(2,3)))', '2'],
  ['cosize((4,8):(1,5))', '39'],
  ['coshape(make_identity_layout((4,8)))', '(4,8)'],
  ['product((4,(2,3)))', '24'],
  ['shape_div((4,5,6), 40)', '(1,1,3)'],
  ['ceil_div((10,7), (4,2))', '(3,4)'],
  ['round_up((10,7), (4,2))', '(12,8)'],
  ['ceil_div(24, (4:2))', '(2,3)'],
  ['inner_product((2,3),(4,5))', '23'],
  ['prefix_product((2,3,4))', '(1,2,6)'],
  ['congruent((1,(2,3)), (4,(5,6)))', 'true'],
  ['compatible(24, (4,6))', 'true'],
  ['compatible((2,12), (4,6))', 'false'],
  ['evenly_divides((12,8), (3,4))', 'true'],
  ['elem_less((1,2),(2,2))', 'false'],
  ['lex_less((1,9),(2,0))', 'true'],
  ['colex_less((1,9),(2,0))', 'false'],
  ['gcd((12,18),30)', '6'],
  ['increment_coord((3,0),(4,2))', '(0,1)'],
  ['unflatten((1,2,3),(0,(0,0)))', '(1,(2,3))'],
  ['slice((_,(3,_)), (4,(5,6)))', '(4,6)'],
  ['idx2crd(17, (4,(2,3)))', '(1,(0,2))'],
  ['crd2crd((1,2),(4,6),24)', '9'],
  ['crd2crd(9,24,(8,3))', '(1,1)'],
  ['max_common_vector((4,8):(1,4), (4,8):(1,8))', '4'],
  // Modes of tuples stay tuples; template arguments stand last.
  ['flatten((2,(3,4)))', '(2,3,4)'],
  ['flatten((2,(3,4)):(1,(2,6)))', '(2,3,4):(1,2,6)'],
  ['take<1,3>((2,3,4))', '(3,4)'],
  ['select<2,0>((2,3,4))', '(4,2)'],
  ['group<0,2>((2,3,4))', '((2,3),4)'],
  ['append<3>((2,3),1)', '(2,3,1)'],
  ['append<3>((2,3):(1,2))', '(2,3,1):(1,2,0)'],
  ['append((2,3):(1,2), 4:6)', '(2,3,4):(1,2,6)'],
  ['replace<1>((2,3),9)', '(2,9)'],
  ['repeat<3>(2)', '(2,2,2)'],
  ['zip((1,2),(3,4))', '((1,3),(2,4))'],
  ['tuple_cat((1,2),(3))', '(1,2,3)'],
  ['has_none((1,_))', 'true'],
  ['is_static((4,8):(1,?))', 'false'],
  ['is_static(S<3,3,3> o 0 o (8,64):(64,1))', 'true'],
  ['basis_get(E<1,0>, (4,(8,9)))', '8'],
  ['basis_value(3@1)', '3'],
  ['compact_major<LayoutRight>((2,3,4))', '(12,4,1)'],
  ['compact_major((2,3,4), 2)', '(2,4,12)'],
  ['compact_row_major((2,3,4))', '(12,4,1)'],
  ['domain_offset((1,2), (4,8):(1,4))', '<(4,8):(1,4), 9>'],
  ['make_layout(Shape<_4,_8>, Stride<_1,_4>)', '(4,8):(1,4)'],
  ['local_tile((256,128):(128,1), (64,32,16), (1,2,3), Step<_1,_1,X>)', '<(64,32):(128,1), 8256>'],
  ['outer_partition((256,128):(128,1), (16,8), (5,3))', '<(16,16):(2048,8), 643>'],
  ['make_layout_image_mask((2,4):(1,2), (1,2), 1)', '170'],
  // Several coordinates of one CTA are one bit.
  ['make_layout_image_mask((2,4):(0,1), (1,2), 0)', '4'],
  ['transfer_swizzle<3,3,3>((8,64):(64,1), (8,128):(128,1))', 'S<3,3,4> o 0 o (8,128):(128,1)'],
  // Agree with the C++ templates.
  ['tile_to_mma_shape((8,64):(64,1), ((64,16),2,4,3))', '((64,16),2,4,(1,3)):((64,1),4096,16,(0,8192))'],
  ['tile_to_mma_shape((8,64):(64,1), ((64,16),2,8), Step<2,1>)', '(((8,8),16),2,(4,2)):(((64,1024),1),8192,(16,512))'],
];

for (const [expression, value] of EXACT) {
  test(`${expression} = ${value}`, () => assert.equal(evaluateText(expression), value));
}

const REFUSED: readonly (readonly [expression: string, reason: RegExp])[] = [
  ['', /column 1: a number, a tuple, a layout or a function is expected, not the end/],
  ['(8,8', /column 5: "," or "\)" is expected, not the end/],
  ['(8,8):(1)', /not congruent/],
  ['8:1 8:1', /column 5: nothing more is expected, not "8"/],
  ['#', /column 1: "#" has no meaning here/],
  ['foo(8:1)', /column 1: there is no function foo$/],
  ['logical_divid(8:1, 2)', /did you mean logical_divide\?/],
  ['coalesce()', /coalesce is called as coalesce\(layout, \[profile\]\); 0 arguments are given/],
  ['size()', /size is called as size\(value, path\.\.\.\)/],
  ['?{div=0}', /a divisor is a whole number of at least 1/],
  ['?{dv=4}', /an unknown is written \? or \?\{div=4\}/],
  ['S<3,4,2>', /the shift must be at least the number of bits/],
  ['S<3>', /a swizzle is written S<bits,base,shift>/],
  ['9007199254740993:1', /beyond 2\^53/],
  ['(9007199254740991,2):(1,9007199254740991)(5,3)', /beyond 2\^53/],
  ['composition(4:1, <2,2>)', /has more modes than 4:1/],
  ['complement((2,2):(1,1))', /not injective/],
  ['complement((2,?):(?,1), 8)', /all its strides must be known/],
  ['complement(make_identity_layout((4,8)))', /maps to coordinates/],
  ['left_inverse((2,2):(2,3))', /the stride 3 is not a positive multiple of 2/],
  ['left_inverse(4:?)', /dynamic stride/],
  ['upcast(6:3, 2)', /the stride 3 neither divides it nor is divided by it/],
  ['downcast((4,8):(2,8), 2)', /no mode of stride 1/],
  ['upcast(S<3,4,3> o 3 o 64:1, 2)', /the offset 3 of .* is not a multiple of it/],
  ['tile_to_shape(4:1, 6)', /the extent 4 of mode 0 .* does not divide 6/],
  ['shape_div(6, 4)', /neither divides the other/],
  ['composition((?,8):(8,1), 4)', /it is not known which of \? and 4 is smaller/],
  ['(4,8):(1,4)(-1)', /a coordinate is at least 0/],
  ['(4,8):(1,4)((1,2),3)', /does not fit/],
  ['get<2>((4,8):(1,4))', /there is no mode 2 in \(4,8\)/],
  [`${'('.repeat(100_000)}1`, /nested too deeply/],
  ['8:1 🙂', /column 5: "🙂" has no meaning here/],
  ['repeat(1, 1000000000)', /from 0 to 65536, not 1000000000/],
  ['repeat<-1>(1)', /from 0 to 65536, not -1/],
  ['append(1, 1, 1000000000)', /append takes a whole number of modes from 0 to 65536/],
  ['(4:1@500000000)(1)', /names modes below 65536, not 500000000/],
  ['make_layout_image_mask((8,4):(1,8), (1,2), 1)', /has 16 bits, and the CTA 17 has none/],
  ['tile_to_mma_shape((8,64):(64,1), (64,16))', /the shape is \(\(MmaM,MmaK\),RestM,RestK,\.\.\.\), not \(64,16\)/],
];

for (const [expression, reason] of REFUSED) {
  test(`${expression.slice(0, 60)} is refused`, () => assert.throws(() => evaluateText(expression), reason));
}
