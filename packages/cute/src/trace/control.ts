import { KernelError } from '../ir/error.ts';
import type { Node, Position } from '../ir/ir.ts';
import type { TypeName } from '../types/dtype.ts';
import { compare, not } from './arithmetic.ts';
import type { Cell } from './cell.ts';
import { condition, constant, describe, isDevice, operand } from './convert.ts';
import { tracing, type Exit, type OpenRegion, type Trace } from './state.ts';

/** An `if`: both branches are traced where the condition is the device's, one after the other. */
export class If {
  /** Which branch is traced. */
  yes: boolean;
  private readonly node: Node | undefined;
  private readonly trace: Trace | undefined;
  private readonly hasElse: boolean;
  private phase = 0;
  private ended = false;

  constructor(test: unknown, hasElse: boolean) {
    this.hasElse = hasElse;
    this.yes = isDevice(test) || Boolean(test);
    if (!isDevice(test)) return;
    const trace = tracing();
    if (!trace) return;
    this.trace = trace;
    this.node = trace.builder.emit('if', { args: [condition(trace, test)], regions: [[], []] });
  }

  arm(): boolean {
    const { node, trace } = this;
    const phase = this.phase++;
    if (!node || !trace) return phase === 0;
    if (phase === 0) {
      trace.open(node.regions[0], false);
      return true;
    }
    if (phase === 1) {
      this.ended = trace.current.dead;
      trace.close();
      if (!this.hasElse) return false;
      this.yes = false;
      trace.open(node.regions[1], false);
      return true;
    }
    const { dead } = trace.current;
    trace.close();
    if (dead && this.ended) trace.die();
    return false;
  }
}

/** Rounds of an unrolled loop that may record nothing; beyond, it is taken for one without end. */
const MOST_ROUNDS = 2 ** 20;

/** A loop that is unrolled while its condition is known, or one of the device. */
export class Loop {
  private readonly counters: (() => Cell[]) | undefined;
  private readonly position: Position | undefined = tracing()?.builder.position;
  private exit: Exit | undefined;
  private round: Exit | undefined;
  private node: Node | undefined;
  private latched = false;
  /** Without a condition, what follows is reached by breaks alone. */
  private endless = false;
  private left = false;

  constructor(counters?: () => Cell[]) {
    this.counters = counters;
  }

  get device(): boolean {
    return this.node !== undefined;
  }

  /** Before each round: whether it is traced. Without a test the loop is the device's. */
  more(test: (() => unknown) | null): boolean {
    const trace = tracing();
    if (!trace) return test === null || Boolean(test());
    if (this.node) return this.end(trace);
    if (this.exit) return this.again(trace, test);
    if (test === null) {
      this.endless = true;
      this.open(trace);
      return true;
    }
    if (this.tried(trace, test)) {
      this.open(trace);
      this.leaveUnless(trace, test());
      return true;
    }
    return this.first(trace, test);
  }

  /** As `more`, with the test after the body. It is tried before, unless it changes something. */
  do(test: () => unknown, changes: boolean): boolean {
    const trace = tracing();
    if (!trace) {
      if (this.latched) return Boolean(test());
      this.latched = true;
      return true;
    }
    if (this.node) {
      this.leaveUnless(trace, test());
      return this.end(trace);
    }
    if (this.exit) return this.again(trace, test);
    if (!changes && this.tried(trace, test, true)) {
      this.open(trace);
      return true;
    }
    this.unroll(trace);
    this.round = trace.enterExit('round');
    return true;
  }

  /** After each round. */
  step(): void {
    const trace = tracing();
    if (!trace) return;
    if (this.node) {
      trace.close();
      trace.open(this.node.regions[1], true);
    } else if (this.round) trace.leaveExit(this.round);
  }

  /** Whether the jump is JavaScript's; if not, it is recorded. */
  break(): boolean {
    const trace = tracing();
    if (!trace || !this.exit) return true;
    if (!this.device && trace.isDirect(this.exit)) {
      trace.leaveExit(this.exit);
      return true;
    }
    this.left = true;
    trace.jumpOut(this.exit);
    return false;
  }

  continue(): boolean {
    const trace = tracing();
    if (!trace || !this.exit) return true;
    if (this.device) {
      trace.jumpOut(this.exit, 'continue');
      return false;
    }
    if (!this.round || trace.isDirect(this.round)) return true;
    trace.jumpOut(this.round);
    return false;
  }

  /** Opens the loop on the device. */
  open(trace: Trace, unroll = 1): void {
    for (const cell of this.counters?.() ?? []) cell.toDevice(trace, 'i32');
    this.exit = trace.enterExit('loop', true);
    const attributes = { label: this.exit.label, unroll };
    this.node = trace.builder.emit('loop', { attributes, regions: [[], []] });
    trace.open(this.node.regions[0], true);
  }

  /** Ends the loop on the device, whose latch is open. */
  end(trace: Trace): boolean {
    trace.close();
    if (this.exit) trace.leaveExit(this.exit);
    if (this.endless && !this.left) trace.die();
    return false;
  }

