import { kernel, TYPE_TOKENS, type KernelIR, type ScalarType, type TensorSpec, type TypeName } from '@rose/cute';
import type { KernelArgument } from '../spec.ts';

/**
 * Records a kernel whose parameters are a specification's arguments: tensors of their shapes, row-major, and numbers.
 * `body` gets them by name; it is marked `'use gpu'`.
 */
export function traceKernel<Tensors>(
  name: string,
  args: Readonly<Record<string, KernelArgument>>,
  threads: number,
  body: (tensors: Tensors) => void,
): KernelIR {
  const params: Record<string, TensorSpec | ScalarType<TypeName>> = {};
  for (const [parameter, argument] of Object.entries(args)) {
    const token = TYPE_TOKENS[argument.type as keyof typeof TYPE_TOKENS];
    params[parameter] = argument.kind === 'tensor' ? token.tensor(...argument.shape) : token;
  }
  return kernel({ name, params, threads }, body as (args: unknown) => void).trace({});
}
