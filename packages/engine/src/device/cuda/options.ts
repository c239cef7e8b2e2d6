import { ATTENTION_HEADS } from '@rose/kernels';
import type { Checkpoint } from '../../checkpoint/checkpoint.ts';
import { RoseError } from '../../errors.ts';
import type { ModelSpec } from '../../model/spec.ts';
import type { LoadOptions } from '../device.ts';
import type { ComputeType } from './convert.ts';

/** In what a model's weights, activations, keys and values are held. */
export interface CudaFormats {
  /** Weights and activations. */
  readonly type: ComputeType;
  /** Keys and values: in that type, or in e4m3. */
  readonly cache: ComputeType | 'fp8';
  /** Matrices of blocks are brought to e4m3 as they are read, with a scale for each row. */
  readonly quantize: boolean;
}

/** What a load's options come to on a GPU. */
export interface CudaChoice extends CudaFormats {
  /** What the model's owner should know of it. */
  readonly notes: readonly string[];
}

/** The first architecture whose instructions convert and multiply e4m3. */
const FP8_ARCH = 89;

/**
 * @param arch what kernels are compiled for: `sm_90a`
 * @throws RoseError `unsupported` for what this device does not do
 */
export function chooseFormats({ tensors, spec }: Checkpoint, options: LoadOptions, arch: string): CudaChoice {
  const { quantize, dtype = 'auto', cacheDtype } = options;
  if (quantize !== undefined && quantize !== 'fp8') {
    throw unsupported('quantize', `${quantize} weights are for the CPU: leave --quantize out, or use --device cpu`);
  }
  const bytesOf = (wanted: string): number =>
    tensors.reduce((sum, { dtype, byteLength, fp8 }) => (dtype === wanted && !fp8 ? sum + byteLength : sum), 0);
  const stored = (['BF16', 'F16', 'F32'] as const).toSorted((a, b) => bytesOf(b) - bytesOf(a))[0];
  // Half of the memory and twice the speed, and what float32 checkpoints are served as elsewhere.
  const automatic = { BF16: 'bf16', F16: 'f16', F32: 'bf16' } as const;
  const type = dtype === 'auto' ? automatic[stored] : dtype;
  const stored8 = tensors.some(({ fp8 }) => fp8 !== undefined);
  checkWeights(quantize === 'fp8', stored8, type, arch);
  // An encoder keeps no keys: what is asked for decoders beside it is nothing to it.
  const narrow = cacheDtype === 'fp8' && spec.head.kind === 'logits';
  if (narrow) checkNarrowCache(spec, type, arch);
  if (cacheDtype !== undefined && cacheDtype !== 'fp8' && cacheDtype !== type) {
    const message = `keys and values on a GPU have the weights' type, ${type}, or fp8: leave --cache-dtype out, or choose another --dtype`;
    throw unsupported('cacheDtype', message);
  }
  const notes: string[] = [];
  if (dtype === 'auto' && stored === 'F32') {
    notes.push('its float32 weights are rounded to bfloat16; --dtype f32 keeps them as they are, at twice the memory');
  }
  if (stored8 && type === 'f32') {
    notes.push('its weights of 8 bits are widened to float32, and so are activations: --dtype auto keeps 8 bits');
  }
  return { type, cache: narrow ? 'fp8' : type, quantize: quantize === 'fp8', notes };
}

/** Throws for weights of 8 bits, stored or wanted, that there are no products for. */
function checkWeights(wanted: boolean, stored: boolean, type: ComputeType, arch: string): void {
  if (wanted && stored) throw unsupported('quantize', 'the weights are of 8 bits already: leave --quantize out');
  if (wanted && type === 'f32') {
    throw unsupported('quantize', 'products of e4m3 go with bf16 and f16: leave --quantize or --dtype f32 out');
  }
  if (!(wanted || stored) || type === 'f32' || hasFp8(arch)) return;
  const rest = wanted ? 'leave --quantize out' : '--dtype f32 or --device cpu widens the weights';
  throw unsupported(wanted ? 'quantize' : 'model', `${arch} does not multiply e4m3, which sm_89 and later do: ${rest}`);
}

function hasFp8(arch: string): boolean {
  return Number.parseInt(arch.slice(3), 10) >= FP8_ARCH;
}

/** Throws for models and GPUs whose kernels do not read keys and values of e4m3. */
function checkNarrowCache({ blocks }: ModelSpec, type: ComputeType, arch: string): void {
  if (!hasFp8(arch)) {
    throw unsupported('cacheDtype', `${arch} does not convert e4m3, which sm_89 and later do: leave --cache-dtype out`);
  }
  if (type === 'f32') {
    throw unsupported('cacheDtype', 'fp8 keys and values go with bf16 and f16: leave --dtype f32 out');
  }
  const odd = blocks.find(({ mixer }) => !ATTENTION_HEADS.includes(mixer.headDim));
  if (odd !== undefined) {
    const message = `fp8 keys and values are there for heads of ${ATTENTION_HEADS.join(', ')} elements; this model's have ${odd.mixer.headDim}: leave --cache-dtype out`;
    throw unsupported('cacheDtype', message);
  }
}

function unsupported(param: string, message: string): RoseError {
  return new RoseError('unsupported', message, { param });
}
