import { ATTENTION_HEADS, decodeStages, type Dims } from '@rose/kernels';
import type { AttentionSpec } from '../../model/spec.ts';
import type { AttentionOperation, CacheOperation } from '../../plan/plan.ts';
import type { Recorder } from './compile.ts';
import { splits } from './fuse.ts';
import type { GpuRange } from './gpu.ts';
import { kernelNamed } from './kernels.ts';
import type { CudaParts } from './parts.ts';
import { itemsOfPass, PADDING, type Pass, type StepShape } from './step-shape.ts';

/** The part of attention that a layer's options decide, as the kernels name it. */
function windowOf({ spec, groups, layers }: CudaParts, layer: number, attention: AttentionSpec): number | undefined {
  if (spec.head.kind === 'logits') return groups[layers[layer].group].window;
  const { window } = attention;
  return window !== undefined && window < spec.contextLength ? window : undefined;
}

/** How a layer's keys and values are held, as the kernels that write and read them are told. */
function heldAs(
  { weights }: CudaParts,
  layer: number,
): { readonly cache: 'same' | 'e4m3'; readonly scales: { readonly [name: string]: GpuRange } } {
  const scales = weights.cacheScales.get(layer);
  return scales === undefined
    ? { cache: 'same', scales: {} }
    : { cache: 'e4m3', scales: { keyScale: scales.keys, valueScale: scales.values } };
}

/** Norm and turn the heads of queries and keys, and write keys and values into the layer's pages. */
export function cacheRecorder(parts: CudaParts, operation: CacheOperation, bucket: number): Recorder {
  const { gpu, spec, weights, buffers, layout, layers } = parts;
  const { heads, kvHeads, headDim, rope, qkNorm } = operation;
  const { keys, values, group } = layers[operation.layer];
  const dims = {
    tokens: bucket,
    qHeads: heads,
    kvHeads,
    head: headDim,
    ...(rope && { rotary: rope.dim, positions: spec.contextLength }),
    pages: 1,
  };
  const { cache, scales } = heldAs(parts, operation.layer);
  const options = { type: weights.type, norm: qkNorm !== undefined, cache };
  const kernel = gpu.load(kernelNamed('qk_rope_cache'), { dims, options });
  const launch = kernel.prepare({
    qkv: buffers.range('qkv'),
    ...(qkNorm && {
      qWeight: weights.vectors.get(`${qkNorm.q}.weight`)!,
      kWeight: weights.vectors.get(`${qkNorm.k}.weight`)!,
    }),
    ...(rope && { table: weights.ropes.get(JSON.stringify(rope))!, positions: layout.state.range('positions') }),
    slots: layout.state.range(`slots${group}`),
    ...scales,
    q: buffers.range('q'),
    keys,
    values,
    eps: qkNorm?.norm.epsilon ?? 0,
    tokens: bucket,
  });
  const grid = parts.gridOf(kernel, 'tokens');
  return (shape, stream) => {
    const [x, y, z] = grid.of(shape.rows);
    launch.grid(x, y, z).set('tokens', shape.rows).run(stream);
  };
}

/** Attention of a step: of its answers' rows in passes, and of its prompts. */
export function attentionRecorders(parts: CudaParts, operation: AttentionOperation): Recorder[] {
  const decoder = parts.spec.head.kind === 'logits';
  if (!isFast(parts, operation.attention)) {
    const prompts = plainRecorder(parts, operation, 'prompts');
    return decoder ? [plainRecorder(parts, operation, 'answers'), prompts] : [prompts];
  }
  const prompts = promptRecorder(parts, operation);
  return decoder ? [answerRecorder(parts, operation), prompts] : [prompts];
}

/** Whether the tensor cores' kernels have it; in a model that is so of all layers of these heads. */
function isFast({ weights }: CudaParts, { headDim }: AttentionSpec): boolean {
  return weights.type !== 'f32' && ATTENTION_HEADS.includes(headDim);
}

