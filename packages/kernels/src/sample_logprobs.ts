import {
  atomic,
  bid,
  bitcast,
  f32,
  i32,
  min,
  range,
  select,
  shared,
  sync,
  tid,
  u32,
  u64,
  _,
  type KernelIR,
  type Tensor,
} from '@rose/cute';
import { HELD, heldMemory, heldRefused, heldShape, pitchOf, ROW_TUNING, rowTuning } from './support/sample-held.ts';
import { SAMPLE_FACTS, SAMPLE_TOP, SampleFact as Fact } from './support/sample-params.ts';
import { heldOrders, rowFacts, rowsOfLogits, variedLogits } from './support/sample-reference.ts';
import { isFinite, logitOf, orderOf, SampleRow, type Weighing } from './support/sample-row.ts';
import { massOf, orderOfCount, placeOfCount, sumOfWarps } from './support/sample-select.ts';
import { traceKernel } from './support/trace.ts';
import { bytesOf } from './support/storage.ts';
import { defineKernel, input, integers, output, type KernelModule, type Specialisation } from './spec.ts';
import { weightScale } from './weight.ts';

const OPTIONS = { held: HELD } as const;
/** Behind every place. */
const NO_PLACE = 0xffff_ffff_ffff_ffffn;

/**
 * What a model makes of a token: of each row that is asked for, the token's logit and rank, the largest logit, the sum of all
 * weights (weight.ts at temperature 1), and the `asked` most likely tokens with their logits, ties by id. The logarithm is the
 * reader's: log p = logit - maximum - ln(sum / 2^35). Nothing is written for rows with `asked` -1, and rank 0 alone for rows
 * with token -1 or without a finite maximum. Rows are held as `sample` holds them.
 */
const sampleLogprobs: KernelModule = defineKernel({
  name: 'sample_logprobs',
  summary:
    'facts[r] = logit and rank of token[r], maximum and sum of weights; top[r] = the most likely tokens, then their logits',
  dims: { rows: 'rows', vocabulary: 'logits of a row' },
  options: OPTIONS,
  tuning: ROW_TUNING,
  refuse: ({ dims: { vocabulary }, options, tuning }) => heldRefused(vocabulary, options, tuning),
  choose: ({ vocabulary }, options) => rowTuning(vocabulary, options),
  tables: { key: ({ vocabulary }, options) => ({ ...options, vocabulary }) },
  args: ({ rows, vocabulary }, { held }) => ({
    logits: input('f32', [rows, vocabulary], (random, length) => variedLogits(random, length, vocabulary)),
    asked: input('i32', [rows], (_random, length) =>
      Float64Array.from({ length }, (_none, r) => [5, 0, 20, -1, 1][r % 5]),
    ),
    token: input('i32', [rows], integers(vocabulary)),
    ...(held === 'global' ? { row: output('u32', [rows, pitchOf(vocabulary)]) } : {}),
    facts: output('i32', [rows, SAMPLE_FACTS]),
    top: output('i32', [rows, 2 * SAMPLE_TOP]),
  }),
  trace: record,
  grid: ({ dims: { rows }, tuning: { cluster } }) => [rows * cluster, 1, 1],
  reference: ({ logits, asked, token }, { rows, vocabulary }) => {
    const all = rowsOfLogits(logits, rows, vocabulary);
    const held = heldOrders(all, pitchOf(vocabulary));
    for (let r = 0; r < rows; r++) {
      if (asked[r] < 0) held.fill(0xffffffff, r * pitchOf(vocabulary), (r + 1) * pitchOf(vocabulary));
    }
    return { ...rowFacts(all, asked, token), row: held };
  },
  roofline: ({ rows, vocabulary }) => ({ bytes: bytesOf('f32', rows * vocabulary), flops: rows * vocabulary }),
  cases: [
    { dims: { rows: 7, vocabulary: 300 }, tuning: { cluster: 1, threads: 64 } },
    { dims: { rows: 8, vocabulary: 1027 }, tuning: { cluster: 4, threads: 64 } },
    { dims: { rows: 3, vocabulary: 18 }, tuning: { cluster: 1, threads: 64 } },
    { dims: { rows: 7, vocabulary: 700 }, options: { held: 'global' }, tuning: { threads: 256 } },
    { dims: { rows: 128, vocabulary: 128256 }, large: true },
    { dims: { rows: 7, vocabulary: 262144 }, large: true },
    { dims: { rows: 7, vocabulary: 151936 }, options: { held: 'global' }, large: true },
  ],
});

