import type { Checkpoint } from '../../checkpoint/checkpoint.ts';
import { RoseError } from '../../errors.ts';
import type { LoadOptions } from '../device.ts';
import type { ComputeType } from './convert.ts';

/** What a load's options come to on a GPU. */
export interface CudaChoice {
  /** Weights, activations, keys and values. */
  readonly type: ComputeType;
  /** What the model's owner should know of it. */
  readonly notes: readonly string[];
}

/** @throws RoseError `unsupported` for what this device does not do */
export function chooseType({ tensors }: Checkpoint, options: LoadOptions): CudaChoice {
  const { quantize, dtype = 'auto', cacheDtype } = options;
  if (quantize === 'fp8') throw unsupported('quantize', 'fp8 weights are not there yet on a GPU: leave --quantize out');
  if (quantize !== undefined) {
    throw unsupported('quantize', `${quantize} weights are for the CPU: leave --quantize out, or use --device cpu`);
  }
  const bytesOf = (wanted: string): number =>
    tensors.reduce((sum, tensor) => (tensor.dtype === wanted ? sum + tensor.byteLength : sum), 0);
  const stored = (['BF16', 'F16', 'F32'] as const).toSorted((a, b) => bytesOf(b) - bytesOf(a))[0];
  // Half of the memory and twice the speed, and what float32 checkpoints are served as elsewhere.
  const automatic = { BF16: 'bf16', F16: 'f16', F32: 'bf16' } as const;
  const type = dtype === 'auto' ? automatic[stored] : dtype;
  if (cacheDtype === 'fp8') {
    throw unsupported('cacheDtype', 'keys and values of 8 bits are not there yet: leave --cache-dtype out');
  }
  if (cacheDtype !== undefined && cacheDtype !== type) {
    const message = `keys and values on a GPU have the weights' type, ${type}: leave --cache-dtype out, or choose another --dtype`;
    throw unsupported('cacheDtype', message);
  }
  const notes =
    dtype === 'auto' && stored === 'F32'
      ? ['its float32 weights are rounded to bfloat16; --dtype f32 keeps them as they are, at twice the memory']
      : [];
  return { type, notes };
}

function unsupported(param: string, message: string): RoseError {
  return new RoseError('unsupported', message, { param });
}
