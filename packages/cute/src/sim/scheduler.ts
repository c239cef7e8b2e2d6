import type { FindingPlace } from './api.ts';
import { Cluster, countLanes, firstLane, type Machine, type Triple, type Warp } from './machine.ts';
import { checkBarriers } from './mbarriers.ts';
import { checkTensorMemory } from './tmem.ts';
import { checkWarpgroups } from './wgmma.ts';

/** Runs a grid: which warp runs when, when asynchronous operations end, and when nothing can go on. */

const RANDOM_SLICE = 24;

/** A small generator of the same numbers for the same seed (xorshift32). */
function randomFrom(seed: number): (end: number) => number {
  let state = (seed * 2654435761 + 1) | 0 || 1;
  return (end) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % end;
  };
}

export class Scheduler {
  private readonly machine: Machine;
  private readonly random: ((end: number) => number) | undefined;
  private readonly late: boolean;
  private readonly most: number;

  constructor(machine: Machine) {
    const { schedule = 'round-robin', seed = 1, limits } = machine.options;
    this.machine = machine;
    this.random = schedule === 'random' ? randomFrom(seed) : undefined;
    this.late = schedule === 'late';
    this.most = limits?.steps ?? 20_000_000;
  }

  /** Runs all CTAs to their end. Returns how many there were. */
  run(): number {
    const { machine } = this;
    const shape = machine.kernel.cluster ?? [1, 1, 1];
    machine.waiting = firstCtas(machine.grid, shape);
    const resident = machine.options.limits?.resident ?? 132;
    const active: Cluster[] = [];
    let started = 0;
    let wanted = 1;
    while (!machine.findings.stopped) {
      while (active.length < Math.min(wanted, resident) && machine.waiting.length > 0) {
        active.push(new Cluster(machine, shape, machine.waiting.shift()!));
        started++;
      }
      if (active.length === 0) break;
      for (const cluster of [...active]) {
        this.round(cluster);
        if (machine.findings.stopped) break;
        if (!cluster.ctas.every((cta) => cta.ended)) continue;
        this.finish(cluster);
        active.splice(active.indexOf(cluster), 1);
      }
      // Whoever looks at memory again and again may wait for a CTA that has not started.
      if (active.length >= wanted && active.every(({ polls }) => polls >= 16 * wanted)) wanted++;
    }
    return started * shape[0] * shape[1] * shape[2];
  }

  /** Lets every warp of a cluster run once. */
  private round(cluster: Cluster): void {
    const warps = cluster.ctas.flatMap((cta) => cta.warps);
    if (this.random) shuffleList(warps, this.random);
    let ran = false;
    for (const warp of warps) {
      if (warp.done || !this.wake(warp)) continue;
      ran = true;
      this.execute(warp);
      if (warp.sliced) cluster.polls++;
      if (this.machine.findings.stopped) return;
    }
    const finished = this.complete(cluster, ran);
    if (ran || finished) return;
    this.stuck(cluster);
  }

  /** Whether the warp may run; lets it go on if what it waited for has come. */
  private wake(warp: Warp): boolean {
    const { wait } = warp;
    if (!wait) return true;
    if (!wait.ready()) return false;
    warp.wait = undefined;
    wait.resume?.();
    return true;
  }

  private execute(warp: Warp): void {
    const { machine } = this;
    const { code } = machine.program;
    let left = this.random ? 1 + this.random(RANDOM_SLICE) : Infinity;
    warp.sliced = false;
    let { steps } = warp;
    const start = steps;
    while (left-- > 0 && !warp.done && !warp.wait && !warp.sliced) {
      code[warp.pc++](warp);
      if (++steps > this.most) {
        warp.report('infinite-loop', `a warp executed ${this.most} steps and does not end; it is here`);
        machine.findings.stopped = true;
        break;
      }
      if (machine.findings.stopped) break;
    }
    warp.steps = steps;
    machine.steps += steps - start;
  }

  /** Ends asynchronous operations, as the schedule says. Returns whether any ended. */
  private complete(cluster: Cluster, ran: boolean): boolean {
    const { operations } = cluster;
    if (operations.length === 0 || (this.late && ran)) return false;
    let ended = false;
    for (let i = 0; i < operations.length; i++) {
      const operation = operations[i];
      if (operation.ready && !operation.ready()) continue;
      if (this.random && ran && this.random(4) !== 0) continue;
      operations.splice(i--, 1);
      operation.done = true;
      operation.complete();
      this.machine.progress++;
      ended = true;
      // The last legal moment of the others is later.
      if (this.late) break;
    }
    return ended;
  }

