import {
  clusterRank,
  clusterSync,
  f32,
  fenceBarrierInit,
  gridDependencyWait,
  i32,
  min,
  Ring,
  setMaxRegisters,
  shared,
  STORE_COLUMNS,
  STORE_ROWS,
  sync,
  tensorAt,
  tensorMapPrefetch,
  tid,
  TileQueue,
  tmaLoad,
  warpId,
  WarpRows,
  _,
  type KernelIR,
  type Tensor,
  type TensorMapDescription,
} from '@rose/cute';
import { ExpertTiles, mostBlocks, tableBytes } from './support/expert-tiles.ts';
import {
  capacityOf,
  expertEpilogue,
  expertMaps,
  GROUPED_DIMS,
  GROUPED_OPTIONS,
  groupedArgs,
  groupedKey,
  groupedReference,
  groupedRefused,
  groupedRoofline,
  type GroupedTensors,
} from './support/linear-grouped.ts';
import { DEPTH_STEP } from './support/linear.ts';
import { outputColumns } from './support/linear-epilogue.ts';
import { fragmentOutputs } from './support/linear-fragments.ts';
import { TILE_ROWS, tileMemory, TileProduct, tileRefused, WARPS, WGMMA_THREADS } from './support/linear-wgmma.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, updated, values, type KernelModule, type Specialisation } from './spec.ts';

const TUNING = {
  /** Columns of y of a tile; it has 128 rows. */
  tile: [128, 256, 192, 64],
  /** CTAs of a cluster, side by side, that load the rows of their tiles once. */
  ctas: [1, 2, 4],
} as const;
type Grouped = Specialisation<typeof GROUPED_OPTIONS, typeof TUNING>;

/**
 * The products of a layer of experts for many rows of each, on Hopper's tensor cores: `linear`, whose CTAs find the expert
 * of each tile. A tile has rows of one expert; it is loaded with rows of the next one behind them, which nobody stores, and
 * a warpgroup that has no rows of its own does not multiply. What tiles take differs with their rows: clusters get the next
 * one when they are free. See support/linear-grouped.ts.
 */
const linearGrouped: KernelModule = defineKernel({
  name: 'linear_grouped',
  summary: "y = epilogue(x w[e]^T) for each expert's rows, many of them: TMA, wgmma, warp specialisation (sm_90a)",
  arch: 'sm_90a',
  dims: GROUPED_DIMS,
  options: GROUPED_OPTIONS,
  tuning: TUNING,
  refuse: ({ dims, options, tuning: { tile } }) => groupedRefused(dims, options) ?? tileRefused(tile, options),
  choose: ({ columns }, options) => {
    const tiles = ([128, 64, 192, 256] as const).filter((tile) => tileRefused(tile, options) === undefined);
    // The fewest columns beyond the last one; then 128, which experts' rows divide into best.
    const padded = (tile: number): number => Math.ceil(columns / tile) * tile;
    const tile = tiles.toSorted((a, b) => padded(a) - padded(b))[0];
    return { tile, ctas: Math.ceil(columns / tile) % 2 === 0 ? 2 : 1 };
  },
  tables: { key: groupedKey },
  args: (dims, options) => ({
    ...groupedArgs(dims, options),
    // Hands out tiles: zero before the first launch, and again after each.
    next: updated('u32', [1], undefined, values([0])),
  }),
  maps: (s) => mapsOf(s),
  trace: record,
  grid: ({ dims, options, tuning: { tile, ctas } }, { multiprocessors }) => {
    const blocks = mostBlocks(dims.rows, dims.experts, TILE_ROWS, options.form);
    const tiles = blocks * Math.ceil(dims.columns / (tile * ctas));
    return [ctas * Math.min(tiles, Math.max(1, Math.floor(multiprocessors / ctas))), 1, 1];
  },
  reference: (values, dims, options) => ({
    ...groupedReference(values as never, dims, options),
    next: Float64Array.of(0),
  }),
  roofline: groupedRoofline,
  cases: [
    { dims: { rows: 150, columns: 64, depth: 64, experts: 4 } },
    { dims: { rows: 300, columns: 128, depth: 128, experts: 3 }, tuning: { tile: 64 } },
    {
      dims: { rows: 140, columns: 136, depth: 72, experts: 2 },
      options: { bias: true, residual: true, scale: true, type: 'f16' },
      tuning: { tile: 64, ctas: 2 },
    },
    {
      dims: { rows: 60, columns: 128, depth: 256, experts: 3 },
      options: { form: 'masked', leaves: 4, gate: 'silu' },
    },
    {
      dims: { rows: 133, columns: 64, depth: 512, experts: 2 },
      options: { leaves: 8, output: 'f32' },
      tuning: { ctas: 4 },
    },
    { dims: { rows: 32768, columns: 1536, depth: 2048, experts: 128 }, options: { gate: 'silu' }, large: true },
    { dims: { rows: 32768, columns: 2048, depth: 768, experts: 128 }, options: { leaves: 4 }, large: true },
    { dims: { rows: 16384, columns: 2048, depth: 768, experts: 128 }, options: { form: 'masked' }, large: true },
  ],
});

export default linearGrouped;

