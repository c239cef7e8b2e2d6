import { MAX_LOGPROBS, type DeviceModel, type StepResult } from '../src/device/device.ts';
import type { Batch } from '../src/engine/batch.ts';
import type { EventSink } from '../src/engine/engine.ts';
import type { CacheShape } from '../src/engine/kv-cache.ts';
import { LlmEngine, type LlmOptions } from '../src/engine/llm.ts';
import { GREEDY, type EngineEvent, type EngineRequest, type GenerateCommand } from '../src/engine/request.ts';
import type { ModelSpec } from '../src/model/spec.ts';

/** A decoder's spec as far as an engine looks at it. */
export function decoderSpec(contextLength: number, vocabSize = 100): ModelSpec {
  return {
    architecture: 'fake',
    vocabSize,
    hiddenSize: 8,
    contextLength,
    embedding: { positions: 0, types: 0, norm: undefined },
    blocks: [],
    finalNorm: undefined,
    head: { kind: 'logits', tied: true },
  };
}

export interface FakeOptions {
  readonly rows: number;
  readonly sequences: number;
  /** Of the group with full attention. */
  readonly pages: number;
  readonly vocabSize?: number;
  /** One more group, with a window. */
  readonly sliding?: { readonly window: number; readonly pages: number };
  readonly slots?: number;
  /**
   * `next`: the token after t is t + 1. `context`: a hash of everything a real model would look at, which is what the
   * pages and slots hold, so that one wrong page anywhere changes the answer.
   */
  readonly draws?: 'next' | 'context';
  /** Rows of answers come to other bits than rows of prompts. */
  readonly answersApart?: boolean;
  /** Compute elsewhere: results come by promise, in order. */
  readonly elsewhere?: boolean;
  /** Called with what each step carries: where a simulation lets time pass. */
  readonly onStep?: (work: FakeWork) => void;
}

/** What a real device would have to do in a step. */
export interface FakeWork {
  readonly rows: number;
  /** Rows of logits. */
  readonly logits: number;
  /** Positions whose keys and values are fetched: of each sequence, all up to its last row. */
  readonly contexts: number;
  /** Positions that rows look at. */
  readonly reads: number;
}

/**
 * A device without arithmetic. It checks what every device may rely on, and keeps what each page and slot holds, as real
 * keys, values and states would be kept. An encoder's vector is the sum of its tokens.
 */
