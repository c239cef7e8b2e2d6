import { assert, RoseError } from '../errors.ts';
import { MAX_LOGPROBS, type DeviceModel, type StepResult } from '../device/device.ts';
import type { ModelSpec } from '../model/spec.ts';
import { Batch } from './batch.ts';
import type { Engine, StepSummary } from './engine.ts';
import { PagePool } from './pages.ts';
import { reasonToLeave, WaitQueue } from './queue.ts';
import { GREEDY, type EngineEvent, type EngineRequest, type TokenLogprobs } from './request.ts';
import { Sequence } from './sequence.ts';

type Emit = (event: EngineEvent) => void;

/** What a probe runs: one token, greedily, through the whole plan. */
const CANARY = {
  id: 0,
  model: 0,
  priority: 0,
  deadline: undefined,
  command: {
    kind: 'generate',
    tokens: Int32Array.of(0),
    sampling: GREEDY,
    maxTokens: 1,
    minTokens: 0,
    stopTokens: [],
    logprobs: -1,
  },
} as const satisfies EngineRequest;

/**
 * Decodes: every step takes one row of each running sequence first, then prompt rows up to the step's capacity, so that
 * a prompt delays running answers by one step of bounded size at a time. This is the plain loop: one step at a time,
 * nothing overlaps.
 */
export class LlmEngine implements Engine {
  failure: Error | undefined;
  readonly #spec: ModelSpec;
  readonly #model: DeviceModel;
  readonly #batch: Batch;
  readonly #pages: PagePool;
  readonly #queue: WaitQueue<Sequence>;
  /** In order of admission. */
  #running: Sequence[] = [];
  /** Sequence of each row group of the present batch, and of each output. */
  readonly #members: Sequence[] = [];
  readonly #outputs: Sequence[] = [];
  /** Refusals wait for the next step, so that events leave in one place. */
  readonly #refused: { id: number; error: RoseError }[] = [];

  constructor(spec: ModelSpec, model: DeviceModel, queueLimit: number) {
    this.#spec = spec;
    this.#model = model;
    this.#batch = new Batch(model.capacity);
    this.#pages = new PagePool(model.pages);
    this.#queue = new WaitQueue(queueLimit);
  }

  get hasWork(): boolean {
    return this.#running.length + this.#queue.length + this.#refused.length > 0;
  }

  get running(): number {
    return this.#running.length;
  }

  get waiting(): number {
    return this.#queue.length;
  }

