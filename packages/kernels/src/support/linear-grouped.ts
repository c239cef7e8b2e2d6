import { _, type i32, type Tensor, type TensorMapDescription } from '@rose/cute';
import {
  input,
  normal,
  type Choice,
  type Chosen,
  type Dims,
  type Expected,
  type Fill,
  type KernelArgument,
  type Roofline,
} from '../spec.ts';
import { rowBucket } from './bucket.ts';
import { MOST_EXPERTS } from './expert-tiles.ts';
import {
  DEPTH_STEP,
  LINEAR_OPTIONS,
  linearArgs,
  linearKey,
  linearReference,
  linearRefused,
  linearRoofline,
  type LinearOptions,
} from './linear.ts';
import { outputColumns, type EpilogueTensors } from './linear-epilogue.ts';
import { bytesOf } from './storage.ts';

/**
 * The products of a layer of experts: one launch, a weight matrix for each expert, [experts, columns, depth]. Which rows are
 * whose is known on the device alone, as a router there decides:
 *
 * - `contiguous`: `groups` has experts + 1 ascending numbers; rows groups[e] to groups[e + 1] - 1 are expert e's. Groups
 *   have any length, none included; rows before the first and behind the last are left as they are.
 * - `masked`: x and y are [experts, capacity, ...], and of expert e's rows the first groups[e] are there; the others of y
 *   are left as they are.
 *
 * **Bits.** A row's outputs are those of `linear` for that row with its expert's weights: nothing depends on how many rows
 * an expert has, on the other experts, or on where the row is.
 */
const { split: _none, ...each } = LINEAR_OPTIONS;
export const GROUPED_OPTIONS: Omit<typeof LINEAR_OPTIONS, 'split'> & {
  readonly form: readonly ['contiguous', 'masked'];
} = {
  ...each,
  form: ['contiguous', 'masked'],
};
export type GroupedOptions = Chosen<typeof GROUPED_OPTIONS>;
export type GroupForm = GroupedOptions['form'];

export const GROUPED_DIMS = {
  rows: 'rows of x and y: of all experts together; masked: experts times the capacity of each',
  columns: "rows of each expert's w: columns of y, twice as many with a gate",
  depth: 'columns of x and w, along which products are added up',
  experts: 'weight matrices',
} as const;

/** The options of one expert's product. */
function eachOptions(options: GroupedOptions): LinearOptions {
  return { ...options, split: 'none' };
}

/** Why no kernel computes this product. */
export function groupedRefused(dims: Dims, options: GroupedOptions): string | undefined {
  const { rows, experts } = dims;
  if (experts > MOST_EXPERTS) return `${experts} experts are too many: at most ${MOST_EXPERTS}`;
  if (options.form === 'masked' && rows % experts !== 0) {
    return `${rows} rows are not ${experts} experts times a capacity: masked groups all have the same`;
  }
  return linearRefused(dims, eachOptions(options));
}

/** The kernel for so many rows of so many experts on an architecture (`sm_90a`); the choice changes no bits. */
export function groupedKernelFor(
  rows: number,
  experts: number,
  arch: string,
): 'linear_grouped' | 'linear_grouped_small' | 'linear_grouped_mma' {
  if (arch !== 'sm_90a') return 'linear_grouped_mma';
  return rows <= 32 * experts ? 'linear_grouped_small' : 'linear_grouped';
}

/** What tables of tunings know a product by. */
export function groupedKey(dims: Dims, options: GroupedOptions): Record<string, Choice> {
  const { form } = options;
  return { ...linearKey(dims, eachOptions(options)), form, experts: dims.experts, rows: rowBucket(dims.rows) };
}

/** Rows of each expert in the masked form; undefined in the other. */
export function capacityOf({ rows, experts }: Dims, { form }: GroupedOptions): number | undefined {
  return form === 'masked' ? rows / experts : undefined;
}

