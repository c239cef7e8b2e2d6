import { PANEL, partOffset, stepBytes, tileShapes, type PanelFormat } from '../kernels/linear.ts';
import { ACTIVATIONS } from './fields.ts';
import { partStart, partsOf, type ThreadArena } from './thread.ts';

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

const TILES = {
  plain: { f32: tileShapes('plain', 'f32'), bf16: tileShapes('plain', 'bf16') },
  wide: { f32: tileShapes('wide', 'f32'), bf16: tileShapes('wide', 'bf16') },
};

/** Input rows that are multiplied by all panels before the next ones are: they stay in the second-level cache. */
const BLOCK_BYTES = 512 * 1024;

/**
 * output = activation(input W^T + bias). Each element is one chain of multiply-adds over the inputs, so no tile or share
 * changes a bit.
 */
export function linear(c: LinearFields, t: ThreadArena): void {
  const most = TILES[t.family][c.format].length;
  takePanels(c, t, most * Math.max(1, Math.floor(BLOCK_BYTES / (4 * c.inputs * most))), multiplyPanel);
}

/** Computes rows [row, end) of a panel's outputs, without bias and activation. */
type MultiplyPanel<C> = (c: C, t: ThreadArena, panel: number, row: number, end: number) => void;

/** Threads take panels, or rows where there are fewer panels than threads, until all outputs are computed. */
export function takePanels<C extends LinearShape>(
  c: C,
  t: ThreadArena,
  blockRows: number,
  multiply: MultiplyPanel<C>,
): void {
  const panels = Math.ceil(c.outputs / PANEL);
  const byPanel = panels >= t.threads;
  const parts = byPanel ? partsOf(panels, c.rows * c.inputs * PANEL, t.threads) : Math.min(c.rows, t.threads);
  for (let part = t.take(); part < parts; part = t.take()) {
    const firstPanel = byPanel ? partStart(part, parts, panels) : 0;
    const endPanel = byPanel ? partStart(part + 1, parts, panels) : panels;
    const firstRow = byPanel ? 0 : partStart(part, parts, c.rows);
    const endRow = byPanel ? c.rows : partStart(part + 1, parts, c.rows);
    for (let row = firstRow; row < endRow; row += blockRows) {
      const end = Math.min(row + blockRows, endRow);
      for (let panel = firstPanel; panel < endPanel; panel++) multiply(c, t, panel, row, end);
      finish(c, t, firstPanel * PANEL, Math.min(endPanel * PANEL, c.outputs), row, end);
    }
  }
}

/** In tiles as equal as can be. */
function multiplyPanel(c: LinearFields, t: ThreadArena, panel: number, row: number, end: number): void {
  const tiles = TILES[t.family][c.format];
  const weight = c.weight + panel * c.inputs * stepBytes(c.format);
  const step = stepBytes(c.format);
  const columns = Math.min(PANEL, c.outputs - panel * PANEL);
  // The last panel may reach over the edge: compute beside, then copy what exists.
  const whole = columns === PANEL;
  const rowBytes = whole ? 4 * c.outputs : 4 * PANEL;
  while (row < end) {
    const left = end - row;
    const { name, rows, parts } = tiles[Math.ceil(left / Math.ceil(left / tiles.length)) - 1];
    const tile = t.kernels[name];
    const input = c.input + row * c.inputStride;
    const output = whole ? c.output + row * rowBytes + panel * 4 * PANEL : t.scratch.tile;
    for (let part = 0; part < parts; part++) {
      const from = weight + (part * step) / parts;
      tile(input, c.inputStride, from, output + partOffset(c.format, parts, part), rowBytes, c.inputs);
    }
    if (!whole) copyEdge(c, t, panel, columns, row, rows);
    row += rows;
  }
}

/** Copy the columns that exist of a tile in scratch. */
function copyEdge(c: LinearFields, t: ThreadArena, panel: number, columns: number, row: number, rows: number): void {
  for (let r = 0; r < rows; r++) {
    const from = t.scratch.tile + r * 4 * PANEL;
    const to = c.output + ((row + r) * c.outputs + panel * PANEL) * 4;
    t.u8.copyWithin(to, from, from + 4 * columns);
  }
}

/** Bias and activation over the columns and rows that this thread computed. */
function finish(c: LinearShape, t: ThreadArena, first: number, end: number, firstRow: number, endRow: number): void {
  if (c.bias === 0 && c.activation < 0) return;
  const { add } = t.kernels;
  const activate = c.activation < 0 ? undefined : t.kernels[`activate_${ACTIVATIONS[c.activation]}`];
  for (let row = firstRow; row < endRow; row++) {
    const at = c.output + (row * c.outputs + first) * 4;
    if (c.bias !== 0) add(at, c.bias + 4 * first, at, end - first);
    activate?.(at, end - first);
  }
}
