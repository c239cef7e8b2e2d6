/** Seeded random bits, 32 at a time: xoshiro128** (Blackman and Vigna, 2018), its state filled by splitmix32. */
export class RandomBits {
  readonly #state = new Uint32Array(4);

  constructor(seed: number) {
    let x = seed >>> 0;
    for (let i = 0; i < 4; i++) {
      x = (x + 0x9e3779b9) >>> 0;
      let z = x;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      this.#state[i] = z ^ (z >>> 15);
    }
  }

  /** The next 32 bits as an unsigned number. */
  next(): number {
    const s = this.#state;
    const product = Math.imul(s[1], 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const shifted = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = (s[3] << 11) | (s[3] >>> 21);
    return result;
  }

  /** Uniform in (0, 1): never 0, whose logarithm Box and Muller's transform would take. */
  uniform(): number {
    return (this.next() + 0.5) / 2 ** 32;
  }

  /** A whole number in [0, end). The bias of the remainder (below end / 2^32) does not matter here. */
  below(end: number): number {
    return this.next() % end;
  }
}

/** So many distinct values a model has: enough for a benchmark, and a table is far quicker than a draw a weight. */
const SAMPLES = 1 << 16;

/** Normal random numbers of mean 0 and deviation 1, from which weights of any deviation are drawn. */
export function normalSamples(seed: number): Float32Array {
  const bits = new RandomBits(seed);
  const samples = new Float32Array(SAMPLES);
  for (let i = 0; i < SAMPLES; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(bits.uniform()));
    const angle = 2 * Math.PI * bits.uniform();
    samples[i] = radius * Math.cos(angle);
    samples[i + 1] = radius * Math.sin(angle);
  }
  return samples;
}

/** `length` (an even number) weights, each `mean` + `deviation` times one of `samples`, rounded to bfloat16 bits. */
export function randomBf16(
  samples: Float32Array,
  bits: RandomBits,
  length: number,
  deviation: number,
  mean = 0,
): Uint16Array {
  const table = toBf16(samples.map((sample) => mean + deviation * sample));
  const weights = new Uint16Array(length);
  for (let i = 0; i < length; i += 2) {
    const draw = bits.next();
    weights[i] = table[draw & 0xffff];
    weights[i + 1] = table[draw >>> 16];
  }
  return weights;
}

/** float32 to bfloat16 bits, to nearest, ties to even. */
function toBf16(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Uint16Array.from(words, (word) => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16);
}

/** bfloat16 bits to float32, exactly. */
export function fromBf16(weights: Uint16Array): Float32Array {
  const words = new Uint32Array(weights.length);
  for (let i = 0; i < weights.length; i++) words[i] = weights[i] << 16;
  return new Float32Array(words.buffer);
}
