import { invalid } from '../triton/errors.ts';

/** What an instance must have to execute a batch. */
export interface Claim {
  /** 1 executes most often, 2 half as often... */
  readonly priority: number;
  readonly resources: readonly ResourceClaim[];
}

export interface ResourceClaim {
  readonly name: string;
  readonly count: number;
  /** Shared by all devices. Rose's instances are all on one, so it makes no difference but for Triton's checks. */
  readonly global: boolean;
}

/**
 * Triton's rate limiter in its mode `execution_count`: an instance executes when it has its turn and its resources. The
 * turn is that of the instance that has executed least, weighed by its priority; it is waited for even if others could
 * go on, so that an instance that needs much is not passed over for ever.
 */
export class RateLimiter {
  /** Undefined: of each resource there is as much as the instance that wants most of it wants. */
  readonly #given: ReadonlyMap<string, number> | undefined;
  readonly #permits: Set<Permit> = new Set();
  /** Those that wait, the longest first. */
  readonly #waiting: Set<Permit> = new Set();
  readonly #used: Map<string, number> = new Map();

  /** @param given how much there is of resources; undefined: as much as is wanted */
  constructor(given?: ReadonlyMap<string, number>) {
    this.#given = given;
  }

  /** @throws TritonError where the claim could never be met */
  register(claim: Claim): Permit {
    this.#check(claim);
    const permit = new Permit(claim, this);
    this.#permits.add(permit);
    return permit;
  }

  /** The permit's instance is gone. */
  forget(permit: Permit): void {
    permit.end(false);
    this.#permits.delete(permit);
    this.#waiting.delete(permit);
    this.allocate();
  }

  wait(permit: Permit): void {
    this.#waiting.add(permit);
  }

  leave(permit: Permit): void {
    this.#waiting.delete(permit);
    // It may have been the one for which all others waited.
    setImmediate(() => this.allocate());
  }

  /** Give the next turns, as far as resources last. */
  allocate(): void {
    while (this.#waiting.size > 0) {
      const next = [...this.#waiting].reduce((best, other) => (other.turn < best.turn ? other : best));
      const { resources } = next.claim;
      if (resources.some(({ name, count }) => this.#usedOf(name) + count > this.#limitOf(name))) return;
      for (const { name, count } of resources) this.#used.set(name, this.#usedOf(name) + count);
      this.#waiting.delete(next);
      next.grant();
    }
  }

  release({ claim }: Permit): void {
    for (const { name, count } of claim.resources) this.#used.set(name, this.#usedOf(name) - count);
    // Whoever gives it back may ask again at once, and is then weighed against the others.
    queueMicrotask(() => this.allocate());
  }

  #usedOf(name: string): number {
    return this.#used.get(name) ?? 0;
  }

  #limitOf(name: string): number {
    if (this.#given !== undefined) return this.#given.get(name) ?? 0;
    const wanted = [...this.#permits].flatMap(({ claim }) => claim.resources.filter((one) => one.name === name));
    return Math.max(0, ...wanted.map(({ count }) => count));
  }

  /** Triton's texts. */
  #check({ resources }: Claim): void {
    const all = [...this.#permits].flatMap(({ claim }) => claim.resources).concat(resources);
    for (const { name, count, global } of resources) {
      if (all.some((other) => other.name === name && other.global !== global)) {
        throw invalid(
          `Resource "${name}" is present as both global and device-specific resource in the model configuration.`,
        );
      }
      const limit = this.#given === undefined ? Infinity : (this.#given.get(name) ?? 0);
      if (count <= limit) continue;
      throw invalid(
        `Resource count for "${name}" is limited to ${limit} which will prevent scheduling of one or more model ` +
          `instances, the minimum required count is ${count}`,
      );
    }
  }
}

/** One instance's right to execute a batch. */
export class Permit {
  readonly claim: Claim;
  readonly #limiter: RateLimiter;
  #state: 'idle' | 'waiting' | 'granted' = 'idle';
  #executions = 0;
  #onGrant: (() => void) | undefined;

  constructor(claim: Claim, limiter: RateLimiter) {
    this.claim = claim;
    this.#limiter = limiter;
  }

  /** The lowest is next. A priority of 0 is 1. */
  get turn(): number {
    return this.#executions * Math.max(1, this.claim.priority);
  }

  /**
   * Ask for it.
   * @param onGrant called, on another turn of the event loop, when it comes later
   * @returns whether it is there
   */
  take(onGrant: () => void): boolean {
    if (this.#state === 'idle') {
      this.#state = 'waiting';
      this.#limiter.wait(this);
      this.#limiter.allocate();
    }
    this.#onGrant = onGrant;
    return this.#state === 'granted';
  }

  /** Whether it was asked for and is not there. */
  get waiting(): boolean {
    return this.#state === 'waiting';
  }

  grant(): void {
    this.#state = 'granted';
    if (this.#onGrant !== undefined) setImmediate(this.#onGrant);
  }

  /**
   * Give it back, or ask for it no longer.
   * @param executed it was used
   */
  end(executed: boolean): void {
    const { granted } = this;
    if (this.waiting) this.#limiter.leave(this);
    this.#state = 'idle';
    this.#onGrant = undefined;
    if (!granted) return;
    if (executed) this.#executions++;
    this.#limiter.release(this);
  }

  get granted(): boolean {
    return this.#state === 'granted';
  }
}
