/** Elements that share one scale. */
const BLOCK = 32;

/**
 * ggml's Q4_0: each block of 32 is a float16 scale d and 16 bytes, byte j holding elements j (low half) and j + 16
 * (high half) as q in 0..15; an element is d (q - 8). d is the element of largest magnitude over -8, so that it lands
 * exactly on q = 0 (ggml-quants.c, `quantize_row_q4_0_ref`).
 */
export function quantizeQ4(values: Float32Array): Uint8Array {
  const output = new Uint8Array((values.length / BLOCK) * 18);
  for (let block = 0, at = 0; block < values.length; block += BLOCK, at += 18) {
    let largest = 0;
    for (let i = block; i < block + BLOCK; i++) if (Math.abs(values[i]) > Math.abs(largest)) largest = values[i];
    const scale = Math.fround(largest / -8);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    putHalf(output, at, scale);
    for (let j = 0; j < 16; j++) {
      const low = Math.min(15, Math.trunc(values[block + j] * inverse + 8.5));
      const high = Math.min(15, Math.trunc(values[block + 16 + j] * inverse + 8.5));
      output[at + 2 + j] = low | (high << 4);
    }
  }
  return output;
}

/** ggml's Q8_0: each block of 32 is a float16 scale d = max |x| / 127 and 32 int8; an element is d q. */
export function quantizeQ8(values: Float32Array): Uint8Array {
  const output = new Uint8Array((values.length / BLOCK) * 34);
  for (let block = 0, at = 0; block < values.length; block += BLOCK, at += 34) {
    let largest = 0;
    for (let i = block; i < block + BLOCK; i++) largest = Math.max(largest, Math.abs(values[i]));
    const scale = Math.fround(largest / 127);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    putHalf(output, at, scale);
    for (let j = 0; j < BLOCK; j++) output[at + 2 + j] = Math.round(values[block + j] * inverse);
  }
  return output;
}

const half = new Float16Array(1);
const halfBytes = new Uint8Array(half.buffer);

function putHalf(target: Uint8Array, at: number, value: number): void {
  half[0] = value;
  target[at] = halfBytes[0];
  target[at + 1] = halfBytes[1];
}
