import type { Detokenizer } from '../text/text.ts';
import type { EngineEvent, FinishReason } from '../engine/request.ts';
import type { GenerateEvent, GeneratedToken } from './api.ts';
import { StopMatcher } from './stop.ts';

/** One of a request's answers: turns the engine's tokens into text deltas and finds stop strings. */
export class Answer {
  readonly index: number;
  ended = false;
  readonly #detokenizer: Detokenizer;
  readonly #stop: StopMatcher;
  readonly #ownStops: ReadonlySet<number>;
  readonly #includeStop: boolean;
  #tokens = 0;

  /**
   * @param ownStops stop tokens that the request itself named: they are reported, the checkpoint's are not
   * @param includeStop whether the text of a stop token belongs to the answer's
   */
  constructor(
    index: number,
    detokenizer: Detokenizer,
    stop: StopMatcher,
    ownStops: ReadonlySet<number>,
    includeStop: boolean,
  ) {
    this.#includeStop = includeStop;
    this.index = index;
    this.#detokenizer = detokenizer;
    this.#stop = stop;
    this.#ownStops = ownStops;
  }

  /** The client's events for a token or the end; `ended` turns true when a stop string ends the answer early. */
  take(event: Extract<EngineEvent, { kind: 'token' | 'finished' }>): GenerateEvent[] {
    if (event.kind === 'finished') return this.#finish(event.reason, event.stopToken);
    this.#tokens++;
    const { text, stop } = this.#stop.push(this.#detokenizer.push(event.token));
    const delta = this.#delta(text, [generatedToken(event)]);
    if (stop === undefined) return [delta];
    return [delta, this.#end('stop', stop)];
  }

  #finish(reason: FinishReason, stopToken: number | undefined): GenerateEvent[] {
    if (stopToken !== undefined) this.#tokens++;
    const last = stopToken !== undefined && this.#includeStop ? this.#detokenizer.push(stopToken) : '';
    const rest = this.#stop.push(last + this.#detokenizer.flush());
    const text = rest.stop === undefined ? rest.text + this.#stop.flush() : rest.text;
    const named = stopToken !== undefined && this.#ownStops.has(stopToken) ? stopToken : undefined;
    const end = rest.stop === undefined ? this.#end(reason, named) : this.#end('stop', rest.stop);
    return text === '' ? [end] : [this.#delta(text, []), end];
  }

  #delta(text: string, tokens: readonly GeneratedToken[]): GenerateEvent {
    return { kind: 'delta', index: this.index, text, tokens };
  }

  #end(reason: FinishReason, stop: string | number | undefined): GenerateEvent {
    this.ended = true;
    return { kind: 'end', index: this.index, reason, stop, generatedTokens: this.#tokens };
  }
}

function generatedToken({ token, logprobs }: Extract<EngineEvent, { kind: 'token' }>): GeneratedToken {
  if (logprobs === undefined) return { token };
  const top = logprobs.topTokens.map((token, i) => ({ token, logprob: logprobs.topLogprobs[i] }));
  return { token, logprob: logprobs.logprob, top };
}