export function groupedArgs(dims: Dims, options: GroupedOptions): Record<string, KernelArgument> {
  const { rows, columns, depth, experts } = dims;
  const { type } = options;
  const { x, residual, y, rows: count } = linearArgs(dims, { ...eachOptions(options), scale: false, bias: false });
  const capacity = capacityOf(dims, options);
  return {
    x,
    w: input(type, [experts, columns, depth], normal(1 / Math.sqrt(depth))),
    groups:
      capacity === undefined
        ? input('i32', [experts + 1], routed(rows))
        : input('i32', [experts], (random, length) =>
            Float64Array.from({ length }, () => random.integer(capacity + 1)),
          ),
    ...(options.scale ? { scale: input('f32', [experts], normal(0.25, 1)) } : {}),
    ...(options.bias ? { bias: input(type, [experts, columns]) } : {}),
    ...(residual ? { residual } : {}),
    y,
    rows: count,
  };
}

/** Where groups begin and end when each of `rows` has any expert, all equally likely. */
function routed(rows: number): Fill {
  return (random, length) => {
    const starts = new Float64Array(length);
    for (let row = 0; row < rows; row++) starts[1 + random.integer(length - 1)] += 1;
    for (let expert = 1; expert < length; expert++) starts[expert] += starts[expert - 1];
    return starts;
  };
}

export interface GroupedTensors extends EpilogueTensors {
  readonly y: Tensor;
  readonly x: Tensor;
  readonly w: Tensor;
  readonly groups: Tensor<i32>;
}

/** What the epilogue of an expert's rows reads and writes, up to row `end`. */
export function expertEpilogue(t: GroupedTensors, expert: i32, end: i32): EpilogueTensors {
  'use gpu';
  return {
    ...(t.scale ? { scale: t.scale.tile(1, expert) } : {}),
    ...(t.bias ? { bias: t.bias(expert, _) } : {}),
    ...(t.residual ? { residual: t.residual } : {}),
    y: t.y,
    rows: end,
  };
}

/** Tensor maps of x, of which a tile has `rows` rows, and of w, of which it has `columns` rows of one expert. */
export function expertMaps(
  dims: Dims,
  { type: element }: GroupedOptions,
  rows: number,
  columns: number,
): Record<'x' | 'w', TensorMapDescription> {
  const swizzle = '128';
  return {
    x: { element, shape: [dims.depth, dims.rows], box: [DEPTH_STEP, rows], swizzle },
    w: { element, shape: [dims.depth, dims.columns, dims.experts], box: [DEPTH_STEP, columns, 1], swizzle },
  };
}

export function groupedReference(
  { x, w, groups, scale, bias, residual }: Readonly<Record<string, Float64Array>>,
  dims: Dims,
  options: GroupedOptions,
): { y: Expected } {
  const { rows, columns, depth, experts } = dims;
  const width = outputColumns(dims, options);
  const capacity = capacityOf(dims, options);
  // Rows of nobody are not written.
  const y = { values: new Float64Array(rows * width).fill(NaN), magnitude: new Float64Array(rows * width) };
  for (let expert = 0; expert < experts; expert++) {
    const first = capacity === undefined ? groups[expert] : expert * capacity;
    const count = capacity === undefined ? groups[expert + 1] - first : groups[expert];
    const part = (all: Float64Array | undefined, from: number, length: number): Float64Array | undefined =>
      all?.subarray(from, from + length);
    const own = {
      x: part(x, first * depth, count * depth),
      w: part(w, expert * columns * depth, columns * depth),
      scale: part(scale, expert, 1),
      bias: part(bias, expert * columns, columns),
      residual: part(residual, first * width, count * width),
    };
    const expected = linearReference(own as never, { rows: count, columns, depth }, eachOptions(options)).y as typeof y;
    y.values.set(expected.values, first * width);
    y.magnitude.set(expected.magnitude, first * width);
  }
  return { y };
}

/** Every row computed, and the weights of as many experts as can have rows read once: what there is depends on the groups. */
export function groupedRoofline(dims: Dims, options: GroupedOptions): Roofline {
  const { rows, columns, depth, experts } = dims;
  const { bytes, flops } = linearRoofline(dims, eachOptions(options));
  const more = Math.min(rows, experts) - 1;
  const perExpert = bytesOf(options.type, columns * depth + (options.bias ? columns : 0));
  return { bytes: bytes + more * perExpert + 4 * (experts + 1), flops };
}
