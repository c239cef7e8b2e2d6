import {
  afterPrevious,
  gridLaunchDependents,
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
  /** `body` itself waits for the kernel before (`gridDependencyWait`), to begin with what that one does not write. */
  readonly waits?: boolean;
  /**
   * The next kernel may start at once, before this one has waited: for a short kernel between two that read weights, of which
   * the second has its first ones by then. Not for one in front of attention of answers, whose CTAs would crowd on the few
   * multiprocessors that are free. The next kernel may begin while kernels far before this one run, back to the last that lets others
   * start only after it waited.
   */
  readonly releases?: boolean;
}

/**
 * Records a kernel whose parameters are a specification's arguments: tensors of their shapes, row-major, maps of tensors,
 * and numbers. `body` gets them by name; it is marked `'use gpu'`. The kernel is launched while the one before it in the
 * stream still runs, and waits for that one's end before `body`; so may the next one, from where `body` calls `release`,
 * else from its end. That takes the launch itself out of the way and changes nothing else.
 */
export function traceKernel<Tensors>(
  name: string,
  args: Readonly<Record<string, KernelArgument>>,
  threads: number,
  body: (tensors: Tensors, release: () => void) => void,
  { maps = [], cluster = 1, minBlocks, waits = false, releases = false }: TraceFacts = {},
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
    overlapsPrevious: true,
  };
  const plain = (args: unknown): void => body(args as Tensors, gridLaunchDependents);
  if (waits) return kernel({ name, params, threads, ...facts }, plain).trace({});
  return kernel({ name, params, threads, ...facts }, (args: unknown) => {
    afterPrevious(
      () => {
        if (releases) gridLaunchDependents();
      },
      (release) => body(args as Tensors, release),
    );
  }).trace({});
}
