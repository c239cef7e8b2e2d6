import { PAGE_TOKENS, type Arena, type CacheDtype, type Program } from '@rose/cpu';
import { assert } from '../../errors.ts';
import type { ModelSpec } from '../../model/spec.ts';
import type { Plan } from '../../plan/plan.ts';
import type { Batch, BatchCapacity } from '../../engine/batch.ts';
import { MAX_LOGPROBS, type DeviceModel, type MemoryReport, type StepResult } from '../device.ts';
import { compilePlan, type CompiledPlan } from './compile.ts';
import type { CpuWeights } from './load.ts';
import type { MemoryPlan } from './memory.ts';
import { CpuSampler } from './sampler.ts';

/** A compiled plan with its arena: what the engine steps. */
export class CpuModel implements DeviceModel {
  readonly capacity: BatchCapacity;
  readonly pages: number;
  readonly pageTokens: number = PAGE_TOKENS;
  readonly memory: MemoryReport;
  readonly #arena: Arena;
  readonly #program: Program;
  readonly #compiled: CompiledPlan;
  readonly #sampler: CpuSampler | undefined;
  readonly #result: StepResult;

  constructor(
    arena: Arena,
    spec: ModelSpec,
    plan: Plan,
    memory: MemoryPlan,
    weights: CpuWeights,
    cacheDtype: CacheDtype,
  ) {
    this.#arena = arena;
    this.capacity = memory.capacity;
    this.pages = spec.head.kind === 'logits' ? memory.pages : 0;
    this.memory = memory.report;
    this.#program = arena.program();
    this.#compiled = compilePlan(arena, spec, plan, memory, weights, cacheDtype);
    arena.reserve(memory.scratch);

    const outputs = memory.capacity.sequences;
    const { result } = this.#compiled;
    this.#result = {
      values: arena.f32(result.pointer, outputs * result.width),
      width: result.width,
      tokens: new Int32Array(outputs),
      logprobs: new Float32Array(outputs),
      topTokens: new Int32Array(outputs * MAX_LOGPROBS),
      topLogprobs: new Float32Array(outputs * MAX_LOGPROBS),
    };
    this.#sampler =
      spec.head.kind === 'logits'
        ? new CpuSampler(arena, arena.program(), result.pointer, spec.vocabSize, this.#result)
        : undefined;
  }

  step(batch: Batch): StepResult {
    assert(batch.rows > 0 && batch.rows <= this.capacity.rows, `a step of ${batch.rows} rows`);
    this.#program.reset();
    this.#compiled.record(this.#program, batch);
    this.#program.run();
    this.#sampler?.sample(batch);
    return this.#result;
  }

  close(): void {
    this.#arena.close();
  }
}
