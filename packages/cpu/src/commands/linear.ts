import { PANEL, partOffset, stepBytes, tiles, type PanelFormat } from '../kernels/linear.ts';
import { ACTIVATIONS } from './fields.ts';
import { shareOf, type ThreadArena } from './thread.ts';

/** What every linear command has, whatever its weights are. */
export interface LinearShape {
  readonly input: number;
  readonly inputStride: number;
  readonly weight: number;
  readonly outputs: number;
  readonly inputs: number;
  readonly bias: number;
  readonly output: number;
  readonly rows: number;
  /** Index in ACTIVATIONS, -1: none. */
  readonly activation: number;
}

export interface LinearFields extends LinearShape {
  readonly format: PanelFormat;
}

const shapes = {
  plain: { f32: shapeOf('plain', 'f32'), bf16: shapeOf('plain', 'bf16') },
  wide: { f32: shapeOf('wide', 'f32'), bf16: shapeOf('wide', 'bf16') },
};

function shapeOf(
  family: 'plain' | 'wide',
  format: PanelFormat,
): { parts: number; tiles: { rows: number; name: string }[] } {
  const { parts, tiles: list } = tiles(family, format);
  return { parts, tiles: list.map(({ rows, name }) => ({ rows, name })) };
}

/**
 * output = activation(input W^T + bias). Threads share the panels, or the rows where there are fewer panels than
 * threads. Each element is one chain of multiply-adds over the inputs, so no tile or share changes a bit.
 */
export function linear(c: LinearFields, t: ThreadArena): void {
  const panels = Math.ceil(c.outputs / PANEL);
  const byPanel = panels >= t.threads;
  const [firstPanel, endPanel] = byPanel ? shareOf(panels, 1, t) : [0, panels];
  const [firstRow, endRow] = byPanel ? [0, c.rows] : shareOf(c.rows, 1, t);
  if (firstPanel === endPanel || firstRow === endRow) return;
  const { parts, tiles: list } = shapes[t.family][c.format];
  const step = stepBytes(c.format);
  const rowBytes = 4 * c.outputs;
  for (let panel = firstPanel; panel < endPanel; panel++) {
    const whole = (panel + 1) * PANEL <= c.outputs;
    const weight = c.weight + panel * c.inputs * step;
    for (let part = 0; part < parts; part++) {
      const from = weight + (part * step) / parts;
      const column = partOffset(c.format, parts, part);
      let row = firstRow;
      for (const { rows, name } of list) {
        const tile = t.kernels[name];
        for (; row + rows <= endRow; row += rows) {
          const input = c.input + row * c.inputStride;
          if (whole) {
            tile(
              input,
              c.inputStride,
              from,
              c.output + row * rowBytes + panel * 4 * PANEL + column,
              rowBytes,
              c.inputs,
            );
          } else {
            // The last panel reaches over the edge: compute beside, copy what exists.
            tile(input, c.inputStride, from, t.scratch.tile + column, 4 * PANEL, c.inputs);
            copyEdge(c, t, panel, part, parts, row, rows);
          }
        }
      }
    }
  }
  finish(c, t, firstPanel * PANEL, Math.min(endPanel * PANEL, c.outputs), firstRow, endRow);
}

/** Copy the existing columns of a tile in scratch; with the last part all columns of the panel are there. */
function copyEdge(
  c: LinearFields,
  t: ThreadArena,
  panel: number,
  part: number,
  parts: number,
  row: number,
  rows: number,
): void {
  const columns = c.outputs - panel * PANEL;
  for (let r = 0; r < rows; r++) {
    const from = (t.scratch.tile + r * 4 * PANEL) >>> 2;
    const to = (c.output + (row + r) * 4 * c.outputs + panel * 4 * PANEL) >>> 2;
    for (let j = 0; j < columns; j++) if (partOfColumn(c.format, parts, j) === part) t.i32[to + j] = t.i32[from + j];
  }
}

function partOfColumn(format: PanelFormat, parts: number, column: number): number {
  if (parts === 1) return 0;
  if (format === 'f32') return Math.floor((column * parts) / PANEL);
  return 2 * (column >> 4) + ((column >> 2) & 1);
}

/** Bias and activation over the columns and rows that this thread computed. */
export function finish(
  c: LinearShape,
  t: ThreadArena,
  first: number,
  end: number,
  firstRow: number,
  endRow: number,
): void {
  if (c.bias === 0 && c.activation < 0) return;
  const { add } = t.kernels;
  const activate = c.activation < 0 ? undefined : t.kernels[`activate_${ACTIVATIONS[c.activation]}`];
  for (let row = firstRow; row < endRow; row++) {
    const at = c.output + (row * c.outputs + first) * 4;
    if (c.bias !== 0) add(at, c.bias + 4 * first, at, end - first);
    activate?.(at, end - first);
  }
}
