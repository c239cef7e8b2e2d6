import {
  FP8_GROUP,
  groupsOf,
  leavesOf,
  linearFp8KernelFor,
  linearKernelFor,
  scalePitch,
  type Dims,
  type KernelCase,
} from '@rose/kernels';
import { assert } from '../../errors.ts';
import type { BufferRows } from './buffers.ts';
import { cacheRecorder } from './attention.ts';
import { UNIT, type FusedLinear, type FusedNorm, type FusedOperation } from './fuse.ts';
import type { RowCount } from './grids.ts';
import type { GpuKernel, GpuRange, GpuStream } from './gpu.ts';
import { kernelNamed } from './kernels.ts';
import { NARROW, NARROW_SCALES, type NarrowInput, type QuantiseOperation } from './narrow.ts';
import type { CudaParts } from './parts.ts';
import type { StepShape } from './step-shape.ts';
import type { ComputeType, CudaMatrix, NarrowMatrix } from './weights.ts';

/** Puts one launch, or a few, into the stream. Made once for each operation, so that a step looks nothing up. */
export type Recorder = (shape: StepShape, stream: GpuStream) => void;

/**
 * A plan's launches for steps of up to `bucket` rows: each kernel specialised once, each argument in its place. What the
 * steps differ in are grids and numbers of rows.
 */
export class Body {
  readonly #recorders: readonly Recorder[];

  constructor(parts: CudaParts, operations: readonly FusedOperation[], bucket: number) {
    const maker = new Maker(parts, bucket);
    this.#recorders = operations.flatMap((operation) => maker.recorders(operation));
  }

  run(shape: StepShape, stream: GpuStream): void {
    for (let i = 0; i < this.#recorders.length; i++) this.#recorders[i](shape, stream);
  }
}

/** Makes the recorders of one bucket. */
class Maker {
  readonly #parts: CudaParts;
  readonly #bucket: number;
  readonly #type: ComputeType;

  constructor(parts: CudaParts, bucket: number) {
    this.#parts = parts;
    this.#bucket = bucket;
    this.#type = parts.weights.type;
  }

