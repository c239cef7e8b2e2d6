import {
  atomic,
  ex2,
  f32,
  fma,
  Fragment,
  fragment,
  i32,
  idiv,
  max,
  range,
  rcp,
  select,
  shared,
  shuffleXor,
  sync,
  tid,
  u32,
  _,
  type Tensor,
} from '@rose/cute';
import { ROWS } from './decode-spec.ts';
import { early } from './early.ts';
import { vectorsOf } from './rows.ts';

/**
 * What `attention_combine` does, by the CTA of `attention_decode` that is the last one of a sequence's splits, to the same
 * bits: splits are summed in four groups by their number, a group's in ascending order, then the groups.
 */

const GROUPS = 4;
/** Columns of a thread: 16 bytes of float32. */
const VECTOR = 4;
/** Parts of each group that a thread has under way where there are many: one CTA waits for them, and others have ended. */
const AHEAD = 4;

export interface WholeTensors {
  readonly items: Tensor;
  readonly o: Tensor;
  readonly stats: Tensor;
  readonly starts: Tensor;
  readonly sinks?: Tensor;
  /** How many of a sequence's CTAs with the same tile of rows have written their parts: 0 before and after a launch. */
  readonly arrived: Tensor;
  readonly y: Tensor;
}

/** A CTA's rows: `h` and `token` of a row, and whether it is one of the sequence's. */
export interface RowsOfTile {
  readonly place: (row: i32) => { readonly token: i32; readonly h: i32; readonly live: boolean };
  /** Row of `y` of the sequence's first token. */
  readonly start: i32;
}

/** The items of a sequence. */
export interface ItemsOfSequence {
  readonly from: i32;
  readonly to: i32;
  /** The number of the first one's split. */
  readonly split: i32;
}

export function itemsOfSequence(starts: Tensor, items: Tensor, sequence: i32): ItemsOfSequence {
  'use gpu';
  const from = early(starts(sequence));
  return { from, to: early(starts(sequence + 1)), split: early(items(from, 1)) };
}

/** A head's sink in powers of two. */
function sinkOf(t: WholeTensors, h: i32): f32 {
  'use gpu';
  return t.sinks === undefined ? f32(-Infinity) : t.sinks[h] * Math.LOG2E;
}

/** Puts a row's vector into `y`: `sums` and `total` are weighed by 2^(-top). */
function finish(t: WholeTensors, row: i32, h: i32, vector: i32, sums: Fragment, total: f32, top: f32): void {
  'use gpu';
  const inverse = rcp(t.sinks === undefined ? total : total + ex2(sinkOf(t, h) - top));
  // Adding 0 makes -0 a 0: a row's zeros are the same however many empty tiles it met.
  const y = sums.map((e) => fma(e, inverse, f32(0)));
  vectorsOf(t.y(row, h, _), VECTOR)(_, vector).store(y.to(t.y.type));
}

/** The only split's vector of a row: what would come of it if it were written and read again. */
export function finishAlone(t: WholeTensors, row: i32, h: i32, vector: i32, part: Fragment, sum: f32, own: f32): void {
  'use gpu';
  const top = max(sinkOf(t, h), own);
  const weight = select(own > -Infinity, ex2(own - top), f32(0));
  const total = fma(weight, select(own > -Infinity, sum, f32(0)), f32(0));
  finish(
    t,
    row,
    h,
    vector,
    part.map((e) => fma(weight, e, f32(0))),
    total,
    top,
  );
}

/** After all threads have written this CTA's parts: the last CTA of a sequence and tile puts the splits together. */
export function putTogether(
  t: WholeTensors,
  rows: RowsOfTile,
  items: ItemsOfSequence,
  counter: Tensor,
  head: number,
  threads: number,
): void {
  'use gpu';
  const several = items.to - items.from > 1;
  const last = shared(i32, 1, { name: 'last' });
  const tops = shared(f32, ROWS, { name: 'largest' });
  sync();
  if (tid() === 0) {
    last[0] = i32(0);
    if (several) {
      // The barriers make it count for what the other threads wrote before and read behind it.
      const before = atomic(counter, 'add', u32(1), { order: 'acq_rel' });
      if (before === u32(items.to - items.from - 1)) {
        last[0] = i32(1);
        counter[0] = u32(0);
      }
    }
  }
  sync();
  if (last[0] === 1) {
    // The largest score of each row, by as many threads as there are for each.
    const each = threads / ROWS;
    const row = idiv(tid(), each);
    const { token, h, live } = rows.place(row);
    let largest = f32(-Infinity);
    if (live) {
      for (const item of range(items.from + (tid() & (each - 1)), items.to, each, { unroll: 8 })) {
        largest = max(largest, t.stats(item, token, h, 0).load()[0]);
      }
    }
    for (let distance = each / 2; distance >= 1; distance /= 2) largest = max(largest, shuffleXor(largest, distance));
    if ((tid() & (each - 1)) === 0) tops[row] = largest;
  }
  sync();
  if (last[0] === 1) {
    const vectors = head / VECTOR;
    // From a number that the groups divide on, so that the item of a group is always at the same place.
    const first = items.from - (items.split & (GROUPS - 1));
    for (const at of range(tid(), ROWS * vectors, threads)) {
      const row = idiv(at, vectors);
      const vector = at - row * vectors;
      const { token, h, live } = rows.place(row);
      if (live) {
        const top = max(sinkOf(t, h), tops[row]);
        const sums = Array.from({ length: GROUPS }, () => fragment('f32', VECTOR));
        const totals = fragment('f32', GROUPS);
        const add = (round: i32, ahead: number): void => {
          'use gpu';
          const cells = Array.from({ length: GROUPS * ahead }, (_none, i) => {
            'use gpu';
            const item = round + i;
            const where = item >= items.from && item < items.to;
            return {
              stats: vectorsOf(t.stats(item, token, h, _), 2)(_, 0).load({ where, otherwise: -Infinity }),
              part: vectorsOf(t.o(item, token, h, _), VECTOR)(_, vector).load({ where }),
            };
          });
          for (const [i, { stats, part }] of cells.entries()) {
            const g = i % GROUPS;
            const seen = stats[0] > -Infinity;
            const weight = select(seen, ex2(stats[0] - top), f32(0));
            totals[g] = fma(weight, select(seen, stats[1], f32(0)), totals[g]);
            for (let e = 0; e < VECTOR; e++) sums[g][e] = fma(weight, part[e], sums[g][e]);
          }
        };
        const many = first + ((items.to - first) & -(GROUPS * AHEAD));
        for (const round of range(first, many, GROUPS * AHEAD)) add(round, AHEAD);
        for (const round of range(many, items.to, GROUPS)) add(round, 1);
        for (let g = 1; g < GROUPS; g++) {
          totals[0] += totals[g];
          for (let e = 0; e < VECTOR; e++) sums[0][e] += sums[g][e];
        }
        finish(t, rows.start + token, h, vector, sums[0], totals[0], top);
      }
    }
  }
}