export default sampleLogprobs;

interface Tensors {
  readonly logits: Tensor<f32>;
  readonly asked: Tensor<i32>;
  readonly token: Tensor<i32>;
  readonly row?: Tensor<u32>;
  readonly facts: Tensor<i32>;
  readonly top: Tensor<i32>;
}

function record({ dims, options, tuning }: Specialisation<typeof OPTIONS, typeof ROW_TUNING>): KernelIR {
  const { cluster, threads } = tuning;
  const shape = heldShape(dims.vocabulary, options, tuning);
  const body = (t: Tensors): void => {
    'use gpu';
    const o = bid() >> Math.log2(cluster);
    const row = new SampleRow(shape, heldMemory(t.row, o, shape));
    const asked = t.asked[o];
    if (asked >= 0) {
      row.begin();
      const read = row.read(t.logits(o, _), 0);
      const token = t.token[o];
      const facts = t.facts(o, _);
      if (!isFinite(read.order) || token < 0) {
        if (row.rank === 0 && tid() === 0) facts[Fact.RANK] = i32(0);
      } else {
        const weighing = { maximum: logitOf(read.order), scale: f32(weightScale(1)) };
        judge(row, weighing, t.logits(o, _)[token], token, facts);
        if (asked > 0) report(row, weighing, read.own, min(asked, Math.min(SAMPLE_TOP, dims.vocabulary)), t.top(o, _));
      }
    }
  };
  return traceKernel('sample_logprobs', sampleLogprobs.args(dims, options), threads, body, { cluster });
}

function judge(row: SampleRow, weighing: Weighing, logit: f32, token: i32, facts: Tensor<i32>): void {
  'use gpu';
  const { total } = massOf(row, weighing, { end: row.end(), least: u64(0) }, 0);
  const own = row.place(orderOf(logit), token);
  let before = u32(0);
  row.each((order, id) => {
    'use gpu';
    before += select(row.place(order, id) < own, u32(1), u32(0));
  });
  const rank = sumOfWarps(row, u64(before), 1).total + 1;
  if (row.rank === 0 && tid() === 0) {
    facts[Fact.LOGIT] = bitcast(i32, logit);
    facts[Fact.MAXIMUM] = bitcast(i32, weighing.maximum);
    facts[Fact.SUM] = i32(u32(total));
    facts[Fact.SUM_HIGH] = i32(u32(total >> 32));
    facts[Fact.RANK] = i32(rank);
  }
}

/** Collects the `wanted` most likely tokens in the first CTA, which puts them in order. */
function report(row: SampleRow, weighing: Weighing, own: u32, wanted: i32, top: Tensor<i32>): void {
  'use gpu';
  const { cluster, threads, idBits } = row.shape;
  const mine = shared(u64, SAMPLE_TOP, { name: 'most likely' });
  const all = shared(u64, cluster * SAMPLE_TOP, { name: 'most likely of all' });
  const count = shared(u32, 1, { name: 'how many' });
  for (let i = tid(); i < SAMPLE_TOP; i += threads) mine[i] = u64(NO_PLACE);
  if (tid() === 0) count[0] = u32(0);
  // The barriers of the search stand between this and what follows.
  const last = orderOfCount(row, weighing, own, wanted);
  const end = placeOfCount(row, weighing, row.place(last, i32(2 ** idBits - 1)), wanted, i32(1)).place;
  row.each((order, id) => {
    'use gpu';
    const place = row.place(order, id);
    if (place <= end) mine[i32(atomic(count, 'add', u32(1), { scope: 'cta' }))] = place;
  });
  sync();
  for (let i = tid(); i < SAMPLE_TOP; i += threads) row.on(all, i32(0))[row.rank * SAMPLE_TOP + i] = mine[i];
  row.together();
  if (row.rank === 0) {
    for (let i = tid(); i < cluster * SAMPLE_TOP; i += threads) {
      const place = all[i];
      let rank = i32(0);
      for (const other of range(cluster * SAMPLE_TOP)) rank += select(all[other] < place, i32(1), i32(0));
      if (place <= end) {
        top[rank] = i32(u32(place) & (2 ** idBits - 1));
        top[SAMPLE_TOP + rank] = bitcast(i32, logitOf(u32(place >> idBits)));
      }
    }
  }
}
