import {
  bandedTile,
  clusterRank,
  clusterSync,
  f32,
  fenceBarrierInit,
  i32,
  idiv,
  persistentTiles,
  Ring,
  setMaxRegisters,
  shared,
  STORE_COLUMNS,
  sync,
  tid,
  tmaLoad,
  WarpStore,
  type KernelIR,
  type TensorMapDescription,
} from '@rose/cute';
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
import { fragmentBiases, fragmentOutputs } from './support/linear-fragments.ts';
import {
  TILE_ROWS,
  tileBucket,
  tileMemory,
  TileProduct,
  tileRefused,
  WARPS,
  WGMMA_THREADS,
} from './support/linear-wgmma.ts';
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

/**
 * The product of a layer for many rows, on Hopper's tensor cores: one warpgroup loads tiles by TMA into a ring of stages,
 * two multiply (wgmma 64 x tile x 16), CTAs stay and walk over the tiles. Bits: see support/linear.ts.
 */
const linear: KernelModule = defineKernel({
  name: 'linear',
  summary: 'y = epilogue(x w^T) for many rows: TMA, wgmma, warp specialisation (sm_90a)',
  arch: 'sm_90a',
  dims: LINEAR_DIMS,
  optionalDims: LINEAR_OPTIONAL_DIMS,
  options: LINEAR_OPTIONS,
  tuning: TUNING,
  refuse: ({ dims, options, tuning: { tile } }) => linearRefused(dims, options) ?? tileRefused(tile, options),
  choose: (dims, options) => chooseTile(dims.rows, dims.columns, options),
  tables: { key: (dims, options) => ({ ...linearKey(dims, options), rows: tileBucket(dims.rows) }) },
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
    { dims: { rows: 130, columns: 136, depth: 72 }, options: { bias: true, activation: 'gelu', residual: true } },
    { dims: { rows: 129, columns: 64, depth: 512 }, options: { leaves: 8 }, tuning: { tile: 128, ctas: 1 } },
    {
      dims: { rows: 18, columns: 200, depth: 64, keys: 72, values: 24 },
      options: { split: 'qkv', bias: true },
    },
    { dims: { rows: 8192, columns: 8192, depth: 8192 }, large: true },
    { dims: { rows: 2048, columns: 4096, depth: 14336 }, options: { leaves: 8 }, large: true },
    {
      ...{ dims: { rows: 512, columns: 4096, depth: 4096 }, options: { leaves: 4, residual: true }, large: true },
      tuning: { tile: 128, ctas: 1 },
    },
    { dims: { rows: 2048, columns: 28672, depth: 4096 }, options: { gate: 'silu' }, large: true },
    { dims: { rows: 32768, columns: 3072, depth: 768 }, options: { bias: true, activation: 'gelu' }, large: true },
    { dims: { rows: 512, columns: 6144, depth: 4096 }, options: { bias: true, output: 'f32' }, large: true },
    {
      dims: { rows: 2048, columns: 6144, depth: 4096, keys: 1024, values: 1024 },
      options: { split: 'qkv', bias: true },
      large: true,
    },
  ],
});

export default linear;

/** Tiles of rows of which one is not much. */
const MANY_TILE_ROWS = 32;

/** The tile for which the multiprocessors (132 of them) finish soonest. Nothing of it changes bits. */
function chooseTile(rows: number, columns: number, options: Linear['options']): Linear['tuning'] {
  const tiles = ([256, 192, 128, 64] as const).filter((tile) => tileRefused(tile, options) === undefined);
  const timeOf = (tile: number): number => {
    const count = Math.ceil(columns / tile) * Math.ceil(rows / TILE_ROWS);
    // Narrow tiles read more of shared memory for each product.
    return Math.ceil(count / 132) * (tile + 24);
  };
  const tile = tiles.toSorted((a, b) => timeOf(a) - timeOf(b))[0];
  // Clusters read weights once for two tiles of rows: worth a few percent, and not the tile that an odd number leaves empty.
  const tileRows = Math.ceil(rows / TILE_ROWS);
  const paired = tileRows % 2 === 0 || tileRows > MANY_TILE_ROWS;
  return { tile, ctas: tile === 256 && paired ? 2 : 1, band: 4 };
}

function mapsOf({ dims, options, tuning: { tile, ctas } }: Linear): Record<string, TensorMapDescription> {
  return tileMaps(dims, options, { x: TILE_ROWS, w: tile / ctas });
}

function record(s: Linear): KernelIR {
  const { dims, options, tuning } = s;
  const { type, leaves } = options;
  const { tile, ctas, band } = tuning;
  const stores = storedByTma(dims, options);
  const rounds = Math.ceil(dims.depth / leaves / DEPTH_STEP);
  const shape = { type, tile, leaves, rounds };
  const memory = tileMemory(shape, stores);
  const { bytesX, bytesW, stages, warpBytes } = memory;
  const tileColumns = Math.ceil(dims.columns / tile);
  const whole = dims.columns % tile === 0;
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
      const product = new TileProduct(shape, memory, ring, { x: stageX, w: stageW }, own, () => store?.begin());
      persistentTiles(
        count,
        (number) => {
          'use gpu';
          const place = bandedTile(number, tileColumns, tileRows, band);
          const row = (place.column * ctas + rank) * TILE_ROWS + (tid() >> 5) * 16;
          const outputs = outputColumns({ columns: tile }, options);
          const column = place.row * outputs;
          const targets = storeTargets(t, dims, options);
          // Stores to several tensors are branches, over which the compiler does not move loads: these are there when the sums are.
          const ahead = t.bias && targets.length > 1;
          const biases = ahead ? fragmentBiases(outputs, { column, whole }, t, dims, options) : undefined;
          const total = product.sums();
          store?.begin();
          for (let c = 0; c < outputs; c += STORE_COLUMNS) {
            const at = { row, column: column + c, whole };
            const width = Math.min(STORE_COLUMNS, outputs - c);
            const own = biases?.slice(c / 8, (c + width) / 8);
            const part = fragmentOutputs(total, c, width, at, t, dims, options, own);
            if (store) store.store(targets, part.values, tid() >> 5, column + c, row);
            else part.store();
          }
        },
        ctas,
      );
      if (store) store.drain();
    }
  };
  return traceKernel('linear', linear.args(dims, options), WGMMA_THREADS, body, { maps, cluster: ctas, minBlocks: 1 });
}
