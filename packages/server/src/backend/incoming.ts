import type { DataType, InferenceRequest, Outcome, ParameterValue, ResponseSender, Sequence, Tensor } from './api.ts';
import { ModelError } from './api.ts';
import { outcomeOf } from './outcome.ts';
import type { FromInstance, WireRequest } from './protocol.ts';
import { fromWire } from './wire.ts';

/** Responses of one request that may be on their way before `send` has the model wait. */
const RESPONSES_AHEAD = 32;

/** A request in a model's thread. */
export class IncomingRequest implements InferenceRequest {
  /** The server's. */
  readonly number: number;
  readonly id: string;
  readonly parameters: Readonly<Record<string, ParameterValue>>;
  readonly requestedOutputs: ReadonlySet<string> | undefined;
  readonly sequence: Sequence | undefined;
  readonly inputNames: readonly string[];
  readonly #wire: WireRequest;
  readonly #decoupled: boolean;
  readonly #post: (message: FromInstance) => void;
  readonly #forget: () => void;
  readonly #controller: AbortController = new AbortController();
  readonly #inputs: Map<string, Tensor> = new Map();
  #ended = false;
  #ahead = 0;
  #room: PromiseWithResolvers<void> | undefined;

  constructor(
    wire: WireRequest,
    decoupled: boolean,
    post: (message: FromInstance) => void,
    /** Called when a decoupled request has ended. */
    forget: () => void,
  ) {
    this.#wire = wire;
    this.#decoupled = decoupled;
    this.#post = post;
    this.#forget = forget;
    this.number = wire.number;
    this.id = wire.id;
    this.parameters = wire.parameters;
    this.requestedOutputs = wire.outputs && new Set(wire.outputs);
    this.sequence = wire.sequence;
    this.inputNames = wire.inputs.map(({ name }) => name);
  }

  get signal(): AbortSignal {
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
    let tensor = this.#inputs.get(name);
    if (tensor === undefined) {
      const wire = this.#wire.inputs.find((candidate) => candidate.name === name);
      if (wire === undefined) {
        throw new ModelError(`the request has no input '${name}'; it has ${this.inputNames.join(', ')}`, 'INVALID_ARG');
      }
      tensor = fromWire(wire);
      this.#inputs.set(name, tensor);
    }
    if (datatype !== undefined && tensor.datatype !== datatype) {
      throw new ModelError(`input '${name}' is ${tensor.datatype}, not ${datatype}`);
    }
    return tensor;
  }

  /** Nobody waits any more. */
  abort(): void {
    this.#ended = true;
    this.#forget();
    this.#controller.abort();
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
    const wire = outcomeOf(outcome);
    this.#post({ kind: 'response', request, outcome: wire });
    if ('error' in wire) {
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
    this.#post({ kind: 'end', request: this.#wire.number });
    this.#close();
  }

  #close(): void {
    this.#ended = true;
    this.#forget();
  }
}
