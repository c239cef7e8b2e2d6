import { setTimeout } from 'node:timers/promises';
import { asError, assert, RoseError } from '../errors.ts';
import { MAX_LOGPROBS, type DeviceModel, type StepResult } from '../device/device.ts';
import type { Grammars, TokenMask } from '../grammar/grammars.ts';
import type { GrammarSource } from '../grammar/structure.ts';
import type { ModelSpec } from '../model/spec.ts';
import type { Clock, Engine, EngineState, EventSink, StepSummary } from './engine.ts';
import { GREEDY, type EngineRequest, type PromptLogprobs, type TokenLogprobs } from './request.ts';
import { Scheduler, type SchedulerLimits } from './scheduler.ts';
import { Sequence } from './sequence.ts';
import { Step } from './step.ts';

export interface LlmOptions extends SchedulerLimits {
  /**
   * `plain`: one step at a time, the executable specification. `overlapped`: the next step is composed and handed to the
   * device while the present one runs. Both give the same bits.
   */
  readonly loop: 'plain' | 'overlapped';
  readonly clock: Clock;
  /** For requests with a grammar; undefined: such are refused. */
  readonly grammars?: Grammars;
  /** Called when there is work again that `submit` did not bring at once: a request whose grammar is compiled now. */
  readonly onWork?: () => void;
}

/** What a probe runs: one token, greedily, through the whole plan. */
const CANARY = {
  id: 0,
  model: 0,
  tenant: '',
  priority: 0,
  deadline: undefined,
  siblingOf: undefined,
  command: {
    kind: 'generate',
    tokens: Int32Array.of(0),
    sampling: GREEDY,
    maxTokens: 1,
    minTokens: 0,
    stopTokens: [],
    logprobs: -1,
    promptLogprobs: -1,
    salt: '',
  },
} as const satisfies EngineRequest;

/** A step that the device has, and what it will bring. */
interface Flight {
  readonly step: Step;
  readonly result: StepResult | Promise<StepResult>;
  readonly launchedAt: number;
  /** When a device that computes on this thread was done. */
  readonly doneAt: number | undefined;
}

/** Decodes: the scheduler composes, the device computes, and what comes of it is told to the clients. */
export class LlmEngine implements Engine {
  failure: Error | undefined;
  stepFault: Error | undefined;
  readonly scheduler: Scheduler;
  readonly #spec: ModelSpec;
  readonly #model: DeviceModel;
  readonly #options: LlmOptions;
  /** Used in turn: one may run while the other is composed. */
  readonly #steps: readonly [Step, Step];
  #turn = 0;
  #flight: Flight | undefined;
  #lastDone = 0;
  #stepFailures = 0;
  #cachedTokens = 0;
  /** Refusals wait for the next step, so that events leave in one place. */
  readonly #refused: { id: number; error: RoseError }[] = [];
  /** Requests whose grammar is being compiled. They reach the scheduler when it is. */
  readonly #compiling = new Set<number>();

  constructor(spec: ModelSpec, model: DeviceModel, options: LlmOptions) {
    this.#spec = spec;
    this.#model = model;
    this.#options = options;
    this.#steps = [new Step(model.capacity), new Step(model.capacity)];
    this.scheduler = new Scheduler(spec, model, options);
  }

  get hasWork(): boolean {
    const { running, queue } = this.scheduler;
    return running.length + queue.length + this.#refused.length > 0 || this.#flight !== undefined;
  }

  get state(): EngineState {
    const { running, queue, cache, preemptions, turns } = this.scheduler;
    let pages = 0;
    let free = 0;
    let cachedPages = 0;
    for (const pool of cache.pools) {
      pages += pool.size;
      free += pool.available;
      cachedPages += pool.kept;
    }
    return {
      running: running.length,
      waiting: queue.length + this.#compiling.size,
      usedPages: pages - free - cachedPages,
      cachedPages,
      pages,
      cachedTokens: this.#cachedTokens,
      preemptions,
      turns,
      stepFailures: this.#stepFailures,
    };
  }

