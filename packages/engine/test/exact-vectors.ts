import assert from 'node:assert/strict';
import type { DeviceModel } from '../src/device/device.ts';
import { encode, sameBits } from './on-cpu.ts';

/**
 * An encoder's results for sequences of these lengths: all together, in another order, and of each length one alone, so many
 * times each: the second time launches may come from a graph. Every bit must be the same. Returns them.
 */
export async function exactVectors(
  model: DeviceModel,
  vocabulary: number,
  lengths: readonly number[],
  rounds: number,
): Promise<readonly Float32Array[]> {
  const inputs = lengths.map((length, s) => ({
    tokens: Array.from({ length }, (_, i) => (i * i * 31 + 7 * i + 3 + 5 * s) % vocabulary),
  }));
  const right = await encode(model, inputs);
  for (const values of right) assert.ok(values.every(Number.isFinite), 'a result that is not finite');
  const check = (values: Float32Array, s: number, way: string): void =>
    assert.ok(sameBits(right[s], values), `${way}: other bits for ${lengths[s]} tokens`);
  for (let round = 1; round <= rounds; round++) {
    for (const [s, input] of inputs.entries()) {
      if (lengths.indexOf(lengths[s]) === s) check((await encode(model, [input]))[0], s, `alone, round ${round}`);
    }
    const last = inputs.length - 1;
    (await encode(model, inputs.toReversed())).forEach((values, i) => check(values, last - i, 'in another order'));
  }
  return right;
}
