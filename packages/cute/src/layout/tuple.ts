import { addLeaf, mulLeaf } from './arithmetic.ts';
import { LayoutError } from './error.ts';
import type { Leaf } from './leaf.ts';

/** Something, or a tuple of such, to any depth. */
export type Tuple<T> = T | readonly Tuple<T>[];

/** Extents, coordinates and plain strides: a whole number, or a tuple of them. */
export type IntTuple = Tuple<Leaf>;

/** Keeps a mode where a coordinate is asked for: `slice([_, 3], layout)`. */
export const _: unique symbol = Symbol('_');
export type Underscore = typeof _;

/** A coordinate that may leave modes open. */
export type Coord = Tuple<Leaf | Underscore>;

export function isTuple<T>(tuple: Tuple<T>): tuple is readonly Tuple<T>[] {
  return Array.isArray(tuple);
}

/** A leaf as a tuple of one. */
export function wrap<T>(tuple: Tuple<T>): readonly Tuple<T>[] {
  return isTuple(tuple) ? tuple : [tuple];
}

/** The inverse of `wrap` where there is only one mode. */
export function unwrap<T>(tuple: Tuple<T>): Tuple<T> {
  return isTuple(tuple) && tuple.length === 1 ? unwrap(tuple[0]) : tuple;
}

/** Number of modes; 1 for a leaf. */
export function rankOf(tuple: Tuple<unknown>): number {
  return Array.isArray(tuple) ? tuple.length : 1;
}

/** 0 for a leaf, 1 for a flat tuple. */
export function depthOf(tuple: Tuple<unknown>): number {
  if (!Array.isArray(tuple)) return 0;
  return 1 + tuple.reduce<number>((deepest, mode) => Math.max(deepest, depthOf(mode)), 0);
}

/** Product of all leaves; 1 for `()`. */
export function product(tuple: IntTuple): Leaf {
  return isTuple(tuple) ? tuple.reduce<Leaf>((all, mode) => mulLeaf(all, product(mode)), 1) : tuple;
}

export function productEach(tuple: IntTuple): readonly Leaf[] {
  return wrap(tuple).map(product);
}

/** The product of each part of `tuple` that stands at a leaf of `guide`. */
export function productLike(tuple: IntTuple, guide: Tuple<unknown>): IntTuple {
  return zipWithProfile(guide, tuple, product);
}

export function sum(tuple: IntTuple): Leaf {
  return isTuple(tuple) ? tuple.reduce<Leaf>((all, mode) => addLeaf(all, sum(mode)), 0) : tuple;
}

export function innerProduct(a: IntTuple, b: IntTuple): Leaf {
  if (!isTuple(a) && !isTuple(b)) return mulLeaf(a, b);
  const [left, right] = sameRank('inner_product', a, b);
  return left.reduce<Leaf>((all, mode, i) => addLeaf(all, innerProduct(mode, right[i])), 0);
}

/** All leaves from left to right. */
export function leavesOf<T>(tuple: Tuple<T>): T[] {
  return isTuple(tuple) ? tuple.flatMap((mode) => leavesOf(mode)) : [tuple];
}

/** A leaf stays one, a tuple becomes flat. */
export function flatten<T>(tuple: Tuple<T>): Tuple<T> {
  return isTuple(tuple) ? leavesOf(tuple) : tuple;
}

/** Folds flat leaves into the profile of `target`. */
export function unflatten<T>(flat: Tuple<T>, target: Tuple<unknown>): Tuple<T> {
  const leaves = wrap(flat);
  let next = 0;
  const fold = (profile: Tuple<unknown>): Tuple<T> => {
    if (Array.isArray(profile)) return profile.map((mode) => fold(mode));
    next += 1;
    return leaves[next - 1];
  };
  const result = fold(target);
  if (next !== leaves.length) {
    throw new LayoutError(`${leaves.length} leaves do not fold into a profile of ${next}`);
  }
  return result;
}

export function mapLeaves<T, U>(tuple: Tuple<T>, change: (leaf: T) => Tuple<U>): Tuple<U> {
  return isTuple(tuple) ? tuple.map((mode) => mapLeaves(mode, change)) : change(tuple);
}

/** Applies `change` to the parts of `tuple` that stand at the leaves of `profile`. */
export function zipWithProfile<T, U>(
  profile: Tuple<unknown>,
  tuple: Tuple<T>,
  change: (part: Tuple<T>) => Tuple<U>,
): Tuple<U> {
  if (!Array.isArray(profile)) return change(tuple);
  const modes = wrap(tuple);
  if (modes.length !== profile.length) {
    throw new LayoutError(`${tupleText(tuple)} does not have the ${profile.length} modes of ${tupleText(profile)}`);
  }
  return profile.map((part, i) => zipWithProfile(part, modes[i], change));
}

/** `leaf` in the profile of `tuple`. */
export function repeatLike<T>(tuple: Tuple<unknown>, leaf: T): Tuple<T> {
  return Array.isArray(tuple) ? tuple.map((mode) => repeatLike(mode, leaf)) : leaf;
}

/** Tuples of more modes than this are a slip, and would fill the memory. */
export const MOST_MODES = 65_536;

function checkCount(name: string, count: number): void {
  if (Number.isSafeInteger(count) && count >= 0 && count <= MOST_MODES) return;
  throw new LayoutError(`${name} takes a whole number of modes from 0 to ${MOST_MODES}, not ${count}`);
}

/** `count` times `item`; one is the item itself, as in CuTe. */
export function repeat<T>(count: number, item: Tuple<T>): Tuple<T> {
  checkCount('repeat', count);
  return count === 1 ? item : new Array<Tuple<T>>(count).fill(item);
}

