import { KernelError } from './error.ts';
import type { KernelIR, Node, Region, Slot } from './ir.ts';

/** The slots that are set on every way to here; nothing where no way leads here. */
type State = Set<number> | undefined;

/** Checks that a slot is declared before it is used, of the right type, and set on every way to where it is read. */
export function checkSlots(kernel: KernelIR): void {
  new SlotCheck().region(kernel.body, new Set());
}

class SlotCheck {
  private readonly declared = new Map<number, Slot>();
  /** What is set where a label's breaks and continues leave. */
  private readonly exits = new Map<string, State>();
  private readonly nexts = new Map<string, State>();

  region(nodes: Region, before: State): State {
    let state = before;
    for (const node of nodes) state = this.node(node, state);
    return state;
  }

  private node(node: Node, state: State): State {
    for (const slot of node.slots) this.use(node, slot, state);
    switch (node.op) {
      case 'if': {
        const [yes, no] = node.regions;
        const other = state && new Set(state);
        return meet(this.region(yes, state), this.region(no, other));
      }
      case 'loop':
      case 'block':
        return this.labelled(node, state);
      case 'break':
        return this.leave(this.exits, node, state);
      case 'continue':
        return this.leave(this.nexts, node, state);
      case 'return':
      case 'trap':
        return undefined;
      default:
        return state;
    }
  }

  private use(node: Node, slot: Slot, state: State): void {
    if (node.op === 'slot') {
      this.declared.set(slot.id, slot);
      return;
    }
    if (!this.declared.has(slot.id)) {
      throw new KernelError(`${node.op}: variable ${slot.name} is not declared before its use`, node.position);
    }
    const value = node.op === 'set' ? node.args[0] : node.op === 'get' ? node.results[0] : undefined;
    if (value && value.type !== slot.type) {
      throw new KernelError(`${node.op}: variable ${slot.name} holds ${slot.type}, not ${value.type}`, node.position);
    }
    if (node.op === 'get' && state && !state.has(slot.id)) {
      throw new KernelError(
        `variable ${slot.name} is read, but not set on every way to here; give it a value where it is declared`,
        node.position,
      );
    }
    // Accumulators count as set: the first product may ignore what was there.
    if (node.op !== 'get') state?.add(slot.id);
  }

  private labelled(node: Node, state: State): State {
    const label = String(node.attributes.label);
    this.exits.delete(label);
    this.nexts.delete(label);
    const [body, latch] = node.regions;
    const end = this.region(body, state && new Set(state));
    if (latch) {
      this.region(latch, meet(end, this.nexts.get(label)));
      return this.exits.get(label);
    }
    return meet(end, this.exits.get(label));
  }

  private leave(table: Map<string, State>, node: Node, state: State): State {
    const label = String(node.attributes.label);
    table.set(label, meet(table.get(label), state && new Set(state)));
    return undefined;
  }
}

function meet(a: State, b: State): State {
  if (!a) return b;
  if (!b) return a;
  return a.intersection(b);
}
