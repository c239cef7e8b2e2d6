import {
  bitcast,
  blockArgmax,
  clusterArrive,
  clusterRank,
  clusterSync,
  clusterWait,
  f32,
  Fragment,
  i32,
  laneId,
  mapShared,
  max,
  min,
  range,
  select,
  shared,
  shuffleUp,
  shuffleXor,
  sync,
  tensorAt,
  tid,
  u32,
  u64,
  warpId,
  _,
  type Tensor,
} from '@rose/cute';
import { EXP2_POLYNOMIAL, FRACTION_BITS, LEAST_EXPONENT, ROUND_FRACTION, ROUND_WHOLE, WEIGHT_BITS } from '../weight.ts';
import { vectorsOf } from './rows.ts';

/**
 * A row of logits in the hands of a cluster: what the sampling kernels do with it. Every decision is made from whole numbers,
 * so that it does not depend on how many CTAs and threads there are.
 *
 * A logit is held as its `order`, an unsigned number that is smaller for larger logits; a token's `place` is its order followed
 * by its id, so that places are all different and ascend from the most likely token, ties by id.
 */

/** How a row is spread: each CTA of the cluster has a run of ids, each of its warps a run of that. */
export interface RowShape {
  readonly vocabulary: number;
  /** CTAs of a row. */
  readonly cluster: number;
  readonly threads: number;
  /** Ids of a CTA, and how many vectors of four a thread has of them. */
  readonly slice: number;
  readonly turns: number;
  /** Bits of an id. */
  readonly idBits: number;
}

/** Elements of an access to what is held. */
const VECTOR = 4;
/** The order of minus infinity, and the largest one that is no finite number's from the other side. */
export const LAST_ORDER = 0xff800000;
const INFINITE_ORDER = 0x007fffff;
/** What stands behind the vocabulary's end: less likely than everything. */
const NOBODY = 0xffffffff;

export function rowShape(vocabulary: number, cluster: number, threads: number, multiple: number = 1): RowShape {
  const unit = cluster * threads * VECTOR;
  const turns = Math.ceil(Math.ceil(vocabulary / unit) / multiple) * multiple;
  const idBits = Math.max(1, Math.ceil(Math.log2(vocabulary)));
  return { vocabulary, cluster, threads, turns, slice: turns * threads * VECTOR, idBits };
}

/** A logit's order; NaN comes before everything. */
export function orderOf(logit: f32): u32 {
  'use gpu';
  // The two zeros are equal.
  const bits = bitcast(i32, logit + 0);
  const order = bitcast(u32, bits ^ (~(bits >> 31) & 0x7fffffff));
  return select(logit === logit, order, u32(0));
}

export function logitOf(order: u32): f32 {
  'use gpu';
  const bits = bitcast(i32, order);
  return bitcast(f32, bits ^ (~(bits >> 31) & 0x7fffffff));
}

export function isFinite(order: u32): boolean {
  'use gpu';
  return order > u32(INFINITE_ORDER) && order < u32(LAST_ORDER);
}

/** How a row's weights are computed: see weight.ts. */
export interface Weighing {
  readonly maximum: f32;
  readonly scale: f32;
}

export function exponentOf(order: u32, { maximum, scale }: Weighing): f32 {
  'use gpu';
  return max((logitOf(order) - maximum) * scale, f32(LEAST_EXPONENT));
}

/** weight.ts, operation by operation. */
export function deviceWeight(order: u32, weighing: Weighing): u64 {
  'use gpu';
  const x = exponentOf(order, weighing);
  const rounded = x + ROUND_WHOLE;
  const d = x - (rounded - ROUND_WHOLE);
  let p: number = f32(EXP2_POLYNOMIAL[4]);
  for (let i = 3; i >= 0; i--) p = p * d + EXP2_POLYNOMIAL[i];
  p = p * d + 1;
  const fraction = bitcast(u32, p + ROUND_FRACTION) - bitsOf(ROUND_FRACTION);
  const below = u32(bitsOf(ROUND_WHOLE)) - bitcast(u32, rounded);
  return (u64(fraction) << (WEIGHT_BITS - FRACTION_BITS)) >> below;
}

export function bitsOf(number: number): number {
  return new Uint32Array(Float32Array.of(number).buffer)[0];
}

export function join64(low: u32, high: u32): u64 {
  'use gpu';
  return u64(low) | (u64(high) << 32);
}

type Shuffle = (value: u32) => u32;

export function shuffled64(value: u64, shuffle: Shuffle): u64 {
  'use gpu';
  return join64(shuffle(u32(value)), shuffle(u32(value >> 32)));
}

