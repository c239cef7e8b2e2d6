import type { Node } from '../ir/ir.ts';
import type { Clock } from './clocks.ts';
import type { Warp } from './machine.ts';

/**
 * Tensor memory of a CTA (sm_100a): 128 lanes of 512 columns of 32 bits, who owns which columns, and which accesses
 * nothing orders. Source of the rules: PTX ISA 9.0, "Tensor Memory" and "Memory Consistency Model for 5th generation of
 * TensorCore operations".
 */

export const TMEM_LANES = 128;
export const TMEM_COLUMNS = 512;

/** What accesses tensor memory: a warp's loads and stores, the tensor cores' products, copies from shared memory. */
export type TensorKind = 'load' | 'store' | 'mma' | 'copy' | 'free';

export interface TensorAccess {
  readonly kind: TensorKind;
  readonly node: Node;
  readonly warp: Warp;
  readonly lane: number;
  /** Products of the same form to the same accumulator stay in order. */
  readonly form: string;
  /** Loads and stores: the warp's counter when it waited for them. All: when they were issued. */
  counter: number;
  /** Loads and stores: the warp has waited for them. */
  waited: boolean;
  /** Products and copies: the counter of the CTA's tensor cores at the commit that covers them, once it has completed. */
  settled: number | undefined;
  /** Records of what they read in shared memory. */
  readonly reads: number[];
}

/** Cells side by side in a lane. */
export interface Strip {
  readonly memory: TensorMemory;
  readonly lane: number;
  readonly column: number;
  readonly count: number;
}

interface Allocation {
  readonly start: number;
  readonly columns: number;
  readonly node: Node;
  readonly warp: Warp;
}

/** Pairs that stay in the order in which a thread issues them, or threads that synchronise do. */
function pipelined(earlier: TensorAccess, later: TensorAccess): boolean {
  if (later.kind !== 'mma') return false;
  return earlier.kind === 'copy' || (earlier.kind === 'mma' && earlier.form === later.form);
}

function covers(clock: Clock | undefined, component: number, counter: number): boolean {
  return clock !== undefined && clock.covers(component, 0, counter);
}

/** What is missing between an access and a later one of the same cell; undefined where they are in order. */
function missing(earlier: TensorAccess, later: TensorAccess): string | undefined {
  const frees = later.kind === 'free';
  // Freeing is synchronous: it comes behind whatever its thread knows to have ended, without a fence.
  const visible = frees ? later.warp.meeting.before : later.warp.state.tensor.visible;
  const fences = frees
    ? 'synchronise the threads between the two'
    : "tcgen05Fence('before_thread_sync'), a synchronisation and tcgen05Fence('after_thread_sync') between the two";
  if (earlier.kind === 'load' || earlier.kind === 'store') {
    if (!earlier.waited) return `the warp that ${earlier.kind}s calls tmemWait('${earlier.kind}') first`;
    if (earlier.warp === later.warp) return undefined;
    return covers(visible, earlier.warp.component, earlier.counter) ? undefined : fences;
  }
  if (pipelined(earlier, later)) {
    if (earlier.warp === later.warp) return undefined;
    return covers(visible, earlier.warp.component, earlier.counter) ? undefined : fences;
  }
  if (earlier.settled === undefined) return 'tcgen05Commit it to an mbarrier, and wait for that';
  return covers(visible, earlier.warp.cta.tensorCores, earlier.settled)
    ? undefined
    : "wait for the mbarrier that it is committed to, then call tcgen05Fence('after_thread_sync')";
}

export class TensorMemory {
  readonly words: Int32Array = new Int32Array(TMEM_LANES * TMEM_COLUMNS);
  relinquished: Warp | undefined;
  private readonly written = new Int32Array(TMEM_LANES * TMEM_COLUMNS);
  private readonly read = new Int32Array(TMEM_LANES * TMEM_COLUMNS);
  /** By column: an allocation's number and 1, 0 free. */
  private readonly owner = new Int32Array(TMEM_COLUMNS);
  readonly allocations: (Allocation | undefined)[] = [];
  private readonly accesses: (TensorAccess | undefined)[] = [undefined];

  /** The first free columns; undefined where not enough lie side by side. */
  allocate(columns: number, warp: Warp, node: Node): number | undefined {
    for (let start = 0; start + columns <= TMEM_COLUMNS; start += columns) {
      if (this.owner.subarray(start, start + columns).some((owner) => owner !== 0)) continue;
      this.owner.fill(this.allocations.push({ start, columns, node, warp }), start, start + columns);
      return start;
    }
    return undefined;
  }

