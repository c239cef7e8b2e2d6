import { todo } from './support/todo.ts';
import { saturated } from './support/reference.ts';
import { bound } from './support/rounding.ts';
import { bytesOf } from './support/storage.ts';
import { defineKernel, input, normal, output, scalar, type KernelModule } from './spec.ts';

const TYPES = ['bf16', 'f16', 'f32', 'e4m3'] as const;

/** Copies elements, from one float type to another where they differ: rounded to nearest even, e4m3 saturates. */
const cast: KernelModule = defineKernel({
  name: 'cast',
  summary: 'y = x, in another type',
  dims: { count: 'elements' },
  options: { from: TYPES, to: TYPES },
  tuning: { threads: [128, 256, 512], turns: [1, 2, 4, 8] },
  choose: () => ({ threads: 256, turns: 4 }),
  args: ({ count }, { from, to }) => ({
    x: input(from, [count], normal(16)),
    y: output(to, [count], from === to ? undefined : bound(0, 'one rounding')),
    count: scalar('i32', count),
  }),
  trace: (s) => todo(s),
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

/** Elements of one access: 16 bytes of the wider type. */
export function castVector(from: (typeof TYPES)[number], to: (typeof TYPES)[number]): number {
  return 16 / Math.max(bytesOf(from, 1), bytesOf(to, 1));
}
