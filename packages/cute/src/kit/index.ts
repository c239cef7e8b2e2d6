/** What kernels are built from: reductions, rings of stages, barriers of some warps, walks over tiles. */
export { OnlineSoftmax, type SoftmaxStep } from './online-softmax.ts';
export {
  blockArgmax,
  blockReduce,
  clusterReduce,
  warpArgmax,
  warpReduce,
  type BlockOptions,
  type Reduction,
} from './reduce.ts';
export { LeafTree, sharedLevel, type LevelPlace } from './leaves.ts';
export { Consumer, Producer, Ring, type FilledStage, type RingOptions, type UsedStage } from './ring.ts';
export { STORE_BYTES, STORE_COLUMNS, STORE_ROWS, WarpRows, WarpStore, type StoreTarget } from './store-tile.ts';
export { afterPrevious, NamedBarrier } from './sync.ts';
export { TensorMemory } from './tensor-memory.ts';
export { TileQueue, type TileQueueOptions } from './tile-queue.ts';
export { bandedTile, persistentTiles } from './tiles.ts';
export { packWord, widenWord } from './words.ts';