  /** Leaves the loop where a condition of the device does not hold. */
  leaveUnless(trace: Trace, test: unknown): void {
    if (!isDevice(test)) {
      if (test) return;
      trace.fail('the condition of a run-time loop turned into a value known at compile time');
    }
    const node = trace.builder.emit('if', { args: [not(test)], regions: [[], []] });
    trace.builder.enter(node.regions[0]);
    trace.builder.emit('break', { attributes: { label: this.exit?.label ?? '' } });
    trace.builder.close();
  }

  private first(trace: Trace, test: () => unknown): boolean {
    if (!this.known) test();
    if (!this.known) return false;
    this.unroll(trace);
    for (const cell of this.counters?.() ?? []) cell.rehome(trace);
    this.round = trace.enterExit('round');
    return true;
  }

  private unroll(trace: Trace): void {
    this.exit = trace.enterExit('loop');
    this.exit.unrolled = { position: this.position ?? trace.builder.position, rounds: 1 };
  }

  private known: unknown;

  /** Whether the condition is the device's. If so, what trying it recorded and changed is taken back. */
  private tried(trace: Trace, test: () => unknown, forget = false): boolean {
    const { region, depth } = trace.current;
    const length = trace.builder.region.length;
    const outer = trace.journal;
    trace.journal = [];
    let value: unknown;
    try {
      value = test();
    } catch (error) {
      // A condition after the body may need what the body computes.
      if (!forget) throw error;
    }
    const device = isDevice(value);
    if (device || forget) {
      for (const undo of trace.journal.reverse()) undo();
      if (trace.current.depth === depth) {
        const recorded = trace.current.dead ? trace.builder.region : region;
        recorded.length = length;
      }
    } else outer?.push(...trace.journal);
    trace.journal = outer;
    this.known = value;
    return device;
  }

  private again(trace: Trace, test: (() => unknown) | null): boolean {
    if (!this.exit) return false;
    if (trace.current.dead || !test) {
      trace.leaveExit(this.exit);
      return false;
    }
    const value = test();
    if (isDevice(value)) {
      trace.fail(
        'the condition of a loop turned into a run-time value while the loop was unrolled: start with a device value, ' +
          'e.g. let i = i32(0), or write while (true) with a break',
      );
    }
    if (!value) {
      trace.leaveExit(this.exit);
      return false;
    }
    const { unrolled } = this.exit;
    if (unrolled && ++unrolled.rounds > MOST_ROUNDS) {
      throw new KernelError(
        `this loop was unrolled for ${MOST_ROUNDS} rounds, since its condition is known, and has no end: ` +
          'count with a device value, let i = i32(0), or write for (const i of range(n))',
        unrolled.position,
      );
    }
    this.round = trace.enterExit('round');
    return true;
  }
}

/** Numbers from `start` up to but not `end`, as a loop that stays a loop. */
export class Range {
  readonly start: unknown;
  readonly end: unknown;
  readonly step: unknown;
  readonly unroll: number;

  constructor(start: unknown, end: unknown, step: unknown, unroll: number) {
    this.start = start;
    this.end = end;
    this.step = step;
    this.unroll = unroll;
  }

  *[Symbol.iterator](): Iterator<number> {
    if (tracing())
      throw new TypeError(
        "range() is a loop of the device: write for (const i of range(...)) in a function with 'use gpu'",
      );
    const [start, end, step] = [Number(this.start), Number(this.end), Number(this.step)];
    for (let i = start; step > 0 ? i < end : i > end; i += step) yield i;
  }
}

/** `for (x of ...)`: over a range of the device, or over whatever JavaScript iterates. */
export class Each extends Loop implements Iterable<unknown> {
  private readonly over: unknown;

  constructor(over: unknown) {
    super();
    this.over = over;
  }

  *[Symbol.iterator](): Iterator<unknown> {
    const trace = tracing();
    if (this.over instanceof Range && trace) {
      yield* this.range(trace, this.over);
      return;
    }
    if (isDevice(this.over)) trace?.fail(`${describe(this.over)} cannot be iterated: use range(...)`);
    let started = false;
    for (const item of this.over as Iterable<unknown>) {
      if (started) this.step();
      if (trace && !this.more(() => true)) return;
      started = true;
      yield item;
    }
    if (started) {
      this.step();
      if (trace) this.more(() => false);
    }
  }

  private *range(trace: Trace, { start, end, step, unroll }: Range): Generator {
    const { builder } = trace;
    const type: TypeName = [start, end, step].some((value) => isDevice(value) && value.type === 'i64')
      ? 'i64'
      : this.type(start, end);
    const from = operand(trace, start, type, 'start of range()');
    const to = operand(trace, end, type, 'end of range()');
    const by = operand(trace, step, type, 'step of range()');
    const slot = builder.slot(type, 'i');
    builder.emit('set', { args: [from], slots: [slot] });
    this.open(trace, unroll);
    const index = builder.value('get', type, { slots: [slot] });
    index.divisor = common(from.divisor, by.divisor, start, step);
    const down = typeof step === 'number' && step < 0;
    this.leaveUnless(trace, compare(down ? 'gt' : 'lt', index, to));
    yield index;
    this.step();
    const now = builder.value('get', type, { slots: [slot] });
    builder.emit('set', { args: [builder.value('add', type, { args: [now, by] })], slots: [slot] });
    this.end(trace);
  }

