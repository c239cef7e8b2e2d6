import { PANEL } from '../kernels/linear.ts';
import {
  blockBytes,
  GROUP,
  inputBytes,
  QUANTIZED_TILES,
  weightBytes,
  weightStride,
  type QuantizedFormat,
} from '../kernels/quantized.ts';
import { takePanels, type LinearShape } from './linear.ts';
import type { PackShape } from './pack.ts';
import { shareOf, type ThreadArena } from './thread.ts';

const QUANTIZERS = { int8: 'quantize_int8', int4: 'quantize_int4' } as const;

export interface QuantizeFields {
  readonly format: QuantizedFormat;
  readonly input: number;
  readonly inputStride: number;
  readonly inputs: number;
  readonly rows: number;
}

export interface LinearQuantizedFields extends LinearShape {
  readonly format: QuantizedFormat;
}

export interface PackQuantizedFields extends PackShape {
  readonly format: QuantizedFormat;
}

export function quantizedRowBytes(inputs: number, format: QuantizedFormat): number {
  return Math.ceil(inputs / GROUP) * inputBytes(format);
}

/** Rows of a linear command's input, quantized into the arena's scratch. Threads share rows, or groups of a few rows. */
export function quantize(c: QuantizeFields, t: ThreadArena): void {
  const kernel = t.kernels[QUANTIZERS[c.format]];
  const byRow = c.rows >= 2 * t.threads;
  const [firstRow, endRow] = byRow ? shareOf(c.rows, 1, t) : [0, c.rows];
  const [first, end] = byRow ? [0, c.inputs] : shareOf(c.inputs, GROUP, t);
  if (first === end) return;
  const to = t.scratch.quantized + (first / GROUP) * inputBytes(c.format);
  const stride = quantizedRowBytes(c.inputs, c.format);
  for (let row = firstRow; row < endRow; row++) {
    kernel(c.input + row * c.inputStride + 4 * first, to + row * stride, end - first);
  }
}

/** Rows whose quantized inputs stay in the second-level cache while a part's panels pass. */
const BLOCK_ROWS = 256;

/** The linear command over the quantized rows in scratch. */
export function linearQuantized(c: LinearQuantizedFields, t: ThreadArena): void {
  takePanels(c, t, BLOCK_ROWS, multiplyPanel);
}

function multiplyPanel(
  c: LinearQuantizedFields,
  t: ThreadArena,
  panel: number,
  firstRow: number,
  endRow: number,
): void {
  const inputStride = quantizedRowBytes(c.inputs, c.format);
  const groups = Math.ceil(c.inputs / GROUP);
  const rowBytes = 4 * c.outputs;
  const columns = Math.min(PANEL, c.outputs - panel * PANEL);
  const weights = c.weight + panel * groups * blockBytes(c.format);
  const scales = weights + weightBytes(c.format);
  let first = firstRow;
  for (const { names, rows, columns: width } of QUANTIZED_TILES[t.family]) {
    const tile = t.kernels[names[c.format]];
    const end = first + Math.floor((endRow - first) / rows) * rows;
    for (let column = 0; column < columns; column += width) {
      const from = weights + (column * weightStride(c.format)) / PANEL;
      const scale = scales + 4 * column;
      for (let row = first; row < end; row += rows) {
        const input = t.scratch.quantized + row * inputStride;
        const output = c.output + row * rowBytes + 4 * (panel * PANEL + column);
        if (column + width <= columns) {
          tile(input, inputStride, from, scale, output, rowBytes, groups);
        } else {
          // The tile reaches over the edge: compute beside, copy what exists.
          tile(input, inputStride, from, scale, t.scratch.tile, 4 * width, groups);
          for (let r = 0; r < rows; r++) {
            const at = t.scratch.tile + r * 4 * width;
            t.u8.copyWithin(output + r * rowBytes, at, at + 4 * (columns - column));
          }
        }
      }
    }
    first = end;
  }
}

/** Rows of a matrix, quantized, into its panels, where they become columns. Threads share the rows. */
export function packQuantized(c: PackQuantizedFields, t: ThreadArena): void {
  const [first, end] = shareOf(c.rows, PANEL, t);
  const kernel = t.kernels[`pack_${c.format}_${c.dtype}`];
  const sourceStride = c.inputs * (c.dtype === 'F32' ? 4 : 2);
  const panelBytes = Math.ceil(c.inputs / GROUP) * blockBytes(c.format);
  for (let r = first; r < end; r++) {
    const column = (c.firstRow + r) % PANEL;
    const panel = c.weight + Math.floor((c.firstRow + r) / PANEL) * panelBytes;
    const weights = panel + (column * weightStride(c.format)) / PANEL;
    kernel(c.source + r * sourceStride, weights, panel + weightBytes(c.format) + 4 * column, c.inputs);
  }
}