  submit(request: EngineRequest, now: number): void {
    const source = request.command.kind === 'generate' ? request.command.grammar : undefined;
    try {
      if (source === undefined) this.#enter(request, now);
      else this.#compile(request, source, now);
    } catch (error) {
      this.#refused.push({ id: request.id, error: RoseError.from(error) });
    }
  }

  cancel(id: number): void {
    const error = new RoseError('cancelled', 'the request was cancelled');
    if (this.#compiling.delete(id)) this.#refused.push({ id, error });
    else this.scheduler.cancel(id);
  }

  /** Requests that wait for their grammar. */
  get compiling(): number {
    return this.#compiling.size;
  }

  async step(now: number, sink: EventSink): Promise<StepSummary> {
    this.stepFault = undefined;
    for (const { id, error } of this.#refused.splice(0)) sink.event({ kind: 'failed', id, error: error.toJSON() });
    const summary =
      this.#options.loop === 'plain' ? await this.#plainStep(now, sink) : await this.#overlappedStep(now, sink);
    if (!this.hasWork) this.scheduler.check();
    return summary;
  }

  /** Compose, run, absorb. */
  async #plainStep(now: number, sink: EventSink): Promise<StepSummary> {
    const flight = this.#launch(now, sink);
    if (flight === undefined) await this.#rest();
    return flight === undefined ? NOTHING : await this.#land(flight, sink);
  }

  /**
   * Compose and launch the step after the one that runs, then absorb that one. Its tokens reach the next step on the
   * device; here they are known a step later.
   */
  async #overlappedStep(now: number, sink: EventSink): Promise<StepSummary> {
    const landing = this.#flight;
    this.#flight = this.#launch(now, sink);
    if (this.#flight === undefined && landing === undefined) await this.#rest();
    return landing === undefined ? NOTHING : await this.#land(landing, sink);
  }

  async probe(): Promise<void> {
    assert(this.scheduler.running.length === 0 && this.#flight === undefined, 'a probe while sequences run');
    const { cache, capacity } = this.#model;
    const canary = new Sequence(CANARY, CANARY.command, this.#spec.vocabSize, 2, 0);
    const step = new Step(capacity);
    // Any page will do, if the prefix tree leaves one: what it holds is not read before it is written.
    const scratch = this.scheduler.cache.begin('', canary.tokens, 1, step.batch);
    if (scratch === undefined || !this.scheduler.cache.write(scratch, 0, 1, step.batch)) {
      this.failure = new Error(`no page is free among ${cache.groups.map(({ pages }) => pages).join(' + ')}`);
      return;
    }
    step.batch.addSequence(canary.tokens, undefined, 0, 1, scratch.tables, scratch.pages, scratch.slot);
    step.addOutput(canary);
    try {
      const { tokens } = await this.#model.step(step.batch);
      assert(tokens[0] >= 0, 'the model produced no finite logits');
      this.failure = undefined;
    } catch (error) {
      this.failure = asError(error);
    }
    this.scheduler.cache.end(scratch);
  }

  close(): void {
    this.#options.grammars?.close();
    this.#model.close();
  }

  #enter(request: EngineRequest, now: number, grammar?: TokenMask): void {
    const displaced = this.scheduler.submit(request, now, grammar);
    if (displaced !== undefined) this.#refused.push({ id: displaced.id, error: this.scheduler.queue.full() });
  }

  #compile(request: EngineRequest, source: GrammarSource, now: number): void {
    const { grammars, entries, onWork } = this.#options;
    const { id } = request;
    if (grammars === undefined) throw new RoseError('unsupported', 'this engine has no grammars');
    if (this.#compiling.size >= entries) {
      const message = `${entries} requests wait for their grammar: try again later`;
      throw new RoseError('overloaded', message, { retryAfterSeconds: this.scheduler.queue.retryAfterSeconds() });
    }
    this.#compiling.add(id);
    const refuse = (error: unknown): void => void this.#refused.push({ id, error: RoseError.from(error) });
    void grammars
      .open(source)
      .then(
        (mask) => {
          if (!this.#compiling.delete(id)) return mask.close();
          try {
            this.#enter(request, now, mask);
          } catch (error) {
            mask.close();
            refuse(error);
          }
        },
        (error: unknown) => {
          if (this.#compiling.delete(id)) refuse(error);
        },
      )
      .finally(() => onWork?.());
  }

  /** Compose a step and hand it to the device; undefined if there is nothing to do. */
  #launch(now: number, sink: EventSink): Flight | undefined {
    const step = this.#steps[this.#turn];
    const emit = (event: Parameters<EventSink['event']>[0]): void => {
      if (event.kind === 'begun') this.#cachedTokens += event.cachedTokens;
      sink.event(event);
    };
    this.scheduler.sweep(now, emit);
    this.scheduler.compose(step, now, emit);
    if (step.empty) return undefined;
    this.#turn = 1 - this.#turn;
    const launchedAt = this.#options.clock();
    let result: StepResult | Promise<StepResult>;
    try {
      result = this.#model.step(step.batch);
      // Looked at when the step lands; until then it must not count as unhandled.
      if (result instanceof Promise) result.catch(() => {});
    } catch (error) {
      result = Promise.reject(asError(error));
      result.catch(() => {});
    }
    const doneAt = result instanceof Promise ? undefined : this.#options.clock();
    return { step, result, launchedAt, doneAt };
  }

  /** Nothing could be composed though sequences run: they wait for masks, which come from another thread. */
  async #rest(): Promise<void> {
    if (this.scheduler.running.length > 0) await setTimeout(1);
  }

  /** Wait for a step, and take what it brings. */
  async #land({ step, result, launchedAt, doneAt }: Flight, sink: EventSink): Promise<StepSummary> {
    const { rows, sequences } = step.batch;
    try {
      const done = result instanceof Promise ? await result : result;
      this.#time(step, launchedAt, doneAt ?? this.#options.clock());
      this.scheduler.absorb(step);
      this.#absorb(step, done, sink);
      this.failure = undefined;
    } catch (error) {
      this.#stepFailures++;
      this.stepFault = asError(error);
      await this.#recover(step, this.stepFault);
    }
    return { rows, sequences };
  }

