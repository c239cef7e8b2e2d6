import {
  bandedTile,
  clusterRank,
  clusterSync,
  descriptorAdd,
  f32,
  fenceBarrierInit,
  i32,
  idiv,
  laneId,
  LeafTree,
  operandSlice,
  persistentTiles,
  Ring,
  shared,
  sharedLevel,
  smemTile,
  STORE_BYTES,
  STORE_COLUMNS,
  sync,
  syncWarp,
  tcgen05Commit,
  tcgen05Descriptor,
  tcgen05Fence,
  tcgen05Mma,
  TensorMemory,
  tid,
  tmaLoad,
  warpId,
  WarpStore,
  type KernelIR,
  type LevelPlace,
  type MBarrier,
  type TensorMapDescription,
} from '@rose/cute';
import { rowBucket } from './support/bucket.ts';
import {
  DEPTH_STEP,
  LINEAR_DIMS,
  LINEAR_OPTIONAL_DIMS,
  LINEAR_OPTIONS,
  linearArgs,
  linearKey,
  linearReference,
  linearRefused,
  linearRoofline,
  storedByTma,
  storeTargets,
  tileMaps,
  type LinearTensors,
} from './support/linear.ts';
import { outputColumns } from './support/linear-epilogue.ts';
import { fragmentOutputs } from './support/linear-fragments.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, type KernelModule, type Specialisation } from './spec.ts';

const TUNING = {
  /** Columns of y of a tile. */
  tile: [128, 256, 192, 64],
  /** Two CTAs multiply together: a tile of 256 rows, half of them and half of its weights in each. Otherwise 128 rows. */
  pair: [true, false],
  /** Columns of tiles that are walked side by side, for the level-2 cache. */
  band: [4, 8, 16],
} as const;
type Linear = Specialisation<typeof LINEAR_OPTIONS, typeof TUNING>;

/** Rows of a CTA's part of a tile: the lanes of tensor memory. */
const TILE_ROWS = 128;
/** Warps that finish tiles, sixteen rows each: two of them reach the same 32 lanes. */
const WARPS = 8;
const WARP_ROWS = 16;
/** The warp whose first thread loads, which also has the tensor memory; the warp whose first thread multiplies. */
const LOADS = 8;
const MULTIPLIES = 9;
const THREADS = 320;
/** Bytes of shared memory of a CTA, less what barriers take. */
const SHARED = 232448 - 2048;
/** Columns of tensor memory. */
const TENSOR_COLUMNS = 512;
/** Sums of leaves take turns: one is multiplied while the one before is read. */
const TURNS = 2;

/**
 * The product of a layer for any number of rows, on Blackwell's tensor cores: one thread loads tiles by TMA into a ring of
 * stages, one multiplies (tcgen05.mma, sums in tensor memory), eight warps finish one tile while the next is multiplied.
 * CTAs, or pairs of them, stay and walk over the tiles. The tile does not follow the number of rows: so a row's products
 * are added up by the same instructions whatever stands beside it. Bits: see support/linear.ts. It has been assembled and
 * simulated, and has not run on a GPU yet.
 */
const linearTcgen05: KernelModule = defineKernel({
  name: 'linear_tcgen05',
  summary: 'y = epilogue(x w^T): TMA, tcgen05.mma, tensor memory, warp specialisation (sm_100a)',
  arch: 'sm_100a',
  dims: LINEAR_DIMS,
  optionalDims: LINEAR_OPTIONAL_DIMS,
  options: LINEAR_OPTIONS,
  tuning: TUNING,
  refuse: (s) => linearRefused(s.dims, s.options) ?? tileRefused(s),
  choose: () => ({ tile: 128, pair: true, band: 4 }),
  // Until a GPU has shown that products of other shapes give the same bits.
  tables: {
    order: ['tile', 'pair'],
    key: (dims, options) => ({ ...linearKey(dims, options), rows: rowBucket(dims.rows) }),
  },
  args: linearArgs,
  maps: (s) => mapsOf(s),
  trace: record,
  grid: ({ dims, tuning: { tile, pair } }, { multiprocessors }) => {
    const group = pair ? 2 : 1;
    const tiles = Math.ceil(dims.columns / tile) * Math.ceil(dims.rows / (TILE_ROWS * group));
    return [group * Math.min(tiles, Math.floor(multiprocessors / group)), 1, 1];
  },
  reference: (values, dims, options) => linearReference(values as never, dims, options),
  roofline: linearRoofline,
  cases: [
    { dims: { rows: 1, columns: 64, depth: 64 } },
    { dims: { rows: 130, columns: 136, depth: 72 }, options: { bias: true, residual: true }, tuning: { pair: false } },
    { dims: { rows: 17, columns: 128, depth: 1024 }, options: { leaves: 8 } },
    { dims: { rows: 257, columns: 128, depth: 128 }, options: { gate: 'silu', scale: true, type: 'f16' } },
    {
      dims: { rows: 5, columns: 64, depth: 256 },
      options: { leaves: 2, output: 'f32', activation: 'gelu_tanh' },
      tuning: { tile: 64 },
    },
    { dims: { rows: 18, columns: 200, depth: 64, keys: 72, values: 24 }, options: { split: 'qkv', bias: true } },
    { dims: { rows: 8192, columns: 8192, depth: 8192 }, tuning: { tile: 256 }, large: true },
    { dims: { rows: 2048, columns: 4096, depth: 14336 }, options: { leaves: 8 }, large: true },
    { dims: { rows: 2048, columns: 28672, depth: 4096 }, options: { gate: 'silu' }, large: true },
    { dims: { rows: 1, columns: 6144, depth: 4096 }, options: { bias: true, output: 'f32' }, large: true },
  ],
});

