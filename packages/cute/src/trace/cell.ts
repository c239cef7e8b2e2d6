import { makeNode } from '../ir/builder.ts';
import type { Node, Slot, Value } from '../ir/ir.ts';
import type { TypeName } from '../types/dtype.ts';
import { constantNode, convert, describe, isConstant, isDevice, operand, widens } from './convert.ts';
import { Home, tracing, type Trace } from './state.ts';

/** Several registers that are one value: a variable that is assigned one has its own. */
export abstract class Registers {
  abstract readonly length: number;
  abstract copy(name?: string): Registers;
  abstract assign(other: Registers): void;
}

/**
 * A variable that is assigned after its declaration. A value of JavaScript may change where it is declared, at compile
 * time. A device value becomes a register slot as soon as it matters where: assigned under a run-time condition, or read
 * in a loop of the device.
 */
export class Cell {
  readonly name: string;
  private home: Home | undefined;
  private value: unknown;
  private slot: Slot | undefined;

  constructor(value: unknown, name: string) {
    const trace = tracing();
    this.name = name;
    this.home = trace && new Home(trace);
    // A fragment is a value: the variable has its own.
    this.value = value instanceof Registers ? value.copy(name) : value;
  }

  get v(): unknown {
    const trace = tracing();
    if (!trace || !this.home) return this.value;
    if (!this.slot && isDevice(this.value) && this.home.crossing(trace) === 'loop')
      this.promote(trace, this.value.type);
    if (!this.slot) return this.value;
    return trace.builder.value('get', this.slot.type, { slots: [this.slot] });
  }

  /** A copy for the next round of a loop, where functions keep this round's. Loops of the device have one for all. */
  fork(): Cell {
    return this.slot ? this : new Cell(this.value, this.name);
  }

  set(value: unknown): void {
    const trace = tracing();
    if (!trace || !this.home) {
      this.value = value instanceof Registers ? value.copy(this.name) : value;
      return;
    }
    if (trace.current.dead) return;
    if (this.slot) {
      this.write(trace, this.slot, value);
      return;
    }
    if (this.value instanceof Registers && value instanceof Registers && this.value.length === value.length) {
      this.value.assign(value);
      return;
    }
    const crossing = this.home.crossing(trace);
    if (crossing === 'none') {
      const before = this.value;
      trace.journal?.push(() => (this.value = before));
      this.value = this.adapted(trace, value);
      return;
    }
    if (crossing === 'gone') {
      trace.fail(`'${this.name}' was declared inside a branch or loop that has ended: declare it outside`);
    }
    const type = isDevice(this.value)
      ? this.value.type
      : this.value === undefined && isDevice(value)
        ? value.type
        : undefined;
    if (type === undefined) {
      if (value === this.value) return;
      this.refuse(trace, value);
    }
    this.write(trace, this.promote(trace, type), value);
  }

  /** Counters belong to their loop: jumps out of it do not make them change under a condition. */
  rehome(trace: Trace): void {
    this.home = new Home(trace);
  }

  /** Makes a number known at compile time one of the device, before a loop of the device counts with it. */
  toDevice(trace: Trace, type: TypeName): void {
    if (this.slot || typeof this.value !== 'number' || !Number.isInteger(this.value)) return;
    this.promote(trace, type);
  }

  /** Once a variable is a device value, its type stays. */
  private adapted(trace: Trace, value: unknown): unknown {
    if (!isDevice(this.value)) return value instanceof Registers ? value.copy(this.name) : value;
    if (isConstant(value)) return operand(trace, value, this.value.type);
    if (!isDevice(value) || widens(value.type, this.value.type))
      return isDevice(value) ? convert(value, this.value.type) : value;
    return trace.fail(
      `'${this.name}' has type ${this.value.type} and is assigned ${describe(value)}: convert it, e.g. ${this.value.type}(...)`,
    );
  }

  private write(trace: Trace, slot: Slot, value: unknown): void {
    const written = operand(trace, value, slot.type, `value of '${this.name}'`);
    trace.builder.emit('set', { args: [written], slots: [slot] });
  }

  private promote(trace: Trace, type: TypeName): Slot {
    const slot: Slot = { id: trace.kernel.slotCount++, type, name: this.name };
    const { position } = trace.builder;
    const nodes: Node[] = [makeNode(trace.kernel, 'slot', position, { slots: [slot] })];
    let value: Value | undefined;
    if (isDevice(this.value)) value = this.value;
    else if (isConstant(this.value)) {
      const node = constantNode(trace, this.value, type);
      nodes.push(node);
      [value] = node.results;
    }
    if (value) nodes.push(makeNode(trace.kernel, 'set', position, { args: [value], slots: [slot] }));
    this.home?.insert(trace, nodes);
    this.slot = slot;
    return slot;
  }

  private refuse(trace: Trace, value: unknown): never {
    if (this.value instanceof Registers || typeof this.value === 'object' || typeof this.value === 'function') {
      trace.fail(
        `'${this.name}' holds ${describe(this.value)} and is assigned under a run-time condition or loop: only numbers and fragments of one length may be`,
      );
    }
    const float = (isDevice(value) && value.type.includes('f')) || !Number.isInteger(this.value ?? 0);
    const type = isDevice(value) ? value.type : typeof this.value === 'boolean' ? 'pred' : float ? 'f32' : 'i32';
    const example = this.value === undefined ? '0' : describe(this.value);
    trace.fail(
      `'${this.name}' is known at compile time (${describe(this.value)}) and is assigned under a run-time condition or loop: ` +
        `declare it as a device value, e.g. let ${this.name} = ${type}(${example})`,
    );
  }
}
