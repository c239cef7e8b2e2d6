import { f32, fma, type i32, type Tensor, type TensorMapDescription } from '@rose/cute';
import {
  input,
  output,
  scalar,
  type Bound,
  type Choice,
  type Chosen,
  type Dims,
  type Expected,
  type Fill,
  type KernelArgument,
  type Roofline,
} from '../spec.ts';
import { linearKey, linearRefused } from './linear.ts';
import { epilogueReference, linearOutputs, outputColumns, type EpilogueTensors, type Sum } from './linear-epilogue.ts';
import { APPROXIMATION, bound } from './rounding.ts';
import { bytesOf } from './storage.ts';

/**
 * Products of e4m3: y = epilogue(x w^T) with what x and w are to be multiplied by, `scales`:
 *
 * | | xScale | wScale |
 * | --- | --- | --- |
 * | `block` | [groups, pitch]: of 128 elements of a row | [blocks, groups]: of 128 x 128 elements |
 * | `row` | [rows]: of a row (a token) | [columns]: of a row of w (an output channel) |
 * | `tensor` | [1] | [1] |
 *
 * `groups` are depth / 128, rounded up; `pitch` is rows rounded up to 4, since TMA moves a group's scales of
 * neighbouring rows at once. With a gate, `blocks` are first those of the gates' rows, then those of the values' rows, as
 * they were before the rows were interleaved.
 *
 * **Bits.** The tensor cores add up 128 products from zero, 32 at a time in ascending order, with fewer bits than float32
 * has. These sums are promoted: multiplied by both scales (`block`) and added to a float32 sum, group after group, whatever
 * the scales are. Leaves as in support/linear.ts. wgmma gives the same bits in every shape of tile and with its operands
 * exchanged; mma.sync gives others on Hopper (nearly exact ones), so products there all run on wgmma.
 */
export const FP8_OPTIONS = {
  scales: ['block', 'row', 'tensor'],
  /** Of bias, residual and y. */
  type: ['bf16', 'f16'],
  output: ['same', 'f32'],
  leaves: [1, 2, 4, 8],
  bias: [false, true],
  /** y = act(sum). */
  activation: ['none', 'silu', 'gelu', 'gelu_tanh', 'relu', 'tanh'],
  /** y = act(gate) * value; see `interleaveGate`. */
  gate: ['none', 'silu', 'gelu', 'gelu_tanh', 'relu'],
  residual: [false, true],
  split: ['none', 'qkv'],
} as const;
export type Fp8Options = Chosen<typeof FP8_OPTIONS>;

/** Elements along the depth that share a scale, and whose products the tensor cores add up before they are promoted. */
export const GROUP = 128;
/** Rows of w whose groups share a scale. */
export const BLOCK_ROWS = 128;
/** Numbers of xScale that a row of it is a multiple of: TMA asks for 16 bytes. */
const PITCH_UNIT = 4;

/** From one group's scales of x to the next one's. */
export function scalePitch(rows: number): number {
  return Math.ceil(rows / PITCH_UNIT) * PITCH_UNIT;
}

export function groupsOf(depth: number): number {
  return Math.ceil(depth / GROUP);
}

/** xScale of groups for TMA, which moves those of `rows` neighbouring rows and of `groups` groups at once. */
export function scaleMap(dims: Dims, rows: number, groups: number): TensorMapDescription {
  const strides = [4 * scalePitch(dims.rows)];
  return { element: 'f32', shape: [dims.rows, groupsOf(dims.depth)], strides, box: [rows, groups] };
}

/** Blocks of w's rows: with a gate those of gates and of values one after the other. */
function blocksOf(dims: Dims, options: Pick<Fp8Options, 'gate'>): number {
  const blocks = Math.ceil(outputColumns(dims, options) / BLOCK_ROWS);
  return options.gate === 'none' ? blocks : 2 * blocks;
}

/**
 * The kernel for so many rows on an architecture (`sm_90a`); the choice changes no bits.
 *
 * @throws RangeError where tensor cores do not multiply e4m3: before sm_89
 */
export function linearFp8KernelFor(rows: number, arch: string): 'linear_fp8' | 'linear_fp8_small' | 'linear_fp8_mma' {
  if (Number.parseInt(arch.slice(3), 10) < 89) {
    throw new RangeError(`${arch} does not multiply e4m3: use weights of bf16, or a GPU of sm_89 or later`);
  }
  if (arch !== 'sm_90a') return 'linear_fp8_mma';
  return rows <= 64 ? 'linear_fp8_small' : 'linear_fp8';
}

/** What a measured tuning of these products counts for, but for the rows. */
export function linearFp8Key(dims: Dims, options: Fp8Options): Record<string, Choice> {
  return { ...linearKey(dims, options), scales: options.scales };
}

/** Why no kernel computes this product. */
export function linearFp8Refused(dims: Dims, options: Fp8Options): string | undefined {
  const { depth } = dims;
  const { leaves } = options;
  if (depth % 16 !== 0) return `depth is ${depth}; rows must be whole multiples of 16 bytes: pad them with zeros to 16`;
  if (leaves > 1 && depth % (GROUP * leaves) !== 0) {
    return `depth is ${depth}; ${leaves} leaves need a multiple of ${GROUP * leaves}: use fewer leaves`;
  }
  return linearRefused(dims, { ...options, leaves: 1 });
}

