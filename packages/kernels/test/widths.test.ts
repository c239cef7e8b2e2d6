import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KERNELS } from '../src/index.ts';
import { specialise } from '../src/spec.ts';
import { assembled, missingPtxas } from './support.ts';

/** Widths of models, from the smallest for tests to the largest there are. */
const WIDTHS = [
  32, 64, 96, 128, 256, 312, 384, 512, 768, 896, 1024, 1536, 2048, 2560, 3072, 3584, 4096, 5120, 6144, 7168, 8192,
  12288, 16384,
];

for (const name of ['rmsnorm', 'layernorm', 'normalize']) {
  const module = KERNELS.find((one) => one.name === name)!;
  const residual = 'residual' in module.options ? { residual: true } : {};
  test(`${name} has every width of models, in every type, and assembles without spills`, () => {
    for (const columns of WIDTHS) {
      for (const type of ['bf16', 'f32']) {
        // Few rows and many are tuned differently.
        for (const rows of [1, 4096]) {
          const wanted = { dims: { rows, columns }, options: { type, ...residual } };
          assert.doesNotThrow(() => specialise(module, wanted));
          if (missingPtxas === false && columns >= 4096) {
            assert.equal(assembled(module, wanted, 'sm_90a').spills, 0, `${columns} of ${type}`);
          }
        }
      }
    }
  });
}
