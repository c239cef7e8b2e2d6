import { assert, RoseError } from '../errors.ts';
import type { DeviceChoice } from '../device/open.ts';
import type { Phase } from '../device/phase.ts';
import type { EngineLink } from './link.ts';
import type { EngineLoadOptions, FromEngine, LoadReport, ToEngine } from './protocol.ts';
import type { EngineState } from './engine.ts';
import type { EngineEvent, EngineRequest } from './request.ts';

/** What happened on the channel besides the answers to calls. */
export interface EngineObserver {
  progress(model: number, bytes: number, totalBytes: number): void;
  phase(phase: Phase): void;
  /** After each step; its events have been delivered. */
  step(
    model: number,
    step: { readonly sequences: number; readonly fault: string | undefined; readonly state: EngineState },
  ): void;
  /** Once for each engine that stops without being asked to. Its requests have failed with the same error. */
  lost(error: RoseError): void;
}

/** A busy engine speaks after each step; on a slow machine a step of a long prompt takes seconds. */
const BUSY_SILENCE_MS = 60_000;
/** An idle engine answers at once. */
const IDLE_SILENCE_MS = 10_000;
const CLOSE_MS = 5_000;

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
type Call = DistributiveOmit<Extract<ToEngine, { call: number }>, 'call'>;
type Sink = (event: EngineEvent) => void;

/** The near end of an engine channel. Every request submitted ends with one final event, whatever happens. */
export class EngineClient {
  #link: EngineLink;
  readonly #observer: EngineObserver;
  readonly #calls = new Map<number, { resolve: (value: unknown) => void; reject: (error: RoseError) => void }>();
  readonly #requests = new Map<number, { model: number; sink: Sink }>();
  #nextCall = 1;
  #nextRequest = 1;
  #lost: RoseError | undefined;
  #closing = false;
  #lastMessage = 0;
  #busySince = 0;
  /** Models that cannot run even the smallest step. */
  #failed: ReadonlySet<number> = new Set();
  #probing: Promise<unknown> | undefined;

  constructor(link: EngineLink, observer: EngineObserver) {
    this.#link = link;
    this.#observer = observer;
    this.#listen();
  }

  /** The engine is of no use any more. Returns the error that its requests fail with; the observer is not told. */
  lose(reason: string): RoseError {
    const error = this.#closing ? closed() : stopped(reason);
    this.#fail(error);
    void this.#link.terminate();
    return error;
  }

