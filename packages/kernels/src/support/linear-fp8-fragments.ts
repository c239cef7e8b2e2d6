import { f32, laneId, min, type i32 } from '@rose/cute';
import type { Dims } from '../spec.ts';
import { scaledSum, type Fp8Options, type Fp8Tensors } from './linear-fp8.ts';

/**
 * A warp's sums of 16 rows, as mma and wgmma hold them, by the scales of rows, or of whole tensors; scales of blocks are in
 * the sums already.
 *
 * @param sums of the thread: four of each eight rows of w
 * @param at the warp's first row of x, and its first row of w
 */
export function scaledFragment(
  sums: readonly number[],
  at: { readonly row: i32; readonly column: i32 },
  t: Fp8Tensors,
  dims: Dims,
  { scales }: Pick<Fp8Options, 'scales'>,
): number[] {
  'use gpu';
  if (scales === 'block') return [...sums];
  const lane = laneId();
  // Beyond the last row and column stands the last one: nobody stores it.
  const xScales = [0, 8].map((further) => {
    'use gpu';
    return t.xScale[scales === 'row' ? min(at.row + (lane >> 2) + further, t.rows - 1) : 0];
  });
  const scaled: number[] = [];
  for (let block = 0; block < sums.length / 4; block++) {
    const column = min(at.column + block * 8 + (lane & 3) * 2, dims.columns - 2);
    const pair =
      scales === 'row'
        ? t.wScale
            .tile(2, column >> 1)
            .load()
            .values()
        : [t.wScale[0], t.wScale[0]];
    for (let v = 0; v < 4; v++) scaled.push(scaledSum(f32(sums[4 * block + v]), xScales[v >> 1], pair[v % 2]));
  }
  return scaled;
}