/** Rows of x that a CTA loads at once: of one warpgroup, or its part of what the cluster loads. */
function boxRows({ ctas }: Grouped['tuning']): number {
  return Math.min(TILE_ROWS / 2, TILE_ROWS / ctas);
}

function mapsOf(s: Grouped): Record<string, TensorMapDescription> {
  return expertMaps(s.dims, s.options, boxRows(s.tuning), s.tuning.tile);
}

function record(s: Grouped): KernelIR {
  const { dims, options, tuning } = s;
  const { type, leaves } = options;
  const { tile, ctas } = tuning;
  const rounds = Math.ceil(dims.depth / leaves / DEPTH_STEP);
  const shape = { type, tile, leaves, rounds };
  const memory = tileMemory(shape, false, tableBytes(dims.experts) + WARPS * STORE_ROWS * STORE_COLUMNS * 2);
  const { bytesX, bytesW, stages, warpBytes } = memory;
  // Tiles of a cluster, side by side in a block of rows, and boxes of x that each of its CTAs loads.
  const across = Math.ceil(dims.columns / (tile * ctas));
  const box = boxRows(tuning);
  const boxes = TILE_ROWS / ctas / box;
  const outputs = outputColumns({ columns: tile }, options);
  const width = outputColumns(dims, options);
  const body = (t: GroupedTensors & { readonly next: Tensor }): void => {
    'use gpu';
    const stageX = shared(type, [bytesX / 2, stages], { align: 1024, name: 'x' });
    const stageW = shared(type, [bytesW / 2, stages], { align: 1024, name: 'w' });
    const own = warpBytes > 0 ? shared(f32, [warpBytes / 4, WARPS], { align: 1024, name: 'sums' }) : undefined;
    const store = options.output === 'same' ? new WarpRows(WARPS, type) : undefined;
    const tiles = new ExpertTiles(dims.experts, TILE_ROWS);
    const ring = new Ring({ stages, producer: { kind: 'tma' }, consumers: WARPS, ctas });
    const queue = new TileQueue({ takers: WARPS + 1, ctas });
    if (tid() === 0) {
      ring.init();
      queue.init();
      fenceBarrierInit();
    }
    if (tid() === 256) {
      tensorMapPrefetch(t.x);
      tensorMapPrefetch(t.w);
    }
    gridDependencyWait();
    if (warpId() === WARPS) tiles.fill(t.groups, t.rows, capacityOf(dims, options));
    if (ctas > 1) clusterSync();
    else sync();
    const rank = ctas > 1 ? clusterRank() : 0;
    const count = tiles.count() * across;
    const group = tid() >> 7;
    if (group === 2) {
      setMaxRegisters('dec', 40);
      if (tid() === 256) {
        const producer = ring.producer();
        const take = (number: i32): void => {
          'use gpu';
          const at = tiles.find(number, across);
          // Rows of x in halves, one for each warpgroup that has any.
          const halves = min(2, (at.end - at.row + 63) >> 6);
          const column = (at.column * ctas + rank) * tile;
          for (let k = i32(0); k < rounds * leaves * DEPTH_STEP; k += DEPTH_STEP) {
            const stage = producer.acquire();
            stage.expect(halves * (bytesX / 2) + bytesW);
            for (let part = 0; part < boxes; part++) {
              const inside = (rank * boxes + part) * box;
              const place = stageX(inside * DEPTH_STEP, stage.index);
              const many = ctas > 1 ? { multicast: 2 ** ctas - 1 } : {};
              if (inside < halves * 64) tmaLoad(place, t.x, [k, at.row + inside], stage.barrier, many);
            }
            tmaLoad(stageW(0, stage.index), t.w, [k, column, at.expert], stage.barrier);
          }
        };
        queue.take(count, take, { alone: true });
      } else if (tid() === 288 && rank === 0) queue.deal(t.next, count);
    } else {
      setMaxRegisters('inc', 232);
      const product = new TileProduct(shape, memory, ring, { x: stageX, w: stageW }, own, () => {});
      queue.take(count, (number) => {
        'use gpu';
        const at = tiles.find(number, across);
        if (at.row + group * 64 < at.end) {
          const total = product.sums();
          const epilogue = expertEpilogue(t, at.expert, at.end);
          const row = at.row + warpId() * 16;
          for (let c = 0; c < outputs; c += STORE_COLUMNS) {
            const column = (at.column * ctas + rank) * outputs + c;
            const columns = Math.min(STORE_COLUMNS, outputs - c);
            const part = fragmentOutputs(total, c, columns, { row, column }, epilogue, dims, options);
            if (store) {
              store.store(part.values, warpId(), (inside, piece, from) => {
                'use gpu';
                const place = (column >> 3) + piece;
                if (row + inside < at.end && place * 8 < width)
                  t.y(row + inside, _)
                    .tile(8, place)
                    .store(tensorAt(from, type, [8]).load());
              });
            } else part.store();
          }
        } else product.skip();
      });
    }
    // Nobody ends while others load for it or arrive at its barriers.
    if (ctas > 1) clusterSync();
  };
  return traceKernel('linear_grouped', linearGrouped.args(dims, options), WGMMA_THREADS, body, {
    maps: ['x', 'w'],
    cluster: ctas,
    minBlocks: 1,
    waits: true,
  });
}
