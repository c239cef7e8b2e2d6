import { assert, RoseError } from '../errors.ts';
import type { DeviceModel } from '../device/device.ts';
import type { ModelSpec } from '../model/spec.ts';
import { Batch } from './batch.ts';
import type { Engine, StepSummary } from './engine.ts';
import { reasonToLeave, WaitQueue, type QueueEntry } from './queue.ts';
import type { EngineEvent, EngineRequest, PoolCommand } from './request.ts';
import { checkTokens } from './sequence.ts';

type Emit = (event: EngineEvent) => void;

interface PoolEntry extends QueueEntry {
  readonly command: PoolCommand;
}

/** Runs an encoder: whole sequences, as many as fit a step's rows, first come first served. */
export class PoolingEngine implements Engine {
  failure: Error | undefined;
  readonly #spec: ModelSpec;
  readonly #model: DeviceModel;
  readonly #batch: Batch;
  readonly #queue: WaitQueue<PoolEntry>;
  readonly #members: PoolEntry[] = [];
  readonly #refused: { id: number; error: RoseError }[] = [];
  /** Pages 0, 1, 2, ...: a step's sequences take them in turn and leave nothing in them. */
  readonly #pages: Int32Array;

  constructor(spec: ModelSpec, model: DeviceModel, queueLimit: number) {
    this.#spec = spec;
    this.#model = model;
    this.#batch = new Batch(model.capacity);
    this.#queue = new WaitQueue(queueLimit);
    this.#pages = Int32Array.from({ length: model.capacity.pages }, (_, i) => i);
  }

  get hasWork(): boolean {
    return this.#queue.length + this.#refused.length > 0;
  }

  get running(): number {
    return this.#members.length;
  }

  get waiting(): number {
    return this.#queue.length;
  }

  submit(request: EngineRequest): void {
    try {
      const { command } = request;
      assert(command.kind === 'pool', 'an encoder was sent a generation request');
      this.#check(command);
      const { id, priority, deadline } = request;
      this.#queue.push({ id, priority, deadline, command, cancelled: false });
    } catch (error) {
      this.#refused.push({ id: request.id, error: RoseError.from(error) });
    }
  }

  cancel(id: number): void {
    const entry = this.#queue.find(id);
    if (entry !== undefined) entry.cancelled = true;
  }

  async step(now: number, emit: Emit): Promise<StepSummary> {
    for (const { id, error } of this.#refused.splice(0)) emit({ kind: 'failed', id, error: error.toJSON() });
    this.#queue.sweep((entry) => {
      const error = reasonToLeave(entry, now);
      if (error !== undefined) emit({ kind: 'failed', id: entry.id, error: error.toJSON() });
      return error !== undefined;
    });
    this.#compose();
    const { rows, sequences } = this.#batch;
    if (rows === 0) return { rows, sequences };
    try {
      const { values, width } = await this.#model.step(this.#batch);
      this.#members.forEach(({ id }, s) => {
        emit({ kind: 'pooled', id, values: values.slice(s * width, (s + 1) * width) });
      });
      this.failure = undefined;
    } catch (error) {
      this.failure = error instanceof Error ? error : new Error(String(error));
      const failed = new RoseError('internal', `a step of the engine failed: ${this.failure.message}`).toJSON();
      for (const { id } of this.#members) emit({ kind: 'failed', id, error: failed });
    }
    this.#members.length = 0;
    return { rows, sequences };
  }

  async probe(): Promise<void> {
    this.#batch.clear();
    this.#batch.addSequence(new Int32Array(1), undefined, 0, 1, this.#pages.subarray(0, 1));
    try {
      await this.#model.step(this.#batch);
      this.failure = undefined;
    } catch (error) {
      this.failure = error instanceof Error ? error : new Error(String(error));
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

  #compose(): void {
    const batch = this.#batch;
    batch.clear();
    this.#members.length = 0;
    while (batch.sequences < batch.capacity.sequences) {
      const next = this.#queue.peek();
      if (next === undefined || batch.rows + next.command.tokens.length > batch.capacity.rows) return;
      this.#queue.shift();
      const { tokens, types } = next.command;
      const pages = Math.ceil(tokens.length / this.#model.pageTokens);
      batch.addSequence(tokens, types, 0, tokens.length, this.#pages.subarray(batch.pages, batch.pages + pages));
      this.#members.push(next);
    }
  }
}
