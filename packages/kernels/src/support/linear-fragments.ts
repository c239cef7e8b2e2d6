import { f32, Fragment, laneId, min, _, type i32, type Tensor } from '@rose/cute';
import type { Dims } from '../spec.ts';
import { finish, outputColumns, outputTensors, type EpilogueTensors, type EpilogueOptions } from './linear-epilogue.ts';

/** Outputs of neighbouring columns from a warp's sums, as mma and wgmma hold them, before they are rounded. */
export interface FragmentOutputs {
  /** Four of each eight columns: rows 0 and 8, two neighbouring columns each. */
  readonly values: f32[];
  /** Stores them directly, where inside, to the tensors that have their columns. */
  store(): void;
}

/** Biases of a thread's two columns in a block of eight; with a gate those of the gates, and of the values. */
export interface FragmentBias {
  readonly bias: Fragment | undefined;
  readonly valueBias: Fragment | undefined;
}

/** Where a thread's fragment is in y. */
export interface FragmentPlace {
  /** The warp's first row. */
  readonly row: i32;
  readonly column: i32;
  /** All columns are columns of y, as where tiles divide them: then none is bounded, which takes registers and time. */
  readonly whole?: boolean;
}

/** The biases of `width` output columns from `at` on, for `fragmentOutputs`: loaded long before they are needed. */
export function fragmentBiases(
  width: number,
  at: Omit<FragmentPlace, 'row'>,
  t: EpilogueTensors,
  dims: Dims,
  options: EpilogueOptions,
): readonly FragmentBias[] {
  'use gpu';
  return Array.from({ length: width / 8 }, (_none, block) => biasAt(columnAt(at, block, dims, options), t, options));
}

function biasAt(column: i32, t: EpilogueTensors, { gate }: EpilogueOptions): FragmentBias {
  'use gpu';
  const source = gate === 'none' ? column : (column >> 3) * 16 + (column & 7);
  const bias = t.bias && pair(t.bias, source);
  return { bias, valueBias: gate !== 'none' && t.bias ? pair(t.bias, source + 8) : undefined };
}

/** A thread's first column in a block of eight. Beyond the last column stands the last one: nobody stores it. */
function columnAt(
  { column, whole = false }: Omit<FragmentPlace, 'row'>,
  block: number,
  dims: Dims,
  options: EpilogueOptions,
): i32 {
  'use gpu';
  const own = column + block * 8 + (laneId() & 3) * 2;
  return whole ? own : min(own, outputColumns(dims, options) - 2);
}

/**
 * The outputs of a warp's 16 rows, `width` columns from its output column `first` on.
 *
 * @param sums of the thread: four of each eight columns of w
 * @param at where the first of these outputs is in y
 * @param biases those of these outputs, where they were loaded before
 */
export function fragmentOutputs(
  sums: readonly number[],
  first: number,
  width: number,
  at: FragmentPlace,
  t: EpilogueTensors,
  dims: Dims,
  options: EpilogueOptions,
  biases?: readonly FragmentBias[],
): FragmentOutputs {
  'use gpu';
  const { gate } = options;
  const factor = gate === 'none' ? 1 : 2;
  const lane = laneId();
  const scale = t.scale?.[0];
  // Beyond the last row stands the last one: nobody stores it.
  const rowOf = (half: number): i32 => min(at.row + (lane >> 2) + 8 * half, t.rows - 1);
  const values: f32[] = [];
  for (let block = 0; block < width / 8; block++) {
    const column = columnAt(at, block, dims, options);
    const { bias, valueBias } = biases ? biases[block] : biasAt(column, t, options);
    const base = (first / 8 + block) * 4 * factor;
    for (let half = 0; half < 2; half++) {
      const own = sums.slice(base + 2 * half, base + 2 * half + 2);
      const ups = gate === 'none' ? undefined : sums.slice(base + 4 + 2 * half, base + 6 + 2 * half);
      const residual = t.residual && pair(t.residual(rowOf(half), _), column);
      values.push(...finish(options, own, ups, { scale, bias, valueBias, residual }));
    }
  }
  const store = (): void => {
    'use gpu';
    const outputs = outputTensors(t, dims, options);
    for (let half = 0; half < 2; half++) {
      const row = at.row + (lane >> 2) + 8 * half;
      if (row < t.rows) {
        for (let block = 0; block < width / 8; block++) {
          const column = at.column + block * 8 + (lane & 3) * 2;
          const two = new Fragment(values.slice(4 * block + 2 * half, 4 * block + 2 * half + 2), 'f32');
          for (const to of outputs) {
            if (column < to.first + to.columns && (to.first === 0 || column >= to.first)) {
              to.tensor(row, _)
                .tile(2, (column - to.first) >> 1)
                .store(two.to(to.tensor.type));
            }
          }
        }
      }
    }
  };
  return { values, store };
}

function pair(row: Tensor, column: i32): Fragment {
  'use gpu';
  return row.tile(2, column >> 1).load();
}
