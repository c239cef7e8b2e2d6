import {
  atomic,
  atomicUpdate,
  ballot,
  bitcast,
  clz,
  f32,
  f64,
  i32,
  laneId,
  max,
  min,
  popc,
  range,
  select,
  shuffleIndex,
  sync,
  tid,
  u32,
  u64,
  warpId,
  _,
  type Tensor,
} from '@rose/cute';
import {
  bitsOf,
  deviceWeight,
  exponentOf,
  join64,
  LAST_ORDER,
  orderOf,
  warpScan64,
  warpSum64,
  type SampleRow,
  type Weighing,
} from './sample-row.ts';

/** Thresholds of a row and draws from it: see sample-row.ts. */

/** What a threshold counts: tokens, or their weights. */
type Measure = 'count' | 'mass';

/** Exponents of 2 that the first histogram spreads over its bins but the last; there and beyond, weights are 0. */
const SPAN = 37;
/** Rounds a number below 2^22 that is added: 2^23. */
const ROUND = 8388608;

/** What a search for a threshold knows: in which places it is, and what is before them and in them. */
export interface Level {
  /** What is looked for: the place at which what is measured comes to this. */
  readonly wanted: u64;
  readonly base: u64;
  readonly members: u64;
  readonly low: u64;
  readonly high: u64;
}

/** A place, and which of the two histograms the next threshold counts in: the one that is clear. */
export interface Threshold {
  readonly place: u64;
  readonly parity: i32;
}

/** The last place of the `wanted` most likely tokens (at least 1, at most those up to `end`). `parity`: at first 0. */
export function placeOfCount(row: SampleRow, weighing: Weighing, end: u64, wanted: i32, parity: i32): Threshold {
  'use gpu';
  const level = firstLevel(row, 'count', weighing, end, () => u64(bitcast(u32, wanted)), parity);
  return refined(row, 'count', weighing, level, 1 - parity);
}

/** Of the tokens up to place `end` the last one of the smallest set of most likely ones that has this share of the mass. */
export function placeOfShare(row: SampleRow, weighing: Weighing, end: u64, share: f32, parity: i32): Threshold {
  'use gpu';
  return refined(row, 'mass', weighing, levelOfShare(row, weighing, end, share, parity), 1 - parity);
}

/** The first step of that. */
export function levelOfShare(row: SampleRow, weighing: Weighing, end: u64, share: f32, parity: i32): Level {
  'use gpu';
  return firstLevel(row, 'mass', weighing, end, (mass) => shareOf(mass, share), parity);
}

/** So much of the mass; a share that is nothing is that of the most likely token. */
export function shareOf(mass: u64, share: f32): u64 {
  'use gpu';
  return max(ceil64(f64(share) * f64(mass)), u64(1));
}

/** A number of at least 0, rounded up. */
export function ceil64(x: f64): u64 {
  'use gpu';
  const whole = u64(x);
  return whole + select(f64(whole) < x, u64(1), u64(0));
}

/** An order that at least `wanted` tokens do not exceed, and few more: that of the best ones of so many threads. */
export function orderOfCount(row: SampleRow, weighing: Weighing, own: u32, wanted: i32): u32 {
  'use gpu';
  const bins = row.shape.threads;
  const bin = binOf(own, weighing, bins);
  if (bin < bins - 1) count(row, i32(0), bin);
  decide(row, gathered(row, i32(0), 'count'), u64(0), u64(bitcast(u32, wanted)));
  const found = i32(row.found[0]);
  if (warpId() === 0) {
    const last = lastOrderOf(orderOf(weighing.maximum), found, weighing, bins);
    if (laneId() === 0) row.found[3] = u64(last);
  }
  sync();
  return u32(row.found[3]);
}

/** A histogram over exponents says in which bin the threshold is. */
function firstLevel(
  row: SampleRow,
  measure: Measure,
  weighing: Weighing,
  end: u64,
  wantedOf: (mass: u64) => u64,
  parity: i32,
): Level {
  'use gpu';
  const bins = row.shape.threads;
  const lastOrder = u32(end >> row.shape.idBits);
  row.eachVector((orders, id) => {
    'use gpu';
    if (orders.reduce((a, b) => min(a, b)) <= lastOrder) {
      const all = orders.map((order) => binOf(order, weighing, bins));
      const weights = measure === 'mass' ? orders.map((order) => deviceWeight(order, weighing)) : undefined;
      for (const [i, order] of orders.entries()) {
        if (all[i] < bins - 1 && row.place(order, id + i) <= end) {
          // How many have a mass is of no interest yet.
          if (weights) weigh(row, parity, all[i], weights[i]);
          else count(row, parity, all[i]);
        }
      }
    }
  });
  const first = gathered(row, parity, measure);
  const wanted = wantedOf(first.total);
  decide(row, first, u64(0), wanted);
  const [base, members] = [row.found[1], row.found[2]];
  if (warpId() === 0) boundsOf(row, i32(row.found[0]), weighing, bins, end);
  sync();
  return { wanted, base, members, low: row.found[3], high: row.found[4] };
}

