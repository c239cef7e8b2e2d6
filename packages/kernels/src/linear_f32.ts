import {
  bid,
  bidY,
  cpAsyncCommit,
  cpAsyncWait,
  f32,
  fma,
  Fragment,
  fragment,
  i32,
  idiv,
  laneId,
  LeafTree,
  makeLayout,
  min,
  shared,
  sync,
  warpId,
  _,
  type KernelIR,
  type Tensor,
} from '@rose/cute';
import { rowBucket } from './support/bucket.ts';
import {
  LINEAR_DIMS,
  LINEAR_OPTIONAL_DIMS,
  LINEAR_OPTIONS,
  linearArgs,
  linearKey,
  linearReference,
  linearRefused,
  linearRoofline,
  shortGelu,
  type LinearTensors,
} from './support/linear.ts';
import { finish, outputColumns, outputTensors } from './support/linear-epilogue.ts';
import { copyRows } from './support/linear-mma.ts';
import { bound } from './support/rounding.ts';
import { bytesOf } from './support/storage.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, type Chosen, type KernelModule, type Specialisation } from './spec.ts';

const OPTIONS = { ...LINEAR_OPTIONS, type: ['f32', 'bf16', 'f16'] } as const;
type Options = Chosen<typeof OPTIONS>;

/**
 * Rows and columns of a tile of eight warps, four down and two over; a thread has `rows` rows, four apart, and of each
 * the same column of `blocks` neighbouring blocks of eight.
 */
const SHAPES = {
  '64x64': { rows: 4, blocks: 4 },
  '16x32': { rows: 1, blocks: 2 },
  '128x64': { rows: 8, blocks: 4 },
  '128x128': { rows: 8, blocks: 8 },
} as const;
const [DOWN, OVER] = [4, 2];
const THREADS = 32 * DOWN * OVER;

const TUNING = { tile: ['64x64', '16x32', '128x64', '128x128'], stages: [3, 2, 4] } as const;
type Tuning = Chosen<typeof TUNING>;
type Plain = Specialisation<typeof OPTIONS, typeof TUNING>;

/** Bytes of a row in one stage. */
const STEP_BYTES = 128;
/** Elements that are multiplied at once. */
const VECTOR = 4;
/** Registers of a thread that sums may take. */
const SUM_REGISTERS = 128;

/**
 * The product of a layer in plain float32, on every GPU: where tensor cores round too early (the exactness mode), or have no
 * whole tiles (classifiers of a few labels). Products are added up one after the other in ascending order by fused
 * multiply-adds, in each of `leaves` pieces of the depth, and the pieces by the binary tree of support/linear.ts, so that
 * a row's bits are those of a plain loop and depend on neither the tile nor the architecture. Rows and columns may be any number.
 */
const linearF32: KernelModule = defineKernel({
  name: 'linear_f32',
  summary: 'y = epilogue(x w^T) by fused multiply-adds in float32, in ascending order of the depth',
  dims: LINEAR_DIMS,
  optionalDims: LINEAR_OPTIONAL_DIMS,
  options: OPTIONS,
  tuning: TUNING,
  refuse: ({ dims, options, tuning }) =>
    linearRefused(dims, options, { columns: 1, depth: 16 / bytesOf(options.type, 1) }) ?? refused(tuning, options),
  choose: ({ rows, columns }, options) => chooseTile(rows, columns, options),
  tables: {
    key: (dims, options) => ({ ...linearKey(dims, options), type: options.type, rows: rowBucket(dims.rows) }),
  },
  args: (dims, options) =>
    linearArgs(
      dims,
      options,
      bound(
        64 + shortGelu(options),
        'sums of terms of both signs grow as the root of their number, and their roundings with them',
      ),
    ),
  trace: record,
  grid: ({ dims, tuning }) => {
    const tile = tileOf(tuning.tile);
    return [Math.ceil(dims.columns / tile.columns), Math.ceil(dims.rows / tile.rows), 1];
  },
  reference: (values, dims, options) => linearReference(values as never, dims, options),
  roofline: linearRoofline,
  cases: [
    { dims: { rows: 1, columns: 64, depth: 64 } },
    { dims: { rows: 21, columns: 41, depth: 132 }, options: { bias: true, activation: 'gelu', residual: true } },
    { dims: { rows: 5, columns: 48, depth: 512 }, options: { leaves: 8, gate: 'silu', scale: true } },
    { dims: { rows: 130, columns: 75, depth: 36 }, tuning: { tile: '128x128', stages: 2 } },
    { dims: { rows: 3, columns: 33, depth: 128 }, options: { leaves: 2 } },
    { dims: { rows: 18, columns: 89, depth: 64, keys: 23, values: 17 }, options: { split: 'qkv', bias: true } },
    // Classifiers.
    { dims: { rows: 3, columns: 1, depth: 768 }, options: { type: 'bf16', output: 'f32', bias: true } },
    { dims: { rows: 20, columns: 3, depth: 64 }, options: { type: 'f16', output: 'f32', bias: true } },
    { dims: { rows: 20, columns: 40, depth: 64 }, options: { type: 'bf16', activation: 'gelu' } },
    { dims: { rows: 2048, columns: 4096, depth: 4096 }, large: true },
    { dims: { rows: 2048, columns: 4096, depth: 4096 }, options: { leaves: 8 }, large: true },
    { dims: { rows: 1, columns: 4096, depth: 4096 }, options: { leaves: 8 }, large: true },
    { dims: { rows: 4, columns: 128256, depth: 2048 }, large: true },
    { dims: { rows: 64, columns: 2, depth: 768 }, options: { type: 'bf16', output: 'f32', bias: true }, large: true },
  ],
});

export default linearF32;

