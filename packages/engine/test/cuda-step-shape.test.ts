import assert from 'node:assert/strict';
import { test } from 'node:test';
import { splitTokens } from '@rose/kernels';
import { itemsOfPass, StepLayout } from '../src/device/cuda/step-shape.ts';
import { Batch } from '../src/engine/batch.ts';
import { SimulatedGpu } from './simulated-gpu.ts';

const LIMITS = { vocabulary: 100, types: 0, pages: [100_000] };

test('a row of however long a context has a pass that it fits', () => {
  const context = 2 ** 22;
  const pages = context / 16;
  const capacity = { rows: 4, sequences: 2, outputs: 2, pages: 2 * pages, groups: 1 };
  const layout = new StepLayout(new SimulatedGpu(), capacity, [{ window: undefined, layers: [0] }], context, LIMITS);
  const batch = new Batch(capacity);
  batch.clear();
  const table = new Int32Array(pages);
  for (let s = 0; s < 2; s++) batch.addFedRow(s, context - 1, [table], pages, -1);
  layout.compose(batch, 2, true);
  const { passes, passCount } = layout.shape;
  assert.deepEqual(
    passes.slice(0, passCount).map(({ row, rows, items }) => [row, rows, items[0]]),
    [0, 1].map((row) => [row, 1, context / splitTokens(0)]),
  );
  assert.ok(itemsOfPass(capacity, context) >= context / splitTokens(0));
});
