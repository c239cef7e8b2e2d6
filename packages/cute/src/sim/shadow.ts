import type { Node } from '../ir/ir.ts';
import type { FindingPlace } from './api.ts';
import type { Warp } from './machine.ts';
import type { MemoryRegion } from './memory.ts';
import type { PendingRange } from './pending.ts';

/** So many records are remembered. A short launch makes few: their memory grows with them. */
const MOST_RECORDS = 1 << 21;
const FIRST_RECORDS = 1 << 10;
const IDS = 1 << 26;

/** When an engine did what a record says: its component, and how often it had ended something by then. */
export interface EngineTime {
  readonly component: number;
  readonly counter: number;
}

/** A counter that nobody has reached: what is stamped with it is ordered before nothing. */
export const NOT_YET: number = 2 ** 30;

/**
 * Remembers accesses and finds those that nothing orders. A record is one node's execution by one warp; a stamp is a
 * record and a lane. Old records are forgotten: their accesses count as ordered.
 */
export class Shadow {
  private size = FIRST_RECORDS;
  private ids = new Int32Array(FIRST_RECORDS);
  private components = new Int32Array(FIRST_RECORDS);
  private counters = new Int32Array(FIRST_RECORDS);
  private flags = new Uint8Array(FIRST_RECORDS);
  private readonly nodes: (Node | undefined)[] = [];
  private readonly warps: (Warp | undefined)[] = [];
  private next = 0;

  /** A new record. Strong accesses (atomics, volatile...) do not race with each other. */
  record(warp: Warp, node: Node, strong: boolean = false, engine?: EngineTime): number {
    this.next = this.next + 1 === IDS ? 1 : this.next + 1;
    if (this.next === this.size && this.size < MOST_RECORDS) this.grow();
    const at = this.next & (this.size - 1);
    this.ids[at] = this.next;
    this.components[at] = engine ? engine.component : warp.component;
    this.counters[at] = engine ? engine.counter : warp.counter;
    this.flags[at] = (strong ? 1 : 0) | (engine ? 2 : 0);
    this.nodes[at] = node;
    this.warps[at] = warp;
    return this.next;
  }

  /** Twice the room; until there is all of it, a record's place is its number. */
  private grow(): void {
    const { ids, components, counters, flags } = this;
    this.size *= 2;
    (this.ids = new Int32Array(this.size)).set(ids);
    (this.components = new Int32Array(this.size)).set(components);
    (this.counters = new Int32Array(this.size)).set(counters);
    (this.flags = new Uint8Array(this.size)).set(flags);
  }

  /** The time of an engine's access, which was not known when it began. */
  settle(record: number, counter: number): void {
    const at = record & (this.size - 1);
    if (this.ids[at] === record) this.counters[at] = counter;
  }

  /** The newest record so far. */
  get newest(): number {
    return this.next;
  }

  /** Whether an access with that stamp came before what this warp's lane does now. */
  private ordered(stamp: number, warp: Warp, lane: number, strong: boolean): boolean {
    const at = (stamp >>> 5) & (this.size - 1);
    if (this.ids[at] !== stamp >>> 5) return true;
    if (strong && this.flags[at] & 1) return true;
    const { cluster } = this.warps[at]!.cta;
    const component = this.components[at];
    if (cluster !== warp.cta.cluster) {
      // Clusters meet in global memory alone, where one releases and the other acquires.
      const clock = warp.meeting.others?.get(cluster);
      return clock !== undefined && clock.covers(component, stamp & 31, this.counters[at]);
    }
    if (component === warp.component && (stamp & 31) === lane) return true;
    return warp.meeting.before.covers(component, stamp & 31, this.counters[at]);
  }

