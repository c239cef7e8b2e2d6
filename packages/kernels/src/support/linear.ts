import { STORE_COLUMNS, STORE_ROWS, type StoreTarget, type Tensor, type TensorMapDescription } from '@rose/cute';
import {
  input,
  normal,
  output,
  scalar,
  values,
  type Bound,
  type Choice,
  type Chosen,
  type Dims,
  type Expected,
  type KernelArgument,
  type Roofline,
} from '../spec.ts';
import {
  epilogueReference,
  isShort,
  linearOutputs,
  outputColumns,
  outputTensors,
  type EpilogueTensors,
  type OutputOptions,
  type Sum,
} from './linear-epilogue.ts';
import { APPROXIMATION, bound } from './rounding.ts';
import { bytesOf } from './storage.ts';

/**
 * What the matrix products of a layer have in common: y = x w^T with weights as checkpoints have them, [columns, depth].
 *
 * **Bits.** A row of y depends on its row of x, the weights, `columns`, `depth` and the options alone. All kernels add up
 * each of `leaves` equal pieces of the depth from zero in float32, sixteen products at a time in ascending order, which
 * the tensor cores of one architecture do to the same bits in every shape of tile, and add the pieces by a fixed binary
 * tree. So they agree bit for bit for every number of rows.
 *
 * **Tensor parallelism.** A rank that owns a subtree of the leaves has their part of x and w: the product of that part
 * with its number of leaves and a float32 output is the subtree's sum, and the sums of the ranks, added by the upper part
 * of the tree, are what one device computes.
 */
export const LINEAR_OPTIONS = {
  type: ['bf16', 'f16'],
  /** `f32`: the sums as they are, for what is added up elsewhere. */
  output: ['same', 'f32'],
  /** Pieces of the depth that are added up by a binary tree; see `leavesOf`. */
  leaves: [1, 2, 4, 8],
  scale: [false, true],
  bias: [false, true],
  /** y = act(sum). */
  activation: ['none', 'silu', 'gelu', 'gelu_tanh', 'relu', 'tanh'],
  /** y = act(gate) * value; see `interleaveGate`. */
  gate: ['none', 'silu', 'gelu', 'gelu_tanh', 'relu'],
  residual: [false, true],
  /** `qkv`: the columns go to three tensors, queries, keys and values; see `linearOutputs`. */
  split: ['none', 'qkv'],
} as const;
export type LinearOptions = Chosen<typeof LINEAR_OPTIONS>;

export const LINEAR_DIMS = {
  rows: 'rows of x and y',
  columns: 'rows of w: columns of y, twice as many with a gate',
  depth: 'columns of x and w, along which products are added up',
} as const;

export const LINEAR_OPTIONAL_DIMS = {
  keys: 'columns of k, where y is split into q, k and v',
  values: 'columns of v, where y is split; the others are those of q',
} as const;

/** Elements of the depth in one stage of every kernel; leaves consist of whole ones. */
export const DEPTH_STEP = 64;
/**
 * Leaves of a product. Where tensor parallelism divides the depth (attention output, MLP down): the largest power of two
 * to 8 whose pieces are whole multiples of `unit` (64, and 128 of e4m3, whose scales' groups stay whole). Elsewhere one: a
 * single loop is fastest for many rows.
 */
export function leavesOf(depth: number, sharded: boolean, unit: number = DEPTH_STEP): 1 | 2 | 4 | 8 {
  if (!sharded) return 1;
  return ([8, 4, 2] as const).find((leaves) => depth % (unit * leaves) === 0) ?? 1;
}

/** The kernel for so many rows on an architecture (`sm_90a`); the choice changes no bits. */
export function linearKernelFor(
  rows: number,
  arch: string,
): 'linear' | 'linear_small' | 'linear_mma' | 'linear_tcgen05' {
  if (arch === 'sm_100a') return 'linear_tcgen05';
  if (arch !== 'sm_90a') return 'linear_mma';
  return rows <= 64 ? 'linear_small' : 'linear';
}

/** What tables of tunings know a product by, but for its rows: a scale, biases and residuals change nothing that can be measured. */
export function linearKey(
  { columns, depth }: Dims,
  { output, leaves, gate }: Pick<LinearOptions, 'output' | 'leaves' | 'gate'>,
): Record<string, Choice> {
  return { columns, depth, leaves, output, gated: gate !== 'none' };
}

/** Columns that are stored, and elements of a row that are loaded, at once. */
const UNITS = { columns: 8, depth: 8 } as const;

/** Why no kernel computes this product; `units`: what columns and depth must be multiples of. */
export function linearRefused(
  dims: Dims,
  options: Pick<LinearOptions, 'activation' | 'gate' | 'leaves' | 'split' | 'residual'>,
  units: { readonly columns: number; readonly depth: number } = UNITS,
): string | undefined {
  const { columns, depth } = dims;
  const { activation, gate, leaves } = options;
  if (activation !== 'none' && gate !== 'none') return 'a gated layer has the activation of its gate: set gate alone';
  const unit = gate === 'none' ? units.columns : 16;
  if (columns % unit !== 0) return `columns is ${columns}; it must be a multiple of ${unit}: pad the weights with rows`;
  if (depth % units.depth !== 0) {
    return `depth is ${depth}; rows must be whole multiples of 16 bytes: pad them with zeros to ${units.depth}`;
  }
  if (leaves > 1 && depth % (DEPTH_STEP * leaves) !== 0) {
    return `depth is ${depth}; ${leaves} leaves need a multiple of ${DEPTH_STEP * leaves}: use fewer leaves`;
  }
  return splitRefused(dims, options, units.columns);
}

