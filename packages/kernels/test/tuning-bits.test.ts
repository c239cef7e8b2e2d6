import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeCase } from '../src/check.ts';
import { KERNELS, specialise, tunableNames, type KernelCase, type KernelModule } from '../src/index.ts';
import { SIMULATOR } from './support.ts';

/**
 * What tables of tunings may set changes no bits: each value of each name, in the simulator. Products of matrices take long
 * there and have linear-bits.test.ts; on a GPU, tune-gpu.test.ts of the command has all kernels.
 */

/** The bytes of all tensors after a run. How TMA moves them may be another in each tuning. */
async function outputs(module: KernelModule, wanted: KernelCase): Promise<object> {
  const s = specialise(module, wanted);
  const { args } = makeCase(module, s);
  await SIMULATOR.run(module.trace(s), args, module.grid(s, { multiprocessors: 2 }));
  return Object.entries(args).map(([name, argument]) => [
    name,
    typeof argument === 'number' ? argument : argument.bytes,
  ]);
}

for (const module of KERNELS.filter((kernel) => tunableNames(kernel).length > 0 && !kernel.name.startsWith('linear'))) {
  test(`${module.name}: equal bits with every value that a table may set`, async () => {
    const wanted = module.cases.findLast(({ large }) => !large)!;
    const { tuning: chosen, ...rest } = specialise(module, wanted);
    const expected = await outputs(module, wanted);
    let compared = 0;
    for (const name of tunableNames(module)) {
      for (const value of module.tuning[name]) {
        const tuning = { ...chosen, [name]: value };
        if (value === chosen[name] || module.refuse({ ...rest, tuning }) !== undefined) continue;
        assert.deepEqual(await outputs(module, { ...rest, tuning }), expected, `${name} = ${String(value)}`);
        compared += 1;
      }
    }
    assert.ok(compared > 0);
  });
}
