import {
  bid,
  f32,
  TYPE_TOKENS,
  gdim,
  idiv,
  tid,
  _,
  type Fragment,
  type i32,
  type KernelIR,
  type Tensor,
} from '@rose/cute';
import { vectorsOf } from './support/rows.ts';
import { traceKernel } from './support/trace.ts';
import { saturated } from './support/reference.ts';
import { bound } from './support/rounding.ts';
import { bytesOf } from './support/storage.ts';
import {
  defineKernel,
  input,
  normal,
  output,
  scalar,
  type Chosen,
  type KernelModule,
  type Specialisation,
} from './spec.ts';

const TYPES = ['bf16', 'f16', 'f32', 'e4m3'] as const;

const OPTIONS = { from: TYPES, to: TYPES } as const;
const TUNING = { threads: [128, 256, 512], turns: [1, 2, 4, 8] } as const;

/** Copies elements, from one float type to another where they differ: rounded to nearest even, e4m3 saturates. */
const cast: KernelModule = defineKernel({
  name: 'cast',
  summary: 'y = x, in another type',
  dims: { count: 'elements' },
  options: OPTIONS,
  tuning: TUNING,
  choose: () => ({ threads: 256, turns: 4 }),
  tables: { key: ({ count }, options) => ({ ...options, count: 2 ** Math.ceil(Math.log2(count)) }) },
  args: ({ count }, { from, to }) => ({
    x: input(from, [count], normal(16)),
    y: output(to, [count], from === to ? undefined : bound(0, 'one rounding')),
    count: scalar('i32', count),
  }),
  trace: record,
  grid: ({ dims: { count }, options: { from, to }, tuning: { threads, turns } }) => [
    Math.ceil(count / (castVector(from, to) * threads * turns)),
    1,
    1,
  ],
  reference: ({ x }, _dims, { to }) => ({ y: to === 'e4m3' ? x.map(saturated) : x.slice() }),
  roofline: ({ count }, { from, to }) => ({ bytes: bytesOf(from, count) + bytesOf(to, count), flops: 0 }),
  cases: [
    { dims: { count: 1 } },
    { dims: { count: 4099 }, options: { from: 'f32', to: 'bf16' } },
    { dims: { count: 1000 }, options: { from: 'bf16', to: 'e4m3' } },
    { dims: { count: 1000 }, options: { from: 'e4m3', to: 'bf16' } },
    { dims: { count: 4097 }, options: { from: 'f16', to: 'f32' } },
    { dims: { count: 2 ** 27 }, large: true },
  ],
});

export default cast;

interface Tensors {
  readonly x: Tensor;
  readonly y: Tensor;
  readonly count: i32;
}

function record({ dims, options, tuning }: Specialisation<typeof OPTIONS, typeof TUNING>): KernelIR {
  const { threads, turns } = tuning;
  const vector = castVector(options.from, options.to);
  // Whole vectors, as far as tensors' shapes go; the kernel itself asks for the count.
  const shape = [Math.ceil(dims.count / vector) * vector];
  const args = { x: input(options.from, shape), y: output(options.to, shape), count: scalar('i32', dims.count) };
  return traceKernel('cast', args, threads, (t: Tensors) => {
    'use gpu';
    const vectors = idiv(t.count, vector);
    const first = bid() * (threads * turns) + tid();
    const [from, to] = [vectorsOf(t.x, vector), vectorsOf(t.y, vector)];
    const convert = (places: i32[]): void => {
      const loaded = places.map((place) => from(_, place).load());
      for (const [i, place] of places.entries()) to(_, place).store(converted(loaded[i], options));
    };
    const places = Array.from({ length: turns }, (_none, turn) => first + turn * threads);
    if ((bid() + 1) * (threads * turns) <= vectors) convert(places);
    else {
      for (const place of places) {
        if (place < vectors) convert([place]);
      }
      // The elements behind the last whole vector.
      const rest = vectors * vector + tid();
      if (bid() === gdim() - 1 && rest < t.count)
        t.y[rest] = TYPE_TOKENS[options.to](options.from === options.to ? t.x[rest] : f32(t.x[rest]));
    }
  });
}

/** Elements in the other type; all go through float32, which holds every value of the others. */
function converted(v: Fragment, { from, to }: Chosen<typeof OPTIONS>): Fragment {
  'use gpu';
  return from === to ? v : v.to(f32).to(to);
}

/** Elements of one access: 16 bytes of the wider type. */
export function castVector(from: (typeof TYPES)[number], to: (typeof TYPES)[number]): number {
  return 16 / Math.max(bytesOf(from, 1), bytesOf(to, 1));
}