export default linearTcgen05;

/** Levels of the tree of leaves whose sums wait in tensor memory, the lowest; the others wait in shared memory. */
function levelsOf(tile: number, leaves: number): { tensor: number; shared: number } {
  const levels = Math.log2(leaves);
  const tensor = Math.min(levels, Math.floor(TENSOR_COLUMNS / tile) - TURNS);
  return { tensor, shared: levels - tensor };
}

/** How a CTA's shared memory is divided. */
function memoryOf({ options, tuning: { tile, pair } }: Linear): {
  bytesX: number;
  bytesW: number;
  levelBytes: number;
  stages: number;
} {
  const [bytesX, bytesW] = [TILE_ROWS * DEPTH_STEP * 2, (tile / (pair ? 2 : 1)) * DEPTH_STEP * 2];
  const levelBytes = TILE_ROWS * tile * 4;
  const waiting = levelsOf(tile, options.leaves).shared * levelBytes;
  const storing = options.output === 'same' ? WARPS * STORE_BYTES : 0;
  return {
    bytesX,
    bytesW,
    levelBytes,
    stages: Math.min(8, Math.floor((SHARED - waiting - storing) / (bytesX + bytesW))),
  };
}

/** Why a tile of so many columns cannot be had. */
function tileRefused(s: Linear): string | undefined {
  const {
    options: { gate, leaves },
    tuning: { tile },
  } = s;
  if (gate !== 'none' && tile % 128 !== 0) {
    return `a tile of ${tile} columns has no whole stores of gated outputs: use 128 or 256`;
  }
  return memoryOf(s).stages < 3
    ? `${leaves} leaves need more sums than a tile of ${tile} columns leaves room for: use a smaller tile`
    : undefined;
}

function mapsOf({ dims, options, tuning: { tile, pair } }: Linear): Record<string, TensorMapDescription> {
  return tileMaps(dims, options, { x: TILE_ROWS, w: pair ? tile / 2 : tile });
}