  /** Nobody can run: instructions that may give up do so; if that does not help, it is a deadlock. */
  private stuck(cluster: Cluster): void {
    const waiting = cluster.ctas.flatMap((cta) => cta.warps).filter((warp) => !warp.done);
    const able = waiting.filter(({ wait }) => wait?.giveUp);
    if (able.length > 0) {
      if (cluster.lastProgress !== this.machine.progress) {
        cluster.lastProgress = this.machine.progress;
        cluster.fruitless = 0;
      }
      if (cluster.fruitless++ < 200) {
        for (const warp of able) {
          const { wait } = warp;
          warp.wait = undefined;
          wait!.giveUp!();
        }
        cluster.polls++;
        return;
      }
    }
    this.deadlock(cluster, waiting);
  }

  private deadlock(cluster: Cluster, waiting: readonly Warp[]): void {
    const groups = new Map<unknown, Warp[]>();
    for (const warp of waiting) {
      const node = warp.wait?.node ?? warp.node;
      groups.set(node, [...(groups.get(node) ?? []), warp]);
    }
    const places: FindingPlace[] = [...groups].map(([, warps]) => {
      const [first] = warps;
      const threads = warps.reduce((sum, warp) => sum + countLanes(warp.mask), 0);
      const { wait } = first;
      const what = wait ? `${wait.node.op} waits for ${wait.what()}` : 'runs';
      return {
        what: `${what} (${threads} thread${threads === 1 ? '' : 's'}; the first)`,
        position: (wait?.node ?? first.node)?.position,
        thread: first.thread(firstLane(first.mask)),
        cta: first.cta.id,
      };
    });
    const ended = cluster.ctas.reduce((sum, cta) => sum + cta.warps.filter(({ done }) => done).length, 0);
    const tail = ended > 0 ? `; ${ended} other warp${ended === 1 ? ' has' : 's have'} ended and cannot help` : '';
    const inBranch = waiting.some((warp) => (warp.live & ~warp.mask & ~warp.away) !== 0);
    const limit = inBranch
      ? '; lanes of a warp wait inside of a branch, and the simulator runs its other lanes behind them: if those were to ' +
        'help, wait outside of the branch'
      : '';
    this.machine.findings.add('deadlock', `nobody can go on: all threads wait for each other${tail}${limit}`, places);
    this.machine.findings.stopped = true;
  }

  /** Checks what a cluster leaves behind. */
  private finish(cluster: Cluster): void {
    for (const cta of cluster.ctas) for (const warp of cta.warps) checkDrained(warp);
    const { operations } = cluster;
    for (const operation of [...operations]) {
      if (operation.intoShared) {
        this.machine.findings.add(
          'async-not-drained',
          'a CTA ended while a copy into its shared memory was on its way: wait for it',
          [operation.warp.placeOf(operation.node, operation.node.op, operation.lane)],
        );
      }
      operation.complete();
    }
    operations.length = 0;
    for (const cta of cluster.ctas) {
      checkBarriers(cta);
      checkWarpgroups(cta);
      checkTensorMemory(cta);
      for (const { file } of cta.warps) this.machine.registerFiles.push(file);
    }
  }
}

/** A warp that ends has waited for its copies and products. */
function checkDrained(warp: Warp): void {
  const { state } = warp;
  for (const [kind, list] of [
    ['cp_async_wait', state.copies],
    ['bulk_wait', state.bulk],
  ] as const) {
    for (const [lane, groups] of list.entries()) {
      const operation = groups?.open[0] ?? groups?.groups.find((group) => group.length > 0)?.[0];
      if (!operation) continue;
      const committed = groups.open.length === 0;
      warp.report(
        'async-not-drained',
        `a thread ended before its asynchronous copy: ${committed ? `call ${kind}` : `commit it, and call ${kind}`}`,
        [warp.placeOf(operation.node, operation.node.op, lane)],
      );
      break;
    }
  }
  const product = state.products[0] ?? state.productGroups.flat()[0];
  if (product) {
    warp.report('async-not-drained', 'a warp ended before its wgmma: call wgmma_wait', [
      warp.placeOf(product.node, 'wgmma', 0),
    ]);
  }
}

/** First CTA of each cluster, in the order of the grid. */
function firstCtas(grid: Triple, shape: Triple): Triple[] {
  const out: Triple[] = [];
  for (let z = 0; z < grid[2]; z += shape[2])
    for (let y = 0; y < grid[1]; y += shape[1]) for (let x = 0; x < grid[0]; x += shape[0]) out.push([x, y, z]);
  return out;
}

function shuffleList<T>(list: T[], random: (end: number) => number): void {
  for (let i = list.length - 1; i > 0; i--) {
    const j = random(i + 1);
    [list[i], list[j]] = [list[j], list[i]];
  }
}