  /**
   * A step failed. If the device is well but for what was in the step, those in it are tried in ever smaller groups, and
   * the one that makes steps fail is told so at the next sweep; all others are computed anew, to the same bits. If not,
   * those in the step fail.
   */
  async #recover(step: Step, cause: Error): Promise<void> {
    // What was launched behind it began from what it left.
    const behind = this.#flight;
    this.#flight = undefined;
    if (behind?.result instanceof Promise) await behind.result.catch(() => {});
    const { scheduler } = this;
    const suspects = step.suspects();
    // It may have failed when some of what it brought was taken in already.
    scheduler.retire(hasEnded);
    scheduler.abandon();
    this.#options.grammars?.flush();
    await this.probe();
    if (this.failure !== undefined) scheduler.trials.end();
    const blamed =
      this.failure === undefined ? scheduler.trials.accuse(suspects) : suspects.map(([sequence]) => sequence);
    for (const sequence of blamed) {
      sequence.fault = new RoseError('internal', `a step of the engine failed: ${cause.message}`);
    }
  }

  #time(step: Step, launchedAt: number, doneAt: number): void {
    // A step that was launched while another ran began when that one was done.
    this.scheduler.cost.observe(step.work, doneAt - Math.max(launchedAt, this.#lastDone));
    this.#lastDone = doneAt;
  }

  /** Append the drawn tokens, tell the clients, and retire sequences that have ended. */
  #absorb(step: Step, result: StepResult, sink: EventSink): void {
    let ends = this.#absorbPrompts(step, result, sink);
    for (let o = 0; o < step.outputCount; o++) {
      if (!step.outputIsCurrent(o)) continue;
      const sequence = step.outputs[o];
      const { id } = sequence;
      const token = result.tokens[o];
      if (token < 0) {
        sink.event({ kind: 'failed', id, error: undrawn(sequence).toJSON() });
        sequence.ended = true;
      } else {
        sequence.append(token);
        if (sequence.stopsAt(token)) {
          sink.event({ kind: 'finished', id, reason: 'stop', stopToken: token });
          sequence.ended = true;
        } else {
          const logprobs = logprobsOf(sequence, result, o);
          if (logprobs === undefined) sink.token(id, token);
          else sink.event({ kind: 'token', id, token, logprobs });
          if (sequence.length === sequence.limit) {
            sink.event({ kind: 'finished', id, reason: 'length', stopToken: undefined });
            sequence.ended = true;
          } else sequence.grammar?.advance(token);
        }
      }
      ends ||= sequence.ended;
    }
    this.#options.grammars?.flush();
    if (ends) this.scheduler.retire(hasEnded);
  }

  /** Tell what the model makes of the prompts; whether a sequence ends that wants nothing but its prompt. */
  #absorbPrompts(step: Step, result: StepResult, sink: EventSink): boolean {
    let ends = false;
    for (let s = 0; s < step.memberCount; s++) {
      if (!step.memberIsCurrent(s)) continue;
      const sequence = step.members[s];
      const { id } = sequence;
      const [from, to] = [step.targetStart[s], step.targetStart[s + 1]];
      if (to > from) {
        if (result.targetRanks.subarray(from, to).includes(0)) {
          sink.event({ kind: 'failed', id, error: noLogits().toJSON() });
          sequence.ended = true;
        } else {
          const logprobs = promptLogprobsOf(sequence, result, from, to);
          sink.event({ kind: 'prompt', id, from: sequence.reported + 1, logprobs });
          sequence.reported += to - from;
        }
      }
      if (!sequence.ended && sequence.computed === sequence.limit) {
        sink.event({ kind: 'finished', id, reason: 'length', stopToken: undefined });
        sequence.ended = true;
      }
      ends ||= sequence.ended;
    }
    return ends;
  }
}

