import {
  bid,
  bidY,
  bidZ,
  blockReduce,
  ex2,
  f32,
  fma,
  fragment,
  gridDependencyWait,
  gridLaunchDependents,
  idiv,
  makeLayout,
  max,
  range,
  rcp,
  select,
  shared,
  sync,
  tid,
  _,
  type KernelIR,
  type Tensor,
} from '@rose/cute';
import { HEADS } from './support/attention.ts';
import { early } from './support/early.ts';
import { APPROXIMATION, bound } from './support/rounding.ts';
import { vectorsOf } from './support/rows.ts';
import { bytesOf } from './support/storage.ts';
import { traceKernel } from './support/trace.ts';
import {
  defineKernel,
  input,
  normal,
  output,
  values,
  type Chosen,
  type Dims,
  type KernelModule,
  type Specialisation,
} from './spec.ts';

const OPTIONS = { type: ['bf16', 'f16'], sinks: [false, true] } as const;

/** Splits are summed in four groups, a group's in ascending order, then the groups: by a split's own number. */
const GROUPS = 4;
/** Parts that a thread has under way. */
const AHEAD = 4;
/** Columns of a thread: 16 bytes of float32. */
const VECTOR = 4;

const BOUND = bound(
  4 * (APPROXIMATION.ex2 + APPROXIMATION.rcp) + 96,
  'sums of a few hundred parts, weighed by powers of differences up to 2^4; the magnitude is the sum of magnitudes',
);

/**
 * Puts together what `attention_decode` computed of each split: y = sum(w o) / sum(w sum), w = 2^(top - largest top).
 * `sinks` has a logit for each query head that takes part in the sum and weighs nothing (gpt-oss).
 *
 * `starts` says which items are whose, `rowStarts` which rows of `y`; `decodeItems` makes the lists. Of a sequence without
 * items nothing is read or written. A split that a row does not see changes nothing of it, bit for bit. The lists are read
 * early (`early`): the kernels before it must not write them.
 */
const attentionCombine: KernelModule = defineKernel({
  name: 'attention_combine',
  summary: 'y = sum over splits of 2^(top - largest) o, divided by that of 2^(top - largest) sum, with e^sink in it',
  dims: {
    sequences: 'sequences',
    tokens: 'most query tokens of a sequence, 1 to 8',
    splits: 'splits of a sequence',
    qHeads: 'query heads',
    head: 'elements of a head',
  },
  options: OPTIONS,
  tuning: {},
  refuse: ({ dims: { head } }) =>
    HEADS.includes(head) ? undefined : `heads of ${head} elements are not had: ${HEADS.join(', ')} are`,
  choose: () => ({}),
  args: argumentsOf,
  trace: record,
  grid: ({ dims: { sequences, tokens, qHeads } }) => [qHeads, tokens, sequences],
  reference: ({ o, stats, starts, rowStarts, sinks }, { sequences, tokens, qHeads, head }) => {
    const rows = rowStarts[sequences];
    const y = { values: new Float64Array(rows * qHeads * head), magnitude: new Float64Array(rows * qHeads * head) };
    for (let s = 0; s < sequences; s++) {
      for (let row = rowStarts[s]; row < rowStarts[s + 1]; row++) {
        for (let h = 0; h < qHeads; h++) {
          const cells = Array.from({ length: starts[s + 1] - starts[s] }, (_none, i) => {
            return ((starts[s] + i) * tokens + row - rowStarts[s]) * qHeads + h;
          });
          const sink = sinks ? sinks[h] * Math.LOG2E : -Infinity;
          const top = cells.reduce((most, cell) => Math.max(most, stats[2 * cell]), sink);
          let total = 2 ** (sink - top);
          const at = (row * qHeads + h) * head;
          for (const cell of cells) {
            const weight = 2 ** (stats[2 * cell] - top);
            total += weight * stats[2 * cell + 1];
            for (let e = 0; e < head; e++) {
              y.values[at + e] += weight * o[cell * head + e];
              y.magnitude[at + e] += weight * Math.abs(o[cell * head + e]);
            }
          }
          for (let e = 0; e < head; e++) {
            y.values[at + e] /= total;
            y.magnitude[at + e] /= total;
          }
        }
      }
    }
    return { y };
  },
  roofline: ({ sequences, tokens, splits, qHeads, head }, { type }) => {
    const cells = sequences * splits * tokens * qHeads;
    return {
      bytes: bytesOf('f32', cells * (head + 2)) + bytesOf(type, sequences * tokens * qHeads * head),
      flops: 2 * cells * head,
    };
  },
  cases: [
    { dims: { sequences: 1, tokens: 1, splits: 1, qHeads: 2, head: 64 } },
    { dims: { sequences: 2, tokens: 2, splits: 7, qHeads: 3, head: 128 }, options: { sinks: true } },
    { dims: { sequences: 1, tokens: 1, splits: 37, qHeads: 1, head: 96 }, options: { type: 'f16' } },
    { dims: { sequences: 2, tokens: 1, splits: 5, qHeads: 3, head: 32 } },
    { dims: { sequences: 32, tokens: 1, splits: 8, qHeads: 32, head: 128 }, large: true },
    { dims: { sequences: 1, tokens: 1, splits: 64, qHeads: 32, head: 128 }, large: true },
  ],
});