/**
 * Then histograms over the places of that bin, and so on until a bin has one token, or its end is the threshold. Both
 * histograms take turns, beginning with `parity`.
 */
export function refined(row: SampleRow, measure: Measure, weighing: Weighing, level: Level, first: i32): Threshold {
  'use gpu';
  const { idBits, threads: bins } = row.shape;
  const { wanted } = level;
  const isOpen = (before: u64, members: u64, from: u64, to: u64): boolean =>
    (measure === 'count' ? before + members !== wanted : members !== 1) && from < to;
  let parity = first + 0;
  let [base, low, high] = [level.base, level.low, level.high];
  let open = isOpen(base, level.members, low, high);
  while (open) {
    const [from, to] = [low, high];
    const shift = shiftOf(to - from, bins);
    const fromOrder = u32(from >> idBits);
    row.eachWithin(fromOrder, u32(to >> idBits) - fromOrder, (order, id) => {
      'use gpu';
      const place = row.place(order, id);
      if (place >= from && place <= to) {
        const weight = measure === 'mass' ? deviceWeight(order, weighing) : undefined;
        count(row, parity, i32((place - from) >> shift), weight);
      }
    });
    decide(row, gathered(row, parity, measure), base, wanted);
    base = row.found[1];
    low = from + (row.found[0] << shift);
    high = min(to, low + ((u64(1) << shift) - 1));
    parity = 1 - parity;
    open = isOpen(base, row.found[2], low, high);
  }
  return { place: high, parity };
}

/** Bins ascend with the order. */
function binOf(order: u32, weighing: Weighing, bins: number): i32 {
  'use gpu';
  const x = exponentOf(order, weighing);
  const rounded = x * -((bins - 1) / SPAN) + ROUND;
  return min(bitcast(i32, rounded) - bitsOf(ROUND), i32(bins - 1));
}

const IN_CTA = { scope: 'cta' } as const;

/** Counts a token in a bin, and its weight where that is measured. */
function count(row: SampleRow, parity: i32, bin: i32, weight?: u64): void {
  'use gpu';
  atomicUpdate(row.histogram(bin, 0, parity), 'add', u32(1), IN_CTA);
  if (weight !== undefined) weigh(row, parity, bin, weight);
}

function weigh(row: SampleRow, parity: i32, bin: i32, weight: u64): void {
  'use gpu';
  const low = u32(weight);
  const before = atomic(row.histogram(bin, 1, parity), 'add', low, IN_CTA);
  // Sums of lower words carry.
  const high = u32(weight >> 32) + select(before + low < low, u32(1), u32(0));
  if (high !== 0) atomicUpdate(row.histogram(bin, 2, parity), 'add', high, IN_CTA);
}

interface Gathered {
  /** Of this thread's bin: what is measured, and how many tokens; and what is measured before it. */
  readonly own: u64;
  readonly members: u64;
  readonly before: u64;
  /** Of all bins. */
  readonly total: u64;
}

/** Adds up the histograms of all CTAs and clears the other ones. */
function gathered(row: SampleRow, parity: i32, measure: Measure): Gathered {
  'use gpu';
  const { cluster, threads } = row.shape;
  row.together();
  row.clear(1 - parity);
  let [members, mass] = [u64(0), u64(0)];
  for (let rank = 0; rank < cluster; rank++) {
    const theirs = row.on(row.histogram, rank)(tid(), _, parity);
    members += u64(theirs[0]);
    if (measure === 'mass') mass += join64(theirs[1], theirs[2]);
  }
  const own = measure === 'mass' ? mass : members;
  const upTo = warpScan64(own);
  if (laneId() === 31) row.totals[warpId()] = upTo;
  sync();
  let [total, before] = [u64(0), upTo - own];
  for (let warp = 0; warp < threads / 32; warp++) {
    const theirs = row.totals[warp];
    before += select(warp < warpId(), theirs, u64(0));
    total += theirs;
  }
  return { own, members, before, total };
}

/** Finds the bin in which the threshold is: `found` is then its number, what is measured before it, and its tokens. */
function decide(row: SampleRow, { own, members, before }: Gathered, base: u64, wanted: u64): void {
  'use gpu';
  const last = tid() === row.shape.threads - 1;
  const start = base + before;
  // What is in no other bin is in the last one, whose tokens were perhaps not counted.
  if (start < wanted && (last || wanted <= start + own)) {
    row.found[0] = u64(bitcast(u32, tid()));
    row.found[1] = start;
    row.found[2] = members;
  }
  sync();
}

/** The least shift that leaves a number below `bins`. */
function shiftOf(span: u64, bins: number): u32 {
  'use gpu';
  const [low, high] = [u32(span), u32(span >> 32)];
  const bits = select(high !== 0, 64 - i32(clz(high)), 32 - i32(clz(low)));
  const shift = bits - Math.log2(bins);
  return u32(select(shift > 0, shift, i32(0)));
}

