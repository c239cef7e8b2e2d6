import {
  Accumulators,
  bandedTile,
  clusterRank,
  clusterSync,
  descriptorAdd,
  f32,
  fenceBarrierInit,
  Fragment,
  i32,
  idiv,
  laneId,
  LeafTree,
  operandSlice,
  persistentTiles,
  Ring,
  setMaxRegisters,
  shared,
  smemTile,
  STORE_BYTES,
  STORE_COLUMNS,
  STORE_ROWS,
  sync,
  tensorAt,
  tid,
  tmaLoad,
  WarpStore,
  wgmma,
  wgmmaCommit,
  wgmmaDescriptor,
  wgmmaFence,
  wgmmaWait,
  type KernelIR,
  type LevelPlace,
  type Tensor,
  type TensorMapDescription,
} from '@rose/cute';
import {
  DEPTH_STEP,
  LINEAR_DIMS,
  LINEAR_OPTIONS,
  linearArgs,
  linearReference,
  linearRefused,
  linearRoofline,
  outputColumns,
  type LinearTensors,
} from './support/linear.ts';
import { fragmentOutputs } from './support/linear-fragments.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, type KernelModule, type Specialisation } from './spec.ts';

const TUNING = {
  /** Columns of y of a tile; it has 128 rows. */
  tile: [128, 256, 192, 64],
  /** CTAs of a cluster, one above the other, that load the weights of a tile once. */
  ctas: [1, 2],
  /** Columns of tiles that are walked side by side, for the level-2 cache. */
  band: [4, 8, 16],
} as const;
type Linear = Specialisation<typeof LINEAR_OPTIONS, typeof TUNING>;

/** Rows of a tile, 64 for each of two warpgroups. */
const TILE_ROWS = 128;
/** Two warpgroups multiply, one loads. */
const THREADS = 384;
/** That multiply. */
const WARPS = 8;
/** Bytes of shared memory of a CTA, less what barriers take. */
const SHARED = 232448 - 2048;
/** Registers of a multiprocessor's thread that are left for sums of leaves. */
const SUM_REGISTERS = 200;

/**
 * The product of a layer for many rows, on Hopper's tensor cores: one warpgroup loads tiles by TMA into a ring of stages,
 * two multiply (wgmma 64 x tile x 16), CTAs stay and walk over the tiles. Bits: see support/linear.ts.
 */
const linear: KernelModule = defineKernel({
  name: 'linear',
  summary: 'y = epilogue(x w^T) for many rows: TMA, wgmma, warp specialisation (sm_90a)',
  arch: 'sm_90a',
  dims: LINEAR_DIMS,
  options: LINEAR_OPTIONS,
  tuning: TUNING,
  refuse: ({ dims, options, tuning: { tile } }) =>
    linearRefused(dims, options) ??
    (options.gate !== 'none' && tile % 128 !== 0
      ? `a tile of ${tile} columns has no whole stores of gated outputs: use 128 or 256`
      : undefined) ??
    (sumsOf(tile, options.leaves) > SUM_REGISTERS
      ? `${options.leaves} leaves need more sums than a tile of ${tile} columns leaves registers for: use a smaller tile`
      : undefined),
  choose: (dims, options) => chooseTile(dims.rows, dims.columns, options),
  args: linearArgs,
  maps: (s) => mapsOf(s),
  trace: record,
  grid: ({ dims, tuning: { tile, ctas } }, { multiprocessors }) => {
    const tiles = Math.ceil(dims.columns / tile) * Math.ceil(dims.rows / (TILE_ROWS * ctas));
    return [ctas * Math.min(tiles, Math.floor(multiprocessors / ctas)), 1, 1];
  },
  reference: (values, dims, options) => linearReference(values as never, dims, options),
  roofline: linearRoofline,
  cases: [
    { dims: { rows: 17, columns: 128, depth: 64 } },
    { dims: { rows: 130, columns: 136, depth: 72 }, options: { bias: true, residual: true } },
    { dims: { rows: 129, columns: 64, depth: 512 }, options: { leaves: 8 }, tuning: { tile: 128, ctas: 1 } },
    { dims: { rows: 8192, columns: 8192, depth: 8192 }, large: true },
    { dims: { rows: 2048, columns: 4096, depth: 14336 }, options: { leaves: 8 }, large: true },
    { dims: { rows: 2048, columns: 28672, depth: 4096 }, options: { gate: 'silu' }, large: true },
    { dims: { rows: 512, columns: 6144, depth: 4096 }, options: { bias: true, output: 'f32' }, large: true },
  ],
});