export function warpSum64(value: u64): u64 {
  'use gpu';
  let sum = value;
  for (let distance = 16; distance >= 1; distance /= 2) {
    sum += shuffled64(sum, (word) => shuffleXor(word, distance));
  }
  return sum;
}

/** The sum of this lane's value and those of the lanes before it. */
export function warpScan64(value: u64): u64 {
  'use gpu';
  let sum = value;
  for (let distance = 1; distance < 32; distance *= 2) {
    const before = shuffled64(sum, (word) => shuffleUp(word, distance));
    sum += select(laneId() >= distance, before, u64(0));
  }
  return sum;
}

export interface Best {
  readonly order: u32;
  readonly id: i32;
  /** The least order that this thread holds. */
  readonly own: u32;
}

export class SampleRow {
  readonly shape: RowShape;
  /** Orders of this CTA's ids; undefined: nothing is held. */
  readonly held: Tensor<u32> | undefined;
  /** Rank of this CTA. */
  readonly rank: i32;
  /** The first of its ids. */
  readonly first: i32;
  /** [bins, 3, 2]: counts, lower and upper words of masses; twice, used in turn. A thread has a bin. */
  readonly histogram: Tensor<u32>;
  /** Of each warp of the cluster. */
  readonly sums: Tensor<u64>;
  /** Of each warp of the CTA. */
  readonly totals: Tensor<u64>;
  /** What a threshold's search has found. */
  readonly found: Tensor<u64>;
  /** How many of them a list has. */
  readonly count: Tensor<u32>;
  private readonly best: Tensor<u32>;

  constructor(shape: RowShape, held: Tensor<u32> | undefined) {
    'use gpu';
    this.shape = shape;
    this.held = held;
    this.rank = shape.cluster === 1 ? i32(0) : clusterRank();
    this.first = this.rank * shape.slice;
    const warps = shape.threads / 32;
    this.histogram = shared(u32, [shape.threads, 3, 2], { name: 'histogram' });
    this.sums = shared(u64, [Math.max(32, shape.cluster * warps), 2], { name: 'sums' });
    this.totals = shared(u64, warps, { name: 'totals' });
    this.best = shared(u32, [2, shape.cluster, 2], { name: 'best' });
    this.found = shared(u64, 8, { name: 'found' });
    this.count = shared(u32, 1, { name: 'count' });
  }

  get memory(): Tensor<u32> {
    if (this.held === undefined) throw new TypeError('this row is not held');
    return this.held;
  }

  /** Waits for all threads of the row. */
  together(): void {
    if (this.shape.cluster === 1) sync();
    else clusterSync();
  }

  /** The same shared memory in another CTA of the row. */
  on<T>(own: Tensor<T>, rank: i32): Tensor<T> {
    if (this.shape.cluster === 1) return own;
    return tensorAt(mapShared(own.address, rank), own.type, own.layout) as Tensor<T>;
  }

  /** Before anything else: what is counted in begins at 0. */
  begin(): void {
    'use gpu';
    for (let parity = 0; parity < 2; parity++) this.clear(parity);
    if (tid() === 0) this.count[0] = u32(0);
    const { cluster, threads } = this.shape;
    if (cluster * (threads / 32) < 32) {
      for (let parity = 0; parity < 2; parity++) if (tid() < 32) this.sums(_, parity)[tid()] = u64(0);
    }
    // `read` waits for the others before it writes to them.
    if (cluster > 1) clusterArrive();
  }

  clear(parity: number): void {
    'use gpu';
    for (let word = 0; word < 3; word++) this.histogram(_, word, parity)[tid()] = u32(0);
  }

  /** This thread's vectors, in ascending order of id. */
  private vector(turn: i32): { at: i32; id: i32 } {
    'use gpu';
    const at = warpId() * (this.shape.turns * 32) + turn * 32 + laneId();
    return { at, id: this.first + at * VECTOR };
  }

  /** What is held of one of them. */
  vectorOf(turn: i32): { orders: u32[]; id: i32 } {
    'use gpu';
    const { at, id } = this.vector(turn);
    return { orders: this.memory.tile(VECTOR, at).load().values(), id };
  }

  /** `body` for each of this thread's vectors, in ascending order of id: what is computed of their elements has no branches. */
  eachVector(body: (orders: u32[], id: i32) => void): void {
    'use gpu';
    for (const turn of range(this.shape.turns)) {
      const { orders, id } = this.vectorOf(turn);
      body(orders, id);
    }
  }

