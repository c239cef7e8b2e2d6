import {
  kernel,
  tensorMap,
  TYPE_TOKENS,
  type KernelIR,
  type ScalarType,
  type TensorMapSpec,
  type TensorSpec,
  type TypeName,
} from '@rose/cute';
import type { KernelArgument } from '../spec.ts';

/** What a launch has to know besides parameters and threads. */
export interface TraceFacts {
  /** Names of the tensors whose parameter is a tensor map. */
  readonly maps?: readonly string[];
  /** CTAs of a cluster. */
  readonly cluster?: number;
  /** CTAs that shall fit a multiprocessor side by side. */
  readonly minBlocks?: number;
  /** It waits itself for the kernel before it. */
  readonly overlapsPrevious?: boolean;
}

/**
 * Records a kernel whose parameters are a specification's arguments: tensors of their shapes, row-major, maps of tensors,
 * and numbers. `body` gets them by name; it is marked `'use gpu'`.
 */
export function traceKernel<Tensors>(
  name: string,
  args: Readonly<Record<string, KernelArgument>>,
  threads: number,
  body: (tensors: Tensors) => void,
  { maps = [], cluster = 1, minBlocks, overlapsPrevious = false }: TraceFacts = {},
): KernelIR {
  const params: Record<string, TensorSpec | ScalarType<TypeName> | TensorMapSpec> = {};
  for (const [parameter, argument] of Object.entries(args)) {
    if (maps.includes(parameter)) {
      params[parameter] = tensorMap;
      continue;
    }
    const token = TYPE_TOKENS[argument.type as keyof typeof TYPE_TOKENS];
    params[parameter] = argument.kind === 'tensor' ? token.tensor(...argument.shape) : token;
  }
  const facts = {
    ...(cluster > 1 ? { cluster } : {}),
    ...(minBlocks === undefined ? {} : { minBlocks }),
    ...(overlapsPrevious ? { overlapsPrevious } : {}),
  };
  return kernel({ name, params, threads, ...facts }, body as (args: unknown) => void).trace({});
}
