import { flagOf, numberOf } from '../ir/attributes.ts';
import { KernelError } from '../ir/error.ts';
import type { Node } from '../ir/ir.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import { elementAt, putElement } from './access.ts';
import { combine } from './combine.ts';
import { startTransfer, type Span } from './engine.ts';
import { located, locate, sharedTarget } from './locate.ts';
import { completeBytes } from './mbarriers.ts';
import { type AsyncOperation, type Cta, type Warp } from './machine.ts';
import { groupsOf, type LaneGroups } from './warp-state.ts';
import { SHARED_BASE } from './memory.ts';
import type { PendingRange } from './pending.ts';
import type { Handler, Program } from './program.ts';
import { read, readNumber, write, type Operand } from './registers.ts';

/** cp.async, bulk copies and their groups, stores that report to an mbarrier (PTX ISA 9.0, "Asynchronous copy"). */

/** Runs for each active lane. */
export function eachLane(run: (warp: Warp, lane: number) => void): (warp: Warp) => void {
  return (warp) => {
    for (let lane = 0; lane < 32; lane++) if ((warp.mask >>> lane) & 1) run(warp, lane);
  };
}

/** A thread's copy through the generic proxy; it may be used after the thread waited for it. */
const copy: Handler = (node, program) => {
  const [to, from] = node.args.map((value) => program.registers.of(value));
  const reads = node.args[2] ? program.registers.of(node.args[2]) : undefined;
  const bytes = numberOf(node, 'bytes');
  const part = program.allocationOf(node.args[0]);
  return eachLane((warp, lane) => {
    const { shadow } = warp.cta.cluster.machine;
    const wanted = reads ? Math.max(0, Math.min(bytes, readNumber(warp, reads, lane))) : bytes;
    const target = locate(warp, lane, to.type, readNumber(warp, to, lane), { bytes, align: bytes, writes: true, part });
    if (!target) return;
    const start = located;
    const address = readNumber(warp, from, lane);
    const source =
      wanted > 0
        ? locate(warp, lane, from.type, address, { bytes: wanted, align: wanted === bytes ? bytes : 1, writes: false })
        : undefined;
    const origin = located;
    if (wanted > 0 && !source) return;
    if (source) shadow.read(source, origin, wanted, warp, lane, shadow.record(warp, node), false);
    shadow.engineWriteStarts(target, start, bytes, warp, lane);
    const range: PendingRange = { start, end: start + bytes, writes: true, node, warp, lane };
    target.pending.add(range);
    const operation: AsyncOperation = {
      node,
      warp,
      lane,
      done: false,
      intoShared: true,
      complete: () => {
        target.bytes.fill(0, start, start + bytes);
        if (source) target.bytes.set(source.bytes.subarray(origin, origin + wanted), start);
      },
      visible: () => {
        if (!target.pending.remove(range)) return;
        shadow.engineWrote(target, start, bytes, shadow.record(warp, node), lane);
      },
    };
    warp.cta.cluster.operations.push(operation);
    groupsOf(warp.state.copies, lane).open.push(operation);
  });
};

function commit(kind: 'copies' | 'bulk'): Handler {
  return () =>
    eachLane((warp, lane) => {
      const list = groupsOf(warp.state[kind], lane);
      list.groups.push(list.open);
      list.open = [];
    });
}

/** Waits until all but the newest `groups` groups of each lane have ended. */
function wait(kind: 'copies' | 'bulk'): Handler {
  return (node) => {
    const all = flagOf(node, 'all');
    const keep = all ? 0 : numberOf(node, 'groups', 0);
    const onlyRead = flagOf(node, 'read');
    return (warp) => {
      const lists: LaneGroups[] = [];
      for (let lane = 0; lane < 32; lane++) if ((warp.mask >>> lane) & 1) lists.push(groupsOf(warp.state[kind], lane));
      const old = (list: LaneGroups): AsyncOperation[] => [
        ...list.groups.slice(0, Math.max(0, list.groups.length - keep)).flat(),
        ...(all ? list.open : []),
      ];
      const waited = lists.flatMap(old);
      const finish = (): void => {
        for (const operation of waited) {
          operation.visible?.();
          if (kind === 'bulk' && !onlyRead) warp.meeting.before.add(warp.cta.engine, -1, warp.cta.engineCounter);
        }
        for (const list of lists) {
          list.groups = list.groups.slice(Math.max(0, list.groups.length - keep));
          if (all) list.open = [];
        }
      };
      if (waited.every(({ done }) => done)) return finish();
      warp.wait = {
        node,
        what: () => `${waited.filter(({ done }) => !done).length} asynchronous copies of its own`,
        ready: () => waited.every(({ done }) => done),
        resume: finish,
      };
    };
  };
}

