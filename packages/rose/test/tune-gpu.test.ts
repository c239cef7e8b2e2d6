import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CudaUnavailableError, listDevices, loadDriver } from '@rose/cuda';
import { KERNELS, tunableNames } from '@rose/kernels';
import { openGpu } from '../src/kernel/gpu.ts';
import { tuneCase } from '../src/kernel/tune.ts';
import { GpuTuningBench } from '../src/kernel/tuning-bench.ts';

/** What may be tuned changes no bit on a GPU: a search over a small case of every kernel, each tuning's output compared. */

const skip = whyNot();

function whyNot(): string | false {
  try {
    return listDevices(loadDriver()).length === 0 && 'no GPU';
  } catch (error) {
    if (error instanceof CudaUnavailableError) return error.message;
    throw error;
  }
}

for (const module of KERNELS.filter((kernel) => tunableNames(kernel).length > 0)) {
  test(`${module.name}: equal bits with every tuning that the search tries`, { skip }, async (t) => {
    using gpu = openGpu(0);
    if (module.arch !== undefined && module.arch !== gpu.arch) return t.skip(`for ${module.arch}`);
    using bench = new GpuTuningBench(gpu, 4);
    const wanted = module.cases.findLast(({ large }) => !large)!;
    const result = await tuneCase(module, wanted, bench);
    assert.ok(result && result.tried > 1);
    const differing = result.excluded.filter(({ why }) => /other bits/.test(why));
    assert.deepEqual(differing, []);
    t.diagnostic(`${result.tried} tunings, ${result.excluded.length} left out`);
  });
}