function tileOf(tile: Tuning['tile']): { rows: number; columns: number } {
  const { rows, blocks } = SHAPES[tile];
  return { rows: 4 * rows * DOWN, columns: 8 * blocks * OVER };
}

function refused({ tile }: Tuning, { leaves }: Options): string | undefined {
  const { rows, blocks } = SHAPES[tile];
  return rows * blocks * (1 + Math.log2(leaves)) > SUM_REGISTERS
    ? `${leaves} leaves need more sums than a tile of ${tile} leaves registers for: use a smaller tile`
    : undefined;
}

/** The largest tile of which a GPU of 132 multiprocessors gets one each. Nothing of it changes bits. */
function chooseTile(rows: number, columns: number, options: Options): Tuning {
  if (rows <= 16 || columns <= 32) return { tile: '16x32', stages: 4 };
  const fits = (tile: Tuning['tile']): boolean => {
    const size = tileOf(tile);
    const count = Math.ceil(rows / size.rows) * Math.ceil(columns / size.columns);
    return count >= 132 && refused({ tile, stages: 2 }, options) === undefined;
  };
  const tile = (['128x128', '128x64'] as const).find(fits) ?? '64x64';
  // Three stages of the largest tile are more than GPUs other than data centres' have room for.
  return { tile, stages: tile === '64x64' ? 3 : 2 };
}

function record({ dims, options, tuning }: Plain): KernelIR {
  const { type, leaves, gate } = options;
  const { stages } = tuning;
  const { rows, blocks } = SHAPES[tuning.tile];
  const tile = tileOf(tuning.tile);
  const size = bytesOf(type, 1);
  const step = STEP_BYTES / size;
  // Rows of 144 bytes lie in different banks.
  const pitch = step + 16 / size;
  const rounds = Math.ceil(dims.depth / leaves / step);
  const body = (t: LinearTensors): void => {
    'use gpu';
    const stagesOf = (name: string, count: number): Tensor =>
      shared(type, makeLayout([count, step, stages], [pitch, 1, count * pitch]), { name, align: 16 });
    const [stageX, stageW] = [stagesOf('x', tile.rows), stagesOf('w', tile.columns)];
    const [firstRow, firstColumn] = [bidY() * tile.rows, bid() * tile.columns];
    const load = (round: i32): void => {
      'use gpu';
      const [stage, depth, vector] = [round % stages, round * step, 16 / size];
      copyRows(stageX, stage, t.x, vector, firstRow, t.rows, depth, tile.rows, dims.depth, THREADS);
      copyRows(stageW, stage, t.w, vector, firstColumn, dims.columns, depth, tile.columns, dims.depth, THREADS);
    };
    for (let stage = 0; stage < stages - 1; stage++) {
      if (stage < rounds * leaves) load(i32(stage));
      cpAsyncCommit();
    }

    const rowInside = idiv(warpId(), OVER) * (4 * rows) + (laneId() >> 3);
    const columnInside = (warpId() % OVER) * (8 * blocks) + (laneId() & 7);
    const tree = new LeafTree(leaves);
    let total: number[] | undefined;
    for (let leaf = 0; leaf < leaves; leaf++) {
      const sums = fragment('f32', rows * blocks);
      for (let turn = i32(0); turn < rounds; turn += 1) {
        const round = leaf * rounds + turn;
        cpAsyncWait(stages - 2);
        // All threads' copies of this round are there, and all have left the stage that is filled next.
        sync();
        if (round + (stages - 1) < rounds * leaves) load(round + (stages - 1));
        cpAsyncCommit();
        const stage = round % stages;
        // A thread with few sums would wait for each vector: all are on their way at once.
        for (let k = rows * blocks > 2 ? i32(0) : 0; k < step; k += VECTOR) {
          const vectorOf = (from: Tensor, row: i32): Fragment =>
            from(row, _, stage).tile(VECTOR, idiv(k, VECTOR)).load().to(f32);
          const xs = Array.from({ length: rows }, (_none, i) => vectorOf(stageX, rowInside + 4 * i));
          for (let block = 0; block < blocks; block++) {
            const w = vectorOf(stageW, columnInside + 8 * block);
            for (let i = 0; i < rows; i++) {
              const at = i * blocks + block;
              for (let e = 0; e < VECTOR; e++) sums[at] = fma(f32(xs[i][e]), f32(w[e]), sums[at]);
            }
          }
        }
      }
      total = tree.add(sums.values());
    }

    const factor = gate === 'none' ? 1 : 2;
    const width = outputColumns(dims, options);
    const outputs = outputTensors(t, dims, options);
    for (let block = 0; block < blocks; block += factor) {
      const source = firstColumn + columnInside + 8 * block;
      const column = factor === 1 ? source : (source >> 4) * 8 + (source & 7);
      // Beyond the last column stands the last one: nobody stores it.
      const biasOf = (at: i32): Fragment | undefined => t.bias && t.bias.tile(1, min(at, dims.columns - 1)).load();
      const beside = { scale: t.scale?.[0], bias: biasOf(source), valueBias: biasOf(source + 8) };
      for (let i = 0; i < rows; i++) {
        const row = firstRow + rowInside + 4 * i;
        const at = i * blocks + block;
        if (row < t.rows && column < width) {
          const residual = t.residual && t.residual(row, _).tile(1, column).load();
          const values = factor === 1 ? undefined : [total![at + 1]];
          const y = new Fragment(finish(options, [total![at]], values, { ...beside, residual }), 'f32');
          for (const { tensor, first, columns } of outputs) {
            if (outputs.length === 1 || (column >= first && column < first + columns)) {
              tensor(row, _)
                .tile(1, column - first)
                .store(y.to(tensor.type));
            }
          }
        }
      }
    }
  };
  return traceKernel('linear_f32', linearF32.args(dims, options), THREADS, body);
}
