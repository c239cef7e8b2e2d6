import type { SourceDtype } from '../api.ts';
import { bf16Index, PANEL, stepBytes, type PanelFormat } from '../kernels/linear.ts';
import { bitsOf, shareOf, type ThreadArena } from './thread.ts';

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
    const target = c.format === 'f32' ? panel + 4 * column : panel + 2 * bf16Index(column);
    if (c.dtype === 'F16') {
      const values = new Float16Array(buffer, source, inputs);
      for (let k = 0; k < inputs; k++) store(t, c.format, target + k * step, values[k]);
    } else if (c.dtype === 'BF16' && c.format === 'f32') {
      const words = new Uint16Array(buffer, source, inputs);
      for (let k = 0; k < inputs; k++) t.i32[(target + k * step) >>> 2] = words[k] << 16;
    } else {
      const scatter = c.dtype === 'BF16' ? 'scatter16' : c.format === 'f32' ? 'scatterF32' : 'scatterBf16';
      t.kernels[scatter](source, target, inputs, step);
    }
  }
}

/** A float16 value in the panel's format: float32 holds it exactly, bfloat16 the nearest, ties to even. */
function store(t: ThreadArena, format: PanelFormat, target: number, value: number): void {
  const bits = bitsOf(value);
  if (format === 'f32') t.i32[target >>> 2] = bits;
  else {
    const nearest = (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
    t.u8[target] = nearest;
    t.u8[target + 1] = nearest >> 8;
  }
}