  /** Frees an allocation. Returns what is wrong, if anything is. */
  free(start: number, columns: number, access: TensorAccess): string | undefined {
    const index = this.allocations.findIndex((known) => known?.start === start);
    const known = this.allocations[index];
    if (!known || known.columns !== columns) {
      const found = known ? `${known.columns} columns` : 'nothing';
      return `tensor memory is freed as it was allocated: ${columns} columns from column ${start} on were not, ${found} was`;
    }
    for (let lane = 0; lane < TMEM_LANES; lane++) {
      const strip = { memory: this, lane, column: start, count: columns };
      this.check(strip, access, true, false);
      const at = lane * TMEM_COLUMNS + start;
      this.written.fill(0, at, at + columns);
      this.read.fill(0, at, at + columns);
    }
    this.owner.fill(0, start, start + columns);
    this.allocations[index] = undefined;
    return undefined;
  }

  /** A number for an access, by which cells remember it. */
  note(access: TensorAccess): number {
    return this.accesses.push(access) - 1;
  }

  /** Whether cells exist and are allocated; a finding where not. */
  owns({ lane, column, count }: Strip, access: TensorAccess): boolean {
    const span = count === 1 ? `column ${column}` : `columns ${column} to ${column + count - 1}`;
    const problem =
      lane < 0 || lane >= TMEM_LANES || column < 0 || column + count > TMEM_COLUMNS
        ? `tensor memory has ${TMEM_LANES} lanes of ${TMEM_COLUMNS} columns, not lane ${lane}, ${span}`
        : this.owner.subarray(column, column + count).some((owner) => owner !== this.owner[column] || owner === 0)
          ? `${span} of tensor memory ${count === 1 ? 'is' : 'are'} not in one allocation: tmemAllocate first`
          : undefined;
    if (problem === undefined) return true;
    const { warp, node } = access;
    warp.report('tensor-memory', problem, [warp.placeOf(node, node.op, access.lane)]);
    return false;
  }

  /** Finds accesses of the same cells that nothing orders before this one, and cells that are read before they are written. */
  check({ lane, column, count }: Strip, access: TensorAccess, writes: boolean, reads: boolean = !writes): void {
    const { warp, node } = access;
    const { machine } = warp.cta.cluster;
    const first = lane * TMEM_COLUMNS + column;
    // Neighbours mostly have the same past.
    let [lastWrite, lastRead] = [0, 0];
    for (let at = first; at < first + count; at++) {
      const by = this.written[at];
      if (by === 0 && reads && machine.checkUninitialised) {
        warp.report(
          'uninitialised',
          `lane ${lane}, column ${at % TMEM_COLUMNS} of tensor memory is read before anything wrote it`,
          [warp.placeOf(node, node.op, access.lane)],
        );
        return;
      }
      const reader = writes ? this.read[at] : 0;
      if (by !== lastWrite) this.compare(by, 'writes', access, lane, at % TMEM_COLUMNS);
      if (reader !== lastRead) this.compare(reader, 'reads', access, lane, at % TMEM_COLUMNS);
      [lastWrite, lastRead] = [by, reader];
    }
  }

  private compare(stamp: number, does: string, access: TensorAccess, lane: number, column: number): void {
    const { warp, node } = access;
    const earlier = this.accesses[stamp];
    if (!earlier || earlier === access || !warp.cta.cluster.machine.checkRaces) return;
    const remedy = missing(earlier, access);
    if (remedy === undefined) return;
    warp.report('race', `nothing orders two accesses of lane ${lane}, column ${column} of tensor memory: ${remedy}`, [
      earlier.warp.placeOf(earlier.node, `${earlier.node.op} that ${does} it`, earlier.lane),
      warp.placeOf(node, node.op, access.lane),
    ]);
  }

  /** Remembers who wrote or read cells last. */
  mark({ lane, column, count }: Strip, stamp: number, writes: boolean): void {
    const at = lane * TMEM_COLUMNS + column;
    if (!writes) {
      this.read.fill(stamp, at, at + count);
      return;
    }
    this.written.fill(stamp, at, at + count);
    this.read.fill(0, at, at + count);
  }
}
