import { f32, type Fragment, type Tensor } from '@rose/cute';
import type { Dims, Expected } from '../spec.ts';
import {
  gelu as deviceGelu,
  geluShort,
  geluTanh as deviceGeluTanh,
  silu as deviceSilu,
  tanh as deviceTanh,
} from './math.ts';
import type { LinearOptions } from './linear.ts';
import { gelu, geluTanh, silu } from './reference.ts';

/** What becomes of the sums of a matrix product: the same operations in the same order in every kernel. */

type Activation = LinearOptions['activation'];

/** Rows of gate weights that lie together, then as many of value weights. */
const GATE_ROWS = 8;

/**
 * The order of a gated layer's weight rows: eight gates, the eight values that they belong to, and so on.
 *
 * @param rows of the gate, a multiple of 8
 * @returns for each row of w where it comes from: g for row g of the gate, rows + g for row g of the values
 */
export function interleaveGate(rows: number): Int32Array {
  if (rows % GATE_ROWS !== 0) throw new RangeError(`gates are interleaved by eights, and ${rows} is no multiple of 8`);
  return Int32Array.from({ length: 2 * rows }, (_, i) => {
    const block = Math.floor(i / (2 * GATE_ROWS));
    const inside = i % (2 * GATE_ROWS);
    return block * GATE_ROWS + (inside % GATE_ROWS) + (inside < GATE_ROWS ? 0 : rows);
  });
}

/** Columns of y. */
export function outputColumns({ columns }: Dims, { gate }: Pick<OutputOptions, 'gate'>): number {
  return gate === 'none' ? columns : columns / 2;
}

/** A tensor for some of the columns of y: those from `first` on. */
export interface LinearOutput {
  readonly name: 'y' | 'q' | 'k' | 'v';
  readonly first: number;
  readonly columns: number;
}

/** What decides which outputs there are and where they go. */
export interface OutputOptions {
  readonly gate: LinearOptions['gate'];
  readonly activation?: Activation;
  readonly split?: 'none' | 'qkv';
}

/** What decides what becomes of the sums. */
export interface EpilogueOptions extends OutputOptions {
  /** Of x. */
  readonly type: LinearOptions['type'] | 'f32';
  readonly output: LinearOptions['output'];
}

/** Whether outputs are rounded so far that a GELU of fewer digits will do. */
export function isShort({ type, output }: Pick<EpilogueOptions, 'type' | 'output'>): boolean {
  return type === 'bf16' && output === 'same';
}

/** The tensors that the columns of y go to, in their order: all to y, or first those of q, then k, then v. */
export function linearOutputs(dims: Dims, options: OutputOptions): readonly LinearOutput[] {
  const columns = outputColumns(dims, options);
  if (options.split !== 'qkv') return [{ name: 'y', first: 0, columns }];
  const { keys, values } = dims;
  const queries = columns - keys - values;
  return [
    { name: 'q', first: 0, columns: queries },
    { name: 'k', first: queries, columns: keys },
    { name: 'v', first: queries + keys, columns: values },
  ];
}

/** What an epilogue reads and writes. */
export interface EpilogueTensors {
  readonly scale?: Tensor<f32>;
  readonly bias?: Tensor;
  readonly residual?: Tensor;
  /** Those of `linearOutputs`. */
  readonly y?: Tensor;
  readonly q?: Tensor;
  readonly k?: Tensor;
  readonly v?: Tensor;
  readonly rows: number;
}

/** What stores columns of y: a tensor or its map, and which columns of y are its own. */
export interface OutputTensor {
  readonly tensor: Tensor;
  readonly first: number;
  readonly columns: number;
}

export function outputTensors(t: EpilogueTensors, dims: Dims, options: OutputOptions): readonly OutputTensor[] {
  return linearOutputs(dims, options).map(({ name, first, columns }) => ({ tensor: t[name]!, first, columns }));
}

/** The sum times the tensor's scale, and the column's bias. */
export function scaled(sum: f32, scale: f32 | undefined, bias: number | undefined): f32 {
  'use gpu';
  const value = scale === undefined ? sum : sum * scale;
  return bias === undefined ? value : value + f32(bias);
}

/** An activation in float32; NaN stays NaN. */
function activate(kind: Activation, x: f32, short: boolean): f32 {
  'use gpu';
  if (kind === 'none') return x;
  if (kind === 'gelu' && short) return geluShort(x);
  if (kind === 'relu') return x < 0 ? f32(0) : x;
  return DEVICE[kind](x);
}

