import type { BatchCapacity } from '../../engine/batch.ts';
import type { LayerGroup } from '../../model/groups.ts';
import type { ModelSpec } from '../../model/spec.ts';
import type { AttentionOperation } from '../../plan/plan.ts';
import { attentionRecorders } from './attention.ts';
import type { Buffers } from './buffers.ts';
import type { Recorder } from './compile.ts';
import { RowGrid, type RowCount } from './grids.ts';
import type { Gpu, GpuKernel, GpuRange } from './gpu.ts';
import type { StepLayout } from './step-shape.ts';
import type { CudaWeights } from './weights.ts';

/** A layer's pages: keys and values [pages, kvHeads, 16, headDim]. */
export interface CacheLayer {
  readonly keys: GpuRange;
  readonly values: GpuRange;
  readonly group: number;
}

/** What a model's launches are made of. */
export class CudaParts {
  readonly gpu: Gpu;
  readonly spec: ModelSpec;
  readonly weights: CudaWeights;
  readonly buffers: Buffers;
  readonly layout: StepLayout;
  readonly capacity: BatchCapacity;
  readonly groups: readonly LayerGroup[];
  readonly layers: readonly CacheLayer[];
  /** i32 [outputs]: what the step before drew, of decoders. */
  readonly drawn: GpuRange | undefined;
  readonly #grids = new Map<GpuKernel, RowGrid>();
  readonly #attention = new Map<AttentionOperation, readonly Recorder[]>();

  constructor(parts: Omit<CudaParts, 'gridOf' | 'attentionOf'>) {
    this.gpu = parts.gpu;
    this.spec = parts.spec;
    this.weights = parts.weights;
    this.buffers = parts.buffers;
    this.layout = parts.layout;
    this.capacity = parts.capacity;
    this.groups = parts.groups;
    this.layers = parts.layers;
    this.drawn = parts.drawn;
  }

  /** The launches of a layer's attention, which are the same for every number of rows. */
  attentionOf(operation: AttentionOperation): readonly Recorder[] {
    let recorders = this.#attention.get(operation);
    if (recorders === undefined) {
      recorders = attentionRecorders(this, operation);
      this.#attention.set(operation, recorders);
    }
    return recorders;
  }

  gridOf(kernel: GpuKernel, count: RowCount): RowGrid {
    let grid = this.#grids.get(kernel);
    if (grid === undefined) {
      grid = new RowGrid(kernel, count);
      this.#grids.set(kernel, grid);
    }
    return grid;
  }
}
