/**
 * What a warp knows of the others. Every warp (and every CTA's asynchronous engine) is a component with a counter that
 * advances when it synchronises. An access is stamped with its component's counter; it has happened before somebody's
 * present if his clock covers the stamp. Where only some lanes of a warp took part, a component is covered for those
 * lanes alone, up to a counter of their own.
 */
export class Clock {
  /** Counter up to which all lanes of a component are covered. */
  readonly all: Int32Array;
  /** Some lanes, and the counter up to which they are covered. */
  readonly lanes: Int32Array;
  readonly some: Int32Array;

  constructor(components: number) {
    this.all = new Int32Array(components);
    this.lanes = new Int32Array(components);
    this.some = new Int32Array(components);
  }

  covers(component: number, lane: number, counter: number): boolean {
    if (counter <= this.all[component]) return true;
    return counter <= this.some[component] && ((this.lanes[component] >>> lane) & 1) === 1;
  }

  join(other: Clock): void {
    const { all, lanes, some } = this;
    for (let c = 0; c < all.length; c++) {
      if (other.all[c] > all[c]) all[c] = other.all[c];
      if (other.some[c] > all[c]) this.add(c, other.lanes[c], other.some[c]);
      else if (some[c] <= all[c]) lanes[c] = 0;
    }
  }

  /** Covers some lanes of a component, or all of them. */
  add(component: number, lanes: number, counter: number): void {
    if (lanes === -1) {
      if (counter > this.all[component]) this.all[component] = counter;
      return;
    }
    // Two groups of lanes at two counters: their union at the later one, which may miss a race but invents none.
    const old = this.some[component] > this.all[component] ? this.lanes[component] : 0;
    this.lanes[component] = old | lanes;
    this.some[component] = Math.max(this.some[component], counter);
  }

  clear(): void {
    this.all.fill(0);
    this.lanes.fill(0);
    this.some.fill(0);
  }
}

/** What is handed over where threads meet: what happened before, and what of it the async proxy may see. */
export class Meeting {
  readonly before: Clock;
  readonly fenced: Clock;
  /** What tensor memory's fences handed over; absent where nobody used them. */
  tensor: Clock | undefined;
  /** What is known of other clusters, each with clocks of its own; absent where nobody heard of any. */
  others: Map<object, Clock> | undefined;

  constructor(components: number) {
    this.before = new Clock(components);
    this.fenced = new Clock(components);
  }

  /** The clock of tensor memory, made when it is needed. */
  get tensorClock(): Clock {
    return (this.tensor ??= new Clock(this.before.all.length));
  }

  join(other: Meeting): void {
    this.before.join(other.before);
    this.fenced.join(other.fenced);
    if (other.tensor) this.tensorClock.join(other.tensor);
    for (const [cluster, clock] of other.others ?? []) this.of(cluster).join(clock);
  }

  /** Takes over what somebody of another cluster handed over; what that says of `own` was known here. */
  learn(cluster: object, other: Meeting, own: object): void {
    this.of(cluster).join(other.before);
    for (const [third, clock] of other.others ?? []) (third === own ? this.before : this.of(third)).join(clock);
  }

  private of(cluster: object): Clock {
    this.others ??= new Map();
    let clock = this.others.get(cluster);
    if (!clock) this.others.set(cluster, (clock = new Clock(this.before.all.length)));
    return clock;
  }
}
