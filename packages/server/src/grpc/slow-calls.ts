/** A call whose client may be slow. */
export interface PatientCall {
  /** Asked from time to time while it is open. `now`: milliseconds of `performance`. */
  look(now: number): void;
}

/** As often as this at least. */
const LOOK_MS = 1000;

/** Looks after open calls with one timer for all: two timers for each took a small call about a tenth more of the processor. */
export class SlowCalls {
  readonly #calls = new Set<PatientCall>();
  readonly #everyMs: number;
  #timer: NodeJS.Timeout | undefined;

  /** @param limits in milliseconds, to each of which it is exact to a quarter or to a second */
  constructor(...limits: readonly number[]) {
    this.#everyMs = Math.min(LOOK_MS, ...limits.map((limit) => limit / 4));
  }

  add(call: PatientCall): void {
    this.#calls.add(call);
    this.#timer ??= setInterval(this.#look, this.#everyMs).unref();
  }

  delete(call: PatientCall): void {
    this.#calls.delete(call);
  }

  readonly #look = (): void => {
    if (this.#calls.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
      return;
    }
    const now = performance.now();
    for (const call of this.#calls) call.look(now);
  };
}