  submit(request: EngineRequest): void {
    try {
      assert(request.command.kind === 'generate', 'a decoder was sent a pooling request');
      const { pageTokens } = this.#model;
      const context = Math.min(this.#spec.contextLength, this.#pages.size * pageTokens);
      this.#queue.push(new Sequence(request, request.command, this.#spec.vocabSize, context, pageTokens));
    } catch (error) {
      this.#refused.push({ id: request.id, error: RoseError.from(error) });
    }
  }

  cancel(id: number): void {
    const entry = this.#running.find((sequence) => sequence.id === id) ?? this.#queue.find(id);
    if (entry !== undefined) entry.cancelled = true;
  }

  async step(now: number, emit: Emit): Promise<StepSummary> {
    this.#sweep(now, emit);
    this.#admit();
    this.#compose();
    const { rows, sequences } = this.#batch;
    if (rows > 0) {
      try {
        this.#absorb(await this.#model.step(this.#batch), emit);
        this.failure = undefined;
      } catch (error) {
        this.failure = error instanceof Error ? error : new Error(String(error));
        this.#failMembers(emit);
      }
    }
    if (!this.hasWork) this.#pages.checkIdle();
    return { rows, sequences };
  }

  async probe(): Promise<void> {
    assert(this.#running.length === 0, 'a probe while sequences run');
    const { pageTokens } = this.#model;
    const canary = new Sequence(CANARY, CANARY.command, this.#spec.vocabSize, 2, pageTokens);
    // Page 0 belongs to nobody while nothing runs.
    canary.pages = new Int32Array(1);
    this.#batch.clear();
    this.#members.length = 0;
    this.#outputs.length = 0;
    this.#addRows(canary, 1);
    try {
      const { tokens } = await this.#model.step(this.#batch);
      assert(tokens[0] >= 0, 'the model produced no finite logits');
      this.failure = undefined;
    } catch (error) {
      this.failure = error instanceof Error ? error : new Error(String(error));
    }
  }

  close(): void {
    this.#model.close();
  }

  /** Let go of what nobody wants any more, whether it waits or runs. */
  #sweep(now: number, emit: Emit): void {
    for (const { id, error } of this.#refused.splice(0)) emit({ kind: 'failed', id, error: error.toJSON() });
    const leaves = (sequence: Sequence): boolean => {
      const error = reasonToLeave(sequence, now);
      if (error !== undefined) emit({ kind: 'failed', id: sequence.id, error: error.toJSON() });
      return error !== undefined;
    };
    this.#queue.sweep(leaves);
    this.#retire(leaves);
  }

  /** First come, first served: a sequence whose pages are not free yet holds back those behind it. */
  #admit(): void {
    while (this.#running.length < this.#model.capacity.sequences) {
      const next = this.#queue.peek();
      if (next === undefined) return;
      const pages = this.#pages.take(next.pagesNeeded);
      if (pages === undefined) return;
      this.#queue.shift();
      next.pages = pages;
      this.#running.push(next);
    }
  }

  #compose(): void {
    const batch = this.#batch;
    batch.clear();
    this.#members.length = 0;
    this.#outputs.length = 0;
    // Two passes: rows that continue an answer before rows of prompts.
    for (const sequence of this.#running) if (sequence.decoding) this.#addRows(sequence, 1);
    for (const sequence of this.#running) {
      const room = batch.capacity.rows - batch.rows;
      if (room === 0) break;
      if (!sequence.decoding) this.#addRows(sequence, Math.min(room, sequence.length - sequence.computed));
    }
  }

  #addRows(sequence: Sequence, count: number): void {
    const batch = this.#batch;
    const to = sequence.computed + count;
    batch.addSequence(sequence.tokens, undefined, sequence.computed, to, sequence.pages);
    this.#members.push(sequence);
    sequence.computed = to;
    if (to < sequence.length) return;
    sequence.addOutput(batch, batch.rows - 1);
    this.#outputs.push(sequence);
  }

  /** Append the drawn tokens, tell the clients, and retire sequences that have ended. */
  #absorb(result: StepResult, emit: Emit): void {
    for (let o = 0; o < this.#outputs.length; o++) {
      const sequence = this.#outputs[o];
      const token = result.tokens[o];
      if (token < 0) {
        const message = 'the model produced no finite logits: its weights or its input are broken';
        emit({ kind: 'failed', id: sequence.id, error: new RoseError('internal', message).toJSON() });
        sequence.ended = true;
        continue;
      }
      sequence.append(token);
      if (sequence.stopsAt(token)) {
        emit({ kind: 'finished', id: sequence.id, reason: 'stop', stopToken: token });
        sequence.ended = true;
        continue;
      }
      emit({ kind: 'token', id: sequence.id, token, logprobs: logprobsOf(sequence, result, o) });
      if (sequence.full) {
        emit({ kind: 'finished', id: sequence.id, reason: 'length', stopToken: undefined });
        sequence.ended = true;
      }
    }
    this.#retire((sequence) => sequence.ended);
  }

  #failMembers(emit: Emit): void {
    const error = new RoseError('internal', `a step of the engine failed: ${this.failure!.message}`).toJSON();
    const failed = new Set(this.#members);
    for (const { id } of failed) emit({ kind: 'failed', id, error });
    this.#retire((sequence) => failed.has(sequence));
  }

  #retire(leaves: (sequence: Sequence) => boolean): void {
    let kept = 0;
    for (const sequence of this.#running) {
      if (leaves(sequence)) this.#pages.giveBack(sequence.pages);
      else this.#running[kept++] = sequence;
    }
    this.#running.length = kept;
  }
}

function logprobsOf(sequence: Sequence, result: StepResult, output: number): TokenLogprobs | undefined {
  if (sequence.command.logprobs < 0) return undefined;
  const at = output * MAX_LOGPROBS;
  let end = at;
  while (end < at + MAX_LOGPROBS && result.topTokens[end] >= 0) end++;
  return {
    logprob: result.logprobs[output],
    topTokens: [...result.topTokens.subarray(at, end)],
    topLogprobs: [...result.topLogprobs.subarray(at, end)],
  };
}