function splitRefused(
  dims: Dims,
  { split, gate, residual }: Pick<LinearOptions, 'split' | 'gate' | 'residual'>,
  unit: number,
): string | undefined {
  const { columns, keys, values } = dims;
  if (split === 'none') {
    return keys === undefined && values === undefined ? undefined : 'keys and values are sizes of split=qkv alone';
  }
  if (keys === undefined || values === undefined) return `split=${split} needs the sizes keys and values`;
  if (keys % unit !== 0 || values % unit !== 0 || keys + values >= columns) {
    return `${columns} columns do not split into ${keys} of k, ${values} of v and some of q, all multiples of ${unit}`;
  }
  return gate !== 'none' || residual ? `split=${split} goes with neither a gate nor a residual` : undefined;
}

/** Those of a product whose x, w and y may also be float32. */
type AnyOptions = Omit<LinearOptions, 'type'> & { readonly type: LinearOptions['type'] | 'f32' };

export function linearArgs(
  dims: Dims,
  options: AnyOptions,
  ofSums: Bound = tensorCoreBound(dims, options),
): Record<string, KernelArgument> {
  const { rows, columns, depth } = dims;
  const { type } = options;
  const width = outputColumns(dims, options);
  const outputType = options.output === 'f32' ? 'f32' : type;
  const outputs = linearOutputs(dims, options).map((to) => {
    return [to.name, output(outputType, [rows, to.columns], ofSums)] as const;
  });
  return {
    x: input(type, [rows, depth]),
    w: input(type, [columns, depth], normal(1 / Math.sqrt(depth))),
    ...(options.scale ? { scale: input('f32', [1], values([0.75])) } : {}),
    ...(options.bias ? { bias: input(type, [columns]) } : {}),
    ...(options.residual ? { residual: input(type, [rows, width]) } : {}),
    ...Object.fromEntries(outputs),
    rows: scalar('i32', rows),
  };
}

/** Roundings that a GELU of few digits counts as. */
export function shortGelu(options: AnyOptions): number {
  const gelu = options.activation === 'gelu' || options.gate === 'gelu';
  return gelu && isShort(options) ? 2 ** 12 : 0;
}

function tensorCoreBound({ depth }: Dims, options: AnyOptions): Bound {
  return bound(
    4 * Math.ceil(depth / 16) + 16 + 2 * APPROXIMATION.ex2 + shortGelu(options),
    'each step of sixteen products aligns them to the largest and drops bits below 2^-24 of it or so, which float32 sums keep',
  );
}

export interface LinearTensors extends EpilogueTensors {
  readonly x: Tensor;
  readonly w: Tensor;
}

/** Whether outputs are stored by TMA, as `WarpStore` does: in 16 bits, to tensors that begin where its boxes do. */
export function storedByTma(dims: Dims, options: OutputOptions & Pick<LinearOptions, 'output'>): boolean {
  return options.output === 'same' && linearOutputs(dims, options).every(({ first }) => first % STORE_COLUMNS === 0);
}

/** The maps of outputs that are stored by TMA. */
export function outputMaps(
  dims: Dims,
  options: OutputOptions & Pick<LinearOptions, 'output' | 'type'>,
): Record<string, TensorMapDescription> {
  const stored = storedByTma(dims, options) ? linearOutputs(dims, options) : [];
  const box = [STORE_COLUMNS, STORE_ROWS];
  return Object.fromEntries(
    stored.map((to) => [to.name, { element: options.type, shape: [to.columns, dims.rows], box, swizzle: '128' }]),
  );
}

/** The same tensors for `WarpStore`. */
export function storeTargets(t: EpilogueTensors, dims: Dims, options: OutputOptions): readonly StoreTarget[] {
  return outputTensors(t, dims, options).map(({ tensor, ...own }) => ({ map: tensor, ...own }));
}

/**
 * The maps of a product whose tiles come and go by TMA: x and w in boxes of DEPTH_STEP columns of so many rows, in the
 * 128-byte swizzle; outputs, where they are stored by TMA, as `WarpStore` has them.
 */
export function tileMaps(
  dims: Dims,
  options: LinearOptions,
  boxRows: { readonly x: number; readonly w: number },
): Record<string, TensorMapDescription> {
  const { rows, columns, depth } = dims;
  const map = (across: number, pitch: number, box: readonly number[]): TensorMapDescription => {
    return { element: options.type, shape: [pitch, across], box, swizzle: '128' };
  };
  return {
    x: map(rows, depth, [DEPTH_STEP, boxRows.x]),
    w: map(columns, depth, [DEPTH_STEP, boxRows.w]),
    ...outputMaps(dims, options),
  };
}

export function linearReference(
  { x, w, scale, bias, residual }: Readonly<Record<string, Float64Array>>,
  dims: Dims,
  options: AnyOptions,
): Readonly<Record<string, Expected>> {
  const { depth } = dims;
  const product = (row: number, column: number): Sum => {
    let [sum, magnitude] = [0, 0];
    for (let k = 0; k < depth; k++) {
      const term = x[row * depth + k] * w[column * depth + k];
      sum += term;
      magnitude += Math.abs(term);
    }
    const by = scale ? scale[0] : 1;
    return [sum * by, magnitude * Math.abs(by)];
  };
  return epilogueReference(product, { bias, residual }, dims, options);
}

export function linearRoofline(dims: Dims, options: AnyOptions): Roofline {
  const { rows, columns, depth } = dims;
  const outputs = rows * outputColumns(dims, options);
  const { type } = options;
  return {
    bytes:
      bytesOf(type, rows * depth + columns * depth + (options.bias ? columns : 0) + (options.residual ? outputs : 0)) +
      bytesOf(options.output === 'f32' ? 'f32' : type, outputs),
    flops: 2 * rows * columns * depth,
  };
}
