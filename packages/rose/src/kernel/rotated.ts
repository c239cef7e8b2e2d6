import type { Kernel, PreparedLaunch } from '@rose/cuda';
import type { KernelModule, Specialisation } from '@rose/kernels';
import { DeviceArgs } from './device-args.ts';
import type { Gpu } from './gpu.ts';

/** Bytes of inputs and outputs that are rotated while timing: several times the largest level-2 cache. */
const ROTATED_BYTES = 512 * 2 ** 20;
const MOST_SETS = 64;

/** A case's arguments several times over: launches that take turns with them find nothing in the level-2 cache. */
export class RotatedArgs implements Disposable {
  readonly sets: readonly DeviceArgs[];

  constructor({ context }: Gpu, module: KernelModule, s: Specialisation) {
    const sets = [new DeviceArgs(context, module, s, 1)];
    this.sets = sets;
    try {
      const count = Math.max(2, Math.min(MOST_SETS, Math.ceil(ROTATED_BYTES / sets[0].bytes)));
      while (sets.length < count) sets.push(new DeviceArgs(context, module, s, sets[0]));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** A launch of `kernel` for each set; `s` is the case, its tuning that of the kernel. `more` arguments are the same for all. */
  launches(
    kernel: Kernel,
    module: KernelModule,
    s: Specialisation,
    more: Readonly<Record<string, number>> = {},
  ): PreparedLaunch[] {
    const { context } = kernel.module;
    const grid = module.grid(s, { multiprocessors: context.device.attribute('multiprocessors') });
    return this.sets.map((set) =>
      kernel
        .prepare()
        .grid(...grid)
        .args({ ...set.valuesFor(module, s), ...more }),
    );
  }

  [Symbol.dispose](): void {
    for (const set of this.sets) set[Symbol.dispose]();
  }
}
