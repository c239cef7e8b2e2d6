import type { DataType, InferenceRequest, Outcome, ParameterValue, ResponseSender, Sequence, Tensor } from './api.ts';
import { ModelError } from './api.ts';
import { checkTensor, writeOutcome } from './outcome.ts';
import type { FromInstance, WireRequest } from './protocol.ts';
import { giveAway, typedOf, type PacketWriter } from './packet.ts';

/** Responses of one request that may be on their way before `send` has the model wait. */
const RESPONSES_AHEAD = 32;

const NO_PARAMETERS = {};

/** What a request needs of its thread. */
export interface Outlet {
  readonly post: (message: FromInstance) => void;
  /** For one response of a decoupled request; empty. */
  readonly writer: PacketWriter;
  /** Names of the states that a request may set. */
  readonly states: ReadonlySet<string>;
  /** Whether requests may ask to be executed again. */
  readonly iterative: boolean;
  /** A decoupled request has ended. */
  readonly forget: (request: IncomingRequest) => void;
}

/** A request in a model's thread. */
export class IncomingRequest implements InferenceRequest {
  /** The server's. */
  readonly number: number;
  readonly id: string;
  readonly parameters: Readonly<Record<string, ParameterValue>>;
  readonly requestedOutputs: ReadonlySet<string> | undefined;
  readonly sequence: Sequence | undefined;
  readonly #wire: WireRequest;
  readonly #decoupled: boolean;
  readonly #outlet: Outlet;
  /** Made when the model asks for its signal. */
  #controller: AbortController | undefined;
  #inputs: Map<string, Tensor> | undefined;
  readonly #states: Map<string, Tensor> = new Map();
  #again = false;
  #aborted = false;
  #ended = false;
  #ahead = 0;
  #room: PromiseWithResolvers<void> | undefined;

  constructor(wire: WireRequest, decoupled: boolean, outlet: Outlet) {
    this.#wire = wire;
    this.#decoupled = decoupled;
    this.#outlet = outlet;
    this.number = wire.number;
    this.id = wire.id;
    this.parameters = wire.parameters ?? NO_PARAMETERS;
    this.requestedOutputs = wire.outputs && new Set(wire.outputs);
    this.sequence = wire.sequence;
  }

  get inputNames(): readonly string[] {
    return this.#wire.inputs.map(({ name }) => name);
  }

  get aborted(): boolean {
    return this.#aborted;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted) this.#controller.abort();
    }
    return this.#controller.signal;
  }

  get sender(): ResponseSender {
    if (!this.#decoupled) throw new ModelError('only decoupled models have a response sender: return the outcomes');
    return { send: (outcome) => this.#send(outcome), end: () => this.#end() };
  }

  has(name: string): boolean {
    return this.inputNames.includes(name);
  }

  input(name: string): Tensor;
  input<D extends DataType>(name: string, datatype: D): Tensor<D>;
  input(name: string, datatype?: DataType): Tensor {
    this.#inputs ??= new Map();
    let tensor = this.#inputs.get(name);
    if (tensor === undefined) {
      const wire = this.#wire.inputs.find((candidate) => candidate.name === name);
      if (wire === undefined) {
        throw new ModelError(`the request has no input '${name}'; it has ${this.inputNames.join(', ')}`, 'INVALID_ARG');
      }
      tensor = typedOf(wire);
      this.#inputs.set(name, tensor);
    }
    if (datatype !== undefined && tensor.datatype !== datatype) {
      throw new ModelError(`input '${name}' is ${tensor.datatype}, not ${datatype}`);
    }
    return tensor;
  }

  take(name: string): Tensor;
  take<D extends DataType>(name: string, datatype: D): Tensor<D>;
  take(name: string, datatype?: DataType): Tensor {
    const tensor = datatype === undefined ? this.input(name) : this.input(name, datatype);
    const { inputs } = this.#wire;
    const wire = inputs.find((input) => input.name === name);
    // Memory that other inputs lie in, too, cannot go.
    const alone = inputs.every((other) => other === wire || other.data.buffer !== wire?.data.buffer);
    if (alone && tensor.datatype !== 'BYTES') giveAway(tensor.data);
    return tensor;
  }

  setState(name: string, tensor: Tensor): void {
    const { states } = this.#outlet;
    if (!states.has(name)) {
      const known = states.size === 0 ? 'the model has none' : `the model has ${[...states].join(', ')}`;
      throw new ModelError(`there is no state '${name}': ${known}`);
    }
    checkTensor(name, tensor);
    this.#states.set(name, tensor);
  }

  reschedule(): void {
    if (!this.#outlet.iterative) throw new ModelError('only models with iterative_sequence can reschedule requests');
    if (this.#ended && !this.#aborted) throw new ModelError('the request has ended: it cannot be rescheduled');
    this.#again = true;
  }

  /** `execute` has returned. Returns whether the request is to come again; then this object is done with. */
  settle(): boolean {
    const again = this.#again && !this.#ended;
    this.#update(again);
    if (again) this.#close();
    return again;
  }

  #update(again: boolean): void {
    if (!again && this.#states.size === 0) return;
    const { writer, post } = this.#outlet;
    writer.add(this.#states.size);
    for (const [name, tensor] of this.#states) writer.addTyped(name, tensor);
    this.#states.clear();
    post({ kind: 'update', request: this.number, again, packet: writer.take() });
  }

  /** Nobody waits any more. */
  abort(): void {
    this.#ended = true;
    this.#aborted = true;
    this.#outlet.forget(this);
    this.#controller?.abort();
    this.#room?.resolve();
  }

  /** End the request with an error, unless it has ended. */
  fail(error: Error): void {
    if (!this.#ended) void this.#send(error);
  }

  /** The server's client took so many responses. */
  taken(count: number): void {
    this.#ahead -= count;
    if (this.#ahead < RESPONSES_AHEAD) this.#room?.resolve();
  }

  async #send(outcome: Outcome): Promise<void> {
    if (this.#ended) return;
    const request = this.#wire.number;
    const { writer } = this.#outlet;
    const kind = writeOutcome(writer, outcome);
    this.#outlet.post({ kind: 'response', request, packet: writer.take() });
    if (kind === 'error') {
      this.#close();
      return;
    }
    this.#ahead++;
    while (this.#ahead >= RESPONSES_AHEAD && !this.#ended) {
      this.#room ??= Promise.withResolvers();
      await this.#room.promise;
      this.#room = undefined;
    }
  }

  #end(): void {
    if (this.#ended) return;
    if (this.#again) throw new ModelError('the request was rescheduled: end it when it is executed for the last time');
    this.#update(false);
    this.#outlet.post({ kind: 'end', request: this.#wire.number });
    this.#close();
  }

  #close(): void {
    this.#ended = true;
    this.#outlet.forget(this);
  }
}
