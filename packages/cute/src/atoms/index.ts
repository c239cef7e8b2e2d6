/** Hardware's copies, barriers and tensor cores, for kernels and for whoever reasons about them. */
export {
  bulkCommit,
  bulkCopyToCluster,
  bulkLoad,
  bulkPrefetch,
  bulkStore,
  bulkWait,
  cpAsync,
  cpAsyncArrive,
  cpAsyncCommit,
  cpAsyncWait,
  type CopyOptions,
} from './async-copy.ts';
export { barrierAt, fenceAsync, fenceBarrierInit, MBarrier, mbarrier, MBarriers, mbarriers } from './barrier.ts';
export {
  clusterArrive,
  clusterLaunchQuery,
  clusterLaunchTryCancel,
  clusterSize,
  clusterSync,
  clusterWait,
  gridDependencyWait,
  gridLaunchDependents,
  mapShared,
  multimemLoadReduce,
  multimemReduce,
  multimemStore,
  reduceAsync,
  setMaxRegisters,
  storeAsync,
  type MultimemOptions,
} from './cluster.ts';
export {
  decodeWgmmaDescriptor,
  encodeScaledInstruction,
  encodeTcgen05Descriptor,
  encodeTcgen05Instruction,
  encodeWgmmaDescriptor,
  type MatrixDescriptor,
  type ScaledInstruction,
  type SwizzleMode,
  type Tcgen05Instruction,
} from './descriptors.ts';
export type { InstructionForm } from './form.ts';
export { INSTRUCTIONS } from './instructions.ts';
export {
  Accumulators,
  descriptorAdd,
  ldmatrix,
  mma,
  movmatrix,
  stmatrix,
  wgmma,
  wgmmaCommit,
  wgmmaDescriptor,
  wgmmaFence,
  wgmmaWait,
  type WgmmaOptions,
  type Word,
} from './matrix.ts';
export { MMA_SHAPES, mmaShape, wgmmaColumns, wgmmaShape, WGMMA_TYPES, type MmaShape } from './mma-shapes.ts';
export {
  operandSlice,
  smemTile,
  swizzleMode,
  tileBoxes,
  tileCoordinates,
  tileMap,
  tmaTiles,
  type OperandSlice,
  type TileBoxes,
} from './operand-tile.ts';
export { swizzleAlignment, widestSwizzle, type Major as OperandMajor } from './smem-descriptor.ts';
export {
  fence,
  readSystem,
  readSystemVector,
  spinUntil,
  writeSystem,
  type ReadOptions,
  type Scope,
  type SpinOptions,
  type WriteOptions,
} from './system.ts';
export {
  tcgen05Commit,
  tcgen05Copy,
  tcgen05Descriptor,
  tcgen05Fence,
  tcgen05Mma,
  tcgen05ScaledMma,
  tcgen05Shift,
  tmemAllocate,
  tmemFree,
  tmemLoad,
  tmemRelinquish,
  tmemStore,
  tmemWait,
  type TmemAccess,
} from './tcgen05.ts';
export { makeS2TCopy, makeTmemCopy, s2tAtom, TMEM_LANE, tmemAtom } from './tmem-copies.ts';
export { ldmatrixAtom, mmaAtom, plainCopyAtom, stmatrixAtom, wgmmaAtom } from './thread-values.ts';
export {
  tensorMapAcquire,
  tensorMapCopy,
  tensorMapPrefetch,
  tensorMapPublish,
  tensorMapReplace,
  tmaLoad,
  tmaPrefetch,
  tmaStore,
  type TmaLoadOptions,
  type TmaStoreOptions,
} from './tma.ts';
