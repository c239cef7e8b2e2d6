import type { SourceDtype } from '../api.ts';
import { bf16Index, PANEL, stepBytes, type PanelFormat } from '../kernels/linear.ts';
import { shareOf, type ThreadArena } from './thread.ts';

/** What every pack command has, whatever its weights become. */
export interface PackShape {
  readonly weight: number;
  readonly inputs: number;
  readonly firstRow: number;
  readonly rows: number;
  readonly source: number;
  readonly dtype: SourceDtype;
}

export interface PackFields extends PackShape {
  readonly format: PanelFormat;
}

/** Rows of a matrix into its panels, where they become columns. Threads share the rows. */
export function pack(c: PackFields, t: ThreadArena): void {
  const [first, end] = shareOf(c.rows, PANEL, t);
  const { buffer } = t.u8;
  const { inputs } = c;
  const elementBytes = c.dtype === 'F32' ? 4 : 2;
  const step = stepBytes(c.format);
  for (let r = first; r < end; r++) {
    const source = c.source + r * inputs * elementBytes;
    const column = (c.firstRow + r) % PANEL;
    const panel = c.weight + Math.floor((c.firstRow + r) / PANEL) * inputs * step;
    if (c.format === 'bf16' && c.dtype === 'BF16') {
      t.kernels['scatter16'](source, panel + 2 * bf16Index(column), inputs, step);
    } else if (c.dtype === 'F16') {
      const values = new Float16Array(buffer, source, inputs);
      const target = new Float32Array(buffer, panel + 4 * column);
      for (let k = 0; k < inputs; k++) target[k * PANEL] = values[k];
    } else if (c.dtype === 'BF16') {
      const words = new Uint16Array(buffer, source, inputs);
      const target = (panel >> 2) + column;
      for (let k = 0; k < inputs; k++) t.i32[target + k * PANEL] = words[k] << 16;
    } else {
      t.kernels['scatterF32'](source, panel + 4 * column, inputs, step);
    }
  }
}
