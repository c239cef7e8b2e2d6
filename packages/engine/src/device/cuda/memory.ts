import { PAGE_TOKENS } from '@rose/cpu';
import type { Checkpoint } from '../../checkpoint/checkpoint.ts';
import type { BatchCapacity } from '../../engine/batch.ts';
import { RoseError } from '../../errors.ts';
import { layerGroups, type LayerGroup } from '../../model/groups.ts';
import type { ModelSpec } from '../../model/spec.ts';
import type { Plan } from '../../plan/plan.ts';
import type { LoadOptions, MemoryReport, ModelToCome } from '../device.ts';
import { layerPageBytes, planPages } from '../pages.ts';
import { partSizes } from './attention.ts';
import { placeBuffers, type BufferPlan, type BufferRows, type CudaBuffer } from './buffers.ts';
import { fuse, headOf, resultOf, UNIT, type FusedOperation } from './fuse.ts';
import { rowBuckets } from './grids.ts';
import type { Gpu } from './gpu.ts';
import { liveBuffers } from './lifetimes.ts';
import { matrixGroups } from './matrix-groups.ts';
import { narrowBuffers, narrowInputs } from './narrow.ts';
import type { CudaFormats } from './options.ts';
import { CudaSampler, type SamplerSizes } from './sampler.ts';
import { needsOf, PADDING, StepLayout } from './step-shape.ts';
import { TYPE_BYTES, weightBytes, type ComputeType } from './weights.ts';

/** Share of the GPU's memory that a model may take where nobody says. */
const DEFAULT_SHARE = 0.9;
/** Left for the driver: modules, local memory, graphs. */
const RESERVE_BYTES = 600 * 1024 ** 2;
/** Buffers of a model that is yet to come, about. */
const BUFFERS_TO_COME = 1024 ** 3;
/** Rows of logits at a time, or as many as there may be sequences. */
const LOGIT_ROWS = 32;

/** Where everything of a model will go, computed before anything is allocated. */
export interface CudaMemoryPlan {
  readonly report: MemoryReport;
  readonly capacity: BatchCapacity;
  /** None where no launch has pages. */
  readonly layers: readonly LayerGroup[];
  /** How pages hold keys and values. */
  readonly cache: CudaFormats['cache'];
  /** Pages of each group; of an encoder that needs any, those of a step, which all its layers share. */
  readonly pages: readonly number[];
  readonly buffers: BufferPlan;
  /** What is launched. */
  readonly operations: readonly FusedOperation[];
  readonly rowsOf: Readonly<Record<BufferRows, number>>;
  /** Rows of logits that there is room for. */
  readonly logitRows: number;
}

/** @throws RoseError `unavailable` with the figures where the model does not fit */
export function planCudaMemory(
  gpu: Gpu,
  checkpoint: Checkpoint,
  plan: Plan,
  formats: CudaFormats,
  options: LoadOptions,
): CudaMemoryPlan {
  const { spec } = checkpoint;
  const { type, cache: cacheDtype } = formats;
  const decoder = spec.head.kind === 'logits';
  const { maxSequences: sequences } = options;
  // Running sequences take a row each; there must be room for prompt rows beside them.
  const rows = Math.max(options.maxRows, decoder ? 2 * sequences : spec.contextLength);
  const groups = matrixGroups(checkpoint, plan, formats);
  const operations = narrowInputs(fuse(plan, spec), groups);
  const { pages: paged } = needsOf(operations, spec);
  const layers = paged ? layerGroups(spec) : [];
  const contextPages = Math.ceil(spec.contextLength / PAGE_TOKENS);
  const stepPages = decoder ? sequences * contextPages : Math.ceil(rows / PAGE_TOKENS) + sequences;
  const capacity = { rows, sequences, outputs: sequences, pages: stepPages, groups: layers.length };
  const logitRows = Math.max(sequences + PADDING, LOGIT_ROWS);
  const rowsOf = { tokens: rows + PADDING, outputs: logitRows, sequences, once: 1 };
  const most = Math.max(rowBuckets(rowsOf.tokens).at(-1)!, rowBuckets(rowsOf.outputs).at(-1)!);
  const narrow = narrowBuffers(groups, most);
  const buffers = buffersOf(plan, operations, narrow, spec, capacity, rowsOf, type);

  const weights = weightBytes(checkpoint, formats);
  const shared =
    decoder || !paged
      ? 0
      : stepPages * Math.max(...spec.blocks.map((_block, layer) => layerPageBytes(spec, layer, { cacheDtype })));
  const workspace =
    buffers.bytes +
    shared +
    StepLayout.bytes(capacity, layers, spec.contextLength) +
    (decoder ? CudaSampler.bytes(gpu, samplerSizes(spec, capacity, logitRows)) : 0);
  const { free, total } = gpu.memory();
  const { memoryShare: share = DEFAULT_SHARE, toCome = [] } = options;
  // What others hold, models that were loaded before among them, is not there to be shared.
  const usable = Math.min(total * share, free - RESERVE_BYTES);
  const room = usable - weights - workspace;
  const own = options.memoryShare === undefined ? shareOf(room, toCome, type) : room;
  const planned = decoder ? planPages(spec, layers, { ...options, cacheDtype, memoryShare: share, rows }, own) : [];
  if (room < 0 || planned.some(({ pages }) => pages < 1)) {
    const others = options.memoryShare === undefined ? toCome : [];
    throw doesNotFit(gpu, {
      weights,
      workspace,
      usable,
      free,
      share,
      others: others.length,
      wanted: wantedBy(others, type),
    });
  }
  return {
    report: { weights, sequences: planned.reduce((sum, { bytes }) => sum + bytes, 0), workspace, pages: planned },
    capacity,
    layers,
    cache: cacheDtype,
    pages: decoder ? planned.map(({ pages }) => pages) : [stepPages],
    buffers,
    operations,
    rowsOf,
    logitRows,
  };
}

