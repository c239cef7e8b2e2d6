import type {
  Arena,
  AttentionCommand,
  CacheCommand,
  CacheDtype,
  CacheLayer,
  EmbedCommand,
  LinearCommand,
  NormCommand,
  Program,
  SequenceLayout,
} from '@rose/cpu';
import { assert } from '../../errors.ts';
import { ropeTables } from '../../model/rope.ts';
import type { ModelSpec, RopeSpec } from '../../model/spec.ts';
import type { Operation, Plan, RowKind } from '../../plan/plan.ts';
import type { Batch } from '../../engine/batch.ts';
import type { CpuWeights } from './load.ts';
import { layerPageBytes } from '../pages.ts';
import { rowsOf, type MemoryPlan } from './memory.ts';

/** A plan with every pointer resolved; recording a step only fills in its counts. */
export interface CompiledPlan {
  /** Append the step's commands, up to where rows are chosen for logits. The batch's arrays are copied into the arena. */
  record(program: Program, batch: Batch): void;
  /**
   * Append what makes logits of so many of the step's rows, those listed from `from` on; at most `logitRows` at a time,
   * as their buffer holds no more. May be called again once the program has run.
   */
  recordLogits(program: Program, rows: Int32Array, from: number, count: number): void;
  /** Copy a page in every layer of a group. */
  copyPage(group: number, from: number, to: number): void;
  readonly result: { readonly pointer: number; readonly width: number };
}