  recorders(operation: FusedOperation): readonly Recorder[] {
    switch (operation.kind) {
      case 'embed':
        return [this.#embed(operation)];
      case 'norm':
        return [this.#norm(operation)];
      case 'linear':
        return [this.#linear(operation)];
      case 'quantise':
        return [this.#quantise(operation)];
      case 'cache':
        return [cacheRecorder(this.#parts, operation, this.#bucket)];
      case 'attention':
        return this.#parts.attentionOf(operation);
      case 'gather':
        return [this.#gather(operation.input, operation.output)];
      case 'pool':
        return [this.#pool(operation)];
      case 'normalize':
        return [this.#normalize(operation.input)];
    }
  }

  #embed(operation: FusedOperation & { kind: 'embed' }): Recorder {
    const { spec, weights, layout, buffers, drawn } = this.#parts;
    const { tokens, positions, types, output } = operation;
    const kernel = this.#load('embedding', {
      dims: {
        tokens: this.#bucket,
        columns: spec.hiddenSize,
        vocabulary: spec.vocabSize,
        ...(positions !== undefined && { positions: spec.embedding.positions }),
        ...(types !== undefined && { types: spec.embedding.types }),
        ...(drawn !== undefined && { drawn: drawn.bytes / 4 }),
      },
      options: {
        type: this.#type,
        positions: positions !== undefined,
        types: types !== undefined,
        fed: drawn !== undefined,
      },
    });
    const { state } = layout;
    return this.#rows(kernel, 'tokens', 'tokens', {
      ids: state.range('tokens'),
      // What the step before drew need not pass the host.
      ...(drawn !== undefined && { fed: state.range('fed'), drawn }),
      table: weights.tables.get(tokens)!,
      ...(positions !== undefined && {
        positions: state.range('positions'),
        positionTable: weights.tables.get(positions)!,
      }),
      ...(types !== undefined && { types: state.range('types'), typeTable: weights.tables.get(types)! }),
      y: buffers.range(output),
    });
  }

  #gather(input: string, output: string): Recorder {
    const { spec, capacity, layout, buffers } = this.#parts;
    const dims = { tokens: this.#bucket, columns: spec.hiddenSize, vocabulary: capacity.rows };
    const kernel = this.#load('embedding', { dims, options: { type: this.#type } });
    const ids = layout.state.range('outputRows');
    return this.#rows(kernel, 'tokens', 'outputs', { ids, table: buffers.range(input), y: buffers.range(output) });
  }

  #pool({ pooling, input, output }: FusedOperation & { kind: 'pool' }): Recorder {
    const { spec, layout, buffers } = this.#parts;
    const wide = buffers.element(output) === 4;
    const kernel = this.#load('pool', {
      dims: { sequences: this.#bucket, rows: this.#bucket, columns: spec.hiddenSize },
      options: { kind: pooling, type: this.#type, output: wide ? 'f32' : 'same' },
    });
    const rowStart = layout.state.range('promptRowStarts');
    const x = buffers.range(input);
    return this.#rows(kernel, 'sequences', 'sequences', { x, rowStart, y: buffers.range(output) });
  }

  #normalize(name: string): Recorder {
    const { spec, buffers } = this.#parts;
    const dims = { rows: this.#bucket, columns: spec.hiddenSize };
    const kernel = this.#load('normalize', { dims, options: { type: 'f32' } });
    return this.#rows(kernel, 'rows', 'sequences', { x: buffers.range(name), y: buffers.range(UNIT) });
  }

  #norm({ norm, weights: name, input, add, output, scales }: FusedNorm): Recorder {
    const { spec, weights, buffers } = this.#parts;
    const dims = { rows: this.#bucket, columns: spec.hiddenSize };
    const options = {
      type: this.#type,
      ...(add !== undefined && { residual: true, sum: false }),
      ...(scales !== undefined && { output: `e4m3_${scales}` }),
    };
    const kernel = this.#load(norm.kind === 'rms' ? 'rmsnorm' : 'layernorm', { dims, options });
    const vector = (part: string): GpuRange => weights.vectors.get(`${name}.${part}`)!;
    return this.#rows(kernel, 'rows', buffers.kind(input), {
      x: buffers.range(input),
      ...(add !== undefined && { residual: buffers.range(add) }),
      weight: vector('weight'),
      ...(norm.kind === 'layer' && { bias: vector('bias') }),
      y: buffers.range(output),
      ...(scales !== undefined && this.#scalesOut(scales)),
      eps: norm.epsilon,
    });
  }

  #quantise({ input, width, scales, weights }: QuantiseOperation): Recorder {
    const { buffers } = this.#parts;
    const dims = { rows: this.#bucket, columns: width };
    const kernel = this.#load('quantise', { dims, options: { scales, type: this.#type } });
    return this.#rows(kernel, 'rows', buffers.kind(input), {
      x: buffers.range(input),
      ...(scales === 'tensor' && { scale: this.#matrix(weights).fp8!.input! }),
      y: buffers.range(NARROW),
      ...this.#scalesOut(scales),
    });
  }

  /** Where scales go; those of groups at the pitch of this bucket, which the product reads them at. */
  #scalesOut(scales: NarrowInput): Readonly<Record<string, GpuRange | number>> {
    const range = this.#parts.buffers.range(NARROW_SCALES);
    return { scales: range, ...(scales === 'group' && { pitch: scalePitch(this.#bucket) }) };
  }

  #matrix(weights: readonly string[]): CudaMatrix {
    const matrix = this.#parts.weights.matrices.get(weights.join('+'));
    assert(matrix, `no matrix '${weights.join('+')}' was loaded`);
    return matrix;
  }

  #linear(operation: FusedLinear): Recorder {
    const { buffers } = this.#parts;
    const matrix = this.#matrix(operation.weights);
    const { fp8 } = matrix;
    const { output, gate, residual, activation } = operation;
    const split = typeof output !== 'string';
    const first = split ? output[0] : output;
    const kind = buffers.kind(first);
    const dims: Dims = {
      rows: this.#bucket,
      columns: matrix.outputs,
      depth: matrix.inputs,
      ...(split && { keys: buffers.width(output[1]), values: buffers.width(output[2]) }),
    };
    const product = this.#productFor(matrix);
    const kernel = this.#load(product, {
      dims,
      options: {
        type: this.#type,
        output: buffers.element(first) === 4 && this.#type !== 'f32' ? 'f32' : 'same',
        leaves: leavesOf(matrix.inputs, operation.sharded, fp8 && FP8_GROUP),
        ...(fp8 && { scales: fp8.format }),
        bias: matrix.bias !== undefined,
        ...(gate !== undefined && { gate }),
        ...(activation !== undefined && { activation }),
        ...(residual !== undefined && { residual: true }),
        ...(split && { split: 'qkv' }),
      },
    });
    return this.#rows(kernel, 'rows', kind, {
      x: buffers.range(operation.input),
      w: matrix.weight,
      ...(fp8 && this.#scalesIn(matrix, fp8, product)),
      ...(matrix.bias && { bias: matrix.bias }),
      ...(residual !== undefined && { residual: buffers.range(residual) }),
      ...(split
        ? { q: buffers.range(output[0]), k: buffers.range(output[1]), v: buffers.range(output[2]) }
        : { y: buffers.range(output) }),
    });
  }