export default attentionCombine;

/** Sequences of `splits` splits, one fewer each, the first one of splits 1, 2...: what a window leaves of it. */
function argumentsOf(dims: Dims, { type, sinks }: Chosen<typeof OPTIONS>) {
  const { sequences, tokens, splits, qHeads, head } = dims;
  const starts = [0];
  const rowStarts = [0];
  const items: number[] = [];
  for (let s = 0; s < sequences; s++) {
    const own = Math.max(1, splits - s);
    for (let part = 0; part < own; part++) items.push(s, s === 0 ? part + 1 : part);
    starts.push(starts[s] + own);
    rowStarts.push(rowStarts[s] + tokens - (s % tokens));
  }
  const cells = [starts[sequences], tokens, qHeads];
  return {
    o: input('f32', [...cells, head]),
    stats: input('f32', [...cells, 2], (random, length) =>
      // Every seventh part is of a split that the row does not see.
      Float64Array.from({ length }, (_none, i) => {
        if (i % 2 === 1) return 1 + random.uniform();
        return i % 14 === 12 ? -Infinity : 3 * random.normal();
      }),
    ),
    items: input('i32', [starts[sequences], 2], values(items)),
    starts: input('i32', [sequences + 1], values(starts)),
    rowStarts: input('i32', [sequences + 1], values(rowStarts)),
    ...(sinks ? { sinks: input('f32', [qHeads], normal(2)) } : {}),
    y: output(type, [rowStarts[sequences], qHeads, head], BOUND),
  };
}

interface Tensors {
  readonly o: Tensor;
  readonly stats: Tensor;
  readonly items: Tensor;
  readonly starts: Tensor;
  readonly rowStarts: Tensor;
  readonly sinks?: Tensor;
  readonly y: Tensor;
}

function record({ dims, options }: Specialisation<typeof OPTIONS>): KernelIR {
  const { head } = dims;
  const vectors = head / VECTOR;
  const threads = vectors * GROUPS;
  const body = (t: Tensors): void => {
    'use gpu';
    const [h, token, sequence] = [bid(), bidY(), bidZ()];
    const [start, end] = [early(t.starts(sequence)), early(t.starts(sequence + 1))];
    if (start === end) {
      // The next kernel's wait is for all that were before this one, too.
      gridDependencyWait();
      return;
    }
    const row = early(t.rowStarts(sequence)) + token;
    const live = row < early(t.rowStarts(sequence + 1));
    const firstSplit = early(t.items(start, 1));
    gridDependencyWait();
    gridLaunchDependents();
    if (!live) return;
    const statsOf = (item: number) => vectorsOf(t.stats(item, token, h, _), 2)(_, 0);

    const sink = t.sinks === undefined ? f32(-Infinity) : t.sinks[h] * Math.LOG2E;
    let largest = sink;
    for (const item of range(start + tid(), end, threads)) largest = max(largest, t.stats(item, token, h, 0).load()[0]);
    const top = f32(blockReduce(largest, { threads }, 'max'));

    const group = idiv(tid(), vectors);
    const vector = tid() - group * vectors;
    const sums = fragment('f32', VECTOR);
    let total = f32(0);
    // A group has the splits whose number it is, modulo the number of groups.
    const own = start + ((group - firstSplit) & (GROUPS - 1));
    for (const first of range(own, end, GROUPS * AHEAD)) {
      const items = Array.from({ length: AHEAD }, (_none, i) => first + GROUPS * i);
      const stats = items.map((item) => statsOf(item).load({ where: item < end, otherwise: -Infinity }));
      const parts = items.map((item) =>
        vectorsOf(t.o(item, token, h, _), VECTOR)(_, vector).load({ where: item < end }),
      );
      for (let i = 0; i < AHEAD; i++) {
        const seen = stats[i][0] > -Infinity;
        const weight = select(seen, ex2(stats[i][0] - top), f32(0));
        total = fma(weight, select(seen, stats[i][1], f32(0)), total);
        for (let e = 0; e < VECTOR; e++) sums[e] = fma(weight, parts[i][e], sums[e]);
      }
    }
    const shares = shared(f32, makeLayout([GROUPS, head], [head, 1]), { name: 'shares' });
    const totals = shared(f32, GROUPS, { name: 'totals' });
    vectorsOf(shares(group, _), VECTOR)(_, vector).store(sums);
    if (vector === 0) totals[group] = total;
    sync();
    if (group === 0) {
      for (let g = 1; g < GROUPS; g++) {
        total += totals[g];
        const share = vectorsOf(shares(g, _), VECTOR)(_, vector).load();
        for (let e = 0; e < VECTOR; e++) sums[e] += share[e];
      }
      if (t.sinks) total += ex2(sink - top);
      const inverse = rcp(total);
      // Adding 0 makes -0 a 0: a row's zeros are the same however many empty tiles it met.
      const y = sums.map((e) => fma(e, inverse, f32(0)));
      vectorsOf(t.y(row, h, _), VECTOR)(_, vector).store(y.to(t.y.type));
    }
  };
  return traceKernel('attention_combine', argumentsOf(dims, options), threads, body, { waits: true });
}
