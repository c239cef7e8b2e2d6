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
  STORE_ROWS,
  sync,
  tid,
  tmaLoad,
  WarpStore,
  type KernelIR,
  type TensorMapDescription,
} from '@rose/cute';
import { LINEAR_DIMS, LINEAR_OPTIONAL_DIMS, outputMaps, storedByTma, storeTargets } from './support/linear.ts';
import { outputColumns } from './support/linear-epilogue.ts';
import {
  FP8_OPTIONS,
  GROUP,
  groupsOf,
  linearFp8Args,
  linearFp8Key,
  linearFp8Reference,
  linearFp8Refused,
  linearFp8Roofline,
  scaleMap,
  type Fp8Tensors,
} from './support/linear-fp8.ts';
import { scaledFragment } from './support/linear-fp8-fragments.ts';
import { fp8TileMemory, Fp8TileProduct, fp8TileRefused } from './support/linear-fp8-wgmma.ts';
import { fragmentOutputs } from './support/linear-fragments.ts';
import { TILE_ROWS, tileBucket, WARPS, WGMMA_THREADS } from './support/linear-wgmma.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, type Dims, type KernelModule, type Specialisation } from './spec.ts';

const TUNING = {
  /** Columns of y of a tile; it has 128 rows. */
  tile: [128, 64, 192],
  /** Groups of the depth whose products run at the same time. */
  turns: [2, 1],
  /** CTAs of a cluster, one above the other, that load the weights of a tile once. */
  ctas: [1, 2, 4],
  /** Columns of tiles that are walked side by side, for the level-2 cache. */
  band: [4, 8, 16],
} as const;
type Fp8 = Specialisation<typeof FP8_OPTIONS, typeof TUNING>;

/**
 * The product of a layer of e4m3 for many rows, on Hopper's tensor cores: one warpgroup loads tiles by TMA into a ring of
 * stages of 128 elements of the depth, two multiply (wgmma 64 x tile x 32) and promote, each while the other's products
 * run; CTAs stay and walk over the tiles. Bits: see support/linear-fp8.ts.
 */
const linearFp8: KernelModule = defineKernel({
  name: 'linear_fp8',
  summary: 'y = epilogue(x w^T) of e4m3 with scales for many rows: TMA, wgmma, warp specialisation (sm_90a)',
  arch: 'sm_90a',
  dims: LINEAR_DIMS,
  optionalDims: LINEAR_OPTIONAL_DIMS,
  options: FP8_OPTIONS,
  tuning: TUNING,
  refuse: ({ dims, options, tuning }) => linearFp8Refused(dims, options) ?? fp8TileRefused(tuning, options),
  choose: chooseTile,
  tables: { key: (dims, options) => ({ ...linearFp8Key(dims, options), rows: tileBucket(dims.rows) }) },
  args: linearFp8Args,
  maps: (s) => mapsOf(s),
  trace: record,
  grid: ({ dims, tuning: { tile, ctas } }, { multiprocessors }) => {
    const tiles = Math.ceil(dims.columns / tile) * Math.ceil(dims.rows / (TILE_ROWS * ctas));
    return [ctas * Math.min(tiles, Math.floor(multiprocessors / ctas)), 1, 1];
  },
  reference: (values, dims, options) => linearFp8Reference(values as never, dims, options),
  roofline: linearFp8Roofline,
  cases: [
    { dims: { rows: 17, columns: 128, depth: 256 } },
    {
      dims: { rows: 130, columns: 136, depth: 144 },
      options: { scales: 'row', bias: true, activation: 'gelu', residual: true },
    },
    { dims: { rows: 66, columns: 64, depth: 1024 }, options: { leaves: 8 }, tuning: { tile: 128, turns: 1 } },
    { dims: { rows: 9, columns: 256, depth: 256 }, options: { gate: 'silu', type: 'f16' } },
    { dims: { rows: 5, columns: 72, depth: 512 }, options: { scales: 'tensor', leaves: 4, output: 'f32' } },
    {
      dims: { rows: 18, columns: 200, depth: 64, keys: 72, values: 24 },
      options: { split: 'qkv', bias: true },
    },
    { dims: { rows: 3, columns: 392, depth: 512 }, options: { bias: true }, tuning: { tile: 192, turns: 1, ctas: 1 } },
    { dims: { rows: 8192, columns: 8192, depth: 8192 }, large: true },
    { dims: { rows: 2048, columns: 4096, depth: 14336 }, options: { leaves: 8 }, large: true },
    { dims: { rows: 512, columns: 4096, depth: 4096 }, options: { leaves: 8, residual: true }, large: true },
    { dims: { rows: 2048, columns: 28672, depth: 4096 }, options: { gate: 'silu', scales: 'row' }, large: true },
    { dims: { rows: 512, columns: 6144, depth: 4096 }, options: { bias: true, output: 'f32' }, large: true },
  ],
});

export default linearFp8;

/** Time of a tile, measured on an H100: a narrow one reads more of shared memory for each product. */
const TILE_COST = { 64: 96, 128: 128, 192: 192 } as const;
/** Tiles of a multiprocessor, and their depth, from which on wide ones, in clusters that load weights once, are faster. */
const MANY_TILES = 8;
const DEEP = 8192;
const COST_OF_MANY = 184;

