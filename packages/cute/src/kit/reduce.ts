import { clusterSync, mapShared } from '../atoms/cluster.ts';
import { shuffleXor } from '../trace/intrinsics.ts';
import { isFloat } from '../types/dtype.ts';
import {
  barrier,
  combine,
  compare,
  inLoop,
  loadFrom,
  moved,
  select,
  sharedBytes,
  special,
  storeTo,
  typeOf,
  when,
} from '../atoms/record.ts';
import type { Int } from '../atoms/record.ts';

/**
 * Reductions over a warp, a block and a cluster. The order of the additions is fixed by the number of threads alone, so
 * that the same values give the same bits every time; every thread gets the result.
 *
 * Order: lanes by halves (lane i with i ^ 16, then ^ 8, ^ 4, ^ 2, ^ 1), then the warps' sums in the same way, then the
 * CTAs' in the order of their ranks.
 */

export type Reduction = 'sum' | 'max' | 'min';

const OPS: Readonly<Record<Reduction, string>> = { sum: 'add', max: 'max', min: 'min' };

function checkWidth(width: number): void {
  if (width >= 1 && width <= 32 && Number.isInteger(Math.log2(width))) return;
  throw new RangeError(`lanes reduce in groups of a power of two to 32, not of ${width}`);
}

/** Reduces over groups of `width` lanes. All 32 lanes take part. */
export function warpReduce(value: Int, reduction: Reduction = 'sum', width: number = 32): Int {
  checkWidth(width);
  let all = value;
  for (let distance = width / 2; distance >= 1; distance /= 2) {
    all = combine(OPS[reduction], all, shuffleXor(all, distance));
  }
  return all;
}

/** The larger of two (value, index); of equal ones that with the smaller index. NaN loses against every number. */
function better(value: Int, index: Int, otherValue: Int, otherIndex: Int): { value: Int; index: Int } {
  const earlier = compare('lt', otherIndex, index);
  let take = either(compare('gt', otherValue, value), both(compare('eq', otherValue, value), earlier));
  if (isFloat(typeOf(value))) {
    const number = compare('num', otherValue, otherValue);
    take = either(take, both(compare('nan', value, value), either(number, earlier)));
  }
  return { value: select(take, otherValue, value), index: select(take, otherIndex, index) };
}

function both(left: boolean, right: boolean): boolean {
  return combine('and', left as unknown as Int, right as unknown as Int) as unknown as boolean;
}

function either(left: boolean, right: boolean): boolean {
  return combine('or', left as unknown as Int, right as unknown as Int) as unknown as boolean;
}

/** The largest value of a group of lanes and where it is. */
export function warpArgmax(value: Int, index: Int, width: number = 32): { value: Int; index: Int } {
  checkWidth(width);
  let all = { value, index };
  for (let distance = width / 2; distance >= 1; distance /= 2) {
    all = better(all.value, all.index, shuffleXor(all.value, distance), shuffleXor(all.index, distance));
  }
  return all;
}

export interface BlockOptions {
  /** Threads of the block, which is one-dimensional: a multiple of 32 to 1024. */
  readonly threads: number;
}

function warpsOf({ threads }: BlockOptions): number {
  if (threads >= 32 && threads <= 1024 && threads % 32 === 0) return threads / 32;
  throw new RangeError(`a block that reduces has a multiple of 32 threads to 1024, not ${threads}`);
}

/** Which warp's value a lane takes up: the warps again and again, so that every group of lanes reduces all of them. */
function slotOf(warps: number): Int {
  return combine('and', special('laneid'), widthOf(warps) - 1);
}

/** Exchanges one value of every warp: a lane gets that of the warp of its slot (of the last warp, beyond). */
function exchange(values: readonly Int[], warps: number, name: string): Int[] {
  const lane = special('laneid');
  const thread = special('tid.x');
  const places = values.map((value) => {
    const type = typeOf(value);
    return { type, first: sharedBytes(name, 4 * warps, 16, type) };
  });
  when(compare('eq', lane, 0), () => {
    const warp = combine('shr', thread, 5);
    for (const [i, { type, first }] of places.entries()) storeTo(moved(first, warp, 4), values[i], type, { align: 4 });
  });
  barrier();
  const other = combine('min', slotOf(warps), warps - 1);
  const out = places.map(({ type, first }) => loadFrom(moved(first, other, 4), type, { align: 4 }));
  // The next round of a loop must not write before everybody has read. Other exchanges have places of their own.
  if (inLoop()) barrier();
  return out;
}

/** The power of two that holds so many. */
function widthOf(count: number): number {
  return 2 ** Math.ceil(Math.log2(count));
}

/** Reduces over all threads of a block. All of them call it, outside of conditions. */
export function blockReduce(value: Int, options: BlockOptions, reduction: Reduction = 'sum'): Int {
  const warps = warpsOf(options);
  const mine = warpReduce(value, reduction);
  if (warps === 1) return mine;
  const [theirs] = exchange([mine], warps, 'reduction');
  const width = widthOf(warps);
  if (width === warps || reduction !== 'sum') return warpReduce(theirs, reduction, width);
  return warpReduce(select(compare('lt', slotOf(warps), warps), theirs, 0), reduction, width);
}

/** The largest value of a block and its index (the smallest of equal ones). All threads call it. */
export function blockArgmax(value: Int, index: Int, options: BlockOptions): { value: Int; index: Int } {
  const warps = warpsOf(options);
  const mine = warpArgmax(value, index);
  if (warps === 1) return mine;
  const [values, indices] = exchange([mine.value, mine.index], warps, 'argmax');
  return warpArgmax(values, indices, widthOf(warps));
}

/**
 * Reduces over all threads of a cluster through distributed shared memory: every CTA writes its result into all CTAs,
 * and each adds them in the order of the ranks. All threads of all CTAs call it.
 *
 * @param size CTAs of the cluster, at most 16
 */
export function clusterReduce(
  value: Int,
  options: BlockOptions & { readonly size: number },
  reduction: Reduction = 'sum',
): Int {
  const { size } = options;
  const mine = blockReduce(value, options, reduction);
  if (size === 1) return mine;
  if (!Number.isInteger(size) || size < 1 || size > 16) throw new RangeError(`a cluster has 1 to 16 CTAs, not ${size}`);
  const type = typeOf(value);
  const parts = sharedBytes('cluster_reduction', 4 * size, 16, type);
  const thread = special('tid.x');
  // Everybody runs, and has read what an earlier reduction left here.
  clusterSync();
  when(compare('lt', thread, size), () => {
    const place = moved(parts, special('cluster_ctarank'), 4);
    storeTo(mapShared(place, thread), mine, type, { align: 4 });
  });
  clusterSync();
  let all = loadFrom(parts, type, { align: 4 });
  for (let rank = 1; rank < size; rank++) {
    all = combine(OPS[reduction], all, loadFrom(moved(parts, rank, 4), type, { align: 4 }));
  }
  return all;
}