/** The counts that differ from step to step. */
interface StepCounts {
  readonly rows: Readonly<Record<RowKind, number>>;
  readonly maxContext: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
/** Appends one command. Made once an operation, with its command object, so that a step allocates nothing. */
type Recorder = (program: Program, step: StepCounts) => void;

/** Place buffers and caches in the arena and turn every operation into a recorder. */
export function compilePlan(
  arena: Arena,
  spec: ModelSpec,
  plan: Plan,
  memory: MemoryPlan,
  weights: CpuWeights,
  cacheDtype: CacheDtype,
): CompiledPlan {
  const { capacity } = memory;
  const buffers = new Map(
    plan.buffers.map((buffer) => {
      const pointer = arena.alloc(4 * rowsOf(buffer.rows, memory) * buffer.width);
      return [buffer.name, { ...buffer, pointer }];
    }),
  );
  const step = {
    tokens: arena.alloc(4 * capacity.rows),
    positions: arena.alloc(4 * capacity.rows),
    types: arena.alloc(4 * capacity.rows),
    rowStart: arena.alloc(4 * (capacity.sequences + 1)),
    start: arena.alloc(4 * capacity.sequences),
    pageStart: arena.alloc(4 * capacity.sequences),
    logitRows: arena.alloc(4 * memory.logitRows),
  };
  /** One for each group of layers: they differ in their page tables. */
  const layouts = memory.layers.map((): Mutable<SequenceLayout> => {
    return { ...step, pageTable: arena.alloc(4 * capacity.pages), sequences: 0 };
  });
  const groupOf = new Map(memory.layers.flatMap(({ layers }, group) => layers.map((layer) => [layer, group] as const)));
  const layers = cacheLayers();
  const ropes = new Map<string, { cos: number; sin: number; dim: number }>();
  const gather = plan.operations.findIndex(({ kind }) => kind === 'gather');
  const body = (gather < 0 ? plan.operations : plan.operations.slice(0, gather)).flatMap(compileOperation);
  const logits = (gather < 0 ? [] : plan.operations.slice(gather)).flatMap(compileOperation);

  const views = {
    tokens: arena.i32(step.tokens, capacity.rows),
    positions: arena.i32(step.positions, capacity.rows),
    types: arena.i32(step.types, capacity.rows),
    rowStart: arena.i32(step.rowStart, capacity.sequences + 1),
    start: arena.i32(step.start, capacity.sequences),
    pageStart: arena.i32(step.pageStart, capacity.sequences),
    pageTables: layouts.map(({ pageTable }) => arena.i32(pageTable, capacity.pages)),
    logitRows: arena.i32(step.logitRows, memory.logitRows),
  };
  const counts: { rows: Record<RowKind, number>; maxContext: number } = {
    rows: { tokens: 0, outputs: 0, sequences: 0 },
    maxContext: 0,
  };
  const { pointer, width } = buffers.get(plan.result)!;
  return { record, recordLogits, copyPage, result: { pointer, width } };

  function record(program: Program, batch: Batch): void {
    views.tokens.set(batch.tokens.subarray(0, batch.rows));
    views.positions.set(batch.positions.subarray(0, batch.rows));
    views.types.set(batch.types.subarray(0, batch.rows));
    views.rowStart.set(batch.rowStart.subarray(0, batch.sequences + 1));
    views.start.set(batch.start.subarray(0, batch.sequences));
    views.pageStart.set(batch.pageStart.subarray(0, batch.sequences));
    for (let group = 0; group < layouts.length; group++) {
      views.pageTables[group].set(batch.pageTables[group].subarray(0, batch.pages));
      layouts[group].sequences = batch.sequences;
    }
    counts.rows.tokens = batch.rows;
    counts.rows.sequences = batch.sequences;
    counts.maxContext = 0;
    for (let s = 0; s < batch.sequences; s++) {
      const context = batch.start[s] + batch.rowStart[s + 1] - batch.rowStart[s];
      if (context > counts.maxContext) counts.maxContext = context;
    }
    for (let i = 0; i < body.length; i++) body[i](program, counts);
  }

  function recordLogits(program: Program, rows: Int32Array, from: number, count: number): void {
    if (count === 0) return;
    for (let i = 0; i < count; i++) views.logitRows[i] = rows[from + i];
    counts.rows.outputs = count;
    for (let i = 0; i < logits.length; i++) logits[i](program, counts);
  }

  /** Decoders keep every layer's pages. An encoder's layers share one set: nothing outlives the layer that wrote it. */
  function cacheLayers(): CacheLayer[] {
    const bytes = spec.blocks.map((_, layer) => memory.pages[groupOf.get(layer)!] * pageBytes(layer));
    const shared = spec.head.kind === 'logits' ? undefined : arena.alloc(Math.max(...bytes));
    return spec.blocks.map(({ mixer }, i) => ({
      pointer: shared ?? arena.alloc(bytes[i]),
      dtype: cacheDtype,
      kvHeads: mixer.kvHeads,
      headDim: mixer.headDim,
    }));
  }

  function pageBytes(layer: number): number {
    return layerPageBytes(spec, layer, { cacheDtype });
  }

  function copyPage(group: number, from: number, to: number): void {
    for (const layer of memory.layers[group].layers) {
      const bytes = pageBytes(layer);
      const { pointer } = layers[layer];
      arena.u8(pointer + to * bytes, bytes).set(arena.u8(pointer + from * bytes, bytes));
    }
  }

  /** Layers with the same RoPE share its tables. */
  function ropeOf(rope: RopeSpec): { cos: number; sin: number; dim: number } {
    const key = JSON.stringify(rope);
    let placed = ropes.get(key);
    if (placed === undefined) {
      const { cos, sin } = ropeTables(rope, spec.contextLength);
      placed = { cos: arena.alloc(cos.byteLength), sin: arena.alloc(sin.byteLength), dim: rope.dim };
      arena.f32(placed.cos, cos.length).set(cos);
      arena.f32(placed.sin, sin.length).set(sin);
      ropes.set(key, placed);
    }
    return placed;
  }

  function pointerOf(name: string): number {
    const buffer = buffers.get(name);
    assert(buffer, `the plan names no buffer '${name}'`);
    return buffer.pointer;
  }

  function vector(name: string): number {
    const at = weights.vectors.get(name);
    assert(at !== undefined, `no parameter '${name}' was loaded`);
    return at;
  }

  function compileOperation(operation: Operation): Recorder[] {
    switch (operation.kind) {
      case 'embed': {
        const output = pointerOf(operation.output);
        const recorder = (name: string | undefined, index: number, accumulate: boolean): Recorder[] => {
          if (name === undefined) return [];
          const table = weights.tables.get(name) ?? weights.matrices.get(name)!.matrix;
          const width = spec.hiddenSize;
          const command: Mutable<EmbedCommand> = { table, index, output, rows: 0, width, accumulate };
          return [
            (program, { rows }) => {
              command.rows = rows.tokens;
              program.embed(command);
            },
          ];
        };
        return [
          ...recorder(operation.tokens, step.tokens, false),
          ...recorder(operation.positions, step.positions, true),
          ...recorder(operation.types, step.types, true),
        ];
      }
      case 'norm': {
        const { norm, weights: name } = operation;
        const command: Mutable<NormCommand> = {
          kind: norm.kind,
          epsilon: norm.epsilon,
          input: pointerOf(operation.input),
          add: operation.add === undefined ? 0 : pointerOf(operation.add),
          sum: operation.sum === undefined ? 0 : pointerOf(operation.sum),
          weight: vector(`${name}.weight`),
          bias: norm.kind === 'layer' ? vector(`${name}.bias`) : 0,
          output: pointerOf(operation.output),
          rows: 0,
          width: spec.hiddenSize,
        };
        return [
          (program, { rows }) => {
            command.rows = rows.tokens;
            program.norm(command);
          },
        ];
      }
      case 'linear': {
        const group = weights.matrices.get(operation.weights.join('+'));
        assert(group, `no matrix '${operation.weights.join('+')}' was loaded`);
        const command: Mutable<LinearCommand> = {
          input: pointerOf(operation.input),
          weight: group.matrix,
          bias: group.bias,
          output: pointerOf(operation.output),
          rows: 0,
          ...(operation.activation && { activation: operation.activation }),
        };
        const kind = buffers.get(operation.output)!.rows;
        return [
          (program, { rows }) => {
            command.rows = rows[kind];
            program.linear(command);
          },
        ];
      }
      case 'cache': {
        const { qkNorm, rope } = operation;
        const command: Mutable<CacheCommand> = {
          qkv: pointerOf(operation.qkv),
          rows: 0,
          heads: operation.heads,
          cache: layers[operation.layer],
          layout: layouts[groupOf.get(operation.layer)!],
          ...(qkNorm && {
            qkNorm: {
              qWeight: vector(`${qkNorm.q}.weight`),
              kWeight: vector(`${qkNorm.k}.weight`),
              epsilon: qkNorm.norm.epsilon,
            },
          }),
          ...(rope && { rope: ropeOf(rope) }),
        };
        return [
          (program, { rows }) => {
            command.rows = rows.tokens;
            program.cache(command);
          },
        ];
      }
      case 'attention': {
        const { heads, kvHeads, headDim, mask, window, scale } = operation.attention;
        const command: Mutable<AttentionCommand> = {
          q: pointerOf(operation.qkv),
          qStride: (heads + 2 * kvHeads) * headDim,
          output: pointerOf(operation.output),
          heads,
          cache: layers[operation.layer],
          layout: layouts[groupOf.get(operation.layer)!],
          mask,
          window: window ?? 0,
          scale,
          maxContext: 0,
        };
        return [
          (program, { maxContext }) => {
            command.maxContext = maxContext;
            program.attention(command);
          },
        ];
      }
      case 'gate': {
        const command = {
          input: pointerOf(operation.input),
          output: pointerOf(operation.output),
          rows: 0,
          size: operation.size,
          activation: operation.activation,
        };
        return [
          (program, { rows }) => {
            command.rows = rows.tokens;
            program.gate(command);
          },
        ];
      }
      case 'gather': {
        const command = {
          input: pointerOf(operation.input),
          index: step.logitRows,
          output: pointerOf(operation.output),
          rows: 0,
          width: spec.hiddenSize,
        };
        return [
          (program, { rows }) => {
            command.rows = rows.outputs;
            program.gather(command);
          },
        ];
      }
      case 'pool': {
        const command = {
          kind: operation.pooling,
          input: pointerOf(operation.input),
          rowStart: step.rowStart,
          output: pointerOf(operation.output),
          sequences: 0,
          width: spec.hiddenSize,
        };
        return [
          (program, { rows }) => {
            command.sequences = rows.sequences;
            program.pool(command);
          },
        ];
      }
      case 'normalize': {
        const command = { input: pointerOf(operation.input), rows: 0, width: spec.hiddenSize };
        return [
          (program, { rows }) => {
            command.rows = rows.sequences;
            program.normalize(command);
          },
        ];
      }
      case 'sample':
        // The model's sampler runs when the commands are done: its work depends on what the logits turn out to be.
        return [];
    }
  }
}
