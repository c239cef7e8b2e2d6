import type { Node } from '../ir/ir.ts';
import type { AsyncOperation, Warp } from './machine.ts';
import type { MemoryRegion } from './memory.ts';
import type { PendingRange } from './pending.ts';

/** Copies that run beside the threads: what they touch, when they end, and what is checked around them. */

export interface Span {
  readonly region: MemoryRegion;
  readonly start: number;
  readonly bytes: number;
}

export interface Transfer {
  readonly reads: readonly Span[];
  readonly writes: readonly Span[];
  /** Moves the data. */
  readonly move: () => void;
  /** Runs behind it, with the engine's counter that covers the writes. */
  readonly after?: (counter: number) => void;
}

/** Starts a copy by the async proxy on behalf of a lane. */
export function startTransfer(warp: Warp, lane: number, node: Node, transfer: Transfer): AsyncOperation {
  const { machine } = warp.cta.cluster;
  const { shadow } = machine;
  const record = shadow.record(warp, node);
  const ranges: [MemoryRegion, PendingRange][] = [];
  for (const { region, start, bytes } of transfer.reads) {
    shadow.engineRead(region, start, bytes, warp, lane, record);
    ranges.push([region, { start, end: start + bytes, writes: false, node, warp, lane }]);
  }
  for (const { region, start, bytes } of transfer.writes) {
    shadow.engineWriteStarts(region, start, bytes, warp, lane);
    ranges.push([region, { start, end: start + bytes, writes: true, node, warp, lane }]);
  }
  for (const [region, range] of ranges) region.pending.add(range);
  const operation: AsyncOperation = {
    node,
    warp,
    lane,
    done: false,
    intoShared: transfer.writes.some(({ region }) => region.space === 'shared'),
    complete: () => {
      for (const [region, range] of ranges) region.pending.remove(range);
      for (const { region, start, bytes } of transfer.reads) {
        const change = shadow.changedSince(region, start, bytes, record);
        if (!change) continue;
        warp.report('async-pending', `${node.op} still read its source when it was written: wait until it has read`, [
          warp.placeOf(node, node.op, lane),
          change,
        ]);
      }
      transfer.move();
      const counter = ++warp.cta.engineCounter;
      const written = shadow.record(warp, node, false, { component: warp.cta.engine, counter });
      for (const { region, start, bytes } of transfer.writes) shadow.engineWrote(region, start, bytes, written, lane);
      transfer.after?.(counter);
    },
  };
  warp.cta.cluster.operations.push(operation);
  return operation;
}
