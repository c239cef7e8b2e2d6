import {
  bid,
  bitcast,
  f32,
  f64,
  i32,
  max,
  min,
  select,
  sync,
  tid,
  u32,
  u64,
  _,
  type KernelIR,
  type Tensor,
} from '@rose/cute';
import { deviceUniform } from './support/philox.ts';
import { SAMPLE_WORDS, SampleField as Field } from './support/sample-params.ts';
import {
  changedLogits,
  drawnTokens,
  heldOrders,
  LIST_WORDS,
  variedHistory,
  variedLogits,
  variedMasks,
  variedStep,
} from './support/sample-reference.ts';
import { isFinite, LAST_ORDER, logitOf, orderOf, SampleRow, type Best } from './support/sample-row.ts';
import { collect, drawFew } from './support/sample-few.ts';
import {
  ceil64,
  drawFrom,
  levelOfShare,
  orderOfCount,
  placeOfCount,
  placeOfShare,
  refined,
} from './support/sample-select.ts';
import { HELD, heldMemory, heldRefused, heldShape, pitchOf, ROW_TUNING, rowTuning } from './support/sample-held.ts';
import { traceKernel } from './support/trace.ts';
import { bytesOf } from './support/storage.ts';
import { defineKernel, input, output, type KernelCase, type KernelModule, type Specialisation } from './spec.ts';
import { WEIGHT_ONE } from './weight.ts';

const OPTIONS = { choice: ['any', 'greedy'], held: HELD } as const;
type Sample = Specialisation<typeof OPTIONS, typeof ROW_TUNING>;

/**
 * Draws each row's next token from its logits: bias, penalties and masks, then temperature, top-k, top-p and min-p, then the
 * draw, as the engine's `drawToken` does it, to the bit (weight.ts). A row without a finite maximum has token -1.
 *
 * A row is held by a cluster of CTAs in their shared memory, read once; where there are no clusters (`held: 'global'`), by one
 * CTA in `row`. The logits stay as they are. `choice: 'greedy'`: rows without bias, penalties, masks and temperature, of
 * which nothing is held. Entries of lists must be tokens, each once in its list but that of forbidden ones.
 */
const sample: KernelModule = defineKernel({
  name: 'sample',
  summary:
    'token[r] = a draw from softmax(logits[r] / temperature), after penalties and masks, within top-k, top-p and min-p',
  dims: {
    rows: 'rows',
    vocabulary: 'logits of a row',
    words: 'words of parameters and lists',
    history: 'words of histories',
    masks: 'words of masks',
  },
  options: OPTIONS,
  tuning: ROW_TUNING,
  refuse: ({ dims: { vocabulary }, options, tuning }) => heldRefused(vocabulary, options, tuning),
  choose: ({ vocabulary }, options) => rowTuning(vocabulary, options),
  tables: { key: ({ vocabulary }, options) => ({ ...options, vocabulary }) },
  args: ({ rows, vocabulary, words, history, masks }, { choice, held }) => ({
    logits: input('f32', [rows, vocabulary], (random, length) => variedLogits(random, length, vocabulary)),
    ...(choice === 'greedy'
      ? {}
      : {
          step: input('i32', [words], (random, length) => variedStep(random, length, rows, vocabulary)),
          history: input('i32', [history], (random, length) => variedHistory(random, length, vocabulary)),
          masks: input('i32', [masks], (random, length) => variedMasks(random, length, vocabulary)),
        }),
    ...(choice === 'any' && held === 'global' ? { row: output('u32', [rows, pitchOf(vocabulary)]) } : {}),
    token: output('i32', [rows]),
  }),
  trace: record,
  grid: ({ dims: { rows }, tuning: { cluster } }) => [rows * cluster, 1, 1],
  reference: ({ logits, step, history, masks }, { rows, vocabulary }) => {
    const changed = changedLogits(logits, rows, vocabulary, step, history, masks);
    return { token: drawnTokens(changed, step), row: heldOrders(changed, pitchOf(vocabulary)) };
  },
  roofline: ({ rows, vocabulary }) => ({
    bytes: bytesOf('f32', rows * vocabulary) + 4 * rows,
    flops: rows * vocabulary,
  }),
  cases: [
    sized(14, 300, { tuning: { cluster: 1, threads: 64 } }),
    sized(21, 1027, { tuning: { cluster: 2, threads: 64 } }),
    sized(9, 2050, { tuning: { cluster: 4, threads: 128 } }),
    sized(7, 700, { options: { held: 'global' }, tuning: { threads: 256 } }),
    sized(7, 1000, { options: { choice: 'greedy' }, tuning: { cluster: 2, threads: 64 } }),
    sized(64, 32000, { large: true }),
    sized(128, 128256, { large: true }),
    sized(16, 262144, { large: true }),
    sized(16, 151936, { options: { held: 'global' }, large: true }),
    sized(128, 128256, { options: { choice: 'greedy' }, large: true }),
  ],
});

