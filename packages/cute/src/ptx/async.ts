import { choiceOf, flagOf, numberOf } from '../ir/attributes.ts';
import type { Node, Value } from '../ir/ir.ts';
import type { Emitter, EmitNode } from './emitter.ts';

/** cp.async and mbarriers (PTX ISA 9.0, "Asynchronous copy", "Parallel synchronization: mbarrier"). */

const CP_BYTES = [4, 8, 16] as const;

function cpAsync(e: Emitter, node: Node): void {
  const bytes = numberOf(node, 'bytes');
  const cache = choiceOf(node, 'cache', ['ca', 'cg'], bytes === 16 ? 'cg' : 'ca');
  if (!CP_BYTES.some((size) => size === bytes)) throw e.error(`cp_async copies 4, 8 or 16 bytes, not ${bytes}`);
  if (cache === 'cg' && bytes !== 16) throw e.error(`cp_async past L1 (cg) copies 16 bytes, not ${bytes}: use ca`);
  const operands = [`[${e.register(node.args[0])}]`, `[${e.register(node.args[1])}]`, String(bytes)];
  if (node.args.length > 2) operands.push(e.use(node.args[2]));
  e.line(`cp.async.${cache}.shared.global ${operands.join(', ')}`);
}

/** Where a barrier lies, as PTX spells the window: the own CTA's or the cluster's. */
export function windowOf(value: Value): 'shared::cta' | 'shared::cluster' {
  return value.type === 'ptr.cluster' ? 'shared::cluster' : 'shared::cta';
}

function address(e: Emitter, value: Value): string {
  return `[${e.register(value)}]`;
}

function arrive(e: Emitter, node: Node): void {
  const [barrier] = node.args;
  const count = numberOf(node, 'count', 1);
  if (barrier.type === 'ptr.shared' && node.attributes.scope !== 'cluster' && e.arch.capability < 90) {
    const state = e.temporary('d');
    if (count === 1) return e.line(`mbarrier.arrive.shared.b64 ${state}, ${address(e, barrier)}`);
    return e.line(`mbarrier.arrive.noComplete.shared.b64 ${state}, ${address(e, barrier)}, ${count}`);
  }
  e.need(8, 'sm_90');
  const scope = choiceOf(node, 'scope', ['cta', 'cluster'], barrier.type === 'ptr.cluster' ? 'cluster' : 'cta');
  const result = barrier.type === 'ptr.cluster' ? '_' : e.temporary('d');
  const tail = count === 1 ? '' : `, ${count}`;
  e.line(`mbarrier.arrive.release.${scope}.${windowOf(barrier)}.b64 ${result}, ${address(e, barrier)}${tail}`);
}

function expect(e: Emitter, node: Node): void {
  const [barrier, dynamic] = node.args;
  const bytes = dynamic ? e.use(dynamic) : String(numberOf(node, 'bytes'));
  const scope = choiceOf(node, 'scope', ['cta', 'cluster'], barrier.type === 'ptr.cluster' ? 'cluster' : 'cta');
  const place = `${scope}.${windowOf(barrier)}.b64`;
  if (!flagOf(node, 'arrive', true)) {
    return e.line(`mbarrier.expect_tx.relaxed.${place} ${address(e, barrier)}, ${bytes}`);
  }
  const result = barrier.type === 'ptr.cluster' ? '_' : e.temporary('d');
  e.line(`mbarrier.arrive.expect_tx.release.${place} ${result}, ${address(e, barrier)}, ${bytes}`);
}

function tryWait(e: Emitter, node: Node, done: string): void {
  const [barrier, parity] = node.args;
  const scope = choiceOf(node, 'scope', ['cta', 'cluster'], 'cta');
  const hint = node.attributes.hint === undefined ? '' : `, ${numberOf(node, 'hint')}`;
  const form = `mbarrier.try_wait.parity.acquire.${scope}.shared::cta.b64`;
  e.line(`${form} ${done}, ${address(e, barrier)}, ${e.use(parity)}${hint}`);
}

/** The hardware suspends a waiting thread for a while; the loop covers the time-outs. */
function wait(e: Emitter, node: Node): void {
  const done = e.temporary('p');
  const again = e.label('wait');
  e.place(again);
  tryWait(e, node, done);
  e.line(`@!${done} bra ${again}`);
}

const PROXY_SPACES = { shared: '.shared::cta', global: '.global', all: '' } as const;

export const ASYNC_EMITTERS: Readonly<Record<string, EmitNode>> = {
  cp_async: cpAsync,
  cp_async_commit: (e) => e.line('cp.async.commit_group'),
  cp_async_wait: (e, node) => {
    e.line(flagOf(node, 'all') ? 'cp.async.wait_all' : `cp.async.wait_group ${numberOf(node, 'groups')}`);
  },
  cp_async_arrive: (e, node) => {
    const form = flagOf(node, 'noinc') ? '.noinc' : '';
    e.line(`cp.async.mbarrier.arrive${form}.shared.b64 ${address(e, node.args[0])}`);
  },
  mbarrier_init: (e, node) => {
    e.line(`mbarrier.init.shared.b64 ${address(e, node.args[0])}, ${numberOf(node, 'count')}`);
  },
  mbarrier_invalidate: (e, node) => e.line(`mbarrier.inval.shared.b64 ${address(e, node.args[0])}`),
  mbarrier_arrive: arrive,
  mbarrier_expect: expect,
  mbarrier_try_wait: (e, node) => tryWait(e, node, e.define(node.results[0])),
  mbarrier_wait: wait,
  mbarrier_fence_init: (e) => e.line('fence.mbarrier_init.release.cluster'),
  fence_proxy_async: (e, node) => {
    const space = choiceOf(node, 'space', ['shared', 'global', 'all'], 'all');
    e.line(`fence.proxy.async${PROXY_SPACES[space]}`);
  },
};
