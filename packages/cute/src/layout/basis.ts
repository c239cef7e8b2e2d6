import { addLeaf, mulLeaf, sameLeaf } from './arithmetic.ts';
import { LayoutError } from './error.ts';
import type { Leaf } from './leaf.ts';
import { MOST_MODES, isTuple, tupleText, type IntTuple } from './tuple.ts';

/**
 * A stride that lands in one mode of a coordinate: `value` times the unit vector of mode `modes` (outermost first).
 * Printed as CuTe does, innermost mode first: `E(0, 1)` is `1@1@0` and stands for `((0,1),0,...)`.
 */
export class ScaledBasis {
  readonly value: Leaf;
  readonly modes: readonly number[];

  constructor(value: Leaf, modes: readonly number[]) {
    if (modes.length === 0 || modes.some((mode) => !Number.isSafeInteger(mode) || mode < 0)) {
      throw new LayoutError('a scaled basis names at least one mode, each a whole number of at least 0');
    }
    const last = Math.max(...modes);
    if (last >= MOST_MODES) throw new LayoutError(`a scaled basis names modes below ${MOST_MODES}, not ${last}`);
    this.value = value;
    this.modes = modes;
  }

  /** The coordinate it stands for: 0 but in its own mode. */
  toCoord(value: Leaf = this.value): IntTuple {
    let coord: IntTuple = value;
    for (const mode of this.modes.toReversed()) coord = [...new Array<number>(mode).fill(0), coord];
    return coord;
  }

  toString(): string {
    return `${String(this.value)}@${this.modes.toReversed().join('@')}`;
  }
}

/** The unit vector of a mode: `E(1)` is `1@1`. */
export function E(...modes: number[]): ScaledBasis {
  return new ScaledBasis(1, modes);
}

/** One stride: a plain step, or a step in one mode of a coordinate. */
export type StrideLeaf = Leaf | ScaledBasis;

export function isBasis(leaf: unknown): leaf is ScaledBasis {
  return leaf instanceof ScaledBasis;
}

/** The part of `tuple` that a basis points at: `basis_get(E<0,1>, t)` is `t[0][1]`. A plain stride takes all of it. */
export function basisGet<T>(basis: StrideLeaf, tuple: T | readonly unknown[]): unknown {
  if (!isBasis(basis)) return tuple;
  let part: unknown = tuple;
  for (const mode of basis.modes) {
    const modes: readonly unknown[] = Array.isArray(part) ? part : [part];
    if (mode >= modes.length) throw new LayoutError(`${String(basis)} points at mode ${mode} of ${modes.length}`);
    part = modes[mode];
  }
  return part;
}

/** How far a stride steps, without its mode. */
export function basisValue(stride: StrideLeaf): Leaf {
  return isBasis(stride) ? stride.value : stride;
}

export function mulStride(factor: Leaf, stride: StrideLeaf): StrideLeaf {
  return isBasis(stride) ? new ScaledBasis(mulLeaf(factor, stride.value), stride.modes) : mulLeaf(factor, stride);
}

export function sameStride(a: StrideLeaf, b: StrideLeaf): boolean {
  if (isBasis(a)) {
    return isBasis(b) && sameLeaf(a.value, b.value) && a.modes.join() === b.modes.join();
  }
  return !isBasis(b) && sameLeaf(a, b);
}

/** `factor` steps of a stride, as an index or a coordinate. */
export function step(factor: Leaf, stride: StrideLeaf): IntTuple {
  return isBasis(stride) ? stride.toCoord(mulLeaf(factor, stride.value)) : mulLeaf(factor, stride);
}

/** Sum of indices or coordinates; a shorter coordinate counts as 0 in the modes it lacks. */
export function addCoord(a: IntTuple, b: IntTuple): IntTuple {
  if (!isTuple(a)) {
    if (!isTuple(b)) return addLeaf(a, b);
    if (a === 0) return b;
  } else if (isTuple(b)) {
    const [long, short] = a.length >= b.length ? [a, b] : [b, a];
    return long.map((mode, i) => (i < short.length ? addCoord(mode, short[i]) : mode));
  } else if (b === 0) {
    return a;
  }
  throw new LayoutError(
    `the index ${tupleText(isTuple(a) ? b : a)} cannot be added to the coordinate ${tupleText(isTuple(a) ? a : b)}`,
  );
}
