import { choiceOf, flagOf, numberOf } from '../ir/attributes.ts';
import type { Node, Value } from '../ir/ir.ts';
import { TYPES } from '../types/dtype.ts';
import { MULTIMEM_LOADS, MULTIMEM_REDUCTIONS, MULTIMEM_TYPES, REDUCE_ASYNC } from '../atoms/cluster-forms.ts';
import type { Emitter, EmitNode } from './emitter.ts';
import { suffixOf } from './registers.ts';

/** Clusters, dependent grids, register budgets, multimem and the launch control of clusters (PTX ISA 9.0). */

function at(e: Emitter, value: Value): string {
  return `[${e.register(value)}]`;
}

function listOf(registers: readonly string[]): string {
  return registers.length === 1 ? registers[0] : `{${registers.join(', ')}}`;
}

function vectorOf(count: number): string {
  return count === 1 ? '' : `.v${count}`;
}

/** Before sm_90 there is no such instruction, and grids of a stream never overlap: nothing to wait for. */
function gridDependency(e: Emitter, what: 'wait' | 'launch_dependents'): void {
  if (e.arch.capability < 90) return;
  e.need(7.8, 'sm_90');
  e.line(`griddepcontrol.${what}`);
}

function storeAsync(e: Emitter, node: Node): void {
  const values = node.args.slice(1, -1);
  const barrier = node.args[node.args.length - 1];
  const bits = TYPES[values[0].type].bits;
  if (bits !== 32 && bits !== 64) throw e.error(`store_async stores 32- and 64-bit values, not ${values[0].type}`);
  if (![1, 2, 4].includes(values.length) || bits * values.length > 128) {
    throw e.error(`store_async stores 1, 2 or 4 values of at most 16 bytes, not ${values.length} of ${values[0].type}`);
  }
  const form = `st.async.weak.shared::cluster.mbarrier::complete_tx::bytes${vectorOf(values.length)}.b${bits}`;
  e.line(`${form} ${at(e, node.args[0])}, ${listOf(values.map((value) => e.register(value)))}, ${at(e, barrier)}`);
}

function reduceAsync(e: Emitter, node: Node): void {
  const [to, value, barrier] = node.args;
  const name = choiceOf(node, 'function', Object.keys(REDUCE_ASYNC));
  if (!REDUCE_ASYNC[name].includes(value.type)) {
    throw e.error(`reduce_async ${name} is for ${REDUCE_ASYNC[name].join(', ')}, not ${value.type}`);
  }
  const form = `red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.${name}.${suffixOf(value.type)}`;
  e.line(`${form} ${at(e, to)}, ${e.register(value)}, ${at(e, barrier)}`);
}

function registers(e: Emitter, node: Node): void {
  const count = numberOf(node, 'count');
  if (count % 8 !== 0 || count < 24 || count > 256) {
    throw e.error(`a warpgroup's registers are a multiple of 8 from 24 to 256, not ${count}`);
  }
  e.line(`setmaxnreg.${choiceOf(node, 'direction', ['inc', 'dec'])}.sync.aligned.u32 ${count}`);
}

/** Order and scope of a multimem access; `.weak` is written out. */
function order(node: Node, strong: readonly string[]): string {
  const kind = choiceOf(node, 'order', ['weak', ...strong], 'weak');
  return kind === 'weak' ? '.weak' : `.${kind}.${choiceOf(node, 'scope', ['cta', 'cluster', 'gpu', 'sys'], 'sys')}`;
}

function multimemType(e: Emitter, node: Node, count: number): string {
  const type = choiceOf(node, 'type', Object.keys(MULTIMEM_TYPES));
  if (!MULTIMEM_TYPES[type].includes(count)) {
    throw e.error(`${node.op} of ${type} moves ${MULTIMEM_TYPES[type].join(', ')} at once, not ${count}`);
  }
  return `${vectorOf(count)}.${{ i32: 's32', i64: 's64' }[type] ?? type}`;
}

