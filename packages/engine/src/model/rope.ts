import type { RopeScaling, RopeSpec } from './spec.ts';

/** cos and sin of every angle, float32 [positions, dim / 2] row-major, the attention factor multiplied in. */
export interface RopeTables {
  readonly cos: Float32Array<ArrayBuffer>;
  readonly sin: Float32Array<ArrayBuffer>;
}

/**
 * The rotary embedding's tables for positions 0 to `positions - 1`. Rounded where transformers rounds in float32:
 * the frequencies, then their product with the position, then cosine and sine; a long context turns a difference in
 * the last bit of a frequency into a visible angle.
 */
export function ropeTables(rope: RopeSpec, positions: number): RopeTables {
  const half = rope.dim / 2;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  writeAngles(rope, { first: 0, count: positions, pitch: half }, cos, sin);
  return { cos, sin };
}

/**
 * The same for the positions from `first` on, as many as fit the target: float32 [positions, 2, dim / 2], each position's
 * cosines before its sines.
 */
export function ropeAngles(rope: RopeSpec, first: number, target: Float32Array): void {
  const { dim } = rope;
  writeAngles(rope, { first, count: target.length / dim, pitch: dim }, target, target.subarray(dim / 2));
}

function writeAngles(
  rope: RopeSpec,
  { first, count, pitch }: { readonly first: number; readonly count: number; readonly pitch: number },
  cos: Float32Array,
  sin: Float32Array,
): void {
  const frequencies = ropeFrequencies(rope);
  const factor = rope.scaling.kind === 'yarn' ? rope.scaling.attentionFactor : 1;
  for (let row = 0; row < count; row++) {
    for (let i = 0, at = row * pitch; i < frequencies.length; i++, at++) {
      const angle = Math.fround((first + row) * frequencies[i]);
      cos[at] = Math.fround(Math.cos(angle)) * factor;
      sin[at] = Math.fround(Math.sin(angle)) * factor;
    }
  }
}

/**
 * Radians a position for each pair of elements, float32 [dim / 2]: theta^(-2i / dim) (RoFormer, arXiv:2104.09864,
 * section 3.2.2), changed by the scaling.
 */
export function ropeFrequencies(rope: RopeSpec): Float32Array {
  const { theta, dim, scaling } = rope;
  const frequencies = new Float32Array(dim / 2);
  const scale = scalingFunction(scaling, rope);
  for (let i = 0; i < frequencies.length; i++) {
    const wave = Math.fround(Math.pow(Math.fround(theta), Math.fround((2 * i) / dim)));
    frequencies[i] = scale(wave, i);
  }
  return frequencies;
}

/** From 1 / frequency (float32) and the pair's index to the scaled frequency. */
function scalingFunction(scaling: RopeScaling, rope: RopeSpec): (wave: number, i: number) => number {
  switch (scaling.kind) {
    case 'none':
      return (wave) => Math.fround(1 / wave);
    case 'linear':
      return (wave) => Math.fround(Math.fround(1 / wave) / Math.fround(scaling.factor));
    case 'llama3':
      return (wave) => llama3(Math.fround(1 / wave), scaling);
    case 'yarn':
      return yarn(scaling, rope);
  }
}

/**
 * Llama 3.1: long wavelengths are interpolated, short ones kept, those between blended (`apply_scaling` of
 * https://github.com/meta-llama/llama-models; `_compute_llama3_parameters` of transformers).
 */
function llama3(frequency: number, scaling: RopeScaling & { kind: 'llama3' }): number {
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalContext } = scaling;
  const { fround } = Math;
  const wavelength = fround(fround(2 * Math.PI) / frequency);
  if (wavelength < originalContext / high) return frequency;
  if (wavelength > originalContext / low) return fround(frequency / factor);
  const smooth = fround(fround(fround(originalContext / wavelength) - low) / (high - low));
  return fround(fround(fround(fround(1 - smooth) * frequency) / factor) + fround(smooth * frequency));
}

/**
 * YaRN, "NTK-by-parts" (arXiv:2309.00071, section 3.2): pairs that turn often within the original context keep their
 * frequency, those that turn rarely are interpolated, with a linear ramp between the two correction dimensions.
 */
function yarn(scaling: RopeScaling & { kind: 'yarn' }, { theta, dim }: RopeSpec): (wave: number, i: number) => number {
  const { factor, originalContext, betaFast, betaSlow, truncate } = scaling;
  const { fround } = Math;
  const correction = (turns: number): number =>
    (dim * Math.log(originalContext / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const round = truncate ? { down: Math.floor, up: Math.ceil } : { down: Number, up: Number };
  const low = Math.max(round.down(correction(betaFast)), 0);
  const high = Math.min(round.up(correction(betaSlow)), dim - 1);
  // transformers' guard against a ramp of no width.
  const span = low === high ? 0.001 : high - low;
  return (wave, i) => {
    const ramp = Math.min(Math.max(fround(fround(i - low) / fround(span)), 0), 1);
    const kept = fround(1 - ramp);
    const interpolated = fround(1 / fround(fround(factor) * wave));
    return fround(fround(interpolated * fround(1 - kept)) + fround(fround(1 / wave) * kept));
  };
}
