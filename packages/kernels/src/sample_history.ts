import { bid, tid, type i32, type KernelIR, type Tensor } from '@rose/cute';
import { traceKernel } from './support/trace.ts';
import { defineKernel, input, integers, scalar, updated, type KernelModule, type Specialisation } from './spec.ts';

const OPTIONS = {} as const;
const TUNING = { threads: [128, 256] } as const;

/**
 * Puts entries of histories in their places: `changes` are triples (place, token, times), and entry `place` of `history` becomes
 * (token, times). Places must be in the history, each once.
 */
const sampleHistory: KernelModule = defineKernel({
  name: 'sample_history',
  summary: 'history[changes[i][0]] = (changes[i][1], changes[i][2])',
  dims: { count: 'changes', entries: 'entries of the history' },
  options: OPTIONS,
  tuning: TUNING,
  choose: () => ({ threads: 128 }),
  args: ({ count, entries }) => ({
    changes: input('i32', [3 * count], (random, length) =>
      Float64Array.from({ length }, (_none, i) => (i % 3 === 0 ? (i * 5) % entries : random.integer(1000))),
    ),
    history: updated('i32', [2 * entries], undefined, integers(1000)),
    count: scalar('i32', count),
  }),
  trace: record,
  grid: ({ dims: { count }, tuning: { threads } }) => [Math.ceil(count / threads), 1, 1],
  reference: ({ changes, history, count }) => {
    const after = history.slice();
    for (let i = 0; i < count; i++) after.set(changes.subarray(3 * i + 1, 3 * i + 3), 2 * changes[3 * i]);
    return { history: after };
  },
  roofline: ({ count }) => ({ bytes: 20 * count, flops: 0 }),
  cases: [{ dims: { count: 3, entries: 64 } }, { dims: { count: 130, entries: 512 } }],
});

export default sampleHistory;

interface Tensors {
  readonly changes: Tensor<i32>;
  readonly history: Tensor<i32>;
  readonly count: i32;
}

function record({ dims, options, tuning: { threads } }: Specialisation<typeof OPTIONS, typeof TUNING>): KernelIR {
  return traceKernel('sample_history', sampleHistory.args(dims, options), threads, (t: Tensors) => {
    'use gpu';
    const at = bid() * threads + tid();
    if (at < t.count) {
      const place = t.changes[3 * at];
      t.history[2 * place] = t.changes[3 * at + 1];
      t.history[2 * place + 1] = t.changes[3 * at + 2];
    }
  });
}