function answerRecorder(parts: CudaParts, { layer, output, attention }: AttentionOperation): Recorder {
  const { gpu, weights, buffers, layout, layers } = parts;
  const { heads: qHeads, kvHeads, headDim: head, scale } = attention;
  const { keys, values, group } = layers[layer];
  const window = windowOf(parts, layer, attention);
  const sizes: Dims = { sequences: 1, tokens: 1, qHeads, kvHeads, head };
  const { type } = weights;
  const { cache, scales } = heldAs(parts, layer);
  const stages = decodeStages(head, { type: type as 'bf16' | 'f16', cache }, gpu.sharedBytes);
  if (stages === undefined) {
    const memory = `${Math.floor(gpu.sharedBytes / 1024)} KiB of shared memory`;
    throw new RangeError(
      `kernel attention_decode: heads of ${head} elements are too large for ${memory} of ${gpu.description}`,
    );
  }
  const kernel = gpu.load(kernelNamed('attention_decode'), {
    dims: { ...sizes, longest: 1, shortest: 1 },
    options: { type, cache, window: window !== undefined, whole: true },
    tuning: { stages },
  });
  const { state } = layout;
  const field = {
    items: state.range(`items${group}`),
    starts: state.range(`starts${group}`),
    rowStarts: state.range('answerRowStarts'),
    lengths: state.range('answerLengths'),
    tableStarts: state.range('answerTables'),
  };
  const launch = kernel.prepare({
    q: buffers.range('q'),
    keys,
    values,
    ...scales,
    table: state.range(`table${group}`),
    tableStarts: field.tableStarts,
    rowStarts: field.rowStarts,
    lengths: field.lengths,
    items: field.items,
    o: buffers.range('parts'),
    stats: buffers.range('stats'),
    starts: field.starts,
    arrived: buffers.range('arrived'),
    y: buffers.range(output),
    scale,
    ...(window !== undefined && { window }),
  });
  const [, across] = kernel.gridFor({});
  const aim = (range: GpuRange, word: number): GpuRange => (word === 0 ? range : range.slice(4 * word));
  const point = ({ row, item }: Pass, pass: number): void => {
    launch
      .point('tableStarts', aim(field.tableStarts, row))
      .point('lengths', aim(field.lengths, row))
      .point('rowStarts', aim(field.rowStarts, row))
      .point('items', aim(field.items, 2 * item[group]))
      .point('starts', aim(field.starts, row + pass));
  };
  let pointed = 0;
  return (shape, stream) => {
    for (let p = 0; p < shape.passCount; p++) {
      const pass = shape.passes[p];
      if (p !== 0 || pointed !== 0) point(pass, p);
      pointed = p;
      if (pass.items[group] > 0) launch.grid(pass.items[group], across).run(stream);
    }
  };
}

/** Attention of any head, in float32: prompts and answers by the same kernel. */
function plainRecorder(parts: CudaParts, operation: AttentionOperation, whose: 'answers' | 'prompts'): Recorder {
  const { gpu, buffers } = parts;
  const { heads: qHeads, kvHeads, headDim: head } = operation.attention;
  const { args, options } = promptArgs(parts, operation, whose);
  const dims = { sequences: 1, tokens: 1, longest: 1, shortest: 1, qHeads, kvHeads, head };
  const kernel = gpu.load(kernelNamed('attention_rows'), { dims, options });
  const launch = kernel.prepare({ ...args, y: buffers.range(operation.output) });
  return (shape, stream) => {
    const sequences = whose === 'answers' ? answerRows(shape) : shape.prompts;
    if (sequences === 0) return;
    const tokens = whose === 'answers' ? 1 : shape.promptRows;
    launch.grid(...kernel.gridFor({ tokens, sequences })).run(stream);
  };
}

/** Rows of answers, those that are padding included. */
function answerRows({ passes, passCount }: StepShape): number {
  if (passCount === 0) return 0;
  const last = passes[passCount - 1];
  return last.row + last.rows;
}

