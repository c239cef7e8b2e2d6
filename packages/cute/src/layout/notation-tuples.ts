import { LayoutError } from './error.ts';
import type { Leaf } from './leaf.ts';
import { define, type NotationFunction } from './notation-define.ts';
import { asInts, asLeaf, asNumber, type Value } from './notation-value.ts';
import * as math from './tuple-math.ts';
import * as tuples from './tuple.ts';

/** Functions of tuples of whole numbers. */
export const TUPLE_FUNCTIONS: readonly NotationFunction[] = [
  define('make_tuple(values...)', (...values) => values as readonly Value[]),
  define('product(tuple)', (tuple) => tuples.product(asInts(tuple))),
  define('product_each(tuple)', (tuple) => tuples.productEach(asInts(tuple))),
  define('product_like(tuple, guide)', (tuple, guide) => tuples.productLike(asInts(tuple), asInts(guide))),
  define('sum(tuple)', (tuple) => tuples.sum(asInts(tuple))),
  define('inner_product(a, b)', (a, b) => tuples.innerProduct(asInts(a), asInts(b))),
  define('elem_scale(a, b)', (a, b) => math.elemScale(asInts(a), asInts(b))),
  define('shape_div(a, b)', (a, b) => math.shapeDiv(asInts(a), asInts(b))),
  define('round_up(a, b)', (a, b) => math.roundUp(asInts(a), asInts(b))),
  define('prefix_product(tuple, [start])', (tuple, start) =>
    math.prefixProduct(asInts(tuple), start === undefined ? 1 : asLeaf(start)),
  ),
  define('min(tuples...)', (...all) => math.minOf(...some('min', all).map((tuple) => asInts(tuple)))),
  define('max(tuples...)', (...all) => math.maxOf(...some('max', all).map((tuple) => asInts(tuple)))),
  define('gcd(tuples...)', (...all) => math.gcdOf(...some('gcd', all).map((tuple) => asInts(tuple)))),
  define('congruent(a, b)', (a, b) => math.congruent(asInts(a), asInts(b))),
  define('weakly_congruent(a, b)', (a, b) => math.weaklyCongruent(asInts(a), asInts(b))),
  define('compatible(a, b)', (a, b) => math.compatible(asInts(a), asInts(b))),
  define('evenly_divides(shape, tiler)', (shape, tiler) => math.evenlyDivides(asInts(shape), asInts(tiler))),
  define('elem_less(a, b)', (a, b) => math.elemLess(asInts(a), asInts(b))),
  define('lex_less(a, b)', (a, b) => math.lexLess(asInts(a), asInts(b))),
  define('colex_less(a, b)', (a, b) => math.colexLess(asInts(a), asInts(b))),
  define('find(tuple, value)', (tuple, value) => math.find(asInts(tuple), asLeaf(value))),
  define('increment_coord(coord, shape)', (coord, shape) => {
    const next = math.incrementCoord(asInts(coord), asInts(shape));
    if (next === undefined) throw new LayoutError('increment_coord: this is the last coordinate');
    return next;
  }),
  define('unflatten(tuple, profile)', (tuple, profile) => tuples.unflatten<Leaf>(asInts(tuple), asInts(profile))),
  define('wrap(tuple)', (tuple) => tuples.wrap<Leaf>(asInts(tuple))),
  define('unwrap(tuple)', (tuple) => tuples.unwrap<Leaf>(asInts(tuple))),
  define('repeat(value, count)', (value, count) => tuples.repeat<Leaf>(asNumber(count), asInts(value))),
  define('repeat_like(tuple, value)', (tuple, value) => tuples.repeatLike<Leaf>(asInts(tuple), asLeaf(value))),
  define('prepend(tuple, value, [rank])', (tuple, value, rank) =>
    tuples.prepend<Leaf>(asInts(tuple), asInts(value), rank === undefined ? undefined : asNumber(rank)),
  ),
  define('replace(tuple, value, mode)', (tuple, value, mode) =>
    tuples.replace<Leaf>(asInts(tuple), asNumber(mode), asInts(value)),
  ),
];

function some(name: string, values: readonly (Value | undefined)[]): readonly (Value | undefined)[] {
  if (values.length === 0) throw new LayoutError(`${name} needs an argument at least`);
  return values;
}