  /** A read by a thread: finds unordered writes, bytes that were never written, and copies that still run. */
  read(
    region: MemoryRegion,
    start: number,
    bytes: number,
    warp: Warp,
    lane: number,
    record: number,
    strong: boolean,
  ): void {
    const { writes, reads, otherReads } = region;
    if (this.checkPending(region, start, bytes, false, warp, lane)) return;
    if (!writes || !reads || !otherReads) return;
    const mine = (record << 5) | lane;
    const unknown = region.space === 'shared' || region.access === 'write';
    let known = 0;
    let told = false;
    for (let i = start; i < start + bytes; i++) {
      const stamp = writes[i];
      if (stamp === 0) {
        if (unknown && !told) this.uninitialised(region, i, warp, lane);
        told = true;
      } else if (stamp !== known && !this.ordered(stamp, warp, lane, strong)) {
        this.race(region, i, stamp, 'write', 'read', warp, lane);
        return;
      }
      known = stamp;
      // Also of bytes that nobody wrote yet: who writes them later without an order is the other half of a race.
      const last = reads[i];
      if (last !== 0 && this.componentOf(last) !== warp.component) otherReads[i] = last;
      reads[i] = mine;
    }
  }

  private componentOf(stamp: number): number {
    return this.components[(stamp >>> 5) & (this.size - 1)];
  }

  /** A write by a thread that has just happened; `before` is what was there. Writing the same again is no race. */
  write(
    region: MemoryRegion,
    start: number,
    bytes: number,
    warp: Warp,
    lane: number,
    record: number,
    strong: boolean,
    before: Uint8Array,
  ): void {
    const { writes, reads, otherReads } = region;
    this.checkPending(region, start, bytes, true, warp, lane);
    if (!writes || !reads || !otherReads) return;
    const mine = (record << 5) | lane;
    let known = 0;
    for (let i = start; i < start + bytes; i++) {
      const stamp = writes[i];
      writes[i] = mine;
      if (stamp !== 0 && stamp !== known) {
        if (before[i - start] === region.bytes[i]) continue;
        if (!this.ordered(stamp, warp, lane, strong)) this.race(region, i, stamp, 'write', 'write', warp, lane);
        known = stamp;
      }
    }
    known = 0;
    for (let i = start; i < start + bytes; i++) {
      for (const stamp of [reads[i], otherReads[i]]) {
        if (stamp === 0 || stamp === known) continue;
        if (!this.ordered(stamp, warp, lane, strong)) this.race(region, i, stamp, 'read', 'write', warp, lane);
        known = stamp;
      }
      reads[i] = 0;
      otherReads[i] = 0;
    }
  }

  /**
   * A read by a copy engine or a tensor core that a thread starts: writes must be ordered before, and those of threads
   * also fenced towards the async proxy.
   */
  engineRead(region: MemoryRegion, start: number, bytes: number, warp: Warp, lane: number, record: number): void {
    const { writes, reads } = region;
    if (this.checkPending(region, start, bytes, false, warp, lane)) return;
    if (!writes || !reads) return;
    let known = 0;
    for (let i = start; i < start + bytes; i++) {
      const stamp = writes[i];
      if (stamp === 0) {
        if (region.space === 'shared' || region.access === 'write') this.uninitialised(region, i, warp, lane);
        return;
      }
      reads[i] = (record << 5) | lane;
      if (stamp === known) continue;
      known = stamp;
      if (!this.ordered(stamp, warp, lane, false)) {
        this.race(region, i, stamp, 'write', 'asynchronous read', warp, lane);
        return;
      }
      if (!this.fenced(stamp, warp)) {
        const { what, ...rest } = this.place(stamp, `write of ${region.describe(i)}`);
        warp.report(
          'proxy-fence',
          `a thread's write is read by the async proxy without a fence between them: the writing thread calls ` +
            `fence_proxy_async after it wrote and before it synchronises`,
          [{ what, ...rest }, warp.place(`asynchronous read`, lane)],
        );
        return;
      }
    }
  }

  private fenced(stamp: number, warp: Warp): boolean {
    const at = (stamp >>> 5) & (this.size - 1);
    if (this.ids[at] !== stamp >>> 5 || this.flags[at] & 2) return true;
    if (this.warps[at]!.cta.cluster !== warp.cta.cluster) return true;
    return warp.meeting.fenced.covers(this.components[at], stamp & 31, this.counters[at]);
  }

