import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  Swizzle,
  Unknown,
  composition,
  drawValue,
  evaluate,
  makeIdentityLayout,
  makeLayout,
  print,
  toSVG,
  toSVGThreadValues,
} from '../src/layout/index.ts';

test('a table of indices', () => {
  assert.equal(
    print(makeLayout([2, 3], [10, 1])),
    [
      '(2,3):(10,1)',
      '       0    1    2 ',
      '    +----+----+----+',
      ' 0  |  0 |  1 |  2 |',
      '    +----+----+----+',
      ' 1  | 10 | 11 | 12 |',
      '    +----+----+----+',
      '',
    ].join('\n'),
  );
  assert.match(print(composition(new Swizzle(1, 0, 1), makeLayout([2, 2], 'right'))), / 1 {2}\| 3 \| 2 \|/);
  assert.match(print(makeIdentityLayout([2, 2])), /\(1,1\)/);
  assert.throws(() => print(makeLayout([2, 2, 2])), /has 3 modes; a table has two/);
  assert.throws(() => print(makeLayout([new Unknown(), 2])), /has a dynamic extent/);
});

function cells(svg: string): number {
  return [...svg.matchAll(/<rect x=/g)].length;
}

test('a picture has one coloured cell for each index', () => {
  const svg = toSVG(composition(new Swizzle(2, 0, 2), makeLayout([4, 4], 'right')));
  assert.match(svg, /^<svg xmlns="http:\/\/www.w3.org\/2000\/svg" /);
  assert.match(svg, /<title>S&lt;2,0,2&gt; o 0 o \(4,4\):\(4,1\)<\/title>/);
  assert.equal(cells(svg), 16);
  assert.ok(svg.endsWith('</svg>\n'));
  assert.equal(new Set([...svg.matchAll(/fill="(#\w+)" stroke/g)].map((match) => match[1])).size, 8);
  assert.throws(() => toSVG(makeLayout([1024, 1024])), /too large; 65536 cells at most/);
});

test('a thread-value picture names threads and values, and leaves white what nobody holds', () => {
  const half = toSVGThreadValues(makeLayout([2, 2], [1, 4]), [2, 4]);
  assert.equal(cells(half), 8);
  assert.equal([...half.matchAll(/fill="#ffffff" stroke/g)].length, 4);
  assert.equal([...half.matchAll(/>T1</g)].length, 2);
  const shared = toSVGThreadValues(makeLayout([2, 2], [0, 1]), [1, 2]);
  assert.match(shared, />T0\+</);
  const byCoordinate = toSVGThreadValues(composition(makeIdentityLayout([2, 4]), makeLayout([2, 2], [1, 4])), [2, 4]);
  // The titles differ, and with them the widths of the pictures.
  const grid = (svg: string): string => svg.slice(svg.indexOf('<text x="43"'));
  assert.equal(grid(byCoordinate), grid(half));
  assert.throws(() => toSVGThreadValues(makeLayout([2, 4]), [2, 2]), /thread 0, value 2 of .* lies outside 2 x 2/);
});

test('values of the notation that are no layouts have no picture', () => {
  assert.match(drawValue(evaluate('make_layout_tv((2,2):(2,1), (1,2):(0,1))')), />T3</);
  assert.throws(() => drawValue(evaluate('(2,3)')), /only layouts can be drawn, not \(2,3\)/);
});

test('what is too large to look at is refused before it is computed', () => {
  const large = makeLayout([100_000, 100_000]);
  assert.throws(() => print(large), /a table of 100000 x 100000 cells is too large/);
  assert.throws(() => toSVG(large), /a picture of 100000 x 100000 cells/);
  assert.throws(() => toSVGThreadValues(makeLayout([100_000, 100_000], [0, 0]), [1, 1]), /threads and values/);
});

test('the title and the widest label of a picture fit', () => {
  const width = (svg: string): number => Number(/width="(\d+)"/.exec(svg)?.[1]);
  const cell = (svg: string): number => Number(/<rect x="\d+" y="\d+" width="(\d+)"/.exec(svg)?.[1]);
  const long = toSVG(makeLayout([[2, 2, 2, 2, 2, 2]], [[1, 2, 4, 8, 16, 32]]));
  assert.ok(width(long) >= 6 * '((2,2,2,2,2,2)):((1,2,4,8,16,32))'.length);
  assert.ok(cell(toSVG(makeLayout([2, 2], [1, 100_000_000]))) >= 6 * '100000001'.length);
  assert.equal(cell(long), 34);
});
