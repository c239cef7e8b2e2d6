import { RoseError } from '@rose/engine';
import { now } from '../backend/protocol.ts';
import { Channel } from '../scheduling/channel.ts';
import type { BatchTimes, FailureReason, ModelStatistics } from '../statistics/statistics.ts';
import { runModel } from '../trace/run.ts';
import { invalid, TritonError, tritonStatus } from '../triton/errors.ts';
import type { ModelRequest, ModelResponse, ParameterValue, TritonModel } from '../triton/model.ts';
import type { Tensor } from '../triton/tensor.ts';
import { checkRequest } from '../triton/validate.ts';
import { agree } from './link.ts';
import type { Course, EnsemblePlan, Step } from './plan.ts';
import { NO_PLACE, placeAfter, placeOf, sequenceOf, type Place } from './place.ts';
import type { Turns } from './turns.ts';

/** What a run works with. */
export interface RunContext {
  readonly plan: EnsemblePlan;
  readonly statistics: ModelStatistics;
  /** The models of the steps, kept until the run is over. */
  readonly models: ReadonlyMap<Step, TritonModel>;
  /** Limits of steps; a step without one has none. */
  readonly limits: ReadonlyMap<Step, Turns>;
  /** Called once, when no step runs any more. */
  readonly over: () => void;
}

/** A tensor of the ensemble. */
interface Value {
  /** Undefined: its writer left it out, or it is an optional input that is not there. */
  readonly tensor: Tensor | undefined;
  /** Rows of the request that wrote it; 0: its model has no batch dimension. */
  readonly rows: number;
  /** What its writer said of sequences; undefined: the client gave it. */
  readonly place: Place | undefined;
  /** How often it is still to be read. */
  left: number;
}

/** Responses that may wait for the client, or for further steps, before a decoupled step waits with its next one. */
const AHEAD = 32;

/**
 * One request on its way through an ensemble. Each step runs as soon as its inputs are there. What a decoupled step
 * writes goes on response by response, each with its number; what is written from it keeps that number, and the
 * client gets responses in the order of the numbers.
 */
export class EnsembleRun {
  readonly responses: Channel<ModelResponse>;
  readonly #request: ModelRequest;
  readonly #context: RunContext;
  readonly #course: Course;
  readonly #rows: number;
  readonly #began: number = now();
  readonly #stop: AbortController = new AbortController();
  readonly #cancel: () => void;
  /** By name, then by number. */
  readonly #values: Map<string, Map<number, Value>> = new Map();
  /** Of decoupled steps: how often they have answered. */
  readonly #answers: Map<Step, number> = new Map();
  /** Responses that were complete before the one with the number in front of theirs. */
  readonly #early: Map<number, ModelResponse> = new Map();
  #times: BatchTimes = { computeInput: 0, computeInfer: 0, computeOutput: 0 };
  #sent = 0;
  #taken = 0;
  #lastSent: number = this.#began;
  #ended = false;
  #wake: () => void = () => {};
  #room: Promise<void> | undefined;

  /** @param rows of the request; 1 where the ensemble has no batch dimension */
  constructor(request: ModelRequest, rows: number, context: RunContext) {
    this.#request = request;
    this.#rows = rows;
    this.#context = context;
    this.#course = context.plan.course(request.outputs);
    this.#cancel = () => this.#fail(new RoseError('cancelled', 'the request was cancelled'), 'CANCELED');
    this.responses = new Channel(() => {
      this.#taken++;
      this.#wake();
    }, this.#cancel);
  }

  start(): void {
    const { signal, inputs } = this.#request;
    const { plan, over } = this.#context;
    if (signal.aborted) this.#cancel();
    else signal.addEventListener('abort', this.#cancel);
    const rows = plan.batched ? this.#rows : 0;
    for (const name of plan.inputs) this.#put(name, 0, { tensor: inputs.get(name), rows, place: undefined });
    void Promise.all(this.#advance(plan.inputs, 0)).then(() => {
      this.#finish();
      over();
    });
  }

  #put(name: string, number: number, value: Omit<Value, 'left'>): void {
    const { readers, outputs } = this.#course;
    const left = (readers.get(name)?.length ?? 0) + (outputs.has(name) ? 1 : 0);
    if (left === 0) return;
    let numbers = this.#values.get(name);
    if (numbers === undefined) this.#values.set(name, (numbers = new Map()));
    numbers.set(number, { ...value, left });
  }

