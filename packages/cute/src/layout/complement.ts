import { ceilDivLeaf, divLeaf, mulLeaf } from './arithmetic.ts';
import { isBasis } from './basis.ts';
import { coalesce, coalesceShape, filter } from './coalesce.ts';
import { LayoutError } from './error.ts';
import { Layout, cosize, makeLayout } from './layout.ts';
import { isDynamic, type Leaf } from './leaf.ts';
import { compactMajor } from './order.ts';
import { isTuple, leavesOf, wrap, type IntTuple } from './tuple.ts';

/** `ceil_div` of tuples: mode by mode; a number is used up from the first mode on. */
export function ceilDiv(a: IntTuple, b: IntTuple): IntTuple {
  if (!isTuple(a)) return isTuple(b) ? ceilDivLeaf(a, productOf(b)) : ceilDivLeaf(a, b);
  if (isTuple(b)) {
    if (b.length > a.length) throw new LayoutError('ceil_div: the divisor has more modes than what it divides');
    return a.map((mode, i) => ceilDiv(mode, i < b.length ? b[i] : 1));
  }
  let rest: Leaf = b;
  return a.map((mode) => {
    const quotient = ceilDiv(mode, rest);
    rest = ceilDivLeaf(rest, productOf(mode));
    return quotient;
  });
}

function productOf(tuple: IntTuple): Leaf {
  return leavesOf(tuple).reduce<Leaf>((all, leaf) => mulLeaf(all, leaf), 1);
}

/**
 * The layout that reaches what `layout` leaves out: `(layout, complement)` covers `cotarget`, a size or a shape whose
 * known and dynamic parts stay apart (default: the cosize of the layout). Its strides ascend and it shares only index 0
 * with the layout. Throws unless the layout is injective and its strides are known (one mode may be dynamic).
 */
export function complement(layout: Layout, cotarget?: IntTuple): Layout {
  if (leavesOf(layout.stride).some((stride) => isBasis(stride))) {
    throw new LayoutError(`complement: ${String(layout)} maps to coordinates; only plain strides have a complement`);
  }
  const filtered = filter(layout);
  const target = cotarget ?? cosize(filtered);
  const extents = wrap(filtered.shape) as readonly Leaf[];
  const strides = wrap(filtered.stride) as readonly Leaf[];
  if (strides.length === 1 && strides[0] === 0) return makeLayout(coalesceShape(target));
  if (strides.length > 1 && strides.some((stride) => isDynamic(stride))) {
    throw new LayoutError(`complement: ${String(layout)} has more than one mode, so all its strides must be known`);
  }
  const order = [...strides.keys()];
  if (strides.length > 1) order.sort((i, j) => (strides[i] as number) - (strides[j] as number));
  const shape: Leaf[] = [];
  const stride: Leaf[] = [];
  let reached: Leaf = 1;
  for (const i of order) {
    const step = strides[i];
    const gap = typeof step === 'number' && step < 0 ? 0 : divLeaf(step, reached);
    if (gap === 0) {
      throw new LayoutError(`complement: ${String(layout)} is not injective: several coordinates share an index`);
    }
    shape.push(gap);
    stride.push(reached);
    reached = mulLeaf(step, extents[i]);
  }
  const rest = coalesceShape(ceilDiv(target, reached));
  return coalesce(new Layout([shape, rest], [stride, compactMajor(rest, reached)]));
}
