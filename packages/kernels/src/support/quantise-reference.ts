import { output, scalar, type Bound, type KernelArgument } from '../spec.ts';
import { GROUP, groupsOf, scalePitch } from './linear-fp8.ts';
import { saturated } from './reference.ts';
import { bound } from './rounding.ts';

/** Dynamic quantisation to e4m3 in float64. */

export const SCALE_BOUND: Bound = bound(4, 'a magnitude that is exact or rounded before, times 1 / 448');

/** The scale of values up to `largest`. */
export function largestScale(largest: number): number {
  return Math.max(largest, 2 ** -100) / 448;
}

/** What a kernel can give out: e4m3 by a scale that it is given, or by scales that follow from the values. */
export type QuantisedOutput = 'same' | 'e4m3' | 'e4m3_group' | 'e4m3_row';

/**
 * The arguments for scales that follow from the values, where there are any: those of groups lie as [groups, pitch], and the
 * pitch is an argument by itself, since the tensor may have room for more rows than there are.
 */
export function scalesOutput(
  kind: QuantisedOutput,
  rows: number,
  columns: number,
  bound: Bound = SCALE_BOUND,
): { scales?: KernelArgument; pitch?: KernelArgument } {
  if (kind === 'e4m3_row') return { scales: output('f32', [rows], bound) };
  if (kind !== 'e4m3_group') return {};
  const pitch = scalePitch(rows);
  return { scales: output('f32', [groupsOf(columns) * pitch], bound), pitch: scalar('i32', pitch) };
}

/**
 * @param of what has a scale: a row, or each 128 elements of it, whose scales lie as [groups, pitch]
 * @returns values divided by their scales, and the scales; NaN where no kernel writes
 */
export function quantisedReference(
  x: Float64Array,
  rows: number,
  columns: number,
  of: 'row' | 'group',
): { values: Float64Array; scales: Float64Array } {
  const values = new Float64Array(x.length);
  const [size, pitch] = of === 'row' ? [columns, rows] : [GROUP, scalePitch(rows)];
  const groups = columns / size;
  const scales = new Float64Array(groups * pitch).fill(NaN);
  for (let row = 0; row < rows; row++) {
    for (let group = 0; group < groups; group++) {
      const first = row * columns + group * size;
      const own = x.subarray(first, first + size);
      const scale = largestScale(own.reduce((most, value) => Math.max(most, Math.abs(value)), 0));
      scales[group * pitch + row] = scale;
      for (const [i, value] of own.entries()) values[first + i] = saturated(value / scale);
    }
  }
  return { values, scales };
}
