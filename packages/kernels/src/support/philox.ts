import { f64, mulhi, u32 } from '@rose/cute';

/** Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). */
const MULTIPLIERS = [0xd2511f53, 0xcd9e8d57] as const;
const WEYL = [0x9e3779b9, 0xbb67ae85] as const;
const ROUNDS = 10;

/** A number in [0, 1) with 53 random bits, from a seed's words and a position: what the engine's `uniform` gives. */
export function deviceUniform(seed: u32, seedHigh: u32, position: u32): f64 {
  'use gpu';
  let [c0, c1, c2, c3]: u32[] = [position, u32(0), u32(0), u32(0)];
  let [k0, k1]: u32[] = [seed, seedHigh];
  for (let round = 0; round < ROUNDS; round++) {
    const [high0, low0] = [mulhi(u32(MULTIPLIERS[0]), c0), u32(MULTIPLIERS[0]) * c0];
    const [high1, low1] = [mulhi(u32(MULTIPLIERS[1]), c2), u32(MULTIPLIERS[1]) * c2];
    [c0, c1, c2, c3] = [high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0];
    [k0, k1] = [k0 + u32(WEYL[0]), k1 + u32(WEYL[1])];
  }
  return (f64(c0 >>> 5) * 0x4000000 + f64(c1 >>> 6)) * 2 ** -53;
}

/** The same on the host. */
export function hostUniform(seed: number, seedHigh: number, position: number): number {
  let c = [BigInt(position), 0n, 0n, 0n];
  let k = [BigInt(seed >>> 0), BigInt(seedHigh >>> 0)];
  const word = (x: bigint): bigint => BigInt.asUintN(32, x);
  for (let round = 0; round < ROUNDS; round++) {
    const [p0, p1] = [BigInt(MULTIPLIERS[0]) * c[0], BigInt(MULTIPLIERS[1]) * c[2]];
    c = [(p1 >> 32n) ^ c[1] ^ k[0], word(p1), (p0 >> 32n) ^ c[3] ^ k[1], word(p0)];
    k = [word(k[0] + BigInt(WEYL[0])), word(k[1] + BigInt(WEYL[1]))];
  }
  return (Number(c[0] >> 5n) * 0x4000000 + Number(c[1] >> 6n)) / 2 ** 53;
}