/** What the kernels for whole sequences of rows are given, but for their output. */
function promptArgs(
  parts: CudaParts,
  { layer, attention }: AttentionOperation,
  whose: 'answers' | 'prompts',
): { readonly args: Record<string, GpuRange | number>; readonly options: Record<string, string | boolean> } {
  const { spec, weights, buffers, layout, layers } = parts;
  const { mask, scale, rope, qkNorm } = attention;
  const window = windowOf(parts, layer, attention);
  const rows = splits({ rope, qkNorm: qkNorm && { norm: qkNorm, q: '', k: '' } }, spec);
  const { state } = layout;
  const field =
    whose === 'answers'
      ? ({ rowStarts: 'answerRowStarts', lengths: 'answerLengths', tables: 'answerTables' } as const)
      : ({ rowStarts: 'promptRowStarts', lengths: 'promptLengths', tables: 'promptTables' } as const);
  const held = (): Record<string, GpuRange> => {
    const { keys, values, group } = layers[layer];
    return { keys, values, table: state.range(`table${group}`), tableStarts: state.range(field.tables) };
  };
  return {
    options: { type: weights.type, layout: rows ? 'rows' : 'paged', mask, window: window !== undefined },
    args: {
      q: buffers.range('q'),
      ...(rows
        ? { keys: buffers.range('keys'), values: buffers.range('values'), starts: state.range(field.rowStarts) }
        : held()),
      rowStarts: state.range(field.rowStarts),
      lengths: state.range(field.lengths),
      scale,
      ...(window !== undefined && { window }),
    },
  };
}

function promptRecorder(parts: CudaParts, operation: AttentionOperation): Recorder {
  const { gpu, buffers } = parts;
  const { heads: qHeads, kvHeads, headDim: head } = operation.attention;
  const module = kernelNamed(gpu.arch === 'sm_90a' ? 'attention_prefill_wgmma' : 'attention_prefill');
  const dims = { sequences: 1, tokens: 1, longest: 1, shortest: 1, qHeads, kvHeads, head };
  const { cache, scales } = heldAs(parts, operation.layer);
  const { args: shared, options: rest } = promptArgs(parts, operation, 'prompts');
  const options = { ...rest, cache };
  const args = { ...shared, ...scales, y: buffers.range(operation.output) };
  // Query heads share blocks where a sequence has few rows; which changes no bits.
  const kernels = [false, true].flatMap((pack) => {
    try {
      return [gpu.load(module, { dims, options, tuning: { pack } })];
    } catch (error) {
      if (error instanceof RangeError && pack) return [];
      throw error;
    }
  });
  const launches = kernels.map((kernel) => kernel.prepare(args));
  let [known, knownSequences, chosen] = [-1, -1, 0];
  let grid: readonly [number, number, number] = [1, 1, 1];
  return (shape, stream) => {
    if (shape.prompts === 0) return;
    if (shape.promptRows !== known || shape.prompts !== knownSequences) {
      [known, knownSequences] = [shape.promptRows, shape.prompts];
      const grids = kernels.map((kernel) => kernel.gridFor({ tokens: known, sequences: knownSequences }));
      const blocks = ([x, y]: readonly number[]): number => x * y;
      chosen = grids.length > 1 && blocks(grids[1]) < blocks(grids[0]) ? 1 : 0;
      grid = grids[chosen];
    }
    launches[chosen].grid(grid[0], grid[1], grid[2]).run(stream);
  };
}

/**
 * Buffers that attention needs beside those of the plan: parts of splits and their statistics, float32, and how many CTAs of
 * each sequence have written theirs, zeros but for the time of a launch.
 */
export function partSizes(parts: Pick<CudaParts, 'spec' | 'capacity'>): {
  readonly parts: number;
  readonly stats: number;
  readonly arrived: number;
} {
  const items = itemsOfPass(parts.capacity, parts.spec.contextLength);
  const { blocks } = parts.spec;
  return {
    parts: items * Math.max(...blocks.map(({ mixer }) => mixer.heads * mixer.headDim)),
    stats: items * 2 * Math.max(...blocks.map(({ mixer }) => mixer.heads)),
    arrived: (parts.capacity.sequences + PADDING) * Math.max(...blocks.map(({ mixer }) => mixer.heads)),
  };
}