/** The operands behind the fixed ones: a multicast mask. */
export function multicastOf(node: Node, program: Program, first: number): Operand | undefined {
  return flagOf(node, 'multicast') ? program.registers.of(node.args[first]) : undefined;
}

/** CTAs that get a copy's data, and where in their shared memory. */
export function destinations(
  warp: Warp,
  lane: number,
  address: number,
  mask: Operand | undefined,
): { cta: Cta; offset: number }[] {
  const { cta, address: local } = sharedTarget(warp, address);
  const offset = local - SHARED_BASE;
  if (!mask) return cta ? [{ cta, offset }] : [];
  const bits = readNumber(warp, mask, lane);
  const { ctas } = warp.cta.cluster;
  if (bits >>> ctas.length !== 0) {
    warp.report(
      'cluster',
      `the multicast mask 0x${bits.toString(16)} names CTAs that the cluster of ${ctas.length} does not have`,
      [warp.place('multicast', lane)],
    );
  }
  return ctas.filter((_, rank) => (bits >>> rank) & 1).map((each) => ({ cta: each, offset }));
}

/** Byte counts of bulk copies are multiples of 16. */
function checkBytes(warp: Warp, lane: number, bytes: number): boolean {
  if (bytes > 0 && bytes % 16 === 0) return true;
  if (bytes !== 0)
    warp.report('misaligned', `a bulk copy moves a multiple of 16 bytes, not ${bytes}`, [
      warp.place('bulk copy', lane),
    ]);
  return false;
}

/** The bytes at one end of a bulk copy; undefined after a finding. */
function bulkSpan(warp: Warp, lane: number, place: Operand, bytes: number, writes: boolean): Span | undefined {
  const region = locate(warp, lane, place.type, readNumber(warp, place, lane), { bytes, align: 16, writes });
  return region && { region, start: located, bytes };
}

function bytesOf({ region, start, bytes }: Span): Uint8Array {
  return region.bytes.subarray(start, start + bytes);
}

const bulkLoad: Handler = (node, program) => {
  const [to, from, size, barrier] = node.args.map((value) => program.registers.of(value));
  const mask = multicastOf(node, program, 4);
  return eachLane((warp, lane) => {
    const bytes = readNumber(warp, size, lane);
    if (!checkBytes(warp, lane, bytes)) return;
    const source = bulkSpan(warp, lane, from, bytes, false);
    if (!source) return;
    if (!bulkSpan(warp, lane, to, bytes, true)) return;
    const targets = destinations(warp, lane, readNumber(warp, to, lane), mask);
    const place = sharedTarget(warp, readNumber(warp, barrier, lane)).address - SHARED_BASE;
    startTransfer(warp, lane, node, {
      reads: [source],
      writes: targets.map(({ cta, offset }) => ({ region: cta.shared, start: offset, bytes })),
      move: () => {
        for (const { cta, offset } of targets) cta.shared.bytes.set(bytesOf(source), offset);
      },
      after: (counter) => {
        for (const { cta } of targets) completeBytes(cta, place, { node, warp, lane }, bytes, counter);
      },
    });
  });
};

/** Shared to global memory, by a group; perhaps combined with what is there. */
const bulkStore: Handler = (node, program) => {
  const [to, from, size] = node.args.map((value) => program.registers.of(value));
  const reduce = node.attributes['reduce'];
  const type = node.attributes['type'] as TypeName | undefined;
  return eachLane((warp, lane) => {
    const bytes = readNumber(warp, size, lane);
    if (!checkBytes(warp, lane, bytes)) return;
    const target = bulkSpan(warp, lane, to, bytes, true);
    if (!target) return;
    const source = bulkSpan(warp, lane, from, bytes, false);
    if (!source) return;
    const operation = startTransfer(warp, lane, node, {
      reads: [source],
      // Reductions do not race with each other.
      writes: reduce === undefined ? [target] : [],
      move: () => {
        if (typeof reduce !== 'string' || !type) {
          target.region.bytes.set(bytesOf(source), target.start);
          return;
        }
        const step = TYPES[type].bits / 8;
        for (let i = 0; i < bytes; i += step) {
          const sum = combine(
            node,
            reduce,
            type,
            elementAt(target.region, target.start + i, type),
            elementAt(source.region, source.start + i, type),
          );
          putElement(target.region, target.start + i, type, sum);
        }
      },
    });
    groupsOf(warp.state.bulk, lane).open.push(operation);
  });
};