function multimemFunction(e: Emitter, node: Node, table: Readonly<Record<string, readonly string[]>>): string {
  const name = choiceOf(node, 'function', Object.keys(table));
  const type = String(node.attributes.type);
  if (!table[name].includes(type)) {
    throw e.error(`${node.op} ${name} is for ${table[name].join(', ')}, not ${type}`);
  }
  return name;
}

export const CLUSTER_EMITTERS: Readonly<Record<string, EmitNode>> = {
  cluster_arrive: (e, node) => {
    e.line(`barrier.cluster.arrive.${choiceOf(node, 'order', ['release', 'relaxed'], 'release')}.aligned`);
  },
  cluster_wait: (e) => e.line('barrier.cluster.wait.acquire.aligned'),
  map_shared: (e, node) => {
    const [from, rank] = node.args;
    e.line(`mapa.shared::cluster.u32 ${e.define(node.results[0])}, ${e.register(from)}, ${e.use(rank)}`);
  },
  store_async: storeAsync,
  reduce_async: reduceAsync,
  set_max_registers: registers,
  grid_dependency_wait: (e) => gridDependency(e, 'wait'),
  grid_launch_dependents: (e) => gridDependency(e, 'launch_dependents'),
  multimem_load_reduce: (e, node) => {
    const name = multimemFunction(e, node, MULTIMEM_LOADS);
    const sum =
      name === 'add' && /^(bf16x2|f16x2)$/.test(String(node.attributes.type)) && flagOf(node, 'f32_sum', true);
    const type = multimemType(e, node, node.results.length);
    const form = `multimem.ld_reduce${order(node, ['relaxed', 'acquire'])}.global.${name}${sum ? '.acc::f32' : ''}${type}`;
    const address = at(e, node.args[0]);
    e.line(`${form} ${listOf(node.results.map((result) => e.define(result)))}, ${address}`);
  },
  multimem_store: (e, node) => {
    const values = node.args.slice(1);
    const form = `multimem.st${order(node, ['relaxed', 'release'])}.global${multimemType(e, node, values.length)}`;
    e.line(`${form} ${at(e, node.args[0])}, ${listOf(values.map((value) => e.register(value)))}`);
  },
  multimem_reduce: (e, node) => {
    const values = node.args.slice(1);
    const name = multimemFunction(e, node, MULTIMEM_REDUCTIONS);
    const kind = choiceOf(node, 'order', ['relaxed', 'release'], 'relaxed');
    const scope = choiceOf(node, 'scope', ['cta', 'cluster', 'gpu', 'sys'], 'sys');
    const form = `multimem.red.${kind}.${scope}.global.${name}${multimemType(e, node, values.length)}`;
    e.line(`${form} ${at(e, node.args[0])}, ${listOf(values.map((value) => e.register(value)))}`);
  },
  cluster_launch_try_cancel: (e, node) => {
    const all = flagOf(node, 'multicast') ? '.multicast::cluster::all' : '';
    const form = `clusterlaunchcontrol.try_cancel.async.shared::cta.mbarrier::complete_tx::bytes${all}.b128`;
    e.line(`${form} ${at(e, node.args[0])}, ${at(e, node.args[1])}`);
  },
  cluster_launch_query: (e, node) => {
    const response = e.register(node.args[0]);
    const [cancelled, ...first] = node.results.map((result) => e.define(result));
    e.line(`clusterlaunchcontrol.query_cancel.is_canceled.pred.b128 ${cancelled}, ${response}`);
    // Where nothing was cancelled the coordinates are undefined; 0 keeps the result the same every time.
    for (const register of first) e.line(`mov.b32 ${register}, 0`);
    const form = 'clusterlaunchcontrol.query_cancel.get_first_ctaid.v4.b32.b128';
    e.line(`@${cancelled} ${form} {${first.join(', ')}, _}, ${response}`);
  },
};