/** Appends modes until there are `rank`; without `rank` appends one. */
export function append<T>(tuple: Tuple<T>, item: Tuple<T>, rank: number = rankOf(tuple) + 1): Tuple<T> {
  return pad('append', tuple, item, rank, (modes, rest) => [...modes, ...rest]);
}

export function prepend<T>(tuple: Tuple<T>, item: Tuple<T>, rank: number = rankOf(tuple) + 1): Tuple<T> {
  return pad('prepend', tuple, item, rank, (modes, rest) => [...rest, ...modes]);
}

function pad<T>(
  name: string,
  tuple: Tuple<T>,
  item: Tuple<T>,
  rank: number,
  join: (modes: readonly Tuple<T>[], rest: readonly Tuple<T>[]) => Tuple<T>,
): Tuple<T> {
  checkCount(name, rank);
  const missing = rank - rankOf(tuple);
  if (missing < 0) throw new LayoutError(`${name} to ${rank} modes: ${tupleText(tuple)} has ${rankOf(tuple)} already`);
  return missing === 0 ? tuple : join(wrap(tuple), new Array<Tuple<T>>(missing).fill(item));
}

/** Mode `index` replaced by `item`. */
export function replace<T>(tuple: Tuple<T>, index: number, item: Tuple<T>): Tuple<T> {
  checkMode(tuple, index);
  return isTuple(tuple) ? tuple.with(index, item) : item;
}

/** The mode reached by going into `path`, outermost first. */
export function get<T>(tuple: Tuple<T>, ...path: number[]): Tuple<T> {
  return path.reduce<Tuple<T>>((part, index) => {
    checkMode(part, index);
    return wrap(part)[index];
  }, tuple);
}

/** Modes `begin` (included) to `end` (excluded), always as a tuple. */
export function take<T>(tuple: Tuple<T>, begin: number, end: number): readonly Tuple<T>[] {
  if (begin < 0 || end > rankOf(tuple) || begin >= end) {
    throw new LayoutError(`modes ${begin} to ${end} cannot be taken from ${tupleText(tuple)}`);
  }
  return wrap(tuple).slice(begin, end);
}

export function select<T>(tuple: Tuple<T>, ...modes: number[]): readonly Tuple<T>[] {
  return modes.map((mode) => get(tuple, mode));
}

/** Modes `begin` to `end` become one mode. */
export function groupModes<T>(tuple: Tuple<T>, begin: number, end: number): Tuple<T> {
  const modes = wrap(tuple);
  if (begin < 0 || end > modes.length || begin > end) {
    throw new LayoutError(`modes ${begin} to ${end} of ${tupleText(tuple)} cannot be grouped`);
  }
  return begin === end ? tuple : [...modes.slice(0, begin), modes.slice(begin, end), ...modes.slice(end)];
}

/** `((a,b),(c,d))` becomes `((a,c),(b,d))`. */
export function zip<T>(tuples: Tuple<T>): Tuple<T> {
  if (!isTuple(tuples)) throw new LayoutError(`zip is for a tuple of tuples, not ${tupleText(tuples)}`);
  const first = tuples[0];
  if (first === undefined || !isTuple(first)) return [tuples];
  for (const other of tuples) {
    if (!isTuple(other) || other.length !== first.length) {
      throw new LayoutError(`zip: the modes of ${tupleText(tuples)} do not have one rank`);
    }
  }
  return first.map((_mode, i) => tuples.map((tuple) => (tuple as readonly Tuple<T>[])[i]));
}

/**
 * Follows `guide`: where it has a leaf, `tuple` has a pair (tile, rest). Gathers all tiles in mode 0 and all rests in
 * mode 1; modes of `tuple` that `guide` lacks join the rests.
 */
export function zip2By<T>(tuple: Tuple<T>, guide: Tuple<unknown>): readonly [Tuple<T>, Tuple<T>] {
  if (!Array.isArray(guide)) {
    if (!isTuple(tuple) || tuple.length !== 2)
      throw new LayoutError(`${tupleText(tuple)} is not a pair of tile and rest`);
    return [tuple[0], tuple[1]];
  }
  const modes = wrap(tuple);
  if (modes.length < guide.length) throw new LayoutError(`${tupleText(tuple)} has fewer modes than its tiler`);
  const pairs = guide.map((part, i) => zip2By(modes[i], part));
  return [pairs.map((pair) => pair[0]), [...pairs.map((pair) => pair[1]), ...modes.slice(guide.length)]];
}

export function checkMode(tuple: Tuple<unknown>, index: number): void {
  if (!Number.isSafeInteger(index) || index < 0 || index >= rankOf(tuple)) {
    throw new LayoutError(`there is no mode ${index} in ${tupleText(tuple)}, which has ${rankOf(tuple)}`);
  }
}

export function sameRank<T, U>(name: string, a: Tuple<T>, b: Tuple<U>): [readonly Tuple<T>[], readonly Tuple<U>[]] {
  if (!isTuple(a) || !isTuple(b) || a.length !== b.length) {
    throw new LayoutError(`${name}: ${tupleText(a)} and ${tupleText(b)} do not have the same modes`);
  }
  return [a, b];
}

/** As CuTe prints: `(2,(3,_))`. */
export function tupleText(tuple: Tuple<unknown>): string {
  if (Array.isArray(tuple)) return `(${tuple.map((mode) => tupleText(mode)).join(',')})`;
  return tuple === _ ? '_' : String(tuple);
}