export default sample;

/** A case with room for the lists of `variedStep`. */
function sized(rows: number, vocabulary: number, more: Omit<KernelCase<typeof OPTIONS, typeof ROW_TUNING>, 'dims'>) {
  const masks = 2 * Math.ceil(vocabulary / 32);
  return { dims: { rows, vocabulary, words: rows * SAMPLE_WORDS + LIST_WORDS, history: 64, masks }, ...more };
}

interface Tensors {
  readonly logits: Tensor<f32>;
  readonly step: Tensor<i32>;
  readonly history: Tensor<i32>;
  readonly masks: Tensor<i32>;
  readonly row?: Tensor<u32>;
  readonly token: Tensor<i32>;
}

function record({ dims, options, tuning }: Sample): KernelIR {
  const { cluster, threads } = tuning;
  const shape = heldShape(dims.vocabulary, options, tuning);
  const body = (t: Tensors, release: () => void): void => {
    'use gpu';
    const o = bid() >> Math.log2(cluster);
    const any = options.choice === 'any';
    const row = new SampleRow(shape, any ? heldMemory(t.row, o, shape) : undefined);
    row.begin();
    const read = row.read(t.logits(o, _), 0);
    release();
    const token = t.token(o);
    if (any) draw(row, t, o, read, token);
    else if (row.rank === 0 && tid() === 0) token[0] = select(isFinite(read.order), read.id, i32(-1));
  };
  return traceKernel('sample', sample.args(dims, options), threads, body, { cluster });
}

function draw(row: SampleRow, t: Tensors, o: i32, read: Best, token: Tensor<i32>): void {
  'use gpu';
  const fields = t.step.tile(SAMPLE_WORDS, o);
  const word = (field: number): i32 => fields[field];
  const number = (field: number): f32 => bitcast(f32, fields[field]);
  let { order, id, own } = read;
  const [mask, grammar] = [word(Field.MASK_AT), word(Field.GRAMMAR_AT)];
  const lists =
    word(Field.HISTORY_COUNT) + word(Field.MORE_COUNT) + word(Field.BIAS_COUNT) + word(Field.FORBIDDEN_COUNT);
  if (lists > 0 || mask >= 0 || grammar >= 0) {
    adjust(row, t, word, number);
    if (mask >= 0) forbid(row, t.masks, mask);
    if (grammar >= 0) forbid(row, t.masks, grammar);
    const now = row.mostLikely(1);
    order = now.order;
    id = now.id;
    own = now.own;
  }
  const scale = number(Field.SCALE);
  const first = row.rank === 0 && tid() === 0;
  if (!isFinite(order)) {
    if (first) token[0] = i32(-1);
  } else if (scale === 0) {
    if (first) token[0] = id;
  } else {
    const weighing = { maximum: logitOf(order), scale };
    const [topK, topP] = [word(Field.TOP_K), number(Field.TOP_P)];
    const least = ceil64(f64(number(Field.MIN_P)) * WEIGHT_ONE);
    const seed = [word(Field.SEED), word(Field.SEED_HIGH), word(Field.POSITION)].map((value) => bitcast(u32, value));
    const share = deviceUniform(seed[0], seed[1], seed[2]);
    if (topK > 0 || topP < 1) {
      // Where few tokens are in question, they are all that is looked at.
      let [last, wanted, base, members] = [u32(LAST_ORDER), u64(0), u64(0), u64(0)];
      let [low, high] = [u64(0), row.end()];
      if (topK > 0) last = orderOfCount(row, weighing, own, topK);
      else {
        const level = levelOfShare(row, weighing, high, topP, i32(0));
        wanted = level.wanted;
        base = level.base;
        members = level.members;
        low = level.low;
        high = level.high;
        last = u32(high >> row.shape.idBits);
      }
      const total = collect(row, last);
      if (total <= row.shape.threads) drawFew(row, weighing, total, { topK, topP, wanted, least }, share, token);
      else {
        row.clear(0);
        row.clear(1);
        sync();
        let end = high;
        let parity = i32(0);
        if (topK > 0) {
          const threshold = placeOfCount(row, weighing, row.place(last, i32(2 ** row.shape.idBits - 1)), topK, parity);
          end = threshold.place;
          parity = threshold.parity;
          if (topP < 1) end = placeOfShare(row, weighing, end, topP, parity).place;
        } else end = refined(row, 'mass', weighing, { wanted, base, members, low, high }, parity).place;
        drawFrom(row, weighing, { end, least }, share, token);
      }
    } else drawFrom(row, weighing, { end: row.end(), least }, share, token);
  }
}