const copyToCluster: Handler = (node, program) => {
  const [to, from, size, barrier] = node.args.map((value) => program.registers.of(value));
  return eachLane((warp, lane) => {
    const bytes = readNumber(warp, size, lane);
    if (!checkBytes(warp, lane, bytes)) return;
    const source = bulkSpan(warp, lane, from, bytes, false);
    if (!source) return;
    const target = bulkSpan(warp, lane, to, bytes, true);
    if (!target) return;
    const { cta, address } = sharedTarget(warp, readNumber(warp, barrier, lane));
    startTransfer(warp, lane, node, {
      reads: [source],
      writes: [target],
      move: () => target.region.bytes.set(bytesOf(source), target.start),
      after: (counter) => {
        if (cta) completeBytes(cta, address - SHARED_BASE, { node, warp, lane }, bytes, counter);
      },
    });
  });
};

/** `store_async` and `reduce_async`: values into another CTA's shared memory, with bytes for its mbarrier. */
function storeAsync(name: string | undefined): Handler {
  return (node, program) => {
    const operands = node.args.map((value) => program.registers.of(value));
    const to = operands[0];
    const barrier = operands[operands.length - 1];
    const values = operands.slice(1, -1);
    const { type } = values[0];
    const step = TYPES[type].bits / 8;
    const bytes = step * values.length;
    const reduce = name === undefined ? undefined : String(node.attributes['function']);
    return eachLane((warp, lane) => {
      const target = locate(warp, lane, to.type, readNumber(warp, to, lane), { bytes, align: bytes, writes: true });
      if (!target) return;
      const start = located;
      const { cta, address } = sharedTarget(warp, readNumber(warp, barrier, lane));
      const data = values.map((operand) => read(warp, operand, lane));
      const writes: Span[] = reduce ? [] : [{ region: target, start, bytes }];
      startTransfer(warp, lane, node, {
        reads: [],
        writes,
        move: () => {
          for (const [i, value] of data.entries()) {
            const at = start + i * step;
            putElement(
              target,
              at,
              type,
              reduce ? combine(node, reduce, type, elementAt(target, at, type), value) : value,
            );
          }
        },
        after: (counter) => {
          if (cta) completeBytes(cta, address - SHARED_BASE, { node, warp, lane }, bytes, counter);
        },
      });
    });
  };
}

/** One device: its multicast memory is its own. */
function multimem(kind: 'load' | 'store' | 'reduce'): Handler {
  return (node, program) => {
    const type = node.attributes['type'] as TypeName;
    if (!type) throw new KernelError(`${node.op} needs a type`, node.position);
    const address = program.registers.of(node.args[0]);
    const values = (kind === 'load' ? node.results : node.args.slice(1)).map((value) => program.registers.of(value));
    const step = TYPES[type].bits / 8;
    const bytes = step * values.length;
    return eachLane((warp, lane) => {
      const region = locate(warp, lane, address.type, readNumber(warp, address, lane), {
        bytes,
        align: bytes,
        writes: kind !== 'load',
      });
      if (!region) return;
      for (const [i, operand] of values.entries()) {
        const at = located + i * step;
        if (kind === 'load') write(warp, operand, lane, elementAt(region, at, type));
        else {
          const value = read(warp, operand, lane);
          const name = String(node.attributes['function']);
          putElement(
            region,
            at,
            type,
            kind === 'store' ? value : combine(node, name, type, elementAt(region, at, type), value),
          );
        }
      }
    });
  };
}

export const COPY_HANDLERS: Readonly<Record<string, Handler>> = {
  cp_async: copy,
  cp_async_commit: commit('copies'),
  cp_async_wait: wait('copies'),
  bulk_load: bulkLoad,
  bulk_store: bulkStore,
  bulk_copy_cluster: copyToCluster,
  bulk_prefetch: () => () => {},
  bulk_commit: commit('bulk'),
  bulk_wait: wait('bulk'),
  store_async: storeAsync(undefined),
  reduce_async: storeAsync('reduce'),
  multimem_load_reduce: multimem('load'),
  multimem_store: multimem('store'),
  multimem_reduce: multimem('reduce'),
};