/** The first and the last place of a bin, at most `end`, for one warp. */
function boundsOf(row: SampleRow, bin: i32, weighing: Weighing, bins: number, end: u64): void {
  'use gpu';
  const { idBits } = row.shape;
  const top = orderOf(weighing.maximum);
  const before = lastOrderOf(top, bin - 1, weighing, bins);
  const last = lastOrderOf(top, bin, weighing, bins);
  const low = select(bin === 0, u64(0), (u64(before) + 1) << idBits);
  const high = (u64(last) << idBits) | u64(2 ** idBits - 1);
  if (laneId() === 0) {
    row.found[3] = low;
    row.found[4] = min(high, end);
  }
}

/** The last order from `top` on, whose bin is 0, that has at most this bin: five bits at a time, a lane for each of 32. */
function lastOrderOf(top: u32, bin: i32, weighing: Weighing, bins: number): u32 {
  'use gpu';
  let order = top;
  for (let shift = 30; shift >= 0; shift -= 5) {
    const ahead = laneId() << shift;
    const tried = order + bitcast(u32, ahead);
    const there = shift === 30 ? laneId() < 4 : laneId() >= 0;
    const inside = there && tried >= order && tried <= u32(LAST_ORDER);
    const holds = inside && binOf(tried, weighing, bins) <= bin;
    order += (popc(ballot(holds || laneId() === 0)) - 1) << shift;
  }
  return order;
}

/** Who may be drawn: tokens up to a place with at least a weight. */
export interface Choice {
  readonly end: u64;
  readonly least: u64;
}

/** The weights of a vector's tokens that may be drawn; of others 0. */
function weightsIn(row: SampleRow, orders: u32[], id: i32, weighing: Weighing, { end, least }: Choice): u64[] {
  'use gpu';
  return orders.map((order, i) => {
    'use gpu';
    const own = deviceWeight(order, weighing);
    return select(own >= least && row.place(order, id + i) <= end, own, u64(0));
  });
}

/** What each warp of the row has, told to all: every warp then has all in its lanes. */
interface WarpSums {
  /** Sum of all. */
  readonly total: u64;
  /** Of this lane's warps, one after the other. */
  readonly own: u64[];
  /** Of the warps before them. */
  readonly before: u64;
}

/** `parity`: calls one after the other have different ones. */
export function sumOfWarps(row: SampleRow, value: u64, parity: number): WarpSums {
  'use gpu';
  const { cluster, threads } = row.shape;
  const warps = threads / 32;
  const sum = warpSum64(value);
  if (laneId() < cluster) {
    row.on(row.sums, laneId())(_, parity)[row.rank * warps + warpId()] = sum;
  }
  row.together();
  const each = Math.max(32, cluster * warps) / 32;
  const own = Array.from({ length: each }, (_none, i) => row.sums(_, parity)[laneId() * each + i]);
  const all = own.reduce((a, b) => a + b);
  const upTo = warpScan64(all);
  return { total: lane64(upTo, i32(31)), own, before: upTo - all };
}

function lane64(value: u64, lane: i32): u64 {
  'use gpu';
  return join64(shuffleIndex(u32(value), lane), shuffleIndex(u32(value >> 32), lane));
}

/** The sum of all weights of a choice. */
export function massOf(row: SampleRow, weighing: Weighing, choice: Choice, parity: number): WarpSums {
  'use gpu';
  let sum = u64(0);
  const lastOrder = u32(choice.end >> row.shape.idBits);
  row.eachVector((orders, id) => {
    'use gpu';
    if (orders.reduce((a, b) => min(a, b)) <= lastOrder) {
      sum += weightsIn(row, orders, id, weighing, choice).reduce((a, b) => a + b);
    }
  });
  return sumOfWarps(row, sum, parity);
}

/** Writes to `token` the first token in ascending order of id at which the choice's weights sum up to more than `share` of all. */
export function drawFrom(row: SampleRow, weighing: Weighing, choice: Choice, share: f64, token: Tensor<i32>): void {
  'use gpu';
  const { total, own, before } = massOf(row, weighing, choice, 0);
  const target = min(u64(share * f64(total)), total - 1);
  // The warp that it is in, and how far from there.
  let [found, rest, start] = [i32(-1), u64(0), before];
  for (const [i, sum] of own.entries()) {
    const here = start <= target && target < start + sum;
    found = select(here, laneId() * own.length + i, found);
    rest = select(here, target - start, rest);
    start += sum;
  }
  const lanes = ballot(found >= 0);
  const lane = i32(popc((lanes - 1) & ~lanes));
  const warp = shuffleIndex(found, lane);
  let left = lane64(rest, lane);
  if (warp === row.rank * (row.shape.threads / 32) + warpId()) {
    for (const turn of range(row.shape.turns)) {
      const { orders, id } = row.vectorOf(turn);
      const weights = weightsIn(row, orders, id, weighing, choice);
      const upTo = warpScan64(weights.reduce((a, b) => a + b));
      const all = lane64(upTo, i32(31));
      if (left < all) {
        const mine = upTo - weights.reduce((a, b) => a + b);
        if (left >= mine && left < upTo) {
          let [sum, drawn] = [mine, i32(-1)];
          for (const [i, weight] of weights.entries()) {
            sum += weight;
            drawn = select(drawn < 0 && sum > left, id + i, drawn);
          }
          token[0] = drawn;
        }
        break;
      }
      left -= all;
    }
  }
}
