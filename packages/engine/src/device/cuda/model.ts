import { PAGE_TOKENS } from '@rose/cpu';
import type { Checkpoint } from '../../checkpoint/checkpoint.ts';
import type { Batch, BatchCapacity } from '../../engine/batch.ts';
import type { CacheShape } from '../../engine/kv-cache.ts';
import { assert, RoseError } from '../../errors.ts';
import { buildPlan } from '../../plan/build.ts';
import type { Plan } from '../../plan/plan.ts';
import { type DeviceModel, type LoadOptions, type MemoryReport, type StepResult } from '../device.ts';
import { Buffers } from './buffers.ts';
import { Body } from './compile.ts';
import { headOf, resultOf } from './fuse.ts';
import { fineGraphSize, graphSize, rowBuckets, sequenceRows } from './grids.ts';
import type { Gpu, GpuRange } from './gpu.ts';
import { planCudaMemory, samplerSizes, type CudaMemoryPlan } from './memory.ts';
import { chooseFormats } from './options.ts';
import { Pages } from './pages.ts';
import { PaperGpu } from './paper-gpu.ts';
import { CudaParts } from './parts.ts';
import { CudaResult } from './result.ts';
import { CudaSampler } from './sampler.ts';
import { GpuScope } from './scope.ts';
import { StepGraphs } from './step-graphs.ts';
import { needsOf, PADDING, StepLayout, type WholeSize } from './step-shape.ts';
import { loadWeights, placeWeights, type CudaWeights } from './weights.ts';

/** Steps of at most so many rows, answers all, are captured as graphs. */
const MOST_GRAPH_ROWS = 512;
/** Steps of whole sequences, of at most so many rows: larger ones take the GPU longer than launches take the host. */
const MOST_WHOLE_GRAPH_ROWS = 2048;
/** A result may be read while the next two steps run. */
const RESULTS = 3;

/** A model on a GPU: a plan compiled into launches, its weights and its pages. */
export class CudaModel implements DeviceModel {
  readonly capacity: BatchCapacity;
  readonly cache: CacheShape;
  readonly memory: MemoryReport;
  readonly answersApart = true;
  readonly notes: readonly string[];
  readonly #gpu: GpuScope;
  readonly #parts: CudaParts;
  readonly #pages: Pages;
  /** Up to where rows are chosen for logits or sequences are pooled, and from there on; by rows. */
  readonly #bodies: readonly SizedBody[];
  readonly #heads: readonly SizedBody[];
  readonly #values: GpuRange;
  /** Of decoders. */
  readonly #sampler: CudaSampler | undefined;
  /** Targets that are judged at a time. */
  readonly #targetRows: number;
  readonly #results: readonly CudaResult[];
  #turn = 0;
  readonly #graphs: StepGraphs;

  /**
   * Plan the memory, have the kernels compiled beside the reading of the weights, compile the plan. Leaves nothing behind when it
   * throws.
   */
  static async load(whole: Gpu, checkpoint: Checkpoint, options: LoadOptions): Promise<CudaModel> {
    const gpu = new GpuScope(whole);
    const stop = new AbortController();
    try {
      const { notes, ...formats } = chooseFormats(checkpoint, options, whole.arch);
      const plan = buildPlan(checkpoint.spec);
      const planned = planCudaMemory(gpu, checkpoint, plan, formats, options);
      const paper = new PaperGpu(gpu);
      CudaModel.sketch(paper, checkpoint, options, planned);
      const memory = { ...planned, report: { ...planned.report, pinned: paper.pinnedBytes } };
      const compiled = gpu.loadAll(paper.wanted, stop.signal).then(({ compiled, threads }) => {
        options.onPhase?.(compiled === 0 ? 'kernels found' : `kernels compiled (${compiled}, ${threads} threads)`);
      });
      const reading = { onProgress: options.onProgress, signal: stop.signal };
      const weights = loadWeights(gpu, checkpoint, plan, formats, reading).then((loaded) => {
        options.onPhase?.('weights');
        return loaded;
      });
      // What fails first ends the other, which is waited for: it uses what is given back then.
      for (const part of [compiled, weights]) part.catch((error) => stop.abort(error));
      await Promise.allSettled([compiled, weights]);
      stop.signal.throwIfAborted();
      const model = new CudaModel(gpu, checkpoint, memory, await weights, plan, options, notes);
      options.onPhase?.('launches');
      return model;
    } catch (error) {
      gpu.close();
      // What a kernel refuses of its sizes and options; other ranges are faults of Rose.
      if (!(error instanceof RangeError && error.message.startsWith('kernel '))) throw error;
      const message = `${checkpoint.directory}: ${error.message}; --device cpu runs it`;
      throw new RoseError('unsupported', message, { cause: error });
    }
  }