type Word = (field: number) => i32;

/** Bias, then penalties, then what is forbidden, on the ids that this CTA holds. */
function adjust(row: SampleRow, { step, history }: Tensors, word: Word, number: (field: number) => f32): void {
  'use gpu';
  entries(row, step, word(Field.BIAS_AT), word(Field.BIAS_COUNT), (logit, at) => {
    'use gpu';
    return logit + bitcast(f32, step[at + 1]);
  });
  const penalise = (list: Tensor<i32>) => (logit: f32, at: i32) => {
    'use gpu';
    const [repetition, times] = [number(Field.REPETITION), f32(list[at + 1])];
    const scaled = logit > 0 ? logit / repetition : logit * repetition;
    const penalty = number(Field.PRESENCE) + number(Field.FREQUENCY) * times;
    return select(times > 0, scaled - penalty, scaled);
  };
  entries(row, history, word(Field.HISTORY_AT), word(Field.HISTORY_COUNT), penalise(history));
  entries(row, step, word(Field.MORE_AT), word(Field.MORE_COUNT), penalise(step));
  const [forbidden, count] = [word(Field.FORBIDDEN_AT), word(Field.FORBIDDEN_COUNT)];
  for (let i = tid(); i < count; i += row.shape.threads) {
    const place = step[forbidden + i] - row.first;
    if (place >= 0 && place < row.shape.slice) row.memory[place] = u32(LAST_ORDER);
  }
  sync();
}

/** Changes the logits of a list's tokens, which are all different: pairs of a token and something. */
function entries(row: SampleRow, list: Tensor<i32>, at: i32, count: i32, change: (logit: f32, at: i32) => f32): void {
  'use gpu';
  const { slice, threads } = row.shape;
  for (let i = tid(); i < count; i += threads) {
    const entry = at + 2 * i;
    const place = list[entry] - row.first;
    if (place >= 0 && place < slice) row.memory[place] = orderOf(change(logitOf(row.memory[place]), entry));
  }
  sync();
}

/** Tokens whose bit is not set cannot be drawn. */
function forbid(row: SampleRow, masks: Tensor<i32>, at: i32): void {
  'use gpu';
  const last = Math.ceil(row.shape.vocabulary / 32) - 1;
  row.change((held, id) => {
    'use gpu';
    const bits = masks[at + min(id >> 5, last)] >> (id & 31);
    return held.map((order, i) => select((bits & (1 << i)) !== 0, order, max(order, u32(LAST_ORDER))));
  });
  sync();
}