export class FakeModel implements DeviceModel {
  readonly capacity: DeviceModel['capacity'];
  readonly cache: CacheShape;
  readonly answersApart: boolean;
  readonly memory: DeviceModel['memory'] = { weights: 0, sequences: 0, workspace: 0, pages: [] };
  readonly vocabSize: number;
  steps: { rows: number; sequences: number; outputs: number }[] = [];
  failNext: Error | undefined;
  /** Whether a step fails when its rows are written and nothing is drawn yet. */
  failsOn: ((batch: Batch) => boolean) | undefined;
  /** Copies of pages and states made so far. */
  copies = 0;
  closed = false;
  readonly #options: FakeOptions;
  /** Tokens by group and page. */
  readonly #held: Int32Array[][];
  readonly #states: number[];
  #before = new Int32Array(0);
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: FakeOptions) {
    const { rows, sequences, pages, sliding, slots = 0 } = options;
    const groups = [{ window: undefined as number | undefined, pages }, ...(sliding ? [sliding] : [])];
    this.#options = options;
    this.answersApart = options.answersApart === true;
    this.cache = { pageTokens: 16, groups, slots };
    this.capacity = {
      rows,
      sequences,
      outputs: sequences,
      pages: sequences * Math.max(pages, 1) + rows,
      groups: groups.length,
    };
    this.vocabSize = options.vocabSize ?? 100;
    // What nobody has written is different everywhere, so that reading it shows.
    this.#held = groups.map((group, g) =>
      Array.from({ length: group.pages }, (_, page) => new Int32Array(16).fill(-1000 * (g + 1) - page)),
    );
    this.#states = Array.from({ length: slots }, (_, slot) => -slot);
  }

  step(batch: Batch): StepResult | Promise<StepResult> {
    if (this.#options.elsewhere !== true) return this.#run(batch);
    // The record may be written again once the step is done, not before.
    const running = this.#last.then(() => this.#run(batch));
    this.#last = running.catch(() => {});
    return running;
  }

  close(): void {
    this.closed = true;
  }

  #run(batch: Batch): StepResult {
    if (this.failNext !== undefined) {
      const error = this.failNext;
      this.failNext = undefined;
      throw error;
    }
    this.steps.push({ rows: batch.rows, sequences: batch.sequences, outputs: batch.outputs });
    for (let i = 0; i < batch.copies; i++) this.#copy(batch.copyGroup[i], batch.copyFrom[i], batch.copyTo[i]);
    for (let row = 0; row < batch.rows; row++) {
      if (batch.fed[row] >= 0) batch.tokens[row] = this.#before[batch.fed[row]];
    }
    this.#options.onStep?.(workOf(batch));
    const contexts = this.#write(batch);
    if (this.failsOn?.(batch) === true) throw new Error('the device was poisoned');
    const tokens = new Int32Array(this.capacity.outputs);
    for (let o = 0; o < batch.outputs; o++) {
      const row = batch.outputRows[o];
      tokens[o] =
        this.#options.draws === 'context'
          ? mix(mix(contexts[row], batch.seed[o]), batch.drawPosition[o]) % this.vocabSize
          : (batch.tokens[row] + 1) % this.vocabSize;
    }
    this.#before = tokens;
    const values = new Float32Array(this.capacity.sequences);
    for (let s = 0; s < batch.sequences; s++) {
      for (let row = batch.rowStart[s]; row < batch.rowStart[s + 1]; row++) values[s] += batch.tokens[row];
    }
    return {
      values,
      width: 1,
      tokens,
      logprobs: new Float32Array(this.capacity.outputs),
      topTokens: new Int32Array(this.capacity.outputs * MAX_LOGPROBS).fill(-1),
      topLogprobs: new Float32Array(this.capacity.outputs * MAX_LOGPROBS),
      ...this.#judge(batch, contexts),
    };
  }

  /** A target's log-probability is what the row sees and the target, hashed. */
  #judge(batch: Batch, contexts: readonly number[]): Pick<StepResult, `target${string}` & keyof StepResult> {
    const { rows } = this.capacity;
    const targetLogprobs = new Float32Array(rows);
    for (let t = 0; t < batch.targets; t++) {
      targetLogprobs[t] = mix(contexts[batch.targetRows[t]], batch.targetTokens[t]);
    }
    return {
      targetLogprobs,
      targetRanks: new Int32Array(rows).fill(1),
      targetTopTokens: new Int32Array(rows * MAX_LOGPROBS).fill(-1),
      targetTopLogprobs: new Float32Array(rows * MAX_LOGPROBS),
    };
  }

  #copy(group: number, from: number, to: number): void {
    this.copies++;
    if (group === this.#held.length) this.#states[to] = this.#states[from];
    else this.#held[group][to] = this.#held[group][from].slice();
  }

  /** Write the rows into their pages; for each row, a hash of all that it sees. */
  #write(batch: Batch): number[] {
    if (batch.rows > this.capacity.rows) throw new Error('more rows than the capacity');
    if (this.answersApart && batch.answers > this.capacity.sequences) throw new Error('more rows of answers than room');
    const contexts: number[] = [];
    this.#checkOwners(batch);
    for (let s = 0; s < batch.sequences; s++) {
      const start = batch.start[s];
      const bits = this.answersApart && batch.answer[s] === 1 ? ANSWER : 0;
      if (this.#states.length > 0 && start === 0) this.#states[batch.slots[s]] = 0;
      for (let row = batch.rowStart[s]; row < batch.rowStart[s + 1]; row++) {
        const position = start + row - batch.rowStart[s];
        if (batch.positions[row] !== position) throw new Error('a row at a wrong position');
        if (batch.tokens[row] < 0) throw new Error(`a row with token ${batch.tokens[row]}`);
        let context = position;
        this.cache.groups.forEach(({ window, pages }, group) => {
          if (pages === 0) return;
          const table = this.#table(batch, s, group);
          const page = table[Math.floor(position / 16)];
          if (page === undefined) throw new Error(`position ${position} has no page`);
          this.#held[group][page][position % 16] = batch.tokens[row] + bits;
          if (this.#options.draws !== 'context') return;
          const first = window === undefined ? 0 : Math.max(0, position + 1 - window);
          for (let p = first; p <= position; p++) {
            context = mix(context, this.#held[group][table[Math.floor(p / 16)]][p % 16]);
          }
        });
        if (this.#states.length > 0) {
          const slot = batch.slots[s];
          this.#states[slot] = mix(this.#states[slot], batch.tokens[row] + bits);
          context = mix(context, this.#states[slot]);
        }
        contexts[row] = context;
      }
    }
    return contexts;
  }

  #table(batch: Batch, s: number, group: number): Int32Array {
    return batch.pageTables[group].subarray(batch.pageStart[s], batch.pageStart[s + 1]);
  }

  /** A page that a sequence writes is seen by no other. */
  #checkOwners(batch: Batch): void {
    this.cache.groups.forEach(({ window, pages }, group) => {
      if (pages === 0) return;
      const seenBy = new Map<number, number[]>();
      for (let s = 0; s < batch.sequences; s++) {
        const first = window === undefined ? 0 : Math.max(0, Math.floor((batch.start[s] + 1 - window) / 16));
        const table = this.#table(batch, s, group);
        for (let i = first; i < table.length; i++) seenBy.set(table[i], [...(seenBy.get(table[i]) ?? []), s]);
      }
      for (let s = 0; s < batch.sequences; s++) {
        const from = batch.start[s];
        const to = from + batch.rowStart[s + 1] - batch.rowStart[s];
        const table = this.#table(batch, s, group);
        for (let i = Math.floor(from / 16); i < Math.ceil(to / 16); i++) {
          if (seenBy.get(table[i])?.length !== 1) throw new Error(`page ${table[i]} is written and seen by two`);
        }
      }
    });
  }
}

