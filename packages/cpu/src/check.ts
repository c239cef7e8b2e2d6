import type { Arena } from './api.ts';
import { fusedMultiplyAdd } from './fused.ts';

/** A whole panel and one that ends early; an odd number of inputs; a tile of every number of rows. */
const ROWS = 6;
const OUTPUTS = 45;
const INPUTS = 19;

/**
 * Multiply small matrices of every exact format and compare with the scalar chain of multiply-adds, bit for bit. Uses up
 * no memory of the arena, whose scratch must be there.
 * @throws Error naming the first format whose bits differ
 */
export function checkTiles(arena: Arena): void {
  const mark = arena.used;
  const input = arena.alloc(4 * ROWS * INPUTS);
  const source = arena.alloc(4 * OUTPUTS * INPUTS);
  const output = arena.alloc(4 * ROWS * OUTPUTS);
  const x = arena.f32(input, ROWS * INPUTS).map((_, i) => Math.fround(Math.sin(i + 1)));
  arena.f32(input, x.length).set(x);
  // Values of bfloat16: both formats hold them exactly.
  const w = new Float32Array(OUTPUTS * INPUTS).map((_, i) => Math.cos(3 * i));
  const bits = new Int32Array(w.buffer);
  for (let i = 0; i < bits.length; i++) bits[i] &= 0xffff0000;
  const [fused, rounded] = [fusedMultiplyAdd, roundedMultiplyAdd].map((step) => chains(x, w, step));
  try {
    for (const format of ['f32', 'bf16'] as const) {
      const weight = arena.matrix(OUTPUTS, INPUTS, format);
      if (format === 'f32') arena.f32(source, w.length).set(w);
      else new Uint16Array(arena.memory.buffer, source, w.length).set(bits.map((word) => word >>> 16));
      arena.pack(weight, 0, OUTPUTS, source, format === 'f32' ? 'F32' : 'BF16');
      const program = arena.program();
      for (let rows = 1; rows <= ROWS; rows++) {
        program.reset();
        program.linear({ input, weight, output, rows });
        program.run();
        const got = arena.i32(output, rows * OUTPUTS);
        // Processors without fused multiply-add round twice, always.
        if (!equal(got, fused) && !equal(got, rounded)) throw new Error(`${format} products have wrong bits`);
      }
    }
  } finally {
    arena.release(mark);
  }
}

function roundedMultiplyAdd(a: number, b: number, c: number): number {
  return Math.fround(Math.fround(a * b) + c);
}

/** The products' bits: one chain over the inputs for each element. */
function chains(x: Float32Array, w: Float32Array, step: (a: number, b: number, c: number) => number): Int32Array {
  const products = new Float32Array(ROWS * OUTPUTS);
  for (let i = 0; i < products.length; i++) {
    const [row, column] = [Math.floor(i / OUTPUTS) * INPUTS, (i % OUTPUTS) * INPUTS];
    for (let k = 0; k < INPUTS; k++) products[i] = step(x[row + k], w[column + k], products[i]);
  }
  return new Int32Array(products.buffer);
}

function equal(a: Int32Array, b: Int32Array): boolean {
  return a.every((value, i) => value === b[i]);
}