/** The room for pages that the models to come leave: all decoders get as much. */
function shareOf(room: number, toCome: readonly ModelToCome[], type: ComputeType): number {
  return (room - wantedBy(toCome, type)) / (1 + toCome.filter(({ decoder }) => decoder).length);
}

/** Bytes that models to come want besides pages, about. */
function wantedBy(toCome: readonly ModelToCome[], type: ComputeType): number {
  return toCome.reduce((sum, { parameters }) => sum + TYPE_BYTES[type] * parameters + BUFFERS_TO_COME, 0);
}

/** The plan's buffers that are left when operations are fused, and those that attention's kernels need. */
function buffersOf(
  plan: Plan,
  operations: readonly FusedOperation[],
  narrow: readonly CudaBuffer[],
  spec: ModelSpec,
  capacity: BatchCapacity,
  rowsOf: Readonly<Record<BufferRows, number>>,
  type: ComputeType,
): BufferPlan {
  const element = TYPE_BYTES[type];
  const result = resultOf(plan);
  const live = liveBuffers(operations, spec, headOf(operations), result);
  const used = new Set(live.flatMap((names) => [...names]));
  const planned = plan.buffers.map(({ name, rows, width }): CudaBuffer => {
    // What comes to the host is float32.
    return { name, rows, width, element: name === plan.result ? 4 : element };
  });
  const heads = (width: (mixer: ModelSpec['blocks'][number]['mixer']) => number): number =>
    Math.max(...spec.blocks.map(({ mixer }) => width(mixer)));
  const across = { rows: 'tokens', element } as const;
  const kvWidth = heads(({ kvHeads, headDim }) => kvHeads * headDim);
  const buffers: CudaBuffer[] = [
    ...planned,
    ...narrow,
    { name: 'q', width: heads(({ heads: count, headDim }) => count * headDim), ...across },
    { name: UNIT, rows: 'sequences', width: spec.hiddenSize, element: 4 },
    ...['keys', 'values'].map((name) => ({ name, width: kvWidth, ...across })),
    ...(spec.head.kind === 'logits'
      ? Object.entries(partSizes({ spec, capacity })).map(([name, width]): CudaBuffer => ({
          name,
          rows: 'once',
          width,
          element: 4,
        }))
      : []),
  ];
  return placeBuffers(
    buffers.filter(({ name }) => used.has(name)),
    rowsOf,
    live,
  );
}

export function samplerSizes(
  { vocabSize: vocabulary }: ModelSpec,
  { rows: targets, outputs, sequences }: BatchCapacity,
  rows: number,
): SamplerSizes {
  return { vocabulary, outputs, targets, rows, sequences };
}

interface Misfit {
  readonly weights: number;
  readonly workspace: number;
  readonly usable: number;
  readonly free: number;
  readonly share: number;
  /** Models to come, and bytes that they want. */
  readonly others: number;
  readonly wanted: number;
}

function doesNotFit(gpu: Gpu, { weights, workspace, usable, free, share, others, wanted }: Misfit): RoseError {
  const gib = (bytes: number): string => `${(bytes / 1024 ** 3).toFixed(2)} GiB`;
  const [models, want] = others === 1 ? ['one model', 'wants'] : [`${others} models`, 'want'];
  const beside = others === 0 ? '' : `, of which ${models} still to come ${want} about ${gib(wanted)}`;
  return new RoseError(
    'unavailable',
    `the model does not fit ${gpu.description}: weights take ${gib(weights)} and buffers ${gib(workspace)}, ` +
      `besides pages for keys and values, while ${gib(Math.max(0, usable))} can be used (${gib(free)} are ` +
      `free, the share is ${share})${beside}. Try fewer --max-rows or --max-sequences, a larger --memory-share, ` +
      `${others === 0 ? '' : 'fewer models on this GPU, '}or a smaller model.`,
  );
}