  /** Before a copy engine writes: what threads did there must be ordered before whoever starts it. */
  engineWriteStarts(region: MemoryRegion, start: number, bytes: number, warp: Warp, lane: number): void {
    const { writes, reads, otherReads } = region;
    this.checkPending(region, start, bytes, true, warp, lane);
    if (!writes || !reads || !otherReads) return;
    let known = 0;
    for (let i = start; i < start + bytes; i++) {
      for (const [stamp, kind] of [
        [writes[i], 'write'],
        [reads[i], 'read'],
        [otherReads[i], 'read'],
      ] as const) {
        if (stamp === 0 || stamp === known) continue;
        known = stamp;
        if (this.ordered(stamp, warp, lane, false)) continue;
        this.race(region, i, stamp, kind, 'asynchronous write', warp, lane);
        return;
      }
    }
  }

  /** A copy engine has written. */
  engineWrote(region: MemoryRegion, start: number, bytes: number, record: number, lane: number): void {
    if (!region.writes) return;
    region.writes.fill((record << 5) | lane, start, start + bytes);
    region.reads!.fill(0, start, start + bytes);
    region.otherReads!.fill(0, start, start + bytes);
  }

  /** Whether bytes were written after a record was made, and by whom. */
  changedSince(region: MemoryRegion, start: number, bytes: number, record: number): FindingPlace | undefined {
    if (!region.writes) return undefined;
    for (let i = start; i < start + bytes; i++) {
      const stamp = region.writes[i];
      const age = ((stamp >>> 5) - record + IDS) % IDS;
      if (age > 0 && age < IDS / 2 && stamp !== 0) return this.place(stamp, `write of ${region.describe(i)}`);
    }
    return undefined;
  }

  private checkPending(
    region: MemoryRegion,
    start: number,
    bytes: number,
    write: boolean,
    warp: Warp,
    lane: number,
  ): boolean {
    if (!region.pending.near(start, bytes)) return false;
    for (const range of region.pending.list) {
      if (range.start >= start + bytes || range.end <= start || (!range.writes && !write)) continue;
      this.reportPending(range, region, Math.max(start, range.start), write, warp, lane);
      return true;
    }
    return false;
  }

  private reportPending(
    range: PendingRange,
    region: MemoryRegion,
    at: number,
    write: boolean,
    warp: Warp,
    lane: number,
  ): void {
    const does = range.writes ? 'writes' : 'reads';
    const remedy = range.writes
      ? 'wait for it first (its mbarrier, or its group)'
      : 'wait until it has read its source (wait for its group)';
    warp.report(
      'async-pending',
      `${region.describe(at)} is ${write ? 'written' : 'read'} while an asynchronous operation ${does} it: ${remedy}`,
      [
        range.warp.placeOf(range.node, `${range.node.op} that still ${does} it`, range.lane),
        warp.place(write ? 'write' : 'read', lane),
      ],
    );
  }

  private uninitialised(region: MemoryRegion, at: number, warp: Warp, lane: number): void {
    if (!warp.cta.cluster.machine.checkUninitialised) return;
    warp.report('uninitialised', `${region.describe(at)} is read before anybody wrote it`, [warp.place('read', lane)]);
  }

  private race(
    region: MemoryRegion,
    at: number,
    stamp: number,
    first: string,
    second: string,
    warp: Warp,
    lane: number,
  ): void {
    if (!warp.cta.cluster.machine.checkRaces) return;
    const other = this.place(stamp, `${first} of ${region.describe(at)}`);
    const apart = this.warps[(stamp >>> 5) & (this.size - 1)]!.cta.cluster !== warp.cta.cluster;
    const remedy = apart
      ? 'CTAs that do not synchronise with each other need a release and an acquire through global memory, or two launches'
      : 'a synchronisation is missing between them';
    warp.report('race', `nothing orders a ${first} and a ${second} of the same bytes: ${remedy}`, [
      other,
      warp.place(second, lane),
    ]);
  }

  private place(stamp: number, what: string): FindingPlace {
    const at = (stamp >>> 5) & (this.size - 1);
    return this.warps[at]!.placeOf(this.nodes[at]!, what, stamp & 31);
  }
}