const DEVICE = { silu: deviceSilu, gelu: deviceGelu, gelu_tanh: deviceGeluTanh, tanh: deviceTanh } as const;

/** What stands beside the sums of some neighbouring columns: the scale, their biases, the residual of their outputs. */
export interface Beside {
  readonly scale: f32 | undefined;
  readonly bias: Fragment | undefined;
  readonly valueBias: Fragment | undefined;
  readonly residual: Fragment | undefined;
}

/**
 * Outputs from sums, all float32, the same in every kernel: scale, bias, activation or gate, residual, each rounded.
 * `values` are the sums of the gated values, with a gate.
 */
export function finish(options: EpilogueOptions, sums: f32[], valueSums: f32[] | undefined, beside: Beside): f32[] {
  'use gpu';
  const kind = valueSums === undefined ? (options.activation ?? 'none') : options.gate;
  return sums.map((sum, i) => {
    'use gpu';
    const own = scaled(sum, beside.scale, beside.bias?.[i]);
    const value = valueSums && scaled(valueSums[i], beside.scale, beside.valueBias?.[i]);
    const active = activate(kind, own, isShort(options));
    const y = value === undefined ? active : active * value;
    return beside.residual === undefined ? y : y + f32(beside.residual[i]);
  });
}

const REFERENCES: Readonly<Record<Exclude<Activation, 'none'>, (x: number) => number>> = {
  silu,
  gelu,
  gelu_tanh: geluTanh,
  relu: (x) => Math.max(x, 0),
  tanh: Math.tanh,
};
/** The steepest that an activation is. */
const STEEPEST = 1.13;

/** The columns of y in the tensors that they go to. */
function splitReference(y: WholeExpected, dims: Dims, options: OutputOptions): Readonly<Record<string, Expected>> {
  const width = outputColumns(dims, options);
  return Object.fromEntries(
    linearOutputs(dims, options).map(({ name, first, columns }) => {
      const at = (i: number): number => Math.floor(i / columns) * width + first + (i % columns);
      const part = (list: Float64Array): Float64Array =>
        Float64Array.from({ length: dims.rows * columns }, (_, i) => list[at(i)]);
      return [name, { values: part(y.values), magnitude: part(y.magnitude) }];
    }),
  );
}

type WholeExpected = Exclude<Expected, Float64Array>;

/** A scaled sum of products, and the scaled sum of their magnitudes. */
export type Sum = readonly [sum: number, magnitude: number];

/** The outputs of scaled sums: bias, activation or gate, and residual in float64. `product` gives that of a row of x and a row of w. */
export function epilogueReference(
  product: (row: number, column: number) => Sum,
  { bias, residual }: { readonly bias?: Float64Array | undefined; readonly residual?: Float64Array | undefined },
  dims: Dims,
  options: OutputOptions,
): Readonly<Record<string, Expected>> {
  const { rows } = dims;
  const { gate, activation = 'none' } = options;
  const width = outputColumns(dims, options);
  const y = { values: new Float64Array(rows * width), magnitude: new Float64Array(rows * width) };
  const biased = (row: number, column: number): Sum => {
    const [sum, magnitude] = product(row, column);
    const plus = bias ? bias[column] : 0;
    return [sum + plus, magnitude + Math.abs(plus)];
  };
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < width; column++) {
      const first = gate === 'none' ? column : Math.floor(column / GATE_ROWS) * 2 * GATE_ROWS + (column % GATE_ROWS);
      let [value, magnitude] = biased(row, first);
      if (gate !== 'none') {
        const [up, upMagnitude] = biased(row, first + GATE_ROWS);
        const act = REFERENCES[gate](value);
        magnitude =
          STEEPEST * magnitude * Math.abs(up) + Math.abs(act) * upMagnitude + magnitude * upMagnitude * 2 ** -10;
        value = act * up;
      } else if (activation !== 'none') {
        value = REFERENCES[activation](value);
        magnitude *= STEEPEST;
      }
      const at = row * width + column;
      y.values[at] = value + (residual ? residual[at] : 0);
      y.magnitude[at] = magnitude + Math.abs(residual ? residual[at] : 0);
    }
  }
  return splitReference(y, dims, options);
}
