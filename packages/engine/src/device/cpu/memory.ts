import { totalmem } from 'node:os';
import { PAGE_TOKENS, type CacheDtype, type Cpu, type MatrixFormat, type ScratchNeed } from '@rose/cpu';
import { RoseError } from '../../errors.ts';
import type { Checkpoint, CheckpointTensor } from '../../checkpoint/checkpoint.ts';
import { sizeOf } from '../../model/parameters.ts';
import { layerGroups, type LayerGroup } from '../../model/groups.ts';
import type { ModelSpec } from '../../model/spec.ts';
import type { Plan, RowKind } from '../../plan/plan.ts';
import type { BatchCapacity } from '../../engine/batch.ts';
import type { LoadOptions, MemoryReport } from '../device.ts';
import { layerPageBytes, pageBytes, planPages } from '../pages.ts';
import { CpuSampler } from './sampler.ts';

/** What a 32-bit WebAssembly memory can hold. */
const ARENA_LIMIT = 4 * 1024 ** 3 - 65536;
/** Half of the staging buffer is read into while the other half is packed. */
const STAGING_BYTES = 16 * 1024 ** 2;
/** Rows of logits at a time, or as many as there may be sequences: enough to make good use of the output matrix. */
const LOGIT_ROWS = 32;
/** Every allocation starts at a multiple of this. */
const ALIGN = 64;

/** What the CPU does of what a load may ask for. */
export interface CpuLoadOptions extends LoadOptions {
  readonly quantize: 'int8' | 'int4' | undefined;
  readonly dtype?: 'auto' | 'f32';
  readonly cacheDtype: CacheDtype;
}

/** A weight matrix of the plan: the named matrices one under the other. */
export interface MatrixGroup {
  readonly key: string;
  readonly tensors: readonly CheckpointTensor[];
  readonly biases: readonly CheckpointTensor[];
  readonly outputs: number;
  readonly inputs: number;
  readonly format: MatrixFormat;
}

/** Where everything of a model will go, computed before anything is allocated. */
export interface MemoryPlan {
  readonly arenaBytes: number;
  readonly report: MemoryReport;
  readonly capacity: BatchCapacity;
  /** Rows of logits that there is room for: those of a step's targets take turns. */
  readonly logitRows: number;
  /** Layers that share page tables, and the pages each such group has in each of its layers. */
  readonly layers: readonly LayerGroup[];
  /** For encoders: pages of the one layer's worth that all layers share within a step. */
  readonly pages: readonly number[];
  readonly staging: number;
  readonly scratch: ScratchNeed;
  readonly groups: readonly MatrixGroup[];
  readonly tables: readonly CheckpointTensor[];
  readonly vectors: readonly CheckpointTensor[];
}

type Sizes = Pick<Cpu, 'matrixBytes' | 'scratchBytes'>;

/**
 * Lay out a model's memory. Throws `unavailable` with the figures when it does not fit, `unsupported` when the kernels
 * cannot cache heads of its size in the format asked for.
 * @param sizes tells what packed matrices and kernel scratch take
 */
export function planMemory(checkpoint: Checkpoint, plan: Plan, options: CpuLoadOptions, sizes: Sizes): MemoryPlan {
  const { spec } = checkpoint;
  checkCache(spec, options);
  const byName = new Map(checkpoint.tensors.map((tensor) => [tensor.parameter.name, tensor]));
  const groups = matrixGroups(plan, byName, options);
  const grouped = new Set(groups.flatMap((group) => [...group.tensors, ...group.biases]));
  const embedded = embeddingIsTable(spec, options) ? byName.get('embedding.tokens') : undefined;
  const tables = checkpoint.tensors.filter(
    (tensor) => tensor === embedded || (tensor.parameter.kind === 'table' && !grouped.has(tensor)),
  );
  const vectors = checkpoint.tensors.filter((tensor) => tensor.parameter.kind === 'vector' && !grouped.has(tensor));

  const weights =
    sum(groups, (group) => align(sizes.matrixBytes(group.outputs, group.inputs, group.format)) + biasBytes(group)) +
    sum(tables, (tensor) => align(tableBytes(tensor, options))) +
    sum(vectors, (tensor) => align(4 * sizeOf(tensor.parameter)));

  const encoder = spec.head.kind !== 'logits';
  // Running sequences take a row each; there must be room for prompt rows beside them.
  const rows = Math.max(options.maxRows, encoder ? spec.contextLength : 2 * options.maxSequences);
  const sequences = options.maxSequences;
  const contextPages = Math.ceil(spec.contextLength / PAGE_TOKENS);
  const stepPages = encoder ? Math.ceil(rows / PAGE_TOKENS) + sequences : sequences * contextPages;
  const layers = layerGroups(spec);
  const outputs = sequences;
  const logitRows = Math.max(outputs, LOGIT_ROWS);
  const capacity = { rows, sequences, outputs, pages: stepPages, groups: layers.length };

  const scratch: ScratchNeed = {
    maxRows: rows,
    maxInputs: options.quantize === undefined ? 0 : Math.max(...groups.map((group) => group.inputs)),
    maxContext: spec.contextLength,
    maxHeadDim: Math.max(...spec.blocks.map((block) => block.mixer.headDim)),
    maxWidth: spec.hiddenSize,
  };
  const widest = sum(plan.buffers, (buffer) => align(4 * rowsOf(buffer.rows, { capacity, logitRows }) * buffer.width));
  const stepWords = 3 * rows + 3 * sequences + logitRows + layers.length * stepPages + 2;
  const staging = Math.max(STAGING_BYTES, 2 * longestRow(checkpoint));
  const fixed =
    widest +
    align(4 * stepWords) +
    (8 + layers.length) * ALIGN +
    sizes.scratchBytes(scratch) +
    ropeBytes(spec) +
    (encoder ? stepPages * widestPage(spec, options) : CpuSampler.bytes(logitRows, spec.vocabSize));

  const usable = Math.min(ARENA_LIMIT, totalmem() * (options.memoryShare ?? 1));
  const room = usable - weights - fixed - staging;
  const report = encoder ? [] : planPages(spec, layers, { ...options, rows }, room);
  if (room < 0 || report.some(({ pages }) => pages < 1)) {
    const page = sum(layers, (group) => pageBytes(spec, group, options));
    throw doesNotFit(weights, fixed + staging, page, usable);
  }
  const cache = sum(report, ({ bytes }) => align(bytes) + ALIGN * spec.blocks.length);
  return {
    arenaBytes: weights + fixed + cache + staging + ALIGN * (groups.length + tables.length + vectors.length + 64),
    report: { weights, sequences: sum(report, ({ bytes }) => bytes), workspace: fixed + staging, pages: report },
    capacity,
    logitRows,
    layers,
    pages: encoder ? [stepPages] : report.map(({ pages }) => pages),
    staging,
    scratch,
    groups,
    tables,
    vectors,
  };
}

