import { numberOf } from '../ir/attributes.ts';
import { KernelError } from '../ir/error.ts';
import type { Node, Slot, Value } from '../ir/ir.ts';
import { mayDivideByZero } from '../ir/op-info.ts';
import { EXPRESSIONS } from './expressions.ts';
import { HELPERS } from './helpers.ts';
import type { View } from './lanes.ts';
import type { Warp } from './machine.ts';
import type { Step } from './program.ts';
import { constantOf, type Operand, type Registers } from './registers.ts';

/**
 * Straight stretches of operations that each lane does by itself, as one generated function: a loop over the lanes with
 * the values in local variables. Only what is used elsewhere is written to registers.
 */

/** Whether a node goes into a run. */
export function isLaneWise(node: Node): boolean {
  return LANE_WISE.has(node.op) || EXPRESSIONS[node.op] !== undefined;
}

const LANE_WISE = new Set(['const', 'param', 'shared_address', 'slot', 'get', 'set']);

/** What a run needs to know of the kernel around it. */
export interface RunContext {
  readonly registers: Registers;
  /** How often each value is used in the whole kernel. */
  readonly uses: ReadonlyMap<Value, number>;
  /** Slots that wgmma adds up in. */
  readonly accumulators: ReadonlySet<number>;
  addressOf(allocation: number, node: Node): number;
}

const VIEW_NAMES: readonly View[] = ['f', 'n', 'u', 'd', 'q', 'Q'];

export function makeRun(nodes: readonly Node[], context: RunContext): Step | undefined {
  const { registers } = context;
  const body: string[] = [];
  const before: string[] = [];
  const after: string[] = [];
  const local = new Set<Value>();
  const within = new Map<Value, number>();
  const set = new Set<number>();
  for (const node of nodes) for (const arg of node.args) within.set(arg, (within.get(arg) ?? 0) + 1);

  const at = (operand: Operand): string => `${operand.view}[${operand.at}+i]`;
  const $ = (value: Value): string => {
    if (value.node.op === 'const') return literal(constantOf(value));
    if (local.has(value)) return `v${value.id}`;
    const operand = registers.of(value);
    if (operand.type === 'b128') return `(${at(operand)}|Q[${operand.at + 32}+i]<<64n)`;
    return at(operand);
  };
  const put = (operand: Operand, expression: string): void => {
    body.push(`${at(operand)}=${operand.type === 'pred' ? `${expression}?1:0` : expression};`);
    if (operand.type === 'b128') body.push(`Q[${operand.at + 32}+i]=${expression}>>64n;`);
  };
  const define = (value: Value, expression: string): void => {
    body.push(`const v${value.id}=${expression};`);
    local.add(value);
    if ((context.uses.get(value) ?? 0) > (within.get(value) ?? 0)) put(registers.of(value), `v${value.id}`);
  };

  for (const [index, node] of nodes.entries()) {
    switch (node.op) {
      case 'const':
        break;
      case 'slot':
        for (const slot of node.slots) {
          after.push(`W.assigned[${slot.id}]&=~m;`);
          set.delete(slot.id);
        }
        break;
      case 'param':
        define(node.results[0], `P[${numberOf(node, 'index')}]`);
        break;
      case 'shared_address':
        define(node.results[0], String(context.addressOf(numberOf(node, 'id'), node)));
        break;
      case 'get': {
        const slot = node.slots[0];
        if (!set.has(slot.id)) before.push(`if((W.assigned[${slot.id}]&m)!==m)unset(W,${index});`);
        if (context.accumulators.has(slot.id)) before.push(`if(W.state.pinned.has(${slot.id}))pinned(W,${index});`);
        define(node.results[0], slotText(slot));
        break;
      }
      case 'set': {
        const slot = node.slots[0];
        set.add(slot.id);
        put(registers.slot(slot), $(node.args[0]));
        after.push(`W.assigned[${slot.id}]|=m;`);
        if (context.accumulators.has(slot.id)) {
          before.push(`if(W.state.pinned.has(${slot.id}))pinned(W,${index});`);
          after.push(`W.state.dirty.add(${slot.id});`);
        }
        break;
      }
      default: {
        if (mayDivideByZero(node)) body.push(`if(!${$(node.args[1])})zero(W,${index},i);`);
        const made = EXPRESSIONS[node.op](node, $);
        const expressions = typeof made === 'string' ? [made] : made;
        for (const [i, result] of node.results.entries()) define(result, expressions[i]);
      }
    }
  }
  if (body.length === 0 && before.length === 0 && after.length === 0) return undefined;
  const views = VIEW_NAMES.map((name) => `${name}=W.${name}`).join(',');
  const text =
    `return function run(W){const m=W.mask,${views},P=W.cta.cluster.machine.parameters;` +
    `${before.join('')}for(let i=0;i<32;i++){if((m>>>i&1)===0)continue;${body.join('')}}${after.join('')}}`;
  const unset = (warp: Warp, index: number): void => {
    const { slots } = nodes[index];
    if (!warp.cta.cluster.machine.checkUninitialised) return;
    const lane = 31 - Math.clz32(warp.mask & ~warp.assigned[slots[0].id]);
    warp.report('uninitialised', `variable ${slots[0].name} is read before it was set`, [
      warp.placeOf(nodes[index], 'read', lane),
    ]);
  };
  const pinned = (warp: Warp, index: number): void => {
    const node = nodes[index];
    const product = warp.state.pinned.get(node.slots[0].id);
    warp.report(
      'wgmma',
      `accumulator ${node.slots[0].name} is ${node.op === 'get' ? 'read' : 'written'} while a wgmma adds to it: wgmma_wait first`,
      [
        ...(product ? [warp.placeOf(product, 'wgmma', 0)] : []),
        warp.placeOf(node, node.op === 'get' ? 'read' : 'write', 0),
      ],
    );
  };
  const zero = (warp: Warp, index: number, lane: number): void => {
    const node = nodes[index];
    const what = node.op === 'div' ? 'quotient' : 'remainder';
    const message = `a ${node.results[0].type} is divided by 0: what the ${what} is nobody knows; ask before, in an if`;
    warp.report('division', message, [warp.placeOf(node, what, lane)]);
  };
  try {
    // The text is made here, of the kernel's operations alone: this is the simulator's compiler.
    // oxlint-disable-next-line typescript/no-implied-eval
    return new Function('H', 'unset', 'pinned', 'zero', text)(HELPERS, unset, pinned, zero) as Step;
  } catch (error) {
    throw new KernelError(`the simulator wrote wrong code (${String(error)}): ${text}`, nodes[0].position);
  }

  function slotText(slot: Slot): string {
    const operand = registers.slot(slot);
    return operand.type === 'b128' ? `(${at(operand)}|Q[${operand.at + 32}+i]<<64n)` : at(operand);
  }
}

function literal(value: number | bigint): string {
  if (typeof value === 'bigint') return value < 0n ? `(${value}n)` : `${value}n`;
  if (Object.is(value, -0)) return '(-0)';
  return value < 0 ? `(${value})` : String(value);
}
