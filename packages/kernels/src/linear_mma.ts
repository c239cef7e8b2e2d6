import { bid, bidY, type KernelIR } from '@rose/cute';
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
  type LinearTensors,
} from './support/linear.ts';
import { MMA_THREADS, MMA_TUNING, mmaRefused, mmaTile, mmaTileOf } from './support/linear-mma.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, type KernelModule, type Specialisation } from './spec.ts';

type Mma = Specialisation<typeof LINEAR_OPTIONS, typeof MMA_TUNING>;

/**
 * The product of a layer on every GPU from sm_80 on: tiles by cp.async into a ring of stages, ldmatrix and mma.sync
 * 16 x 8 x 16. A CTA has one tile and its whole depth. Bits: see support/linear.ts.
 */
const linearMma: KernelModule = defineKernel({
  name: 'linear_mma',
  summary: 'y = epilogue(x w^T): cp.async and mma.sync (sm_80 and later)',
  dims: LINEAR_DIMS,
  optionalDims: LINEAR_OPTIONAL_DIMS,
  options: LINEAR_OPTIONS,
  tuning: MMA_TUNING,
  refuse: ({ dims, options, tuning }) => linearRefused(dims, options) ?? mmaRefused(tuning, options.leaves),
  choose: ({ rows }, { leaves }) => ({
    tile: rows <= 16 ? '16x64' : rows <= 512 || leaves > 2 ? '64x64' : '128x64',
    stages: 3,
  }),
  tables: { key: (dims, options) => ({ ...linearKey(dims, options), rows: rowBucket(dims.rows) }) },
  args: linearArgs,
  trace: record,
  grid: ({ dims, tuning }) => {
    const { rows, columns } = mmaTileOf(tuning.tile);
    return [Math.ceil(dims.columns / columns), Math.ceil(dims.rows / rows), 1];
  },
  reference: (values, dims, options) => linearReference(values as never, dims, options),
  roofline: linearRoofline,
  cases: [
    { dims: { rows: 1, columns: 64, depth: 64 } },
    { dims: { rows: 67, columns: 72, depth: 136 }, options: { bias: true, residual: true, type: 'f16' } },
    { dims: { rows: 17, columns: 64, depth: 512 }, options: { leaves: 8, gate: 'silu', scale: true } },
    { dims: { rows: 9, columns: 64, depth: 64 }, options: { gate: 'relu', bias: true } },
    ...LINEAR_OPTIONS.activation.map((activation) => {
      return { dims: { rows: 5, columns: 64, depth: 64 }, options: { activation, bias: true, output: 'f32' } } as const;
    }),
    { dims: { rows: 129, columns: 64, depth: 128 }, options: { leaves: 2, output: 'f32' }, tuning: { tile: '128x64' } },
    {
      dims: { rows: 18, columns: 88, depth: 64, keys: 24, values: 16 },
      options: { split: 'qkv', bias: true, scale: true },
    },
    { dims: { rows: 2048, columns: 4096, depth: 4096 }, large: true },
    { dims: { rows: 16, columns: 4096, depth: 4096 }, options: { leaves: 8 }, large: true },
  ],
});

export default linearMma;

function record({ dims, options, tuning }: Mma): KernelIR {
  const { rows, columns } = mmaTileOf(tuning.tile);
  const body = (t: LinearTensors): void => {
    'use gpu';
    mmaTile(t, { row: bidY() * rows, column: bid() * columns }, dims, options, tuning);
  };
  return traceKernel('linear_mma', linearMma.args(dims, options), MMA_THREADS, body);
}
