import type { Calls } from '../../packages/cuda/src/table.ts';

/** How often a function of the driver was called, and the microseconds that this thread spent in it. */
export interface CallTimes {
  readonly calls: number;
  readonly microseconds: number;
}

/** Times the calls of NVIDIA's driver by their names, while it is on. */
export class DriverCalls {
  on = false;
  readonly #times = new Map<string, { calls: number; microseconds: number }>();

  /** @param calls the driver's, each of which is replaced by one that is timed */
  constructor(calls: Calls) {
    const table = calls as unknown as Record<string, (...values: unknown[]) => unknown>;
    for (const [name, own] of Object.entries(table)) {
      table[name] = (...values) => {
        if (!this.on) return own(...values);
        const began = performance.now();
        const result = own(...values);
        const times = this.#times.get(name) ?? { calls: 0, microseconds: 0 };
        this.#times.set(name, times);
        times.calls++;
        times.microseconds += 1000 * (performance.now() - began);
        return result;
      };
    }
  }

  /** What was called since the last time, divided by `steps`, the longest first. */
  take(steps: number): Readonly<Record<string, CallTimes>> {
    const each = [...this.#times].map(([name, { calls, microseconds }]): [string, CallTimes] => {
      return [name, { calls: calls / steps, microseconds: microseconds / steps }];
    });
    this.#times.clear();
    return Object.fromEntries(each.toSorted((a, b) => b[1].microseconds - a[1].microseconds));
  }
}