function record(s: Linear): KernelIR {
  const { dims, options, tuning } = s;
  const { type, leaves, gate } = options;
  const { tile, pair, band } = tuning;
  const stores = storedByTma(dims, options);
  const group = pair ? 2 : 1;
  const rounds = Math.ceil(dims.depth / leaves / DEPTH_STEP);
  const rowsW = tile / group;
  const { bytesX, bytesW, levelBytes, stages } = memoryOf(s);
  const tileColumns = Math.ceil(dims.columns / tile);
  const outputs = outputColumns({ columns: tile }, options);
  const factor = gate === 'none' ? 1 : 2;
  const levels = levelsOf(tile, leaves);
  const body = (t: LinearTensors): void => {
    'use gpu';
    const stageX = shared(type, [bytesX / 2, stages], { align: 1024, name: 'x' });
    const stageW = shared(type, [bytesW / 2, stages], { align: 1024, name: 'w' });
    const store = stores ? new WarpStore(WARPS, type) : undefined;
    const memory = new TensorMemory((TURNS + levels.tensor) * tile, { group });
    const kept = Array.from({ length: levels.shared }, () =>
      shared(f32, [levelBytes / 4 / WARPS, WARPS], { align: 16, name: 'sums' }),
    );
    const scope = pair ? 'cluster' : 'cta';
    const ring = new Ring({ stages, producer: { kind: 'tma' }, consumers: 1, scope });
    const sums = new Ring({ stages: TURNS, producer: { kind: 'tcgen05' }, consumers: WARPS * group, scope });
    if (warpId() === LOADS) memory.allocate();
    if (tid() === 0) {
      ring.init();
      sums.init();
      fenceBarrierInit();
    }
    if (pair) clusterSync();
    else sync();
    memory.open();

    const rank = pair ? clusterRank() : 0;
    const tileRows = idiv(t.rows + (TILE_ROWS * group - 1), TILE_ROWS * group);
    const count = tileRows * tileColumns;
    // Of a pair the first CTA multiplies: it hears of all loads, and of sums that were read.
    const first = (barrier: MBarrier): MBarrier => (pair ? barrier.on(0) : barrier);
    const everybody = pair ? ({ group, multicast: 3 } as const) : {};
    if (tid() < 32 * WARPS) {
      const consumer = sums.consumer();
      const targets = storeTargets(t, dims, options);
      // Warps 0 and 4 reach lanes 0 to 31, and so on.
      const lane = (warpId() & 3) * 32 + (warpId() >> 2) * WARP_ROWS;
      // Columns of one store, and of the sums that become them.
      const width = Math.min(STORE_COLUMNS, outputs);
      const sumsWidth = width * factor;
      persistentTiles(
        count,
        (number) => {
          'use gpu';
          const place = bandedTile(number, tileColumns, tileRows, band);
          const row = (place.column * group + rank) * TILE_ROWS + lane;
          const pieces = Array.from({ length: outputs / width }, (_, i) => {
            const tensor = Array.from({ length: levels.tensor }, (_, level): LevelPlace => {
              const column = (TURNS + level) * tile + i * sumsWidth;
              return {
                put: (list) => memory.store(column, lane, list),
                take: () => memory.load(column, lane, sumsWidth),
              };
            });
            const values = (sumsWidth * WARP_ROWS) / 32;
            const behind = kept.map((level) => sharedLevel(level(i * values * 32, warpId()), values));
            return new LeafTree(leaves, { ...[...tensor, ...behind] });
          });
          store?.begin();
          for (let leaf = 0; leaf < leaves; leaf++) {
            const turn = consumer.wait();
            tcgen05Fence('after_thread_sync');
            for (const [i, tree] of pieces.entries()) {
              const total = tree.add(memory.load(turn.index * tile + i * sumsWidth, lane, sumsWidth));
              if (i === pieces.length - 1) {
                // All of it was read: the next leaf but one may be multiplied.
                tcgen05Fence('before_thread_sync');
                syncWarp();
                if (laneId() === 0) first(turn.barrier).arrive();
              }
              if (total) {
                const at = { row, column: place.row * outputs + i * width };
                const part = fragmentOutputs(total, 0, width, at, t, dims, options);
                if (store) store.store(targets, part.values, warpId(), at.column, at.row);
                else part.store();
              }
            }
          }
        },
        group,
      );
      if (store) store.drain();
    } else if (tid() === 32 * LOADS) {
      const producer = ring.producer();
      persistentTiles(
        count,
        (number) => {
          const place = bandedTile(number, tileColumns, tileRows, band);
          const row = (place.column * group + rank) * TILE_ROWS;
          const column = place.row * tile + rank * rowsW;
          for (let k = i32(0); k < rounds * leaves * DEPTH_STEP; k += DEPTH_STEP) {
            const stage = producer.acquire();
            if (rank === 0) stage.expect(group * (bytesX + bytesW));
            tmaLoad(stageX(0, stage.index), t.x, [k, row], first(stage.barrier), { ctaGroup: group });
            tmaLoad(stageW(0, stage.index), t.w, [k, column], first(stage.barrier), { ctaGroup: group });
          }
        },
        group,
      );
      // The other CTA's products report here until the last stage was read.
      if (pair) producer.drain();
    } else if (tid() === 32 * MULTIPLIES) {
      if (rank === 0) {
        const layoutX = smemTile('k', '128', 16, TILE_ROWS, DEPTH_STEP);
        const layoutW = smemTile('k', '128', 16, rowsW, DEPTH_STEP);
        const startX = tcgen05Descriptor(stageX(0, 0), operandSlice(layoutX, 16, { rows: TILE_ROWS }));
        const startW = tcgen05Descriptor(stageW(0, 0), operandSlice(layoutW, 16, { rows: rowsW }));
        const shape = { kind: 'f16', d: 'f32', a: type, b: type, m: TILE_ROWS * group, n: tile } as const;
        const consumer = ring.consumer();
        const producer = sums.producer();
        persistentTiles(
          count,
          () => {
            for (let leaf = i32(0); leaf < leaves; leaf += 1) {
              const turn = producer.acquire();
              for (let round = i32(0); round < rounds; round += 1) {
                const stage = consumer.wait();
                // Behind what epilogues read of this turn, too.
                tcgen05Fence('after_thread_sync');
                for (let k = 0; k < DEPTH_STEP; k += 16) {
                  const { bytes } = operandSlice(layoutX, 16, { rows: TILE_ROWS, k });
                  const a = descriptorAdd(startX, stage.index * bytesX + bytes);
                  const b = descriptorAdd(startW, stage.index * bytesW + bytes);
                  tcgen05Mma(memory.at(turn.index * tile), a, b, shape, {
                    group,
                    accumulate: k > 0 ? true : round > 0,
                  });
                }
                tcgen05Commit(stage.barrier, everybody);
              }
              tcgen05Commit(turn.barrier, everybody);
            }
          },
          group,
        );
      }
    }
    memory.close();
    if (pair) clusterSync();
    else sync();
    if (warpId() === LOADS) memory.free();
  };
  const maps = Object.keys(mapsOf(s));
  return traceKernel('linear_tcgen05', linearTcgen05.args(dims, options), THREADS, body, {
    maps,
    cluster: group,
    minBlocks: 1,
  });
}
