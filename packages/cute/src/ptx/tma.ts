import { choiceOf, flagOf, numberOf } from '../ir/attributes.ts';
import type { Node, Value } from '../ir/ir.ts';
import { BULK_REDUCTIONS, TENSORMAP_FIELDS, TENSOR_REDUCTIONS } from '../atoms/bulk-forms.ts';
import { suffixOf } from './registers.ts';
import type { Emitter, EmitNode } from './emitter.ts';

/** Bulk copies, tensor copies and tensor maps (PTX ISA 9.0, "Non-tensor copy", "Tensor copy", "Tensormap"). */

const COMPLETES = 'mbarrier::complete_tx::bytes';

/** The optional operands at the end: a multicast mask, then a cache policy. */
function tail(e: Emitter, node: Node, first: number): { suffix: string; operands: string[] } {
  let next = first;
  let suffix = '';
  const operands: string[] = [];
  for (const [attribute, spelled] of [
    ['multicast', '.multicast::cluster'],
    ['policy', '.L2::cache_hint'],
  ] as const) {
    if (!flagOf(node, attribute)) continue;
    const value = node.args[next++];
    if (!value) throw e.error(`${node.op} says ${attribute}, but the operand is missing`);
    operands.push(e.register(value));
    // cta_group goes between the two; the caller puts it there.
    suffix += spelled;
  }
  if (next !== node.args.length) {
    throw e.error(`${node.op} has ${node.args.length} operands, its attributes account for ${next}`);
  }
  return { suffix, operands };
}

function at(e: Emitter, value: Value): string {
  return `[${e.register(value)}]`;
}

function line(e: Emitter, instruction: string, operands: readonly string[]): void {
  e.line(`${instruction} ${operands.join(', ')}`);
}

function bulkLoad(e: Emitter, node: Node): void {
  const [to, from, bytes, barrier] = node.args;
  const rest = tail(e, node, 4);
  const operands = [at(e, to), at(e, from), e.use(bytes), at(e, barrier), ...rest.operands];
  line(e, `cp.async.bulk.shared::cluster.global.${COMPLETES}${rest.suffix}`, operands);
}

function bulkStore(e: Emitter, node: Node): void {
  const [to, from, bytes] = node.args;
  const rest = tail(e, node, 3);
  const operands = [at(e, to), at(e, from), e.use(bytes), ...rest.operands];
  if (node.attributes.reduce === undefined) {
    return line(e, `cp.async.bulk.global.shared::cta.bulk_group${rest.suffix}`, operands);
  }
  const reduce = choiceOf(node, 'reduce', Object.keys(BULK_REDUCTIONS));
  const type = choiceOf(node, 'type', BULK_REDUCTIONS[reduce]);
  const exact = reduce === 'add' && (type === 'f16' || type === 'bf16') ? '.noftz' : '';
  const form = `.${reduce}${exact}.${suffixOf(type)}`;
  line(e, `cp.reduce.async.bulk.global.shared::cta.bulk_group${rest.suffix}${form}`, operands);
}

/** `[map, {x, y, ...}]`. */
function box(e: Emitter, map: Value, coordinates: readonly Value[]): string {
  return `[${e.register(map)}, {${coordinates.map((value) => e.register(value)).join(', ')}}]`;
}

function rankOf(e: Emitter, node: Node): number {
  const rank = numberOf(node, 'rank');
  if (!Number.isInteger(rank) || rank < 1 || rank > 5) throw e.error(`${node.op} has rank 1 to 5, not ${rank}`);
  return rank;
}

const MODES = { tile: '.tile', im2col: '.im2col', gather4: '.tile::gather4', scatter4: '.tile::scatter4' } as const;

/** How many coordinates and im2col offsets a mode takes; a mode's own limits on the rank. */
function extents(e: Emitter, node: Node, mode: keyof typeof MODES): { coordinates: number; offsets: number } {
  const rank = rankOf(e, node);
  if (mode === 'im2col' && rank < 3) throw e.error(`im2col has rank 3 to 5, not ${rank}`);
  if (mode === 'gather4' || mode === 'scatter4') {
    if (rank !== 2) throw e.error(`${mode} has rank 2 (a column and four rows), not ${rank}`);
    return { coordinates: 5, offsets: 0 };
  }
  return { coordinates: rank, offsets: mode === 'im2col' ? rank - 2 : 0 };
}

function tmaLoad(e: Emitter, node: Node): void {
  const [to, map, barrier] = node.args;
  const mode = choiceOf(node, 'mode', ['tile', 'im2col', 'gather4'], 'tile');
  const { coordinates, offsets } = extents(e, node, mode);
  const first = 3 + coordinates;
  const shifts = node.args.slice(first, first + offsets).map((value) => e.register(value));
  const rest = tail(e, node, first + offsets);
  const group = numberOf(node, 'cta_group', 0);
  let suffix = rest.suffix;
  if (group !== 0) {
    const multicast = flagOf(node, 'multicast') ? '.multicast::cluster' : '';
    suffix = `${multicast}.cta_group::${group}${suffix.slice(multicast.length)}`;
  }
  const operands = [at(e, to), box(e, map, node.args.slice(3, first)), at(e, barrier)];
  if (offsets > 0) operands.push(`{${shifts.join(', ')}}`);
  const form = `cp.async.bulk.tensor.${rankOf(e, node)}d.shared::cluster.global${MODES[mode]}.${COMPLETES}${suffix}`;
  line(e, form, [...operands, ...rest.operands]);
}

