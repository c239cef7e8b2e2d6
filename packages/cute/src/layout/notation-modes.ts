import * as algebra from './algebra.ts';
import { basisGet, basisValue, isBasis, type StrideLeaf } from './basis.ts';
import { ComposedLayout, isLayout, onDomain } from './composed.ts';
import { hasUnderscore } from './coord.ts';
import { LayoutError } from './error.ts';
import { Layout } from './layout.ts';
import { isDynamic } from './leaf.ts';
import { define, type NotationFunction } from './notation-define.ts';
import {
  asCoord,
  asInts,
  asLeaf,
  asNumber,
  asOrder,
  asPlain,
  isList,
  MajorName,
  type Value,
} from './notation-value.ts';
import { compactMajor, compactOrder } from './order.ts';
import { zipLayout } from './product.ts';
import { Swizzle } from './swizzle.ts';
import * as tuples from './tuple.ts';

/** A function that changes the modes of a layout, or in the same way those of a tuple. */
function onModes(
  usage: string,
  onLayout: (layout: Layout | ComposedLayout, ...args: readonly (Value | undefined)[]) => Value,
  onTuple: (tuple: tuples.Tuple<Value>, ...args: readonly (Value | undefined)[]) => Value,
): NotationFunction {
  return define(usage, (value, ...args) => (isLayout(value) ? onLayout(value, ...args) : onTuple(value!, ...args)));
}

const numbers = (args: readonly (Value | undefined)[]): number[] => args.map((arg) => asNumber(arg));
const optional = (value: Value | undefined): number | undefined => (value === undefined ? undefined : asNumber(value));

/** `append<N>(layout)` pads with modes 1:0; any other second argument is the mode to append. */
function appendTo(layout: Layout | ComposedLayout, item: Value | undefined, rank: Value | undefined): Value {
  if (typeof item === 'number' && rank === undefined) return algebra.append(layout, item);
  return algebra.append(layout, optional(rank), item === undefined ? undefined : asPlain(item));
}

function appendToTuple(tuple: tuples.Tuple<Value>, item: Value | undefined, rank: Value | undefined): Value {
  if (item === undefined) throw new LayoutError('append to a tuple needs the mode to append');
  return tuples.append<Value>(tuple, item, optional(rank));
}

/** Strides without gaps; the order stands anywhere after the shape. */
function compact(shape: Value | undefined, ...args: readonly (Value | undefined)[]): Value {
  const order = args.find((arg) => arg instanceof MajorName);
  const current = args.find((arg) => arg !== undefined && !(arg instanceof MajorName));
  return compactMajor(asInts(shape), current === undefined ? 1 : asInts(current), order?.major);
}

function asStep(value: Value | undefined): StrideLeaf {
  return isBasis(value) ? value : asLeaf(value);
}

function isStatic(value: Value): boolean {
  if (value instanceof Layout) return isStatic(value.shape) && isStatic(value.stride);
  if (value instanceof ComposedLayout) {
    return isStatic(value.inner) && isStatic(value.offset) && (value.outer instanceof Swizzle || isStatic(value.outer));
  }
  if (isBasis(value)) return isStatic(value.value);
  return isList(value) ? value.every((part) => isStatic(part)) : !isDynamic(value);
}

/** Functions of the modes of layouts and of tuples. */
export const MODE_FUNCTIONS: readonly NotationFunction[] = [
  onModes(
    'flatten(value)',
    (layout) => algebra.flattened(layout),
    (tuple) => tuples.flatten<Value>(tuple),
  ),
  onModes('append(value, [item, rank])', appendTo, appendToTuple),
  onModes(
    'group(value, begin, end)',
    (layout, begin, end) => algebra.groupModes(layout, asNumber(begin), asNumber(end)),
    (tuple, begin, end) => tuples.groupModes<Value>(tuple, asNumber(begin), asNumber(end)),
  ),
  onModes(
    'take(value, begin, end)',
    (layout, begin, end) => algebra.take(layout, asNumber(begin), asNumber(end)),
    (tuple, begin, end) => tuples.take<Value>(tuple, asNumber(begin), asNumber(end)),
  ),
  onModes(
    'select(value, modes...)',
    (layout, ...modes) => algebra.select(layout, ...numbers(modes)),
    (tuple, ...modes) => tuples.select<Value>(tuple, ...numbers(modes)),
  ),
  onModes(
    'zip(value, others...)',
    (layout) => onDomain(layout, zipLayout),
    (tuple, ...others) => tuples.zip<Value>(others.length === 0 ? tuple : [tuple, ...others.map((other) => other!)]),
  ),
  define('tuple_cat(tuples...)', (...all) => all.flatMap((tuple) => tuples.wrap<Value>(tuple!))),
  define('has_none(coord)', (coord) => hasUnderscore(asCoord(coord))),
  define('is_static(value)', (value) => isStatic(value!)),
  define('basis_get(basis, tuple)', (basis, tuple) => basisGet(asStep(basis), asInts(tuple)) as Value),
  define('basis_value(basis)', (basis) => basisValue(asStep(basis))),
  define('compact_major(shape, [current, major])', compact),
  define('compact_col_major(shape, [current])', compact),
  define('compact_row_major(shape, [current])', (shape, current) => compact(shape, current, new MajorName('right'))),
  define('compact_order(shape, order)', (shape, order) => compactOrder(asInts(shape), asOrder(order))),
];