  /** `body` for each of this thread's ids. */
  each(body: (order: u32, id: i32) => void): void {
    'use gpu';
    this.eachVector((orders, id) => {
      'use gpu';
      for (const [i, order] of orders.entries()) body(order, id + i);
    });
  }

  /** `body` for each of this thread's ids whose order is from `first` on, at most `span` behind it. */
  eachWithin(first: u32, span: u32, body: (order: u32, id: i32) => void): void {
    'use gpu';
    this.eachVector((orders, id) => {
      'use gpu';
      const distances = orders.map((order) => order - first);
      // Most vectors have none.
      if (distances.reduce((a, b) => min(a, b)) <= span) {
        for (const [i, distance] of distances.entries()) if (distance <= span) body(orders[i], id + i);
      }
    });
  }

  /** Puts in its place what `change` makes of each vector. */
  change(change: (orders: u32[], id: i32) => u32[]): void {
    'use gpu';
    for (const turn of range(this.shape.turns)) {
      const { at, id } = this.vector(turn);
      const tile = this.memory.tile(VECTOR, at);
      tile.store(new Fragment(change(tile.load().values(), id), 'u32'));
    }
  }

  /** Reads a row of logits, holds it, and gives the most likely token. */
  read(logits: Tensor<f32>, parity: number): Best {
    'use gpu';
    const { vocabulary, turns } = this.shape;
    const width = vocabulary % 4 === 0 ? 4 : vocabulary % 2 === 0 ? 2 : 1;
    const vectors = vectorsOf(logits, width);
    let [best, bestId] = [u32(NOBODY), i32(0)];
    // So many loads are under way at once.
    const ahead = turns % 4 === 0 ? 4 : turns % 2 === 0 ? 2 : 1;
    for (const turn of range(0, turns, ahead)) {
      const places = Array.from({ length: ahead }, (_none, i) => this.vector(turn + i));
      const loaded = places.map(({ id }) => {
        'use gpu';
        return Array.from({ length: VECTOR / width }, (_none, i) => {
          'use gpu';
          const at = idivWidth(id, width) + i;
          return vectors(_, min(at, vocabulary / width - 1))
            .load({ l1: 'no_allocate' })
            .values();
        }).flat();
      });
      for (const [n, { at, id }] of places.entries()) {
        const orders = loaded[n].map((logit, i) =>
          select(id + (i - (i % width)) < vocabulary, orderOf(logit), u32(NOBODY)),
        );
        for (const [i, order] of orders.entries()) {
          const better = order < best;
          best = select(better, order, best);
          bestId = select(better, id + i, bestId);
        }
        this.held?.tile(VECTOR, at).store(new Fragment(orders, 'u32'));
      }
    }
    return this.most(best, bestId, parity, true);
  }

  /** The most likely token of what is held. */
  mostLikely(parity: number): Best {
    'use gpu';
    let [best, bestId] = [u32(NOBODY), i32(0)];
    this.each((order, id) => {
      'use gpu';
      const better = order < best;
      best = select(better, order, best);
      bestId = select(better, id, bestId);
    });
    return this.most(best, bestId, parity);
  }

  /** Of all threads of the row. `parity`: calls one after the other have different ones. */
  private most(order: u32, id: i32, parity: number, first = false): Best {
    'use gpu';
    const { cluster, threads } = this.shape;
    const own = blockArgmax(~order, id, { threads });
    const slots = this.best(_, _, parity);
    if (first && cluster > 1) clusterWait();
    if (tid() < cluster) {
      const to = this.on(this.best, tid())(_, this.rank, parity);
      to[0] = u32(own.value);
      to[1] = bitcast(u32, i32(own.index));
    }
    this.together();
    let [best, bestId] = [slots(0, 0)[0], slots(1, 0)[0]];
    for (let rank = 1; rank < cluster; rank++) {
      const other = slots(0, rank)[0];
      // Ids ascend with the rank.
      const better = other > best;
      best = select(better, other, best);
      bestId = select(better, slots(1, rank)[0], bestId);
    }
    return { order: ~best, id: bitcast(i32, bestId), own: order };
  }

  place(order: u32, id: i32): u64 {
    'use gpu';
    return (u64(order) << this.shape.idBits) | u64(bitcast(u32, id));
  }

  /** The last place there is. */
  end(): u64 {
    'use gpu';
    return (u64(u32(LAST_ORDER)) << this.shape.idBits) | u64(2 ** this.shape.idBits - 1);
  }
}

function idivWidth(id: i32, width: number): i32 {
  'use gpu';
  return id >> Math.log2(width);
}
