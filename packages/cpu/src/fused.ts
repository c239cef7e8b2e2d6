const wide = new Float64Array(1);
const words = new Int32Array(wide.buffer);

/**
 * a * b + c of float32 values, rounded once to float32: what a fused multiply-add gives. The product is exact in
 * float64; the sum is rounded to odd there (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008),
 * so that the second rounding, to float32, cannot fall on a false tie.
 */
export function fusedMultiplyAdd(a: number, b: number, c: number): number {
  const product = a * b;
  const sum = product + c;
  // Knuth's two-sum: what the float64 addition lost.
  const part = sum - product;
  const lost = product - (sum - part) + (c - part);
  if (lost === 0 || !Number.isFinite(sum)) return Math.fround(sum);
  wide[0] = sum;
  if ((words[0] & 1) === 0) {
    // The exact sum lies beside this even float64: take the odd neighbour on its side.
    if (lost > 0 === sum > 0) words[0] |= 1;
    else {
      if (words[0] === 0) words[1] -= 1;
      words[0] -= 1;
    }
  }
  return Math.fround(wide[0]);
}
