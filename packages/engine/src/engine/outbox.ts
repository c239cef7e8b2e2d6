import type { EngineEvent } from './request.ts';
import type { EventSink } from './engine.ts';

/** What a step brings, gathered for one message. Tokens fill arrays that are used again; a message gets copies. */
export class Outbox implements EventSink {
  events: EngineEvent[] = [];
  #ids = new Float64Array(256);
  #tokens = new Int32Array(256);
  #count = 0;

  token(id: number, token: number): void {
    if (this.#count === this.#ids.length) {
      const ids = new Float64Array(2 * this.#count);
      ids.set(this.#ids);
      const tokens = new Int32Array(2 * this.#count);
      tokens.set(this.#tokens);
      this.#ids = ids;
      this.#tokens = tokens;
    }
    this.#ids[this.#count] = id;
    this.#tokens[this.#count++] = token;
  }

  event(event: EngineEvent): void {
    this.events.push(event);
  }

  /** Everything since the last time. */
  take(): { ids: Float64Array; tokens: Int32Array; events: EngineEvent[] } {
    const { events } = this;
    const ids = this.#ids.slice(0, this.#count);
    const tokens = this.#tokens.slice(0, this.#count);
    this.#count = 0;
    this.events = [];
    return { ids, tokens, events };
  }
}
