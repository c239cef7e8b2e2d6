import {
  ballot,
  bid,
  i32,
  idiv,
  laneId,
  lanesBelow,
  min,
  popc,
  shared,
  sync,
  tid,
  warpId,
  warpReduce,
  _,
  type KernelIR,
  type Tensor,
} from '@rose/cute';
import { rowBucket } from './support/bucket.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, input, integers, output, scalar, type KernelModule, type Specialisation } from './spec.ts';

const TUNING = { threads: [256, 512, 1024] } as const;
const OPTIONS = {} as const;

/** Ids that a lane has under way. */
const AHEAD = 4;

/**
 * Sorts what tokens chose by expert: where each expert's rows begin (`groups`, as `linear_grouped` takes them), the token of
 * each row (for `embedding`, which gathers rows), and the row of each choice (for `moe_combine`). The sort is stable: an
 * expert's rows are in the order of the tokens. A CTA does one expert: it counts the choices below and of its own, then
 * writes its own where they belong; nothing depends on who comes first. Ids must be experts.
 */
const moeSort: KernelModule = defineKernel({
  name: 'moe_sort',
  summary:
    "groups[e] = choices below e; row[t][i] = where choice i of token t goes, by expert; token[r] = row r's token",
  dims: { tokens: 'tokens', chosen: 'experts of a token', experts: 'experts' },
  options: OPTIONS,
  tuning: TUNING,
  choose: ({ tokens, chosen }) => ({ threads: tokens * chosen <= 8192 ? 256 : 1024 }),
  tables: { key: ({ tokens, chosen, experts }) => ({ tokens: rowBucket(tokens), chosen, experts }) },
  args: ({ tokens, chosen, experts }) => ({
    // Row after row, as topk writes them: [tokens, chosen].
    ids: input('i32', [tokens * chosen], integers(experts)),
    groups: output('i32', [experts + 1]),
    token: output('i32', [tokens * chosen]),
    row: output('i32', [tokens * chosen]),
    tokens: scalar('i32', tokens),
  }),
  trace: record,
  grid: ({ dims: { experts } }) => [experts, 1, 1],
  reference: ({ ids }, { chosen, experts }) => {
    const order = Array.from(ids.keys()).toSorted((a, b) => ids[a] - ids[b] || a - b);
    const row = new Float64Array(ids.length);
    for (const [place, choice] of order.entries()) row[choice] = place;
    const below = (expert: number): number => ids.filter((id) => id < expert).length;
    return {
      groups: Float64Array.from({ length: experts + 1 }, (_none, expert) => below(expert)),
      token: Float64Array.from(order, (choice) => Math.floor(choice / chosen)),
      row,
    };
  },
  roofline: ({ tokens, chosen, experts }) => ({ bytes: 4 * (3 * tokens * chosen + experts + 1), flops: 0 }),
  cases: [
    { dims: { tokens: 1, chosen: 8, experts: 16 } },
    { dims: { tokens: 150, chosen: 2, experts: 3 } },
    { dims: { tokens: 131, chosen: 8, experts: 5 } },
    { dims: { tokens: 1, chosen: 8, experts: 128 }, large: true },
    { dims: { tokens: 4096, chosen: 8, experts: 128 }, large: true },
  ],
});

export default moeSort;

interface Tensors {
  readonly ids: Tensor<i32>;
  readonly groups: Tensor<i32>;
  readonly token: Tensor<i32>;
  readonly row: Tensor<i32>;
  readonly tokens: i32;
}

function record({ dims, options, tuning }: Specialisation<typeof OPTIONS, typeof TUNING>): KernelIR {
  const { chosen, experts } = dims;
  const { threads } = tuning;
  const warps = threads / 32;
  return traceKernel('moe_sort', moeSort.args(dims, options), threads, (t: Tensors) => {
    'use gpu';
    const expert = bid();
    const count = t.tokens * chosen;
    // Each warp has a piece of the choices, of whole rounds.
    const rounds = idiv(count + (threads * AHEAD - 1), threads * AHEAD);
    const first = warpId() * (rounds * 32 * AHEAD);
    const lane = laneId();
    const ids = (round: i32): i32[] => {
      'use gpu';
      return Array.from({ length: AHEAD }, (_none, i) => {
        'use gpu';
        const at = first + (round * AHEAD + i) * 32 + lane;
        const id = t.ids[min(at, count - 1)];
        // Nobody's.
        return at < count ? id : i32(experts);
      });
    };
    let [below, own] = [i32(0), i32(0)];
    for (let round = i32(0); round < rounds; round += 1) {
      for (const id of ids(round)) {
        below += id < expert ? 1 : 0;
        own += id === expert ? 1 : 0;
      }
    }
    const counts = shared(i32, [2, warps]);
    const [allBelow, allOwn] = [warpReduce(below) as i32, warpReduce(own) as i32];
    if (lane === 0) {
      counts(0, _)[warpId()] = allBelow;
      counts(1, _)[warpId()] = allOwn;
    }
    sync();
    let [start, total, next] = [i32(0), i32(0), i32(0)];
    for (let warp = 0; warp < warps; warp++) {
      const theirs = counts(1, _)[warp];
      start += counts(0, _)[warp];
      next += warp < warpId() ? theirs : 0;
      total += theirs;
    }
    if (tid() === 0) {
      t.groups[expert] = start;
      if (expert === experts - 1) t.groups[experts] = start + total;
    }
    next += start;
    for (let round = i32(0); round < rounds; round += 1) {
      for (const [i, id] of ids(round).entries()) {
        const at = first + (round * AHEAD + i) * 32 + lane;
        const mine = id === expert;
        const all = ballot(mine);
        if (mine) {
          const place = next + i32(popc(all & lanesBelow()));
          t.token[place] = idiv(at, chosen);
          t.row[at] = place;
        }
        next += i32(popc(all));
      }
    }
  });
}
