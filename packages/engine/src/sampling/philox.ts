/**
 * Philox4x32-10, a counter-based random generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011):
 * its output is a function of key and counter alone, so a draw depends on the request's seed and the token's position
 * and on nothing that happened before.
 */
const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const ROUNDS = 10;

/** High 32 bits of the 64-bit product of two unsigned 32-bit numbers. */
function highProduct(a: number, b: number): number {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const low = a0 * b0;
  // At most (2^16 - 1)^2 + 2^16 - 1 and twice that below: exact in a double.
  const middle = a1 * b0 + (low >>> 16);
  const middle2 = a0 * b1 + (middle % 0x10000);
  return (a1 * b1 + Math.floor(middle / 0x10000) + Math.floor(middle2 / 0x10000)) >>> 0;
}

/** Encrypt the counter (four words) in place with the key (two words). All words are unsigned 32-bit. */
export function philox4x32(counter: Uint32Array, key0: number, key1: number): void {
  let c0 = counter[0];
  let c1 = counter[1];
  let c2 = counter[2];
  let c3 = counter[3];
  let k0 = key0 >>> 0;
  let k1 = key1 >>> 0;
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = highProduct(MULTIPLIER_0, c0);
    const low0 = Math.imul(MULTIPLIER_0, c0) >>> 0;
    const high1 = highProduct(MULTIPLIER_1, c2);
    const low1 = Math.imul(MULTIPLIER_1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  counter[0] = c0;
  counter[1] = c1;
  counter[2] = c2;
  counter[3] = c3;
}

const words = new Uint32Array(4);

/**
 * A number in [0, 1) with 53 random bits for the token at `position` (0-based, prompt included).
 * @param seed a whole number from 0 to 2^53 - 1
 */
export function uniform(seed: number, position: number): number {
  words[0] = position;
  words[1] = 0;
  words[2] = 0;
  words[3] = 0;
  philox4x32(words, seed % 0x100000000, Math.floor(seed / 0x100000000));
  return ((words[0] >>> 5) * 0x4000000 + (words[1] >>> 6)) / 0x20000000000000;
}
