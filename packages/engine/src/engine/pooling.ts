import { asError, assert, RoseError } from '../errors.ts';
import type { DeviceModel, StepResult } from '../device/device.ts';
import type { ModelSpec } from '../model/spec.ts';
import { Batch } from './batch.ts';
import type { Engine, EngineState, EventSink, StepSummary } from './engine.ts';
import { WaitQueue, type QueueEntry, type QueueLimits } from './queue.ts';
import type { EngineRequest, PoolCommand } from './request.ts';
import { checkTokens } from './sequence.ts';

interface PoolEntry extends QueueEntry {
  readonly command: PoolCommand;
}

export interface PoolingOptions extends QueueLimits {
  /** `overlapped`: while a step runs, the next one is composed and handed to the device. Both give the same bits. */
  readonly loop: 'plain' | 'overlapped';
}

/** A batch and whose sequences are in it. */
interface PoolStep {
  readonly batch: Batch;
  readonly members: PoolEntry[];
  /** Of a step that the device has. */
  result: StepResult | Promise<StepResult> | undefined;
}

/** Runs an encoder: whole sequences, as many as fit a step's rows, first come first served. */
export class PoolingEngine implements Engine {
  failure: Error | undefined;
  stepFault: Error | undefined;
  readonly #spec: ModelSpec;
  readonly #model: DeviceModel;
  readonly #overlapped: boolean;
  /** Used in turn: one may run while the other is composed. */
  readonly #steps: readonly [PoolStep, PoolStep];
  #turn = 0;
  /** The device has it, and the one before it has ended. */
  #flight: PoolStep | undefined;
  readonly #queue: WaitQueue<PoolEntry>;
  readonly #refused: { id: number; error: RoseError }[] = [];
  #stepFailures = 0;
  /** A sequence's page table. A step's sequences take pages 0, 1, 2, ... in turn and leave nothing in them. */
  readonly #table: Int32Array;

  constructor(spec: ModelSpec, model: DeviceModel, { loop, ...limits }: PoolingOptions) {
    this.#spec = spec;
    this.#model = model;
    this.#overlapped = loop === 'overlapped';
    const step = (): PoolStep => ({ batch: new Batch(model.capacity), members: [], result: undefined });
    this.#steps = [step(), step()];
    this.#queue = new WaitQueue(limits);
    this.#table = new Int32Array(model.capacity.pages);
  }

  get hasWork(): boolean {
    return this.#queue.length + this.#refused.length > 0 || this.#flight !== undefined;
  }

  get state(): EngineState {
    const running = this.#steps.reduce((sum, { members }) => sum + members.length, 0);
    const none = { usedPages: 0, cachedPages: 0, pages: 0, cachedTokens: 0, preemptions: 0, turns: 0 };
    return { running, waiting: this.#queue.length, ...none, stepFailures: this.#stepFailures };
  }

  submit(request: EngineRequest, now: number): void {
    try {
      const { command } = request;
      assert(command.kind === 'pool', 'an encoder was sent a generation request');
      this.#check(command);
      const { id, tenant, priority, deadline } = request;
      const place = { arrivedAt: now, arrival: 0, rank: 0, cancelled: false, begun: false };
      const displaced = this.#queue.enter({ id, tenant, priority, deadline, command, ...place });
      if (displaced !== undefined) this.#refused.push({ id: displaced.id, error: this.#queue.full() });
    } catch (error) {
      this.#refused.push({ id: request.id, error: RoseError.from(error) });
    }
  }

  cancel(id: number): void {
    const entry = this.#queue.find(id);
    if (entry !== undefined) entry.cancelled = true;
  }

  async step(now: number, sink: EventSink): Promise<StepSummary> {
    this.stepFault = undefined;
    for (const { id, error } of this.#refused.splice(0)) sink.event({ kind: 'failed', id, error: error.toJSON() });
    this.#queue.sweep((entry) => {
      const error = this.#queue.reasonToLeave(entry, now, false);
      if (error !== undefined) sink.event({ kind: 'failed', id: entry.id, error: error.toJSON() });
      return error !== undefined;
    });
    const landing = this.#flight ?? this.#launch(now);
    this.#flight = undefined;
    if (landing === undefined) return { rows: 0, sequences: 0 };
    // What waits already goes to the device behind it: the host composes and reports while that computes.
    const behind = this.#overlapped ? this.#launch(now) : undefined;
    const { rows, sequences } = landing.batch;
    const error = await this.#land(landing, sink);
    if (error === undefined) this.#flight = behind;
    else {
      // Nothing else may be under way while it is found out who made the step fail.
      const next = behind && (await this.#land(behind, sink));
      await this.#recover(landing, error, sink);
      if (behind !== undefined && next !== undefined) await this.#recover(behind, next, sink);
      if (behind !== undefined) behind.members.length = 0;
    }
    landing.members.length = 0;
    return { rows, sequences };
  }

  async probe(): Promise<void> {
    const { batch } = this.#steps[this.#turn];
    batch.clear();
    this.#add(batch, new Int32Array(1), undefined);
    try {
      await this.#model.step(batch);
      this.failure = undefined;
    } catch (error) {
      this.failure = asError(error);
    }
  }

  /** Compose a step and hand it to the device; undefined if nothing waits. */
  #launch(now: number): PoolStep | undefined {
    const step = this.#steps[this.#turn];
    this.#compose(step, now);
    if (step.batch.rows === 0) return undefined;
    this.#turn = 1 - this.#turn;
    this.#run(step);
    return step;
  }

