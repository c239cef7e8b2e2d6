/**
 * How much each tenant was served, in rows of the device: where the tenant served least goes first, all get equal
 * shares of a busy engine, however many requests each of them sends. A tenant that was away does not save up: it comes
 * back no further ahead than the one served least of those present (start-time fair queueing).
 */
export class Tenants {
  readonly #records = new Map<string, { present: number; served: number }>();

  /** Requests of all tenants that are in the engine. */
  get present(): number {
    let sum = 0;
    for (const { present } of this.#records.values()) sum += present;
    return sum;
  }

  /** One more request of the tenant is in the engine. */
  enter(tenant: string): void {
    const floor = this.#floor();
    const record = this.#records.get(tenant);
    if (record === undefined) this.#records.set(tenant, { present: 1, served: floor });
    else {
      if (record.present === 0) record.served = Math.max(record.served, floor);
      record.present++;
    }
  }

  /** A request of the tenant has ended. */
  leave(tenant: string): void {
    const record = this.#records.get(tenant)!;
    record.present--;
    if (record.present > 0) return;
    // A record at or below the floor says nothing that a new one would not say.
    const floor = this.#floor();
    for (const [name, { present, served }] of this.#records) {
      if (present === 0 && served <= floor) this.#records.delete(name);
    }
  }

  serve(tenant: string, rows: number): void {
    this.#records.get(tenant)!.served += rows;
  }

  served(tenant: string): number {
    return this.#records.get(tenant)?.served ?? 0;
  }

  /** What the tenant served least of those present has had; with nobody present, everything is forgotten. */
  #floor(): number {
    let floor = Infinity;
    for (const { present, served } of this.#records.values()) if (present > 0 && served < floor) floor = served;
    if (floor !== Infinity) return floor;
    this.#records.clear();
    return 0;
  }
}