/** A device that fails whenever it draws for one of these seeds from a position on: `[seed, position]`. */
export function poisonedBy(
  ...poisons: readonly (readonly [seed: number, position: number])[]
): (batch: Batch) => boolean {
  return (batch) => {
    for (let o = 0; o < batch.outputs; o++) {
      if (poisons.some(([seed, at]) => batch.seed[o] === seed && batch.drawPosition[o] >= at)) return true;
    }
    return false;
  };
}

function workOf(batch: Batch): FakeWork {
  let contexts = 0;
  let reads = 0;
  for (let row = 0; row < batch.rows; row++) reads += batch.positions[row] + 1;
  for (let s = 0; s < batch.sequences; s++) contexts += batch.start[s] + batch.rowStart[s + 1] - batch.rowStart[s];
  return { rows: batch.rows, logits: batch.outputs + batch.targets, contexts, reads };
}

/** What sets a row of an answer apart. */
const ANSWER = 1_000_000;

/** A 31-bit hash of two numbers. */
function mix(a: number, b: number): number {
  let h = Math.imul((a ^ 0x9e3779b9) | 0, 0x85ebca6b) ^ Math.imul((b + 0x7f4a7c15) | 0, 0xc2b2ae35);
  h ^= h >>> 15;
  h = Math.imul(h, 0x27d4eb2f);
  return (h ^ (h >>> 13)) & 0x7fffffff;
}

/** An engine over a fake device, with a queue of 1000 and the plain loop unless told otherwise. */
export function fakeEngine(contextLength: number, model: FakeModel, options: Partial<LlmOptions> = {}): LlmEngine {
  return new LlmEngine(decoderSpec(contextLength, model.vocabSize), model, {
    entries: 1000,
    timeoutMs: undefined,
    stepMs: undefined,
    loop: 'plain',
    clock: () => 0,
    ...options,
  });
}

/** Collects events in the order in which they come. */
export class Collector implements EventSink {
  readonly events: EngineEvent[] = [];

  token(id: number, token: number): void {
    this.events.push({ kind: 'token', id, token, logprobs: undefined });
  }

  event(event: EngineEvent): void {
    this.events.push(event);
  }

  tokensOf(id: number): number[] {
    return this.events.flatMap((event) => (event.kind === 'token' && event.id === id ? [event.token] : []));
  }

  /** The request's one final event. */
  endOf(id: number): EngineEvent {
    const ends = this.events.filter((event) => isEnd(event) && event.id === id);
    if (ends.length !== 1) throw new Error(`request ${id} ended ${ends.length} times`);
    return ends[0];
  }

  hasEnded(id: number): boolean {
    return this.events.some((event) => isEnd(event) && event.id === id);
  }

  /** Log-probabilities of the request's prompt, in pieces put together; it must have come in order, without gaps. */
  promptOf(id: number): number[] {
    const logprobs: number[] = [];
    for (const event of this.events) {
      if (event.kind !== 'prompt' || event.id !== id) continue;
      if (event.from !== logprobs.length + 1)
        throw new Error(`a piece from ${event.from} on behind ${logprobs.length}`);
      logprobs.push(...event.logprobs.logprobs);
    }
    return logprobs;
  }
}

function isEnd({ kind }: EngineEvent): boolean {
  return kind === 'finished' || kind === 'pooled' || kind === 'failed';
}

/** Step the engine until it has nothing left to do, checking it after each step. */
export async function drain(engine: LlmEngine, sink: Collector = new Collector(), now = 0): Promise<Collector> {
  for (let step = 0; engine.hasWork; step++) {
    if (step === 100_000) throw new Error('the engine does not come to an end');
    await engine.step(now, sink);
    engine.scheduler.check();
  }
  return sink;
}

export function generateRequest(
  id: number,
  tokens: readonly number[],
  command: Partial<GenerateCommand> = {},
  request: Partial<EngineRequest> = {},
): EngineRequest {
  return {
    id,
    model: 0,
    tenant: '',
    priority: 0,
    deadline: undefined,
    siblingOf: undefined,
    command: {
      kind: 'generate',
      tokens: Int32Array.from(tokens),
      sampling: GREEDY,
      maxTokens: 5,
      minTokens: 0,
      stopTokens: [],
      logprobs: -1,
      promptLogprobs: -1,
      salt: '',
      ...command,
    },
    ...request,
  };
}
