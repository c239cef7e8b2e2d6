import { abs, f32, max, rcp, shuffleXor, type Fragment, type i32, type Tensor } from '@rose/cute';
import type { RowPlan } from './row-plan.ts';
import { inside, reduceRow, type RowPlace } from './rows.ts';
import { GROUP } from './linear-fp8.ts';
import type { QuantisedOutput } from './quantise-reference.ts';

/** Scales of e4m3 that follow from the values (dynamic quantisation): of a row, or of each 128 elements of it. */

/** The largest number of e4m3. */
const LARGEST = 448;
/** The largest magnitude is taken to be at least this, so that rows of zeros have a scale, and its inverse is finite. */
const SMALLEST = 2 ** -100;

/** The scale of values up to `largest`, and what to multiply them by. */
export interface Scale {
  readonly scale: f32;
  readonly inverse: f32;
}

export function scaleOf(largest: f32): Scale {
  'use gpu';
  const scale = max(largest, SMALLEST) * (1 / LARGEST);
  return { scale, inverse: rcp(scale) };
}

/** The largest magnitude of a vector. */
export function largestOf(v: Fragment): f32 {
  'use gpu';
  let all = abs(f32(v[0]));
  for (let i = 1; i < v.length; i++) all = max(all, abs(f32(v[i])));
  return all;
}

function larger(a: f32, b: f32): f32 {
  'use gpu';
  return max(a, b);
}

/** Threads that hold a group, side by side. */
function groupLanes(vector: number): number {
  return GROUP / vector;
}

/** The scale of a group, whose vectors neighbouring threads hold. */
function groupScale(own: Fragment): Scale {
  'use gpu';
  let all = largestOf(own);
  for (let distance = groupLanes(own.length) / 2; distance >= 1; distance /= 2) {
    all = max(all, shuffleXor(all, distance));
  }
  return scaleOf(all);
}

/**
 * A vector in e4m3's range; the first thread of its group stores the group's scale, where `live`. The group's vectors are
 * those of neighbouring threads.
 *
 * @param scales [groups, pitch]
 * @param pitch from one group's scales to the next one's
 * @param at number of the vector in its row
 */
export function quantisedVector(v: Fragment, scales: Tensor, row: i32, at: i32, pitch: i32, live: boolean): Fragment {
  'use gpu';
  const lanes = groupLanes(v.length);
  const { scale, inverse } = groupScale(v);
  if (live && (at & (lanes - 1)) === 0) scales[(at >> Math.log2(lanes)) * pitch + row] = scale;
  return v.map((e) => f32(e) * inverse);
}

/** A row's vectors in e4m3's range, and the row's scale stored, where `live`. */
function quantiseRow(
  values: readonly Fragment[],
  scales: Tensor,
  row: i32,
  plan: RowPlan,
  place: RowPlace,
  live: boolean,
): Fragment[] {
  'use gpu';
  let own = f32(0);
  // Beyond the row's end stands its last vector once more.
  for (const v of values) own = max(own, largestOf(v));
  const { scale, inverse } = scaleOf(reduceRow(own, plan, place, larger));
  if (live && place.lane === 0) scales[row] = scale;
  return values.map((v) => v.map((e) => f32(e) * inverse));
}

/** A row's vectors as they are, or in e4m3's range with their scales stored, where `live`; `pitch` is that of groups. */
export function quantised(
  values: readonly Fragment[],
  scales: Tensor | undefined,
  kind: QuantisedOutput,
  row: i32,
  pitch: i32 | undefined,
  plan: RowPlan,
  place: RowPlace,
  live: boolean,
): readonly Fragment[] {
  'use gpu';
  if (kind === 'e4m3_group') {
    return values.map((v, turn) => {
      'use gpu';
      const own = live && inside(turn, plan, place);
      return quantisedVector(v, scales!, row, place.lane + turn * plan.lanes, pitch!, own);
    });
  }
  return kind === 'e4m3_row' ? quantiseRow(values, scales!, row, plan, place, live) : values;
}

/** Why a row's groups cannot be quantised. `turn`: neighbouring elements that its threads hold at a time. */
export function groupsRefused(columns: number, turn: number = GROUP): string | undefined {
  if (columns % GROUP !== 0) {
    return `a row of ${columns} elements has no whole groups of ${GROUP}: pad it, or use scales of rows`;
  }
  return turn % GROUP === 0 ? undefined : `threads that hold ${turn} elements have no whole groups: use more lanes`;
}