/** A tied embedding is looked up in the packed output matrix, unless that is quantized: then it keeps a table too. */
export function embeddingIsTable(spec: ModelSpec, options: CpuLoadOptions): boolean {
  return !(spec.head.kind === 'logits' && spec.head.tied) || options.quantize !== undefined;
}

/** Tables of bfloat16 checkpoints stay bfloat16, all others are widened to float32. */
export function tableDtype(tensor: CheckpointTensor, options: CpuLoadOptions): 'f32' | 'bf16' {
  return tensor.dtype === 'BF16' && options.dtype !== 'f32' ? 'bf16' : 'f32';
}

export function tableBytes(tensor: CheckpointTensor, options: CpuLoadOptions): number {
  return sizeOf(tensor.parameter) * (tableDtype(tensor, options) === 'bf16' ? 2 : 4);
}

export function rowsOf(kind: RowKind, { capacity, logitRows }: Pick<MemoryPlan, 'capacity' | 'logitRows'>): number {
  const rows = { tokens: capacity.rows, outputs: logitRows, sequences: capacity.sequences };
  return rows[kind];
}

function matrixGroups(
  plan: Plan,
  byName: ReadonlyMap<string, CheckpointTensor>,
  options: CpuLoadOptions,
): MatrixGroup[] {
  const groups: MatrixGroup[] = [];
  for (const operation of plan.operations) {
    if (operation.kind !== 'linear') continue;
    // A tied output matrix is the table of token embeddings, which has no `.weight` of its own.
    const tensors = operation.weights.map((name) => byName.get(`${name}.weight`) ?? byName.get(name)!);
    const biases = operation.bias ? operation.weights.map((name) => byName.get(`${name}.bias`)!) : [];
    groups.push({
      key: operation.weights.join('+'),
      tensors,
      biases,
      outputs: sum(tensors, (tensor) => tensor.parameter.shape[0]),
      inputs: tensors[0].parameter.shape[1],
      format: formatOf(tensors, options),
    });
  }
  return groups;
}

function formatOf(tensors: readonly CheckpointTensor[], options: CpuLoadOptions): MatrixFormat {
  if (options.dtype === 'f32') return 'f32';
  if (options.quantize !== undefined) return options.quantize;
  return tensors.every((tensor) => tensor.dtype === 'BF16') ? 'bf16' : 'f32';
}

/** Bytes of the largest page of any layer: what an encoder's layers share. */
function widestPage(spec: ModelSpec, options: CpuLoadOptions): number {
  return Math.max(...spec.blocks.map((_, layer) => layerPageBytes(spec, layer, options)));
}

function ropeBytes(spec: ModelSpec): number {
  const ropes = new Set(spec.blocks.flatMap(({ mixer }) => (mixer.rope ? [JSON.stringify(mixer.rope)] : [])));
  return sum([...ropes], (rope) => 2 * align(2 * (JSON.parse(rope) as { dim: number }).dim * spec.contextLength));
}

function longestRow(checkpoint: Checkpoint): number {
  return Math.max(...checkpoint.tensors.map(({ parameter, byteLength }) => align(byteLength / parameter.shape[0])));
}

function biasBytes(group: MatrixGroup): number {
  return group.biases.length === 0 ? 0 : align(4 * group.outputs);
}

function align(bytes: number): number {
  return Math.ceil(bytes / ALIGN) * ALIGN;
}

function sum<T>(items: readonly T[], size: (item: T, index: number) => number): number {
  return items.reduce((total, item, index) => total + size(item, index), 0);
}

/** The kernels take bfloat16 values in groups of 16 columns. */
function checkCache(spec: ModelSpec, options: CpuLoadOptions): void {
  const odd = spec.blocks.find(({ mixer }) => mixer.headDim % 16 !== 0);
  if (options.cacheDtype !== 'bf16' || odd === undefined) return;
  throw new RoseError(
    'unsupported',
    `a bf16 cache needs heads of a multiple of 16 elements; this model's have ${odd.mixer.headDim}. Use an f32 cache.`,
  );
}

function doesNotFit(weights: number, workspace: number, page: number, usable: number): RoseError {
  const gib = (bytes: number): string => `${(bytes / 1024 ** 3).toFixed(2)} GiB`;
  return new RoseError(
    'unavailable',
    `the model does not fit: weights take ${gib(weights)}, buffers ${gib(workspace)}, and ${PAGE_TOKENS} tokens of ` +
      `context ${gib(page)}, while the CPU device can use ${gib(usable)}. ` +
      `Try --quantize int8 or int4, a larger --memory-share, or a smaller model.`,
  );
}