  /** A product's scales; those of groups fill their range, so that nothing stands behind the last group. */
  #scalesIn(
    { inputs }: CudaMatrix,
    { format, scales: wScale }: NarrowMatrix,
    product: string,
  ): Readonly<Record<string, GpuRange | number>> {
    const range = this.#parts.buffers.range(NARROW_SCALES);
    if (format === 'row') return { xScale: range, wScale };
    const pitch = scalePitch(this.#bucket);
    const xScale = range.slice(0, 4 * groupsOf(inputs) * pitch);
    return { xScale, wScale, ...(product === 'linear_fp8_mma' && { pitch }) };
  }

  /** The kernel of a matrix: tensor cores where they have whole tiles, and that follows from the matrix alone. */
  #productFor({ outputs, inputs, interleaved, fp8 }: CudaMatrix): string {
    if (fp8 !== undefined) return linearFp8KernelFor(this.#bucket, this.#parts.gpu.arch);
    const whole = outputs % (interleaved ? 16 : 8) === 0 && inputs % 8 === 0;
    if (this.#type === 'f32' || !whole) return 'linear_f32';
    return linearKernelFor(this.#bucket, this.#parts.gpu.arch);
  }

  #load(name: string, wanted: KernelCase): GpuKernel {
    return this.#parts.gpu.load(kernelNamed(name), wanted);
  }

  /** A launch over rows of a kind, whose number is the kernel's parameter `count`. */
  #rows(
    kernel: GpuKernel,
    count: RowCount,
    kind: BufferRows,
    args: Readonly<Record<string, GpuRange | number>>,
  ): Recorder {
    const launch = kernel.prepare({ ...args, [count]: this.#bucket });
    const grid = this.#parts.gridOf(kernel, count);
    const rowsOf = ROWS_OF[kind];
    return (shape, stream) => {
      const rows = rowsOf(shape);
      if (rows === 0) return;
      const [x, y, z] = grid.of(rows);
      launch.grid(x, y, z).set(count, rows).run(stream);
    };
  }
}

const ROWS_OF: Readonly<Record<BufferRows, (shape: StepShape) => number>> = {
  tokens: ({ rows }) => rows,
  outputs: ({ outputs }) => outputs,
  sequences: ({ sequences }) => sequences,
  once: () => 1,
};
