import {
  atomic,
  bitcast,
  f64,
  i32,
  laneId,
  makeLayout,
  min,
  range,
  select,
  shared,
  sync,
  tensorAt,
  tid,
  u32,
  u64,
  warpId,
  _,
  type f32,
  type Tensor,
} from '@rose/cute';
import { deviceWeight, warpSum64, type SampleRow, type Weighing } from './sample-row.ts';
import { shareOf } from './sample-select.ts';

/**
 * Draws among few tokens, as nearly all draws with top-k or top-p are: the first CTA of the row has them all, one a thread,
 * and each thread compares its own with all others.
 */

/** What may be drawn of those tokens; see SampleField. */
export interface FewChoice {
  /** 0: all. */
  readonly topK: i32;
  /** From 1 on: all. */
  readonly topP: f32;
  /** Without top-k: the mass that top-p leaves, of all tokens. */
  readonly wanted: u64;
  readonly least: u64;
}

/** Lists the tokens of orders up to `last` and gives how many there are; more than threads are not all listed. */
export function collect(row: SampleRow, last: u32): u32 {
  'use gpu';
  const { cluster, threads } = row.shape;
  const list = listOf(row);
  row.eachWithin(u32(0), last, (order, id) => {
    'use gpu';
    const at = i32(atomic(row.count, 'add', u32(1), { scope: 'cta' }));
    if (at < threads) list[at] = row.place(order, id);
  });
  row.together();
  let total = u32(0);
  for (let rank = 0; rank < cluster; rank++) total += row.on(row.count, rank)[0];
  return total;
}

/** The list stands where the second histogram was. */
function listOf(row: SampleRow): Tensor<u64> {
  'use gpu';
  return tensorAt(row.histogram(0, 0, 1).address, u64, makeLayout(row.shape.threads));
}

/** The draw among the tokens that `collect` has listed, `total` of them. */
export function drawFew(
  row: SampleRow,
  weighing: Weighing,
  total: u32,
  { topK, topP, wanted, least }: FewChoice,
  share: f64,
  token: Tensor<i32>,
): void {
  'use gpu';
  const { cluster, threads, idBits } = row.shape;
  const [places, weights] = arraysOf(row);
  if (row.rank === 0) {
    let base = i32(0);
    for (let rank = 0; rank < cluster; rank++) {
      const count = i32(row.on(row.count, rank)[0]);
      if (tid() < count) places[base + tid()] = row.on(listOf(row), rank)[tid()];
      base += count;
    }
  }
  // The others' lists are read.
  row.together();
  if (row.rank === 0) {
    const listed = tid() < i32(total);
    const place = places[min(tid(), i32(total) - 1)];
    const weight = select(listed, deviceWeight(u32(place >> idBits), weighing), u64(0));
    weights[tid()] = weight;
    sync();
    let [before, mass] = [i32(0), u64(0)];
    for (const other of range(i32(total))) {
      const first = places[other] < place;
      before += select(first, i32(1), i32(0));
      mass += select(first, weights[other], u64(0));
    }
    const within = topK === 0 || before < topK;
    const all = blockSum64(row, select(within, weight, u64(0)));
    const most = select(topK > 0, shareOf(all, topP), wanted);
    const chosen = within && (topP >= 1 || mass < most) && weight >= least;
    const kept = select(chosen, weight, u64(0));
    weights[tid()] = kept;
    const sum = blockSum64(row, kept);
    const target = min(u64(share * f64(sum)), sum - 1);
    const id = u32(place) & (2 ** idBits - 1);
    let start = u64(0);
    for (const other of range(i32(total))) {
      const earlier = (u32(places[other]) & (2 ** idBits - 1)) < id;
      start += select(earlier, weights[other], u64(0));
    }
    if (listed && start <= target && target < start + kept) token[0] = bitcast(i32, id);
  }

  /** What was held is not needed any more; global memory stays as it is. */
  function arraysOf(of: SampleRow): [Tensor<u64>, Tensor<u64>] {
    const { memory } = of;
    const two =
      memory.space === 'shared'
        ? tensorAt(memory.address, u64, makeLayout([threads, 2]))
        : shared(u64, [threads, 2], { name: 'few' });
    return [two(_, 0), two(_, 1)];
  }
}

/** The sum over the CTA. */
function blockSum64(row: SampleRow, value: u64): u64 {
  'use gpu';
  const sum = warpSum64(value);
  sync();
  if (laneId() === 0) row.totals[warpId()] = sum;
  sync();
  let all = u64(0);
  for (let warp = 0; warp < row.shape.threads / 32; warp++) all += row.totals[warp];
  return all;
}