/** The tile for which the multiprocessors (132 of them) finish soonest. Nothing of it changes bits. */
function chooseTile({ rows, columns, depth }: Dims, options: Fp8['options']): Fp8['tuning'] {
  const shapes = ([128, 192, 64] as const).flatMap((tile) => ([2, 1] as const).map((turns) => ({ tile, turns })));
  const roundsOf = (tile: number): number => Math.ceil((Math.ceil(columns / tile) * Math.ceil(rows / TILE_ROWS)) / 132);
  const many = (tile: number): boolean => tile === 192 && depth >= DEEP && roundsOf(tile) > MANY_TILES;
  const timeOf = (tile: keyof typeof TILE_COST): number =>
    roundsOf(tile) * (many(tile) ? COST_OF_MANY : TILE_COST[tile]);
  const { tile, turns } = shapes
    .filter((shape) => fp8TileRefused(shape, options) === undefined)
    .toSorted((a, b) => timeOf(a.tile) - timeOf(b.tile))[0];
  return { tile, turns, ctas: many(tile) ? 2 : 1, band: 8 };
}

function mapsOf({ dims, options, tuning: { tile, ctas } }: Fp8): Record<string, TensorMapDescription> {
  const { rows, columns, depth } = dims;
  const operand = (across: number, box: number): TensorMapDescription => {
    return { element: 'e4m3', shape: [depth, across], box: [GROUP, box], swizzle: '128' };
  };
  return {
    x: operand(rows, TILE_ROWS),
    w: operand(columns, tile / ctas),
    ...(options.scales === 'block' ? { xScale: scaleMap(dims, TILE_ROWS, 1) } : {}),
    ...outputMaps(dims, options),
  };
}

function record(s: Fp8): KernelIR {
  const { dims, options, tuning } = s;
  const { tile, ctas, band } = tuning;
  const { bytesX, bytesW, bytesScales, stages, warpBytes } = fp8TileMemory(tuning, options);
  const groups = groupsOf(dims.depth);
  const tileColumns = Math.ceil(dims.columns / tile);
  const whole = dims.columns % tile === 0;
  const maps = Object.keys(mapsOf(s));
  const body = (t: Fp8Tensors): void => {
    'use gpu';
    const stageX = shared('e4m3', [bytesX, stages], { align: 1024, name: 'x' });
    const stageW = shared('e4m3', [bytesW, stages], { align: 1024, name: 'w' });
    const own = warpBytes > 0 ? shared(f32, [warpBytes / 4, WARPS], { align: 1024, name: 'sums' }) : undefined;
    const scales = bytesScales > 0 ? shared(f32, [TILE_ROWS, stages], { align: 128, name: 'scales' }) : undefined;
    const store =
      storedByTma(dims, options) && own
        ? new WarpStore(WARPS, options.type, { place: own, pitch: warpBytes })
        : undefined;
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
    if (tid() >> 7 === 2) {
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
            for (let group = i32(0); group < groups; group += 1) {
              const stage = producer.acquire();
              stage.expect(bytesX + bytesW + bytesScales);
              tmaLoad(stageX(0, stage.index), t.x, [group * GROUP, row], stage.barrier);
              if (scales) tmaLoad(scales(0, stage.index), t.xScale, [row, group], stage.barrier);
              const part = stageW(share * GROUP, stage.index);
              tmaLoad(part, t.w, [group * GROUP, column], stage.barrier, ctas > 1 ? { multicast: 2 ** ctas - 1 } : {});
            }
          },
          ctas,
        );
        if (ctas > 1) producer.drain();
      }
    } else {
      setMaxRegisters('inc', 232);
      const stagesOf = { x: stageX, w: stageW, scales };
      const product = new Fp8TileProduct(tuning, dims, options, ring, stagesOf, own, () => store?.begin());
      persistentTiles(
        count,
        (number) => {
          'use gpu';
          const place = bandedTile(number, tileColumns, tileRows, band);
          const first = place.row * tile;
          const total = product.sums(t, first);
          const row = (place.column * ctas + rank) * TILE_ROWS + (tid() >> 5) * STORE_ROWS;
          const outputs = outputColumns({ columns: tile }, options);
          const factor = tile / outputs;
          const column = place.row * outputs;
          const targets = storeTargets(t, dims, options);
          store?.begin();
          for (let c = 0; c < outputs; c += STORE_COLUMNS) {
            const width = Math.min(STORE_COLUMNS, outputs - c);
            const piece = total.slice((c * factor) / 2, ((c + width) * factor) / 2);
            const scaled = scaledFragment(piece, { row, column: first + c * factor }, t, dims, options);
            const part = fragmentOutputs(scaled, 0, width, { row, column: column + c, whole }, t, dims, options);
            if (store) store.store(targets, part.values, tid() >> 5, column + c, row);
            else part.store();
          }
        },
        ctas,
      );
      if (store) store.drain();
    }
  };
  const facts = { maps, cluster: ctas, minBlocks: 1 };
  return traceKernel('linear_fp8', linearFp8.args(dims, options), WGMMA_THREADS, body, facts);
}