  #run(step: PoolStep): void {
    try {
      step.result = this.#model.step(step.batch);
    } catch (error) {
      step.result = Promise.reject(asError(error));
    }
    // Looked at when the step lands; until then it must not count as unhandled.
    if (step.result instanceof Promise) step.result.catch(() => {});
  }

  /** Wait for a step and report what it brings; returns why it failed. */
  async #land({ members, result }: PoolStep, sink: EventSink): Promise<Error | undefined> {
    try {
      const { values, width } = (await result)!;
      members.forEach(({ id }, s) => {
        sink.event({ kind: 'pooled', id, values: values.slice(s * width, (s + 1) * width) });
      });
      this.failure = undefined;
      return undefined;
    } catch (error) {
      this.#stepFailures++;
      return (this.stepFault = asError(error));
    }
  }

  /**
   * The batch failed. If the device is well but for what is in it, its halves are run, and theirs, down to sequences that
   * fail alone: a step leaves nothing behind. If not, all of it fails.
   */
  async #recover({ members: failed }: PoolStep, cause: Error, sink: EventSink): Promise<void> {
    const members = failed.slice();
    await this.probe();
    if (members.length === 1 || this.failure !== undefined) {
      const error = new RoseError('internal', `a step of the engine failed: ${cause.message}`).toJSON();
      for (const { id } of members) sink.event({ kind: 'failed', id, error });
      return;
    }
    const middle = Math.ceil(members.length / 2);
    for (const half of [members.slice(0, middle), members.slice(middle)]) {
      const step = { ...this.#steps[this.#turn], members: half };
      step.batch.clear();
      for (const { command } of half) this.#add(step.batch, command.tokens, command.types);
      this.#run(step);
      const error = await this.#land(step, sink);
      if (error !== undefined) await this.#recover(step, error, sink);
    }
  }

  close(): void {
    this.#model.close();
  }

  #check(command: PoolCommand): void {
    checkTokens(command.tokens, this.#spec.vocabSize, 'input');
    const { contextLength, embedding } = this.#spec;
    if (command.tokens.length > contextLength) {
      const message = `the input has ${command.tokens.length} tokens, the model takes at most ${contextLength}`;
      throw new RoseError('invalid', message, { param: 'input' });
    }
    assert(command.types.length === command.tokens.length, 'token types of another length than the tokens');
    const types = Math.max(1, embedding.types);
    const wrong = command.types.find((type) => type < 0 || type >= types);
    if (wrong !== undefined) {
      throw new RoseError('invalid', `token type ${wrong} is not one of the model's ${types}`, { param: 'input' });
    }
  }

  #compose({ batch, members }: PoolStep, now: number): void {
    batch.clear();
    members.length = 0;
    while (batch.sequences < batch.capacity.sequences) {
      const next = this.#queue.peek();
      if (next === undefined || batch.rows + next.command.tokens.length > batch.capacity.rows) return;
      this.#queue.take(next, now);
      this.#queue.leave(next);
      this.#add(batch, next.command.tokens, next.command.types);
      members.push(next);
    }
  }

  #add(batch: Batch, tokens: Int32Array, types: Int32Array | undefined): void {
    const pages = Math.ceil(tokens.length / this.#model.cache.pageTokens);
    for (let i = 0; i < pages; i++) this.#table[i] = batch.pages + i;
    batch.addSequence(tokens, types, 0, tokens.length, [this.#table], pages);
  }
}
