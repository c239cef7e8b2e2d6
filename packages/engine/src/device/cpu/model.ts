import { PAGE_TOKENS, type Arena, type CacheDtype, type Program } from '@rose/cpu';
import { assert } from '../../errors.ts';
import type { ModelSpec } from '../../model/spec.ts';
import type { Plan } from '../../plan/plan.ts';
import type { Batch, BatchCapacity } from '../../engine/batch.ts';
import type { CacheShape } from '../../engine/kv-cache.ts';
import { MAX_LOGPROBS, type DeviceModel, type MemoryReport, type StepResult } from '../device.ts';
import { compilePlan, type CompiledPlan } from './compile.ts';
import type { CpuWeights } from './load.ts';
import type { MemoryPlan } from './memory.ts';
import { CpuSampler } from './sampler.ts';

/** A compiled plan with its arena: what the engine steps. */
export class CpuModel implements DeviceModel {
  readonly answersApart = false;
  readonly notes: readonly string[];
  readonly capacity: BatchCapacity;
  readonly cache: CacheShape;
  readonly memory: MemoryReport;
  readonly #arena: Arena;
  readonly #program: Program;
  readonly #compiled: CompiledPlan;
  readonly #sampler: CpuSampler | undefined;
  readonly #logitRows: number;
  /** Used in turn, so that a step leaves the result of the one before. */
  readonly #results: readonly [StepResult, StepResult];
  #turn = 0;

  constructor(
    arena: Arena,
    spec: ModelSpec,
    plan: Plan,
    memory: MemoryPlan,
    weights: CpuWeights,
    cacheDtype: CacheDtype,
    notes: readonly string[],
  ) {
    this.notes = notes;
    this.#arena = arena;
    this.capacity = memory.capacity;
    const decoder = spec.head.kind === 'logits';
    this.cache = {
      pageTokens: PAGE_TOKENS,
      groups: memory.layers.map(({ window }, group) => ({ window, pages: decoder ? memory.pages[group] : 0 })),
      slots: 0,
    };
    this.memory = memory.report;
    this.#program = arena.program();
    this.#compiled = compilePlan(arena, spec, plan, memory, weights, cacheDtype);
    arena.reserve(memory.scratch);

    const { result } = this.#compiled;
    const { outputs, sequences, rows } = memory.capacity;
    const targets = decoder ? rows : 0;
    const values = arena.f32(result.pointer, (decoder ? outputs : sequences) * result.width);
    this.#logitRows = memory.logitRows;
    const newResult = (): StepResult => ({
      values,
      width: result.width,
      tokens: new Int32Array(outputs),
      logprobs: new Float32Array(outputs),
      topTokens: new Int32Array(outputs * MAX_LOGPROBS),
      topLogprobs: new Float32Array(outputs * MAX_LOGPROBS),
      targetLogprobs: new Float32Array(targets),
      targetRanks: new Int32Array(targets),
      targetTopTokens: new Int32Array(targets * MAX_LOGPROBS),
      targetTopLogprobs: new Float32Array(targets * MAX_LOGPROBS),
    });
    this.#results = [newResult(), newResult()];
    this.#sampler = decoder
      ? new CpuSampler(arena, arena.program(), result.pointer, spec.vocabSize, memory.logitRows)
      : undefined;
  }

  step(batch: Batch): StepResult {
    assert(batch.rows <= this.capacity.rows, `a step of ${batch.rows} rows`);
    const before = this.#results[this.#turn];
    this.#turn = 1 - this.#turn;
    const result = this.#results[this.#turn];
    for (let i = 0; i < batch.copies; i++) {
      this.#compiled.copyPage(batch.copyGroup[i], batch.copyFrom[i], batch.copyTo[i]);
    }
    if (batch.rows === 0) return result;
    for (let row = 0; row < batch.rows; row++) {
      // Where nothing was drawn, the sequence is about to fail: any token will do for the row that it still has here.
      if (batch.fed[row] >= 0) batch.tokens[row] = Math.max(0, before.tokens[batch.fed[row]]);
    }
    this.#program.reset();
    this.#compiled.record(this.#program, batch);
    for (let at = 0; at < batch.targets; at += this.#logitRows) {
      const count = Math.min(this.#logitRows, batch.targets - at);
      this.#compiled.recordLogits(this.#program, batch.targetRows, at, count);
      this.#program.run();
      this.#sampler?.judge(batch, at, count, result);
      this.#program.reset();
    }
    this.#compiled.recordLogits(this.#program, batch.outputRows, 0, batch.outputs);
    this.#program.run();
    this.#sampler?.sample(batch, result);
    return result;
  }

  close(): void {
    this.#arena.close();
  }
}