  /** The model on paper: what it will ask of a GPU, without weights. */
  static sketch(gpu: PaperGpu, checkpoint: Checkpoint, options: LoadOptions, planned?: CudaMemoryPlan): CudaModel {
    const { notes, ...formats } = chooseFormats(checkpoint, options, gpu.arch);
    const plan = buildPlan(checkpoint.spec);
    const memory = planned ?? planCudaMemory(gpu, checkpoint, plan, formats, options);
    const { weights } = placeWeights(gpu, checkpoint, plan, formats);
    return new CudaModel(new GpuScope(gpu), checkpoint, memory, weights, plan, options, notes);
  }

  private constructor(
    gpu: GpuScope,
    { spec }: Checkpoint,
    memory: CudaMemoryPlan,
    weights: CudaWeights,
    plan: Plan,
    options: LoadOptions,
    notes: readonly string[],
  ) {
    this.notes = notes;
    const { operations } = memory;
    this.#gpu = gpu;
    this.#graphs = new StepGraphs(gpu.stream, options.graphs !== false);
    const { capacity } = memory;
    this.capacity = capacity;
    this.memory = memory.report;
    const decoder = spec.head.kind === 'logits';
    this.cache = {
      pageTokens: PAGE_TOKENS,
      groups: memory.layers.map(({ window }, group) => ({ window, pages: decoder ? memory.pages[group] : 0 })),
      slots: 0,
    };
    const buffers = new Buffers(gpu, memory.buffers);
    if (decoder) gpu.stream.fill(buffers.range('arrived'), 0);
    const needs = needsOf(operations, spec);
    const limits = { vocabulary: spec.vocabSize, types: spec.embedding.types, pages: memory.pages };
    const layout = new StepLayout(gpu, capacity, memory.layers, spec.contextLength, limits, needs);
    this.#values = buffers.range(resultOf(plan));
    this.#sampler = decoder
      ? new CudaSampler(gpu, this.#values, samplerSizes(spec, capacity, memory.logitRows))
      : undefined;
    this.#targetRows = 4 * Math.floor(memory.logitRows / 4);
    const pages = new Pages(gpu, spec, memory);
    this.#parts = new CudaParts({
      gpu,
      spec,
      weights,
      buffers,
      layout,
      capacity,
      groups: memory.layers,
      layers: pages.layers,
      drawn: this.#sampler?.drawn,
    });
    const head = headOf(operations);
    this.#bodies = rowBuckets(memory.rowsOf.tokens).map((rows) => {
      return { rows, body: new Body(this.#parts, operations.slice(0, head), rows) };
    });
    this.#heads = rowBuckets(decoder ? memory.rowsOf.outputs : capacity.sequences).map((rows) => {
      return { rows, body: new Body(this.#parts, operations.slice(head), rows) };
    });
    this.#pages = pages;
    const width = buffers.width(resultOf(plan));
    const rows = decoder ? capacity.outputs : capacity.sequences;
    const reads = !decoder || options.readLogits === true;
    const targets = decoder ? capacity.rows : 0;
    this.#results = Array.from({ length: RESULTS }, () => new CudaResult(gpu, rows, targets, width, reads));
  }

  step(batch: Batch): Promise<StepResult> {
    assert(batch.rows <= this.capacity.rows, `a step of ${batch.rows} rows`);
    const { stream } = this.#gpu;
    for (let i = 0; i < batch.copies; i++) {
      this.#pages.copy(stream, batch.copyGroup[i], batch.copyFrom[i], batch.copyTo[i]);
    }
    this.#turn = (this.#turn + 1) % RESULTS;
    const result = this.#results[this.#turn];
    if (batch.rows === 0) return stream.settled().then(() => result.result);
    this.#run(batch, result);
    const { state } = this.#parts.layout;
    const { turn } = state;
    return stream.settled().then(() => {
      state.check(turn);
      return result.result;
    });
  }

  #run(batch: Batch, result: CudaResult): void {
    if (this.#sampler === undefined) this.#encode(batch);
    else this.#decode(batch, this.#sampler);
    result.take(this.#gpu.stream, this.#values, this.#sampler, batch);
  }

  /** Whole sequences to vectors or labels. */
  #encode(batch: Batch): void {
    const { layout } = this.#parts;
    const { stream } = this.#gpu;
    const captured = this.#graphs.on && batch.rows <= MOST_WHOLE_GRAPH_ROWS;
    layout.composeWhole(batch, captured ? this.#sized(batch) : exactly(batch));
    layout.state.send(stream);
    const { rows, sequences, promptRows } = layout.shape;
    const graph = captured
      ? this.#graphs.getSecond(`${rows} ${sequences} ${promptRows}`, () => this.#launch(sequences))
      : undefined;
    if (graph !== undefined) graph.run(stream);
    else this.#launch(sequences);
  }

  /** Sizes that many batches have. */
  #sized(batch: Batch): WholeSize {
    const { rows, sequences } = this.capacity;
    return {
      rows: Math.min(rows, fineGraphSize(batch.rows)),
      sequences: Math.min(sequences, fineGraphSize(batch.sequences)),
      longest: sequenceRows(longestOf(batch)),
    };
  }

  /** Put the launches of the step that `layout` has into the stream. */
  #launch(heads: number): void {
    const { layout } = this.#parts;
    const { stream } = this.#gpu;
    bodyFor(this.#bodies, layout.shape.rows).run(layout.shape, stream);
    bodyFor(this.#heads, heads).run(layout.shape, stream);
  }

  #decode(batch: Batch, sampler: CudaSampler): void {
    const { layout } = this.#parts;
    const { shape, state } = layout;
    const { stream } = this.#gpu;
    const wanted = this.#graphs.on ? graphSize(batch.rows) : 0;
    const same = batch.answers === batch.rows && batch.targets === 0 && batch.outputs > 0 && batch.outputs <= wanted;
    const sized = same && wanted <= MOST_GRAPH_ROWS && wanted <= this.capacity.sequences + PADDING;
    layout.compose(batch, sized ? wanted : batch.rows, sized);
    layout.writeOutputs(batch, sized ? wanted : batch.outputs);
    if (batch.targets > 0) layout.writeTargets(batch);
    state.send(stream);
    sampler.begin(batch, stream);
    const graph =
      sized && shape.passCount === 1
        ? this.#graphs.get(`${shape.rows} ${shape.passes[0].items.join(' ')}`, () => this.#launch(shape.outputs))
        : undefined;
    if (graph !== undefined) graph.run(stream);
    else {
      bodyFor(this.#bodies, shape.rows).run(shape, stream);
      if (batch.targets > 0) this.#judge(batch);
      if (shape.outputs > 0) bodyFor(this.#heads, shape.outputs).run(shape, stream);
    }
    if (batch.outputs > 0) sampler.draw(batch, stream);
  }

  /** What the model makes of the batch's targets: logits of so many at a time as there is room for. */
  #judge(batch: Batch): void {
    const { layout } = this.#parts;
    const { stream } = this.#gpu;
    for (let at = 0; at < batch.targets; at += this.#targetRows) {
      const count = Math.min(this.#targetRows, batch.targets - at);
      layout.turnTo(at, count, stream);
      bodyFor(this.#heads, count).run(layout.shape, stream);
      this.#sampler?.judge(batch, at, count, stream);
    }
    layout.turnTo(batch.targets, batch.outputs, stream);
  }

  close(): void {
    try {
      // A step may be under way still. A GPU that is lost does nothing any more.
      if (this.#gpu.lost === undefined) this.#gpu.stream.synchronize();
    } finally {
      this.#graphs.free();
      this.#gpu.close();
    }
  }
}

interface SizedBody {
  readonly rows: number;
  readonly body: Body;
}

/** The first that is large enough. */
function bodyFor(bodies: readonly SizedBody[], rows: number): Body {
  for (let i = 0; i < bodies.length; i++) if (bodies[i].rows >= rows) return bodies[i].body;
  throw new Error(`no launches for ${rows} rows`);
}

function exactly(batch: Batch): WholeSize {
  return { rows: batch.rows, sequences: batch.sequences, longest: longestOf(batch) };
}

/** Rows of the longest sequence. */
function longestOf({ sequences, rowStart }: Batch): number {
  let longest = 0;
  for (let s = 0; s < sequences; s++) longest = Math.max(longest, rowStart[s + 1] - rowStart[s]);
  return longest;
}