/** Weights and activations of this deviation fill e4m3's range. */
const DEVIATION = 32;

export function linearFp8Args(dims: Dims, options: Fp8Options): Record<string, KernelArgument> {
  const { rows, columns, depth } = dims;
  const { scales, type } = options;
  const width = outputColumns(dims, options);
  const xShape = { block: [groupsOf(depth) * scalePitch(rows)], row: [rows], tensor: [1] } as const;
  const wShape = { block: [blocksOf(dims, options), groupsOf(depth)], row: [columns], tensor: [1] } as const;
  const outputType = options.output === 'f32' ? 'f32' : type;
  const outputs = linearOutputs(dims, options).map((to) => {
    return [to.name, output(outputType, [rows, to.columns], boundOf(dims))] as const;
  });
  const fill: Fill = (random, length) => Float64Array.from({ length }, () => DEVIATION * random.normal());
  return {
    x: input('e4m3', [rows, depth], fill),
    xScale: input('f32', xShape[scales], around(1 / DEVIATION)),
    w: input('e4m3', [columns, depth], fill),
    wScale: input('f32', wShape[scales], around(1 / DEVIATION / Math.sqrt(depth))),
    ...(options.bias ? { bias: input(type, [columns]) } : {}),
    ...(options.residual ? { residual: input(type, [rows, width]) } : {}),
    ...Object.fromEntries(outputs),
    rows: scalar('i32', rows),
  };
}

/** Between half and one and a half of a scale. */
function around(scale: number): Fill {
  return (random, length) => Float64Array.from({ length }, () => scale * (0.5 + random.uniform()));
}

function boundOf({ depth }: Dims): Bound {
  return bound(
    2 ** 13 + 2 * groupsOf(depth) + 16 + 2 * APPROXIMATION.ex2,
    'tensor cores cut off products of e4m3 and their sum at 2^-13 of the largest: 2^-12.4 of the magnitudes of a group of both signs was the most of 4096',
  );
}

export interface Fp8Tensors extends EpilogueTensors {
  readonly x: Tensor;
  readonly xScale: Tensor<f32>;
  readonly w: Tensor;
  readonly wScale: Tensor<f32>;
}

/** Where a tile of w's rows finds its scales: the block of its gates (or of all its rows), and that of its values. */
export function blocksAt(first: i32, dims: Dims, options: Pick<Fp8Options, 'gate'>): i32[] {
  'use gpu';
  if (options.gate === 'none') return [first >> 7];
  const gates = first >> 8;
  return [gates, gates + blocksOf(dims, options) / 2];
}

/** The sum of a group, promoted: by both scales, or as it is. The same in every kernel. */
export function promoted(total: f32, group: f32, scale: f32 | undefined): f32 {
  'use gpu';
  return scale === undefined ? total + group : fma(group, scale, total);
}

/** The sum of all groups by the scales of its row of x and its row of w. */
export function scaledSum(sum: f32, xScale: f32, wScale: f32): f32 {
  'use gpu';
  return sum * xScale * wScale;
}

export function linearFp8Reference(
  { x, xScale, w, wScale, bias, residual }: Readonly<Record<string, Float64Array>>,
  dims: Dims,
  options: Fp8Options,
): Readonly<Record<string, Expected>> {
  const { rows, depth } = dims;
  const [groups, pitch] = [groupsOf(depth), scalePitch(rows)];
  const half = blocksOf(dims, options) / 2;
  const blockOf = (column: number): number => {
    if (options.gate === 'none') return Math.floor(column / BLOCK_ROWS);
    const isValue = Math.floor(column / 8) % 2;
    return Math.floor(column / 2 / BLOCK_ROWS) + isValue * half;
  };
  const product = (row: number, column: number): Sum => {
    let [sum, magnitude] = [0, 0];
    for (let group = 0; group < groups; group++) {
      const scale = {
        block: () => xScale[group * pitch + row] * wScale[blockOf(column) * groups + group],
        row: () => xScale[row] * wScale[column],
        tensor: () => xScale[0] * wScale[0],
      }[options.scales]();
      for (let k = group * GROUP; k < Math.min(depth, (group + 1) * GROUP); k++) {
        const term = x[row * depth + k] * w[column * depth + k] * scale;
        sum += term;
        magnitude += Math.abs(term);
      }
    }
    return [sum, magnitude];
  };
  return epilogueReference(product, { bias, residual }, dims, options);
}

export function linearFp8Roofline(dims: Dims, options: Fp8Options): Roofline {
  const { rows, columns, depth } = dims;
  const outputs = rows * outputColumns(dims, options);
  const scales = {
    block: groupsOf(depth) * (rows + blocksOf(dims, options)),
    row: rows + columns,
    tensor: 2,
  };
  return {
    bytes:
      bytesOf('e4m3', (rows + columns) * depth) +
      bytesOf('f32', scales[options.scales]) +
      bytesOf(options.type, (options.bias ? columns : 0) + (options.residual ? outputs : 0)) +
      bytesOf(options.output === 'f32' ? 'f32' : options.type, outputs),
    flops: 2 * rows * columns * depth,
  };
}