function tmaStore(e: Emitter, node: Node): void {
  const [map, from] = node.args;
  const mode = choiceOf(node, 'mode', ['tile', 'im2col', 'scatter4'], 'tile');
  const { coordinates } = extents(e, node, mode);
  const rest = tail(e, node, 2 + coordinates);
  const operands = [box(e, map, node.args.slice(2, 2 + coordinates)), at(e, from), ...rest.operands];
  const rank = `${rankOf(e, node)}d.global.shared::cta`;
  const spelled = mode === 'im2col' ? '.im2col_no_offs' : MODES[mode];
  if (node.attributes.reduce === undefined) {
    return line(e, `cp.async.bulk.tensor.${rank}${spelled}.bulk_group${rest.suffix}`, operands);
  }
  const reduce = choiceOf(node, 'reduce', TENSOR_REDUCTIONS);
  if (mode === 'scatter4') throw e.error('a scattered store does not reduce');
  line(e, `cp.reduce.async.bulk.tensor.${rank}.${reduce}${spelled}.bulk_group${rest.suffix}`, operands);
}

function tmaPrefetch(e: Emitter, node: Node): void {
  const mode = choiceOf(node, 'mode', ['tile', 'im2col', 'gather4'], 'tile');
  const { coordinates, offsets } = extents(e, node, mode);
  const first = 1 + coordinates;
  const operands = [box(e, node.args[0], node.args.slice(1, first))];
  const shifts = node.args.slice(first, first + offsets).map((value) => e.register(value));
  if (offsets > 0) operands.push(`{${shifts.join(', ')}}`);
  const rest = tail(e, node, first + offsets);
  const form = `cp.async.bulk.prefetch.tensor.${rankOf(e, node)}d.L2.global${MODES[mode]}${rest.suffix}`;
  line(e, form, [...operands, ...rest.operands]);
}

function tensormapReplace(e: Emitter, node: Node): void {
  const field = choiceOf(node, 'field', Object.keys(TENSORMAP_FIELDS));
  const { bits, indexed, constant } = TENSORMAP_FIELDS[field];
  const [map, value] = node.args;
  const operands = [at(e, map)];
  if (indexed) operands.push(String(numberOf(node, 'index')));
  operands.push(constant ? String(numberOf(node, 'value')) : e.use(value));
  line(e, `tensormap.replace.tile.${field}.shared::cta.b1024.b${bits}`, operands);
}

/** A generic address of something in global memory. */
function generic(e: Emitter, value: Value): string {
  if (value.type === 'ptr.generic') return e.register(value);
  const address = e.temporary('d');
  e.line(`cvta.global.u64 ${address}, ${e.register(value)}`);
  return address;
}

export const TMA_EMITTERS: Readonly<Record<string, EmitNode>> = {
  bulk_load: bulkLoad,
  bulk_store: bulkStore,
  bulk_copy_cluster: (e, node) => {
    const [to, from, bytes, barrier] = node.args;
    const operands = [at(e, to), at(e, from), e.use(bytes), at(e, barrier)];
    line(e, `cp.async.bulk.shared::cluster.shared::cta.${COMPLETES}`, operands);
  },
  bulk_prefetch: (e, node) => {
    // Before sm_90 there is no such instruction, and nothing is computed by it.
    if (e.arch.capability < 90) return;
    e.need(8, 'sm_90');
    line(e, 'cp.async.bulk.prefetch.L2.global', [at(e, node.args[0]), e.use(node.args[1])]);
  },
  bulk_commit: (e) => e.line('cp.async.bulk.commit_group'),
  bulk_wait: (e, node) => {
    e.line(`cp.async.bulk.wait_group${flagOf(node, 'read') ? '.read' : ''} ${numberOf(node, 'groups')}`);
  },
  tma_load: tmaLoad,
  tma_store: tmaStore,
  tma_prefetch: tmaPrefetch,
  tensormap_prefetch: (e, node) => e.line(`prefetch.tensormap ${at(e, node.args[0])}`),
  tensormap_replace: tensormapReplace,
  tensormap_copy_fence: (e, node) => {
    const operands = [at(e, node.args[0]), at(e, node.args[1]), '128'];
    line(e, 'tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned', operands);
  },
  tensormap_acquire: (e, node) => {
    e.line(`fence.proxy.tensormap::generic.acquire.gpu [${generic(e, node.args[0])}], 128`);
  },
};
