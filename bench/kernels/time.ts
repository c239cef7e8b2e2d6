import type { Context } from '@rose/cuda';

/** Microseconds that `work` takes the host: the median of `rounds` runs of `count` calls each, the device idle before. */
export function hostMicroseconds(context: Context, count: number, rounds: number, work: () => void): number {
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    context.synchronize();
    const begin = performance.now();
    for (let i = 0; i < count; i++) work();
    times.push(((performance.now() - begin) * 1000) / count);
  }
  context.synchronize();
  return median(times);
}

export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