  #has(name: string, number: number): boolean {
    return this.#values.get(name)?.has(number) ?? false;
  }

  /** Read values; what nobody will read again is forgotten. */
  #read(names: Iterable<string>, number: number): Map<string, Value> {
    return new Map(
      [...new Set(names)].map((name) => {
        const numbers = this.#values.get(name) as Map<number, Value>;
        const value = numbers.get(number) as Value;
        if (--value.left === 0) numbers.delete(number);
        return [name, value];
      }),
    );
  }

  /** These tensors came: answer with what is complete, and start the steps that have all their inputs now. */
  #advance(names: readonly string[], number: number): Promise<void>[] {
    if (this.#ended) return [];
    const { readers, outputs } = this.#course;
    const steps = new Set(names.flatMap((name) => readers.get(name) ?? []));
    const ready = [...steps].filter(({ inputs }) => [...inputs.values()].every((name) => this.#has(name, number)));
    if (names.some((name) => outputs.has(name)) && [...outputs].every((name) => this.#has(name, number))) {
      this.#answer(number);
    }
    return ready.map((step) => this.#run(step, number));
  }

  /** Resolves when the step and everything that follows from it has ended. */
  async #run(step: Step, number: number): Promise<void> {
    const model = this.#context.models.get(step) as TritonModel;
    const limit = this.#context.limits.get(step);
    const following = new Set<Promise<void>>();
    try {
      const request = this.#requestOf(step, model, number);
      await limit?.take(this.#stop.signal);
      try {
        for await (const response of this.#execute(model, request)) {
          const at = model.decoupled ? (this.#answers.get(step) ?? 0) : number;
          this.#answers.set(step, at + 1);
          for (const run of this.#deliver(step, at, response, model, request)) {
            following.add(run);
            void run.then(() => following.delete(run));
          }
          while (model.decoupled && following.size >= AHEAD) await Promise.race(following);
          if (model.decoupled) await this.#roomForMore();
          if (this.#ended) break;
        }
      } finally {
        limit?.leave();
      }
    } catch (error) {
      this.#fail(error, 'OTHER');
    }
    await Promise.all(following);
  }

  /** The responses of a step's model: exactly one where it is not decoupled. */
  async *#execute(model: TritonModel, request: ModelRequest): AsyncGenerator<ModelResponse> {
    const began = now();
    let times: BatchTimes | undefined;
    let count = 0;
    for await (const response of runModel(model, {
      ...request,
      trace: request.trace?.child(),
      onTimes: (of) => (times = of),
    })) {
      if (model.decoupled || count === 0) yield response;
      count++;
    }
    // The engine works on many requests in turn, so all of its time counts as computing.
    times ??= { computeInput: 0, computeInfer: now() - began, computeOutput: 0 };
    this.#times = {
      computeInput: this.#times.computeInput + times.computeInput,
      computeInfer: this.#times.computeInfer + times.computeInfer,
      computeOutput: this.#times.computeOutput + times.computeOutput,
    };
  }

  /** @throws TritonError when the tensors do not suit the model */
  #requestOf(step: Step, model: TritonModel, number: number): ModelRequest {
    const values = this.#read(step.inputs.values(), number);
    const inputs = new Map<string, Tensor>();
    for (const [name, from] of step.inputs) {
      const { tensor, rows } = values.get(from) as Value;
      if (tensor === undefined) continue;
      const dims = model.inputs.find((input) => input.name === name)?.dims ?? [];
      inputs.set(name, { ...tensor, name, shape: fit(tensor.shape, rows, dims, model.maxBatchSize > 0) });
    }
    const outputs = [...step.outputs.keys()];
    checkRequest(model, [...inputs.values()], outputs, this.#request.id);
    const place = [...values.values()].find((value) => value.place !== undefined)?.place ?? placeOf(this.#request);
    return {
      ...this.#request,
      inputs,
      // Other steps may read the same tensors.
      owned: false,
      outputs: new Set(outputs),
      sequence: sequenceOf(place),
      signal: this.#stop.signal,
    };
  }

  #deliver(
    step: Step,
    number: number,
    { outputs, parameters }: ModelResponse,
    model: TritonModel,
    request: ModelRequest,
  ): Promise<void>[] {
    const rows = model.maxBatchSize > 0 ? ([...request.inputs.values()][0]?.shape[0] ?? 1) : 0;
    const place = placeAfter(request.sequence ?? NO_PLACE, parameters);
    for (const [output, name] of step.outputs) {
      this.#put(name, number, { tensor: outputs.find((tensor) => tensor.name === output), rows, place });
    }
    return this.#advance([...step.outputs.values()], number);
  }

  /** All outputs of this number are there. */
  #answer(number: number): void {
    const { plan, statistics } = this.#context;
    const parameters = new Map<string, ParameterValue>();
    const outputs: Tensor[] = [];
    const values = this.#read(this.#course.outputs, number);
    for (const [name, dims] of plan.outputs) {
      const value = values.get(name);
      if (value?.tensor === undefined) continue;
      outputs.push({ ...value.tensor, name, shape: fit(value.tensor.shape, value.rows, dims, plan.batched) });
      const { id, start, end } = value.place ?? NO_PLACE;
      parameters.set('sequence_id', id).set('sequence_start', start).set('sequence_end', end);
    }
    this.#early.set(number, { outputs, parameters });
    for (;;) {
      const next = this.#early.get(this.#sent);
      if (next === undefined) return;
      this.#early.delete(this.#sent);
      const at = now();
      if (this.#sent === 0) statistics.firstResponseMs.add((at - this.#began) / 1e6);
      if (plan.decoupled) statistics.responded(this.#sent, 'success', at - this.#lastSent, 0);
      this.#lastSent = at;
      this.#sent++;
      this.responses.push(next);
    }
  }

  /** Waits while the client is slower than the steps. */
  async #roomForMore(): Promise<void> {
    while (this.#sent - this.#taken >= AHEAD && !this.#ended) {
      this.#room ??= new Promise((resolve) => {
        this.#wake = () => {
          this.#room = undefined;
          resolve();
        };
      });
      await this.#room;
    }
  }

  #finish(): void {
    if (this.#ended) return;
    const { plan, statistics } = this.#context;
    if (this.#sent === 0 && !plan.decoupled) {
      const id = this.#request.id === '' ? '<id_unknown>' : this.#request.id;
      const problem = 'unexpected deadlock, at least one output is not set while no more ensemble steps can be made';
      this.#fail(invalid(`[request id: ${id}] ${problem}`), 'OTHER');
      return;
    }
    this.#end();
    statistics.executed(this.#rows, this.#times);
    statistics.succeed(this.#rows, now() - this.#began, 0, this.#times);
    this.#request.onTimes?.(this.#times);
    this.responses.end();
  }

  /** The ensemble is gone. */
  abandon(): void {
    this.#fail(new TritonError(503, 'the model was unloaded'), 'OTHER');
  }

  /** Ends the run at once; steps under way are cancelled. */
  #fail(error: unknown, reason: FailureReason): void {
    if (this.#ended) return;
    this.#end();
    this.#context.statistics.failed(now() - this.#began, reason);
    this.responses.fail(reason === 'CANCELED' ? error : inEnsemble(this.#context.plan.name, error));
    this.#stop.abort(error);
  }

  #end(): void {
    this.#ended = true;
    this.#request.signal.removeEventListener('abort', this.#cancel);
    this.#wake();
  }
}

/** An error that says which ensemble it came from. */
export function inEnsemble(name: string, error: unknown): TritonError {
  const message = error instanceof Error ? error.message : String(error);
  return new TritonError(tritonStatus(error), `in ensemble '${name}', ${message}`);
}

/**
 * The shape in which a tensor goes to a model (or to the client) that does as its writer does not: has a batch
 * dimension, or has none.
 * @param rows of the writer's request; 0: it has no batch dimension
 * @param dims what is declared, without the batch dimension
 */
function fit(shape: readonly number[], rows: number, dims: readonly number[], batched: boolean): readonly number[] {
  if (batched === rows > 0) return shape;
  if (batched) return agree(dims, shape) ? [1, ...shape] : shape;
  return rows === 1 && !agree(dims, shape) ? shape.slice(1) : shape;
}
