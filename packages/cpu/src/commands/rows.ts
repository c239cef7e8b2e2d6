import { PANEL, bf16Index, stepBytes, type PanelFormat } from '../kernels/linear.ts';
import { ACTIVATIONS } from './fields.ts';
import { bitsOf, shareOf, type ThreadArena } from './thread.ts';

export interface EmbedFields {
  /** `table`: row-major; `packed`: panels. */
  readonly layout: 'table' | 'packed';
  readonly format: PanelFormat;
  readonly table: number;
  readonly index: number;
  readonly output: number;
  readonly rows: number;
  readonly width: number;
  readonly accumulate: boolean;
}

export function embed(c: EmbedFields, t: ThreadArena): void {
  const [first, end] = shareOf(c.rows, 1, t);
  const gather = c.format === 'f32' ? t.kernels['gatherF32'] : t.kernels['gatherBf16'];
  const element = c.format === 'f32' ? 4 : 2;
  for (let row = first; row < end; row++) {
    const id = t.i32[(c.index >>> 2) + row];
    const output = c.output + row * c.width * 4;
    const target = c.accumulate ? t.scratch.row : output;
    if (c.layout === 'table') gather(c.table + id * c.width * element, target, c.width, element);
    else {
      const step = stepBytes(c.format);
      const column = id % PANEL;
      const inStep = c.format === 'f32' ? 4 * column : 2 * bf16Index(column);
      gather(c.table + Math.floor(id / PANEL) * c.width * step + inStep, target, c.width, step);
    }
    if (c.accumulate) t.kernels['add'](output, target, output, c.width);
  }
}

export interface NormFields {
  readonly kind: 'rms' | 'layer';
  readonly epsilon: number;
  readonly input: number;
  readonly add: number;
  readonly sum: number;
  readonly weight: number;
  readonly bias: number;
  readonly output: number;
  readonly rows: number;
  readonly width: number;
}

export function norm(c: NormFields, t: ThreadArena): void {
  const [first, end] = shareOf(c.rows, 1, t);
  const epsilon = bitsOf(c.epsilon);
  const inverse = bitsOf(1 / c.width);
  for (let row = first; row < end; row++) {
    const at = row * c.width * 4;
    let x = c.input + at;
    if (c.add !== 0) {
      const sum = c.sum === 0 ? t.scratch.row : c.sum + at;
      t.kernels['add'](x, c.add + at, sum, c.width);
      x = sum;
    }
    if (c.kind === 'rms') t.kernels['rmsNorm'](x, c.weight, c.output + at, c.width, epsilon, inverse);
    else t.kernels['layerNorm'](x, c.weight, c.bias, c.output + at, c.width, epsilon, inverse);
  }
}

export interface GateFields {
  readonly input: number;
  readonly output: number;
  readonly rows: number;
  readonly size: number;
  readonly activation: number;
}

export function gate(c: GateFields, t: ThreadArena): void {
  const kernel = t.kernels[`gate_${ACTIVATIONS[c.activation]}`];
  elementwise(c.rows, c.size, t, (row, first, count) => {
    const at = c.input + (row * 2 * c.size + first) * 4;
    kernel(at, at + 4 * c.size, c.output + (row * c.size + first) * 4, count);
  });
}

export interface ActivateFields {
  readonly input: number;
  readonly rows: number;
  readonly width: number;
  readonly activation: number;
}

export function activate(c: ActivateFields, t: ThreadArena): void {
  const kernel = t.kernels[`activate_${ACTIVATIONS[c.activation]}`];
  elementwise(c.rows, c.width, t, (row, first, count) => kernel(c.input + (row * c.width + first) * 4, count));
}

/** Threads share the rows, or the columns where there are fewer rows than threads. */
function elementwise(
  rows: number,
  width: number,
  t: ThreadArena,
  run: (row: number, first: number, count: number) => void,
): void {
  const byRow = rows >= t.threads;
  const [firstRow, endRow] = byRow ? shareOf(rows, 1, t) : [0, rows];
  const [first, end] = byRow ? [0, width] : shareOf(width, 8, t);
  if (first === end) return;
  for (let row = firstRow; row < endRow; row++) run(row, first, end - first);
}

export interface GatherFields {
  readonly input: number;
  readonly index: number;
  readonly output: number;
  readonly rows: number;
  readonly width: number;
}

export function gather(c: GatherFields, t: ThreadArena): void {
  const [first, end] = shareOf(c.rows, 1, t);
  const bytes = 4 * c.width;
  for (let row = first; row < end; row++) {
    const from = c.input + t.i32[(c.index >>> 2) + row] * bytes;
    t.u8.copyWithin(c.output + row * bytes, from, from + bytes);
  }
}

export interface PoolFields {
  readonly kind: 'cls' | 'mean' | 'max' | 'mean_sqrt' | 'last';
  readonly input: number;
  readonly rowStart: number;
  readonly output: number;
  readonly sequences: number;
  readonly width: number;
}

export function pool(c: PoolFields, t: ThreadArena): void {
  const [first, end] = shareOf(c.sequences, 1, t);
  const bytes = 4 * c.width;
  for (let s = first; s < end; s++) {
    const from = t.i32[(c.rowStart >>> 2) + s];
    const to = t.i32[(c.rowStart >>> 2) + s + 1];
    const output = c.output + s * bytes;
    const row = c.kind === 'last' ? to - 1 : from;
    t.u8.copyWithin(output, c.input + row * bytes, c.input + (row + 1) * bytes);
    if (c.kind === 'cls' || c.kind === 'last') continue;
    for (let r = from + 1; r < to; r++) {
      if (c.kind === 'max') t.kernels['maximum'](c.input + r * bytes, output, c.width);
      else t.kernels['add'](output, c.input + r * bytes, output, c.width);
    }
    if (c.kind === 'max') continue;
    const count = to - from;
    t.kernels['scale'](output, c.width, bitsOf(1 / (c.kind === 'mean' ? count : Math.sqrt(count))));
  }
}

export interface NormalizeFields {
  readonly input: number;
  readonly rows: number;
  readonly width: number;
}

export function normalize(c: NormalizeFields, t: ThreadArena): void {
  const [first, end] = shareOf(c.rows, 1, t);
  for (let row = first; row < end; row++) t.kernels['normalize'](c.input + row * c.width * 4, c.width);
}

export interface SummarizeFields {
  readonly input: number;
  readonly rows: number;
  readonly width: number;
  readonly output: number;
}

/** A float32 zero's bits but for the sign are all zero. */
const MINUS_ZERO = 0x80000000 | 0;

export function summarize(c: SummarizeFields, t: ThreadArena): void {
  const [first, end] = shareOf(c.rows, 1, t);
  const { i32: words } = t;
  for (let row = first; row < end; row++) {
    const input = c.input + row * c.width * 4;
    const tile = t.scratch.tile;
    t.kernels['summary'](input, c.width, tile);
    const maximum = words[tile >>> 2];
    const elements = words.subarray(input >>> 2, (input >>> 2) + c.width);
    let index = elements.indexOf(maximum);
    // Zeros are equal and have two encodings.
    if (maximum << 1 === 0) {
      const other = elements.indexOf(maximum ^ MINUS_ZERO);
      if (other >= 0 && (other < index || index < 0)) index = other;
    }
    const output = (c.output >>> 2) + 4 * row;
    words[output] = maximum;
    words[output + 1] = Math.max(index, 0);
    words[output + 2] = words[(tile >>> 2) + 1];
    words[output + 3] = 0;
  }
}