  /** Go on with a new engine where the last one was lost: it has no device and no models yet. */
  async replace(start: () => EngineLink): Promise<void> {
    assert(this.#lost !== undefined, 'an engine was replaced that is not lost');
    // What is lost may still live, and hold the device's memory.
    await this.#link.terminate();
    if (this.#closing) throw closed();
    this.#link = start();
    this.#lost = undefined;
    this.#failed = new Set();
    this.#probing = undefined;
    this.#listen();
  }

  /** Open the device; the answer describes it. */
  async open(choice: DeviceChoice): Promise<string> {
    return (await this.#call({ kind: 'open', choice })) as string;
  }

  async load(model: number, options: EngineLoadOptions): Promise<LoadReport> {
    return (await this.#call({ kind: 'load', model, options })) as LoadReport;
  }

  /** Requests of the model that are under way fail with `unavailable`. */
  async unload(model: number): Promise<void> {
    await this.#call({ kind: 'unload', model });
    const error = new RoseError('unavailable', 'the model was unloaded');
    this.#failRequests(error, (request) => request.model === model);
  }

  /** Send a request on its way; returns its id. The sink gets its events, the last of which is final. */
  submit(request: Omit<EngineRequest, 'id'>, sink: Sink): number {
    if (this.#lost !== undefined) throw this.#lost;
    const id = this.#nextRequest++;
    if (this.#requests.size === 0) this.#busySince = Date.now();
    this.#requests.set(id, { model: request.model, sink });
    this.#link.post({ kind: 'submit', request: { ...request, id } });
    return id;
  }

  /** No event of this request is delivered any more; the engine forgets it at its next step. */
  cancel(id: number): void {
    const request = this.#requests.get(id);
    if (request === undefined) return;
    this.#requests.delete(id);
    if (this.#lost === undefined) this.#link.post({ kind: 'cancel', model: request.model, id });
  }

  /**
   * The models that cannot run even the smallest step. A busy engine is judged by its steps, an idle one by a canary step of each model.
   * Throws `unavailable` when the engine is gone, or shows no sign of life for as long as it may take.
   */
  async probe(): Promise<ReadonlySet<number>> {
    if (this.#lost !== undefined) throw this.#lost;
    if (this.#requests.size > 0) {
      if (Date.now() - Math.max(this.#busySince, this.#lastMessage) > BUSY_SILENCE_MS) throw silent(BUSY_SILENCE_MS);
      return this.#failed;
    }
    // One canary serves all who ask meanwhile.
    this.#probing ??= this.#call({ kind: 'probe' }).finally(() => (this.#probing = undefined));
    const answered = this.#probing.then((failed) => (this.#failed = new Set(failed as number[])));
    return await within(answered, IDLE_SILENCE_MS, () => silent(IDLE_SILENCE_MS));
  }

  async close(): Promise<void> {
    this.#closing = true;
    if (this.#lost === undefined) {
      // An engine that is stuck in a step does not answer: it is ended all the same.
      const answered = this.#call({ kind: 'close' });
      await within(answered, CLOSE_MS, () => silent(CLOSE_MS)).catch(() => undefined);
    }
    this.#fail(closed());
    await this.#link.terminate();
  }

  #listen(): void {
    const link = this.#link;
    link.listen((message) => {
      if (link === this.#link) this.#receive(message);
    });
    link.onLost((reason) => {
      if (link !== this.#link || this.#lost !== undefined) return;
      const error = this.#closing ? closed() : stopped(reason);
      this.#fail(error);
      if (!this.#closing) this.#observer.lost(error);
    });
  }

  #call(call: Call): Promise<unknown> {
    if (this.#lost !== undefined) return Promise.reject(this.#lost);
    const number = this.#nextCall++;
    return new Promise((resolve, reject) => {
      this.#calls.set(number, { resolve, reject });
      this.#link.post({ ...call, call: number });
    });
  }

  #receive(message: FromEngine): void {
    this.#lastMessage = Date.now();
    switch (message.kind) {
      case 'step':
        // A request begins before its first token, which the same step may bring.
        for (const event of message.events) if (isBeforeTokens(event)) this.#deliver(event);
        for (let i = 0; i < message.ids.length; i++) {
          this.#deliver({ kind: 'token', id: message.ids[i], token: message.tokens[i], logprobs: undefined });
        }
        for (const event of message.events) if (!isBeforeTokens(event)) this.#deliver(event);
        this.#observeStep(message);
        break;
      case 'progress':
        this.#observer.progress(message.model, message.bytes, message.totalBytes);
        break;
      case 'phase':
        this.#observer.phase(message.phase);
        break;
      case 'reply':
        this.#calls.get(message.call)?.resolve(message.value);
        this.#calls.delete(message.call);
        break;
      case 'error':
        this.#calls.get(message.call)?.reject(RoseError.deserialize(message.error));
        this.#calls.delete(message.call);
        break;
    }
  }

  #observeStep(step: Extract<FromEngine, { kind: 'step' }>): void {
    if (step.sequences > 0 && step.failed !== this.#failed.has(step.model)) {
      const failed = new Set(this.#failed);
      if (step.failed) failed.add(step.model);
      else failed.delete(step.model);
      this.#failed = failed;
    }
    this.#observer.step(step.model, step);
  }

  #deliver(event: EngineEvent): void {
    const request = this.#requests.get(event.id);
    if (request === undefined) return;
    if (event.kind !== 'token' && !isBeforeTokens(event)) this.#requests.delete(event.id);
    request.sink(event);
  }

  #fail(error: RoseError): void {
    this.#lost = error;
    for (const { reject } of this.#calls.values()) reject(error);
    this.#calls.clear();
    this.#failRequests(error, () => true);
  }

  #failRequests(error: RoseError, concerns: (request: { model: number }) => boolean): void {
    for (const [id, request] of [...this.#requests]) {
      if (!concerns(request)) continue;
      this.#requests.delete(id);
      request.sink({ kind: 'failed', id, error: error.toJSON() });
    }
  }
}

function closed(): RoseError {
  return new RoseError('unavailable', 'the engine was closed');
}

function stopped(reason: string): RoseError {
  return new RoseError('unavailable', `the engine stopped: ${reason}`);
}

function isBeforeTokens({ kind }: EngineEvent): boolean {
  return kind === 'begun' || kind === 'prompt';
}

function silent(ms: number): RoseError {
  return new RoseError('unavailable', `the engine gave no sign of life for ${ms / 1000} s`);
}

/** The promise's outcome, or an error when it takes too long. */
async function within<T>(promise: Promise<T>, ms: number, error: () => RoseError): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => (timer = setTimeout(() => reject(error()), ms)));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
