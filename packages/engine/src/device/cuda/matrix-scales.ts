import { interleaveGate } from '@rose/kernels';
import type { ScaleTensor } from '../../checkpoint/checkpoint.ts';
import { BLOCK, type MatrixGroup } from './matrix-groups.ts';

/** What a checkpoint says of the scales of e4m3, as the kernels want it. */

/** Scales of a matrix of e4m3. */
export function scaleCount({ format, parts, outputs, inputs }: MatrixGroup): number {
  if (format === 'row') return outputs;
  const blocks = parts.reduce((sum, { parameter }) => sum + Math.ceil(parameter.shape[0] / BLOCK), 0);
  return blocks * Math.ceil(inputs / BLOCK);
}

/** Of rows: each as its matrix has it, in the order in which rows lie. Of blocks: those of one matrix after the other. */
export async function writeScales(
  { format, parts, outputs, interleaved }: MatrixGroup,
  slot: Float32Array,
): Promise<void> {
  const stored = await Promise.all(parts.map(({ fp8 }) => fp8!.scales.read()));
  const each = parts.map(({ parameter, fp8 }, i) =>
    fp8!.kind === 'tensor' ? new Float32Array(parameter.shape[0]).fill(stored[i][0]) : stored[i],
  );
  const all = Float32Array.from(each.flatMap((values) => [...values]));
  if (format === 'row' && interleaved) slot.set(Float32Array.from(interleaveGate(outputs / 2), (from) => all[from]));
  else slot.set(all);
}

/** Matrices that are one product take one input: what is beyond the largest of their scales is beyond all. */
export async function writeInputScale({ parts }: MatrixGroup, slot: Float32Array): Promise<void> {
  const stored = await Promise.all(parts.map(({ fp8 }) => fp8!.input!.read()));
  slot[0] = Math.max(...stored.map(([value]) => value));
}

/** One for each head of a layer's keys or values; 1 where the checkpoint has none. */
export async function writeCacheScales(stored: ScaleTensor | undefined, slot: Float32Array): Promise<void> {
  const [scale] = stored === undefined ? [1] : await stored.read();
  slot.fill(scale);
}