export default linear;

/** Float32 registers of a thread for one sum, and for all that exist at a time; the highest level waits elsewhere. */
function sumsOf(tile: number, leaves: number): number {
  return (tile / 2) * (1 + Math.min(2, Math.log2(leaves)));
}

/** The tile for which the multiprocessors (132 of them) finish soonest. Nothing of it changes bits. */
function chooseTile(rows: number, columns: number, { gate, leaves }: Linear['options']): Linear['tuning'] {
  const tiles = ([256, 192, 128, 64] as const).filter(
    (tile) => (gate === 'none' || tile % 128 === 0) && sumsOf(tile, leaves) <= SUM_REGISTERS,
  );
  const timeOf = (tile: number): number => {
    const count = Math.ceil(columns / tile) * Math.ceil(rows / TILE_ROWS);
    // Narrow tiles read more of shared memory for each product.
    return Math.ceil(count / 132) * (tile + 24);
  };
  const tile = tiles.toSorted((a, b) => timeOf(a) - timeOf(b))[0];
  return { tile, ctas: tile === 256 && rows > TILE_ROWS ? 2 : 1, band: 4 };
}

function mapsOf({ dims, options, tuning: { tile, ctas } }: Linear): Record<string, TensorMapDescription> {
  const { rows, columns, depth } = dims;
  const element = options.type;
  const map = (across: number, pitch: number, box: readonly number[]): TensorMapDescription => {
    return { element, shape: [pitch, across], box, swizzle: '128' };
  };
  return {
    x: map(rows, depth, [DEPTH_STEP, TILE_ROWS]),
    w: map(columns, depth, [DEPTH_STEP, tile / ctas]),
    ...(options.output === 'f32' ? {} : { y: map(rows, outputColumns(dims, options), [STORE_COLUMNS, STORE_ROWS]) }),
  };
}

