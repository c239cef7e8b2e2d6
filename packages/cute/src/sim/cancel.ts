import { flagOf } from '../ir/attributes.ts';
import type { Node } from '../ir/ir.ts';
import { eachLane } from './copies.ts';
import { startTransfer } from './engine.ts';
import { located, locate, sharedTarget } from './locate.ts';
import type { Triple } from './machine.ts';
import { completeBytes } from './mbarriers.ts';
import { SHARED_BASE } from './memory.ts';
import type { Handler } from './program.ts';
import { readNumber } from './registers.ts';

/** Taking over the work of clusters that have not started (PTX ISA 9.0, "clusterlaunchcontrol"). */

const ANSWER_BYTES = 16;

/** The answer's 128 bits: the hardware's form is not public, `cluster_launch_query` alone reads it. */
function answerOf(first: Triple | undefined): Uint32Array {
  return first ? Uint32Array.of(1, ...first) : Uint32Array.of(0, 0, 0, 0);
}

const tryCancel: Handler = (node, program) => {
  const [to, barrier] = node.args.map((value) => program.registers.of(value));
  const everybody = flagOf(node, 'multicast');
  return eachLane((warp, lane) => {
    const { cluster } = warp.cta;
    const facts = { bytes: ANSWER_BYTES, align: ANSWER_BYTES, writes: true };
    const region = locate(warp, lane, to.type, readNumber(warp, to, lane), facts);
    if (!region) return;
    const offset = located;
    const place = sharedTarget(warp, readNumber(warp, barrier, lane)).address - SHARED_BASE;
    if (cluster.refused) {
      warp.report(
        'cluster',
        'after an answer that there is no more work a cluster does not ask again: leave the loop',
        [warp.placeOf(node, node.op, lane), refusal(cluster.refused)],
      );
    }
    const first = cluster.machine.waiting.shift();
    if (!first) cluster.refused = { node, warp };
    const answer = new Uint8Array(answerOf(first).buffer);
    const ctas = everybody ? cluster.ctas : [warp.cta];
    startTransfer(warp, lane, node, {
      reads: [],
      writes: ctas.map((cta) => ({ region: cta.shared, start: offset, bytes: ANSWER_BYTES })),
      move: () => {
        for (const cta of ctas) cta.shared.bytes.set(answer, offset);
      },
      after: (counter) => {
        for (const cta of ctas) completeBytes(cta, place, { node, warp, lane }, ANSWER_BYTES, counter);
      },
    });
  });
};

function refusal({
  node,
  warp,
}: {
  node: Node;
  warp: Parameters<ReturnType<Handler>>[0];
}): ReturnType<typeof warp.placeOf> {
  return warp.placeOf(node, 'the request that was refused', 0);
}

export const CANCEL_HANDLERS: Readonly<Record<string, Handler>> = { cluster_launch_try_cancel: tryCancel };