  private type(start: unknown, end: unknown): TypeName {
    return [start, end].some((value) => isDevice(value) && value.type === 'u32') ? 'u32' : 'i32';
  }
}

/** Divisor of start + n * step. */
function common(from: number, by: number, start: unknown, step: unknown): number {
  let [a, b] = [start === 0 ? 0 : from, step === 0 ? 0 : by];
  while (b !== 0) [a, b] = [b, a % b];
  return Math.max(1, a);
}

/** A labelled block. */
export class Block {
  private exit: Exit | undefined;
  private ran = false;

  once(): boolean {
    const trace = tracing();
    if (!this.ran) {
      this.ran = true;
      this.exit = trace?.enterExit('block');
      return true;
    }
    if (trace && this.exit) trace.leaveExit(this.exit);
    return false;
  }

  break(): boolean {
    const trace = tracing();
    if (!trace || !this.exit) return true;
    if (trace.isDirect(this.exit)) {
      trace.leaveInner(this.exit);
      return true;
    }
    trace.jumpOut(this.exit);
    return false;
  }

  continue(): boolean {
    throw new TypeError('continue needs a loop');
  }
}

type Case = (() => unknown) | null;

/** A `switch`: JavaScript's where the selector is known, else a chain of conditions. */
export class Switch {
  /** The group of cases that is traced; -1: none. */
  arm = -1;
  private readonly groups: readonly (readonly Case[])[];
  private readonly selector: unknown;
  private readonly trace: Trace | undefined;
  private readonly device: boolean = false;
  private order: number[] = [];
  private exit: Exit | undefined;
  private region: OpenRegion | undefined;
  private nodes: Node[] = [];
  /** For each of them: whether its group never comes to its end. */
  private ended: boolean[] = [];
  private next = 0;

  constructor(selector: unknown, groups: readonly (readonly Case[])[], falls: number, where: () => void) {
    this.selector = selector;
    this.groups = groups;
    this.trace = tracing();
    const otherwise = groups.findIndex((group) => group.includes(null));
    if (this.trace && isDevice(selector)) {
      if (falls > 0) {
        where();
        this.trace.fail(
          'a case without break runs into the next one under a run-time selector: end it with break, or use if',
        );
      }
      this.device = true;
      this.order = groups.map((_group, i) => i).filter((i) => i !== otherwise);
      if (otherwise >= 0) this.order.push(otherwise);
    } else {
      const found = groups.findIndex((group) => group.some((one) => one !== null && this.matches(one())));
      const arm = found >= 0 ? found : otherwise;
      this.order = arm >= 0 ? [arm] : [];
    }
    this.exit = this.trace?.enterExit('switch');
  }

  private matches(value: unknown): boolean {
    if (isDevice(value)) this.trace?.fail('a case that is a run-time value needs a run-time selector: use if');
    return value === this.selector;
  }

  /** Goes to the next group; whether there is one. */
  advance(): boolean {
    const { trace } = this;
    if (this.next > 0 && this.device && trace && this.exit) {
      trace.leaveInner(this.exit);
      const node = this.nodes.at(-1);
      if (node && this.nodes.length > this.ended.length) {
        this.ended.push(trace.current.dead);
        trace.close();
        trace.open(node.regions[1], false);
      }
    }
    if (this.next === this.order.length) {
      if (trace && this.exit) this.close(trace, this.exit);
      return false;
    }
    this.arm = this.order[this.next++];
    if (this.device && trace) this.openArm(trace, this.groups[this.arm]);
    return true;
  }

  /** Closes the chain of conditions; where no group comes to its end, nothing follows. */
  private close(trace: Trace, exit: Exit): void {
    for (const ended of this.ended.reverse()) {
      const { dead } = trace.current;
      trace.close();
      if (dead && ended) trace.die();
    }
    trace.leaveExit(exit);
  }

  private openArm(trace: Trace, group: readonly Case[]): void {
    if (group.includes(null)) {
      this.region = trace.current;
      return;
    }
    const tests = group.map((one) => compare('eq', this.selector, one?.()));
    const test = tests.reduce((a, b) =>
      a === true || b === true
        ? true
        : trace.builder.value('or', 'pred', { args: [operand(trace, a, 'pred'), operand(trace, b, 'pred')] }),
    );
    const node = trace.builder.emit('if', {
      args: [isDevice(test) ? test : constant(trace, Boolean(test), 'pred')],
      regions: [[], []],
    });
    this.nodes.push(node);
    this.region = trace.open(node.regions[0], false);
  }

  break(): boolean {
    const { trace, exit } = this;
    if (!trace || !exit) return true;
    if (this.device ? trace.current === this.region : trace.isDirect(exit)) {
      trace.leaveInner(exit);
      return true;
    }
    trace.jumpOut(exit);
    return false;
  }

  continue(): boolean {
    throw new TypeError('continue needs a loop');
  }
}