function record(s: Linear): KernelIR {
  const { dims, options, tuning } = s;
  const { type, leaves } = options;
  const { tile, ctas, band } = tuning;
  const stores = options.output === 'same';
  const bytesX = TILE_ROWS * DEPTH_STEP * 2;
  const bytesW = tile * DEPTH_STEP * 2;
  // Sums of half the leaves and what is stored lie in the same place, a part for each warp.
  const warpBytes = Math.max(leaves === 8 ? 16 * tile * 4 : 0, stores ? STORE_BYTES : 0);
  const stages = Math.min(8, Math.floor((SHARED - WARPS * warpBytes) / (bytesX + bytesW)));
  const rounds = Math.ceil(dims.depth / leaves / DEPTH_STEP);
  const tileColumns = Math.ceil(dims.columns / tile);
  const maps = Object.keys(mapsOf(s));
  const body = (t: LinearTensors): void => {
    'use gpu';
    const stageX = shared(type, [bytesX / 2, stages], { align: 1024, name: 'x' });
    const stageW = shared(type, [bytesW / 2, stages], { align: 1024, name: 'w' });
    const own = warpBytes > 0 ? shared(f32, [warpBytes / 4, WARPS], { align: 1024, name: 'sums' }) : undefined;
    const store = stores && own ? new WarpStore(WARPS, type, { place: own, pitch: warpBytes }) : undefined;
    const ring = new Ring({ stages, producer: { kind: 'tma' }, consumers: WARPS, ctas });
    if (tid() === 0) {
      ring.init();
      fenceBarrierInit();
    }
    if (ctas > 1) clusterSync();
    else sync();

    const rank = ctas > 1 ? clusterRank() : 0;
    const tileRows = idiv(t.rows + (TILE_ROWS * ctas - 1), TILE_ROWS * ctas);
    const count = tileRows * tileColumns;
    const group = tid() >> 7;
    if (group === 2) {
      setMaxRegisters('dec', 40);
      if (tid() === 256) {
        const producer = ring.producer();
        persistentTiles(
          count,
          (number) => {
            const place = bandedTile(number, tileColumns, tileRows, band);
            const row = (place.column * ctas + rank) * TILE_ROWS;
            const share = rank * (tile / ctas);
            const column = place.row * tile + share;
            for (let k = i32(0); k < rounds * leaves * DEPTH_STEP; k += DEPTH_STEP) {
              const stage = producer.acquire();
              stage.expect(bytesX + bytesW);
              tmaLoad(stageX(0, stage.index), t.x, [k, row], stage.barrier);
              const part = stageW(share * DEPTH_STEP, stage.index);
              tmaLoad(part, t.w, [k, column], stage.barrier, ctas > 1 ? { multicast: 2 ** ctas - 1 } : {});
            }
          },
          ctas,
        );
        if (ctas > 1) producer.drain();
      }
    } else {
      setMaxRegisters('inc', 232);
      const layoutX = smemTile('k', '128', 16, TILE_ROWS, DEPTH_STEP);
      const layoutW = smemTile('k', '128', 16, tile, DEPTH_STEP);
      const startX = wgmmaDescriptor(stageX(group * 64 * DEPTH_STEP, 0), operandSlice(layoutX, 16, { rows: 64 }));
      const startW = wgmmaDescriptor(stageW(0, 0), operandSlice(layoutW, 16, { rows: tile }));
      const consumer = ring.consumer().lag();
      // Leaves take turns: the products of the second run while those of the first end, and nothing is copied.
      const turns = Array.from({ length: Math.min(2, leaves) }, () => new Accumulators(tile));
      const multiply = (sums: Accumulators, index: number, accumulate: boolean): void => {
        'use gpu';
        const fromX = descriptorAdd(startX, index * bytesX);
        const fromW = descriptorAdd(startW, index * bytesW);
        wgmmaFence();
        for (let k = 0; k < DEPTH_STEP; k += 16) {
          const a = descriptorAdd(fromX, operandSlice(layoutX, 16, { rows: 64, k }).bytes);
          const b = descriptorAdd(fromW, operandSlice(layoutW, 16, { rows: tile, k }).bytes);
          wgmma(sums, a, b, { a: type, accumulate: accumulate || k > 0 });
        }
        wgmmaCommit();
      };
      const release = (): void => {
        'use gpu';
        const oldest = consumer.oldest();
        if (laneId() === 0) oldest.release();
      };
      persistentTiles(
        count,
        (number) => {
          'use gpu';
          const half: LevelPlace = {
            put: (list) => {
              'use gpu';
              store?.begin();
              for (let i = 0; i < list.length; i += 4) kept(own!, i).store(new Fragment(list.slice(i, i + 4), 'f32'));
            },
            take: () => {
              'use gpu';
              return turns[0]
                .values()
                .values()
                .flatMap((_value, i) => (i % 4 === 0 ? kept(own!, i).load().values() : []));
            },
          };
          // Of pairs of leaves; the sum of the first half of eight waits in shared memory.
          const tree = new LeafTree(Math.max(1, leaves / 2), leaves === 8 ? { 1: half } : {});
          let total: number[] | undefined;
          for (let leaf = 0; leaf < leaves; leaf++) {
            const sums = turns[leaf % 2];
            multiply(sums, consumer.wait().index, false);
            if (leaf % 2 === 1) {
              wgmmaWait(1);
              release();
            }
            for (let round = i32(1); round < rounds; round += 1) {
              multiply(sums, consumer.wait().index, true);
              wgmmaWait(1);
              release();
            }
            if (leaf % 2 === 1 || leaves === 1) {
              wgmmaWait(0, ...turns);
              release();
              const [first, second] = turns.map((one) => one.values().values());
              total = tree.add(second ? first.map((value, i) => value + second[i]) : first);
            }
          }
          const place = bandedTile(number, tileColumns, tileRows, band);
          const row = (place.column * ctas + rank) * TILE_ROWS + (tid() >> 5) * 16;
          const outputs = outputColumns({ columns: tile }, options);
          const column = place.row * outputs;
          store?.begin();
          for (let c = 0; c < outputs; c += STORE_COLUMNS) {
            const at = { row, column: column + c };
            const part = fragmentOutputs(total!, c, Math.min(STORE_COLUMNS, outputs - c), at, t, dims, options);
            if (store) store.store(t.y, part.values, tid() >> 5, column + c, row);
            else part.storeTo(t.y);
          }
        },
        ctas,
      );
      if (store) store.drain();
    }
  };
  return traceKernel('linear', linear.args(dims, options), THREADS, body, { maps, cluster: ctas, minBlocks: 1 });
}

/** Where a thread keeps its values from `first` on, four at a time: a warp's lie side by side. */
function kept(own: Tensor<f32>, first: number): Tensor<f32> {
  'use gpu';
  return tensorAt(own((laneId() + first * 8) * 4, tid() >> 5).address, f32, [4]);
}
