import { DeviceMemory } from '@rose/cuda';
import { encode, seededRandom } from '@rose/kernels';
import type { Gpu } from '../../packages/rose/src/kernel/gpu.ts';

const DRAWN = 2 ** 20;

/** bf16 numbers of deviation `deviation` on the device; a piece of 2^20 is drawn and repeated. */
export function randomTensor(
  { context, stream }: Gpu,
  elements: number,
  deviation: number,
  seed: number,
): DeviceMemory {
  const source = seededRandom(seed);
  const memory = new DeviceMemory(context, 2 * elements);
  const drawn = Math.min(elements, DRAWN);
  memory.write(
    encode(
      'bf16',
      Float64Array.from({ length: drawn }, () => deviation * source.normal()),
    ),
  );
  for (let done = 2 * drawn; done < memory.bytes; done *= 2) {
    const more = Math.min(done, memory.bytes - done);
    stream.copy(memory.slice(done, more), memory.slice(0, more));
  }
  stream.synchronize();
  return memory;
}

/** Five digits. */
export function rounded(value: number): number {
  return Number(value.toPrecision(5));
}
