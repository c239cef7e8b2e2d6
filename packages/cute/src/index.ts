export * from './types/dtype.ts';
export { decodeFloat, encodeFloat, FLOAT_FORMATS, type SmallFloat } from './types/numeric.ts';
export type { TensorMapDescription } from './types/tensor-map.ts';
export type {
  Attribute,
  Attributes,
  KernelIR,
  KernelParameter,
  Node,
  Position,
  Region,
  SharedAllocation,
  Slot,
} from './ir/ir.ts';
export * as layout from './layout/index.ts';

export { compileKernel, type Compiled, type CompileOptions, type Program } from './compile.ts';
export { KernelError } from './ir/error.ts';
export { formatPosition, walk } from './ir/ir.ts';
export { parseKernel } from './ir/parse.ts';
export { printKernel } from './ir/print.ts';
export { verifyKernel } from './ir/verify.ts';
export { runPasses, type PassOptions } from './passes/passes.ts';
export { ARCHS, archOf, type Arch, type ArchName } from './ptx/arch.ts';
export { emitPtx, type EmitOptions, type EmittedPtx } from './ptx/emit.ts';
export type { ParameterKind, ParameterPlace } from './ptx/params.ts';
export {
  decodeRing,
  describeRecord,
  RING_HEADER_WORDS,
  type DecodedRing,
  type PrintRecord,
  type PrintSite,
} from './ptx/ring.ts';
export * from './atoms/index.ts';
export * from './kit/index.ts';
export * from './trace/index.ts';
export { _, makeLayout, Layout, type AnyLayout, type Coord } from './layout/index.ts';
export * from './sim/api.ts';
export { APPROXIMATE } from './sim/helpers.ts';
export { simulate } from './sim/simulate.ts';
