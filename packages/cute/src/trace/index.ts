/** What authors of kernels write with. */
export type { AsmModel } from '../ir/asm-model.ts';
export * from './intrinsics.ts';
export {
  kernel,
  tensorMap,
  tensorMapOf,
  type Arguments,
  type DimsConfig,
  type Kernel,
  type KernelFacts,
  type Parameters,
  type TensorMapSpec,
} from './kernel.ts';
export * from './math.ts';
export * from './atomic.ts';
export { mutable } from './mutable.ts';
export * from './threads.ts';
export { Fragment, fragment } from './fragment.ts';
export { divisible, type Dim, type TensorOptions, type TensorSpec } from './spec.ts';
export {
  compose,
  makeTensor,
  reinterpret,
  tensorAt,
  type AccessOptions,
  type Space,
  type Tensor,
  type TensorCoord,
} from './tensor.ts';
export * from './types.ts';
