import {
  bid,
  f32,
  fma,
  gdim,
  laneId,
  makeLayout,
  min,
  range,
  shared,
  shuffleXor,
  sync,
  tid,
  warpId,
  _,
} from '@rose/cute';
import type { Fragment, i32, Tensor } from '@rose/cute';
import type { RowPlan } from './row-plan.ts';

/** Device code that the kernels over rows share. RowPlan says who holds what. */

/** Where this thread is among those that hold rows. */
export interface RowPlace {
  /** Which of the row's threads it is. */
  readonly lane: i32;
  /** Which of the CTA's rows it works on. */
  readonly sub: i32;
}

export function rowPlace(plan: RowPlan): RowPlace {
  'use gpu';
  if (plan.rows === 1) return { lane: tid(), sub: 0 };
  const shift = Math.log2(plan.lanes);
  return { lane: tid() & (plan.lanes - 1), sub: tid() >> shift };
}

/** This thread's vectors of a row. Beyond the row's end stands its last vector once more; `inside` tells. */
export function loadRow<T>(row: Tensor<T>, plan: RowPlan, place: RowPlace): Fragment<T>[] {
  'use gpu';
  const vectors = vectorsOf(row, plan.vector);
  const loaded: Fragment<T>[] = [];
  for (let turn = 0; turn < plan.turns; turn++) loaded.push(vectors(_, vectorIndex(turn, plan, place)).load());
  return loaded;
}

/** Stores this thread's vectors of a row, where `live` and inside. */
export function storeRow<T>(
  row: Tensor<T>,
  values: Fragment<T>[],
  plan: RowPlan,
  place: RowPlace,
  live: boolean,
): void {
  'use gpu';
  const vectors = vectorsOf(row, plan.vector);
  for (let turn = 0; turn < plan.turns; turn++) {
    if (live && inside(turn, plan, place)) vectors(_, vectorIndex(turn, plan, place)).store(values[turn]);
  }
}

/** Whether the vector of this turn lies inside the row: known while tracing, but for the last turn of uneven rows. */
export function inside(turn: number, plan: RowPlan, place: RowPlace): boolean {
  'use gpu';
  if (plan.full || turn < plan.turns - 1) return true;
  return place.lane < plan.columns / plan.vector - turn * plan.lanes;
}

function vectorIndex(turn: number, plan: RowPlan, place: RowPlace): i32 {
  'use gpu';
  const index = place.lane + turn * plan.lanes;
  if (plan.full || turn < plan.turns - 1) return index;
  return min(index, plan.columns / plan.vector - 1);
}

/** A row's sum or maximum from its threads' own, in the order that RowPlan states; every thread gets it. */
export function reduceRow(own: f32, plan: RowPlan, place: RowPlace, combine: (a: f32, b: f32) => f32): f32 {
  'use gpu';
  let all = own;
  for (let distance = Math.min(plan.lanes, 32) / 2; distance >= 1; distance /= 2) {
    all = combine(all, shuffleXor(all, distance));
  }
  if (plan.lanes <= 32) return all;
  const warps = plan.lanes / 32;
  const parts = shared(f32, plan.rows * warps);
  if (laneId() === 0) parts[warpId()] = all;
  sync();
  const first = place.sub * warps;
  let total = parts[first];
  for (let warp = 1; warp < warps; warp++) total = combine(total, parts[first + warp]);
  // The next reduction of a walk over rows must not write before everybody has read.
  if (plan.waves > 0) sync();
  return total;
}

/** A row as vectors: the first mode has the elements of one, the second counts them. */
export function vectorsOf<T>(row: Tensor<T>, vector: number): Tensor<T> {
  return row.compose(makeLayout([vector, row.size / vector]));
}

/** The first rows of the blocks that this CTA works on; a loop of the device where it has more than one. */
export function rowsOf(rows: i32, plan: RowPlan): Iterable<i32> {
  'use gpu';
  if (plan.waves === 0) return [bid() * plan.rows];
  return range(bid() * plan.rows, rows, gdim() * plan.rows);
}

/** A row's vectors with a residual's added, rounded to their type; without one as they are. */
export function withResidual(x: Fragment[], residual: Fragment[] | undefined): Fragment[] {
  'use gpu';
  if (!residual) return x;
  return x.map((v, turn) =>
    v
      .to(f32)
      .map((e, i) => e + f32(residual[turn][i]))
      .to(v.type),
  );
}

export function add(a: f32, b: f32): f32 {
  'use gpu';
  return a + b;
}

export function sum(v: Fragment): f32 {
  'use gpu';
  let all = f32(v[0]);
  for (let i = 1; i < v.length; i++) all += f32(v[i]);
  return all;
}

export function sumOfSquares(v: Fragment): f32 {
  'use gpu';
  const first = f32(v[0]);
  let all = first * first;
  for (let i = 1; i < v.length; i++) {
    const e = f32(v[i]);
    all = fma(e, e, all);
  }
  return all;
}
