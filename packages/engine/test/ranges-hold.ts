import assert from 'node:assert/strict';
import type { DeviceModel } from '../src/device/device.ts';
import { Batch } from '../src/engine/batch.ts';
import { roseError } from './checkpoint/files.ts';

/** A GPU's model that gives its logits: what is out of its range fails the step that has it, and no other. */
export async function rangesHold(model: DeviceModel, vocabulary: number): Promise<void> {
  const step = async (token: number, page: number): Promise<number[]> => {
    const batch = new Batch(model.capacity);
    batch.clear();
    batch.addSequence(Int32Array.of(token, 7), undefined, 0, 2, [Int32Array.of(page)], 1);
    batch.outputRows[batch.outputs++] = 1;
    batch.topP[0] = 1;
    batch.repetitionPenalty[0] = 1;
    batch.logprobs[0] = -1;
    batch.maskOf[0] = -1;
    batch.historySlot[0] = -1;
    const { values, width } = await model.step(batch);
    return [...values.subarray(0, width)];
  };
  const right = await step(5, 1);
  const { pages } = model.cache.groups[0];
  const token = new RegExp(`tokens\\[0\\] is ${vocabulary}, and can be 0 to ${vocabulary - 1};`);
  await assert.rejects(step(vocabulary, 1), roseError('internal', token));
  const page = new RegExp(`slots0\\[1\\] is ${16 * pages + 1}, and can be -1 to ${16 * pages - 1};`);
  await assert.rejects(step(5, pages), roseError('internal', page));
  await assert.rejects(step(5, -2), roseError('internal', /is -3[12], and can be -1 to/));
  assert.deepEqual(await step(5, 1), right);
}