const NOTHING: StepSummary = { rows: 0, sequences: 0 };

/** Why nothing could be drawn. */
function undrawn({ grammar, constrained }: Sequence): RoseError {
  if (grammar === undefined) return constrained ? noToken() : noLogits();
  const message =
    'none of the tokens that the grammar allows next may be drawn: the vocabulary or the request has none';
  return grammar.fault ?? new RoseError('invalid', message);
}

function hasEnded(sequence: Sequence): boolean {
  return sequence.ended;
}

function noLogits(): RoseError {
  return new RoseError('internal', 'the model produced no finite logits: its weights or its input are broken');
}

function noToken(): RoseError {
  const message = 'no token may follow: min_tokens, allowed_token_ids and bad_words together forbid all of them';
  return new RoseError('invalid', message);
}

/** Copies, since the result is written again. */
function promptLogprobsOf({ command }: Sequence, result: StepResult, from: number, to: number): PromptLogprobs {
  const top = command.promptLogprobs;
  const topTokens = new Int32Array((to - from) * top);
  const topLogprobs = new Float32Array((to - from) * top);
  for (let t = from; t < to; t++) {
    const at = t * MAX_LOGPROBS;
    topTokens.set(result.targetTopTokens.subarray(at, at + top), (t - from) * top);
    topLogprobs.set(result.targetTopLogprobs.subarray(at, at + top), (t - from) * top);
  }
  return {
    logprobs: result.targetLogprobs.slice(from, to),
    ranks: result.targetRanks.slice(from, to),
    topTokens,
    topLogprobs,
  };
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
