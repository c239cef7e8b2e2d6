import { decodeFloat } from '@rose/cute/numeric';
import type { Parameter } from '../model/parameters.ts';
import { sizeOf } from '../model/parameters.ts';
import { RoseError } from '../errors.ts';
import type { CheckpointTensor, Fp8Matrix, ScaleTensor } from './checkpoint.ts';
import { BLOCK, type Fp8Scheme } from './fp8-scheme.ts';
import type { StoredTensor, Weights } from './weights.ts';

/** Where scales stand beside `NAME.weight`, in the spellings of transformers, vLLM and compressed-tensors. */
const WEIGHT_SCALES = ['weight_scale_inv', 'weight_scale'];
const INPUT_SCALES = ['input_scale', 'activation_scale'];

const SCALE_BYTES: Readonly<Record<string, number>> = { F32: 4, F16: 2, BF16: 2 };

/** The numbers that bytes of e4m3 are. */
const NUMBERS: Float32Array = Float32Array.from({ length: 256 }, (_, byte) => decodeFloat('e4m3', byte));

/**
 * A matrix of e4m3 with its scales. To those who do not know e4m3 it is float32: each element times its scale, rounded once.
 * @param used gets the names of the scales' tensors
 * @throws RoseError naming the tensor that is missing, of another shape, or that the configuration says is not of 8 bits
 */
export function fp8Tensor(
  parameter: Parameter,
  { entry, file }: StoredTensor,
  scheme: Fp8Scheme,
  weights: Weights,
  used: Set<string>,
): CheckpointTensor {
  const at = `${file.path}: tensor "${entry.name}"`;
  const module = entry.name.replace(/\.weight$/, '');
  if (scheme.leavesAlone(module)) {
    throw new RoseError(
      'invalid',
      `${at}: its dtype is F8_E4M3, but config.json says that this module is not quantized`,
    );
  }
  const scaleNamed = (names: readonly string[], what: string): StoredTensor => {
    const found = names.map((name) => weights.tensors.get(`${module}.${name}`)).find((stored) => stored !== undefined);
    if (found !== undefined) return found;
    throw new RoseError('invalid', `${at}: its ${what} is missing: there is no ${module}.${names.join(' or ')}`);
  };
  const [rows, width] = parameter.shape;
  const counts = { tensor: 1, row: rows, block: Math.ceil(rows / BLOCK) * Math.ceil(width / BLOCK) };
  const stored = scaleNamed(WEIGHT_SCALES, 'scale');
  const scales = scaleTensor(stored, counts[scheme.weights], used);
  const input =
    scheme.activations === 'static' ? scaleTensor(scaleNamed(INPUT_SCALES, 'input scale'), 1, used) : undefined;
  const fp8: Fp8Matrix = {
    kind: scheme.weights,
    scales,
    input,
    byteLength: entry.byteLength,
    read: (target, offset) => file.read(entry, [target], offset),
    scatter: (targets, offset) => file.read(entry, targets, offset),
  };
  return {
    parameter,
    tensorName: entry.name,
    dtype: 'F32',
    byteLength: 4 * sizeOf(parameter),
    read: (target, offset) => readWide(parameter, fp8, [target], offset),
    scatter: (targets, offset) => readWide(parameter, fp8, targets, offset),
    fp8,
  };
}

/** A tensor of so many scales, as float32. */
export function scaleTensor({ entry, file }: StoredTensor, count: number, used: Set<string>): ScaleTensor {
  const at = `${file.path}: tensor "${entry.name}"`;
  const element = SCALE_BYTES[entry.dtype];
  if (element === undefined) {
    const readable = Object.keys(SCALE_BYTES).join(', ');
    throw new RoseError(
      'unsupported',
      `${at}: dtype ${entry.dtype} of scales is not supported (Rose reads ${readable})`,
    );
  }
  if (entry.byteLength !== count * element) {
    throw new RoseError(
      'invalid',
      `${at}: its shape is [${entry.shape.join(', ')}], but there should be ${count} scales`,
    );
  }
  used.add(entry.name);
  return {
    count,
    async read() {
      const bytes = new Uint8Array(entry.byteLength);
      await file.read(entry, [bytes], 0);
      const type = entry.dtype === 'BF16' ? 'bf16' : 'f16';
      const values =
        entry.dtype === 'F32'
          ? new Float32Array(bytes.buffer)
          : Float32Array.from(new Uint16Array(bytes.buffer), (bits) => decodeFloat(type, bits));
      if (values.every((value) => Number.isFinite(value) && value >= 0)) return values;
      throw new RoseError('invalid', `${at}: a scale is negative or no finite number`);
    },
  };
}

/** Bytes from `offset` on of the matrix as float32. */
async function readWide(
  { shape: [, width] }: Parameter,
  { kind, scales, ...matrix }: Fp8Matrix,
  targets: readonly Uint8Array[],
  offset: number,
): Promise<void> {
  const bytes = targets.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const stored = new Uint8Array(bytes / 4);
  const [own] = await Promise.all([scales.read(), matrix.read(stored, offset / 4)]);
  const values = new Float32Array(stored.length);
  const across = Math.ceil(width / BLOCK);
  // One run after the other of elements that have a scale in common: a division for each of them takes several times as long.
  for (let i = 0; i < stored.length;) {
    const at = offset / 4 + i;
    const [row, column] = [Math.floor(at / width), at % width];
    const block = Math.floor(column / BLOCK);
    const scale = own[{ tensor: 0, row, block: Math.floor(row / BLOCK) * across + block }[kind]];
    const end = kind === 'block' ? Math.min(width, (block + 1) * BLOCK) : width;
    const stop = Math.min(i + end - column, stored.length);
    widen(stored, values, i, stop, scale);
    i = stop;
  }
  const wide = new Uint8Array(values.buffer);
  let from = 0;
  for (const target of targets) {
    target.set(wide.subarray(from, from + target.byteLength));
    from += target.byteLength;
  }
}

function widen(stored: Uint8Array, values: Float32Array, from: number, to: number, scale: number): void {
  for (let i = from; i < to; i++) values[i] = NUMBERS[stored[i]] * scale;
}
