import type { Position } from '../ir/ir.ts';
import { mayDivideByZero } from '../ir/op-info.ts';
import { OPS } from '../ir/ops.ts';
import { ADD, binary, compare, invert, MUL, negate, not, REM, shiftUnsigned, SUB } from './arithmetic.ts';
import type { Binary, Test } from './arithmetic.ts';
import { Cell } from './cell.ts';
import { Block, Each, If, Loop, Switch } from './control.ts';
import { condition, describe, isConstant, isDevice, operand } from './convert.ts';
import { Fragment } from './fragment.ts';
import { merge, unify } from './merge.ts';
import { Home, tracing, type Frame, type Trace } from './state.ts';
import { isIndexed } from './symbols.ts';
import type { Node, Region } from '../ir/ir.ts';

const NOTHING: readonly never[] = Object.freeze([]);
const HOST_FRAME: Frame = {
  ...{ name: '', exit: undefined, calledAt: undefined, inlinedAt: undefined, kernel: false },
  returns: [],
};

/** What the transformed code of one file calls. `at`: line and column as the transform writes them. */
export class Runtime {
  private readonly file: string;

  constructor(file: string) {
    this.file = file;
  }

  private mark(at: number): Trace | undefined {
    const trace = tracing();
    if (!trace) return undefined;
    const frame = trace.frames.at(-1);
    const position: Position = { file: this.file, line: Math.floor(at / 4096), column: (at % 4096) + 1 };
    trace.builder.position = {
      ...position,
      ...(frame?.name ? { name: frame.name } : {}),
      ...(frame?.inlinedAt ? { inlinedAt: frame.inlinedAt } : {}),
    };
    return trace;
  }

  /** Says where the code is; nothing to spread into a call's arguments. */
  at(at: number): readonly never[] {
    this.mark(at);
    return NOTHING;
  }

  /** A call's last argument, after which the call takes place. */
  p<T>(value: T, at: number): T {
    this.mark(at);
    return value;
  }

  enter(name: string, at: number): Frame {
    const trace = tracing();
    if (!trace) return HOST_FRAME;
    const kernel = trace.frames.length === 0;
    const calledAt = trace.builder.position;
    const exit = trace.enterExit(name || 'function');
    const frame = { name, exit, calledAt, inlinedAt: kernel ? undefined : calledAt, kernel, returns: [] };
    trace.frames.push(frame);
    this.mark(at);
    return frame;
  }

  /** Whether a return leaves the function at once; if not, it is recorded. */
  ret(frame: Frame, value: unknown, at: number): boolean {
    const trace = this.mark(at);
    const { exit } = frame;
    if (!trace || !exit || trace.isDirect(exit)) return true;
    if (frame.kernel) {
      if (value !== undefined) trace.fail('a kernel returns nothing: store its results in a tensor');
      trace.builder.emit('return');
      trace.die();
      return false;
    }
    const region = trace.builder.region;
    frame.returns.push({ region, value, jump: trace.jumpOut(exit) });
    return false;
  }

  leave(frame: Frame, value?: unknown, at?: number): unknown {
    const trace = at === undefined ? tracing() : this.mark(at);
    const { exit } = frame;
    if (!trace || !exit) return value;
    let result = value;
    trace.leaveInner(exit);
    const { block, node, home } = exit;
    if (block && node) {
      const { dead, region } = block;
      if (!dead) frame.returns.push({ region, value, jump: undefined });
      trace.leaveExit(exit);
      const ways = frame.returns;
      const some = ways.filter((way) => way.value !== undefined).length;
      if (some > 0 && some < ways.length) {
        trace.fail(
          `${frame.name || 'the function'} returns a value on some of its ways only: return one on all of them`,
        );
      }
      const declare = (nodes: readonly Node[]): void => {
        home.region.splice(home.region.indexOf(node), 0, ...nodes);
      };
      result = merge(trace, ways, declare, `the result of ${frame.name || 'a function'}`);
    } else trace.leaveExit(exit);
    trace.frames.length = trace.frames.indexOf(frame);
    if (frame.calledAt && !frame.kernel) trace.builder.position = frame.calledAt;
    return result;
  }

  let(value: unknown, name: string, at: number): Cell {
    this.mark(at);
    return new Cell(value, name);
  }

  set(cell: Cell, value: unknown, at: number): unknown {
    this.mark(at);
    cell.set(value);
    return value;
  }

  /** `x++`: gives the value before. */
  post(cell: Cell, change: (old: unknown) => unknown, at: number): unknown {
    this.mark(at);
    const old = cell.v;
    cell.set(change(old));
    return old;
  }

  fork(loop: Loop, cell: Cell): Cell {
    return loop.device ? cell : cell.fork();
  }

  /** The value for a variable that is declared outside of all marked functions. */
  outer(name: string, value: unknown, at: number): unknown {
    const trace = this.mark(at);
    if (trace && trace.regions.some((region) => region !== trace.regions[0] && region.owner === undefined)) {
      trace.fail(
        `'${name}' is declared outside of the kernel's functions and is assigned under a run-time condition or loop: ` +
          'declare a variable inside of them',
      );
    }
    return value;
  }

  add = (a: unknown, b: unknown, at: number): unknown => this.compute(ADD, a, b, at);
  sub = (a: unknown, b: unknown, at: number): unknown => this.compute(SUB, a, b, at);
  mul = (a: unknown, b: unknown, at: number): unknown => this.compute(MUL, a, b, at);
  rem = (a: unknown, b: unknown, at: number): unknown => this.compute(REM, a, b, at);

  private compute(how: (a: unknown, b: unknown) => unknown, a: unknown, b: unknown, at: number): unknown {
    if (isDevice(a) || isDevice(b)) this.mark(at);
    else if (typeof a === 'number' && typeof b === 'number') return how(a, b);
    return how(this.operand(a, at), this.operand(b, at));
  }

  /** Fragments and tensors do not compute; saying so beats JavaScript's own idea of what they are. */
  private operand(value: unknown, at: number): unknown {
    if (value instanceof Fragment || (typeof value === 'function' && isIndexed(value))) {
      this.mark(at)?.fail(`${describe(value)} is no number: compute with its elements, e.g. fragment.map((v) => ...)`);
    }
    return value;
  }

  div(a: unknown, b: unknown, at: number): unknown {
    if (!isDevice(a) && !isDevice(b)) return (this.operand(a, at) as number) / (this.operand(b, at) as number);
    const trace = this.mark(at);
    const integers = [a, b].every((side) => (isDevice(side) ? !/^[bt]?f|^e/.test(side.type) : Number.isInteger(side)));
    if (integers) trace?.fail("'/' on integers would be a fraction in JavaScript: use idiv(a, b), or convert to f32");
    return binary('div', a, b);
  }

  pow(a: unknown, b: unknown, at: number): unknown {
    if (!isDevice(a) && !isDevice(b)) return (a as number) ** (b as number);
    return this.mark(at)?.fail('** has no instruction: multiply, or use ex2(b * lg2(a))');
  }

  private bits(op: Binary, a: unknown, b: unknown, at: number, plain: (a: number, b: number) => number): unknown {
    if (!isDevice(a) && !isDevice(b)) return plain(a as number, b as number);
    this.mark(at);
    return binary(op, a, b);
  }

  band = (a: unknown, b: unknown, at: number): unknown => this.bits('and', a, b, at, (x, y) => x & y);
  bor = (a: unknown, b: unknown, at: number): unknown => this.bits('or', a, b, at, (x, y) => x | y);
  bxor = (a: unknown, b: unknown, at: number): unknown => this.bits('xor', a, b, at, (x, y) => x ^ y);
  shl = (a: unknown, b: unknown, at: number): unknown => this.bits('shl', a, b, at, (x, y) => x << y);
  shr = (a: unknown, b: unknown, at: number): unknown => this.bits('shr', a, b, at, (x, y) => x >> y);

  shru(a: unknown, b: unknown, at: number): unknown {
    if (!isDevice(a) && !isDevice(b)) return (a as number) >>> (b as number);
    this.mark(at);
    return shiftUnsigned(a, b);
  }

  private test(test: Test, a: unknown, b: unknown, at: number, plain: (a: number, b: number) => boolean): unknown {
    if (!isDevice(a) && !isDevice(b)) return plain(a as number, b as number);
    this.mark(at);
    return compare(test, a, b);
  }

  eq = (a: unknown, b: unknown, at: number): unknown => this.test('eq', a, b, at, (x, y) => x === y);
  ne = (a: unknown, b: unknown, at: number): unknown => this.test('ne', a, b, at, (x, y) => x !== y);
  lt = (a: unknown, b: unknown, at: number): unknown => this.test('lt', a, b, at, (x, y) => x < y);
  le = (a: unknown, b: unknown, at: number): unknown => this.test('le', a, b, at, (x, y) => x <= y);
  gt = (a: unknown, b: unknown, at: number): unknown => this.test('gt', a, b, at, (x, y) => x > y);
  ge = (a: unknown, b: unknown, at: number): unknown => this.test('ge', a, b, at, (x, y) => x >= y);

  neg(a: unknown, at: number): unknown {
    if (!isDevice(a)) return -(this.operand(a, at) as number);
    this.mark(at);
    return negate(a);
  }

  plus(a: unknown): unknown {
    return isDevice(a) ? a : Number(a);
  }

  not(a: unknown, at: number): unknown {
    if (!isDevice(a)) return !a;
    this.mark(at);
    return not(a);
  }

  bnot(a: unknown, at: number): unknown {
    if (!isDevice(a)) return ~(a as number);
    this.mark(at);
    return invert(a);
  }

  and(a: unknown, b: () => unknown, at: number): unknown {
    if (!isDevice(a)) return a && b();
    return this.choose(
      a,
      b,
      () => false,
      at,
      (trace, right) => this.predicate(trace, right, '&&'),
    );
  }

  or(a: unknown, b: () => unknown, at: number): unknown {
    if (!isDevice(a)) return a || b();
    return this.choose(
      a,
      () => true,
      b,
      at,
      (trace, right) => this.predicate(trace, right, '||'),
    );
  }

  private predicate(trace: Trace, value: unknown, op: string): unknown {
    if (isDevice(value)) return condition(trace, value);
    if (typeof value !== 'boolean')
      trace.fail(`${op} of a run-time condition and ${describe(value)}: compare it, or use ?:`);
    return value;
  }

  sel(test: unknown, yes: () => unknown, no: () => unknown, at: number): unknown {
    if (!isDevice(test)) return test ? yes() : no();
    return this.choose(test, yes, no, at, (_trace, value) => value);
  }

  /** Either of two values by a condition of the device: selected where both may be computed, else by branches. */
  private choose(
    test: unknown,
    yes: () => unknown,
    no: () => unknown,
    at: number,
    check: (trace: Trace, value: unknown) => unknown,
  ): unknown {
    const trace = this.mark(at);
    if (!trace || !isDevice(test)) throw new TypeError('a device value outside of a kernel');
    const holds = condition(trace, test);
    const parent = trace.builder.region;
    const regions: [Region, Region] = [[], []];
    const node = trace.builder.emit('if', { args: [holds], regions });
    const values = [yes, no].map((side, i) => {
      trace.open(node.regions[i], false);
      const value = check(trace, side());
      trace.close();
      return value;
    });
    this.mark(at);
    const [a, b] = values;
    if (a === undefined && b === undefined) return undefined;
    const scalars = values.every((value) => isDevice(value) || isConstant(value));
    if (scalars && node.regions.every(mayRunAlways)) {
      parent.splice(parent.indexOf(node), 1, ...node.regions[0], ...node.regions[1]);
      if (b === false && isDevice(a)) return trace.builder.value('and', 'pred', { args: [holds, a] });
      if (a === true && isDevice(b))
        return trace.builder.value('or', 'pred', { args: [holds, operand(trace, b, 'pred')] });
      if (a === b) return a;
      const args = [holds, ...unify(trace, a, b)];
      return trace.builder.value('select', args[1].type, { args });
    }
    const ways = values.map((value, i) => ({ region: node.regions[i], jump: undefined, value }));
    const declare = (nodes: readonly Node[]): void => {
      parent.splice(parent.indexOf(node), 0, ...nodes);
    };
    return merge(trace, ways, declare, 'the value');
  }

  if(test: unknown, hasElse: boolean, at: number): If {
    if (isDevice(test)) this.mark(at);
    return new If(test, hasElse);
  }

  arm(statement: If | Switch): boolean {
    return statement instanceof If ? statement.arm() : statement.advance();
  }

  loop(at: number, counters?: () => Cell[]): Loop {
    this.mark(at);
    return new Loop(counters);
  }

  more(loop: Loop, test: (() => unknown) | null): boolean {
    return loop.more(test);
  }

  do(loop: Loop, test: () => unknown, changes: boolean): boolean {
    return loop.do(test, changes);
  }

  step(loop: Loop): void {
    loop.step();
  }

  of(over: unknown, at: number): Each {
    this.mark(at);
    return new Each(over);
  }

  keys(object: unknown, at: number): Each {
    this.mark(at);
    const keys: string[] = [];
    for (const key in object as object) keys.push(key);
    return new Each(keys);
  }

  block(at: number): Block {
    this.mark(at);
    return new Block();
  }

  once(block: Block): boolean {
    return block.once();
  }

  switch(
    selector: unknown,
    groups: readonly (readonly ((() => unknown) | null)[])[],
    falls: readonly number[],
    at: number,
  ): Switch {
    this.mark(at);
    return new Switch(selector, groups, falls.length, () => this.mark(falls[0]));
  }

  break(statement: Loop | Block | Switch, at: number): boolean {
    this.mark(at);
    return statement.break();
  }

  continue(statement: Loop | Block | Switch, at: number): boolean {
    this.mark(at);
    return statement.continue();
  }

  /** Whether control never gets to where the trace is. */
  get dead(): boolean {
    return tracing()?.current.dead ?? false;
  }

  thrown(error: unknown, at: number): unknown {
    const trace = this.mark(at);
    if (trace && trace.regions.some((region) => region !== trace.regions[0])) {
      trace.fail(
        'throw under a run-time condition or loop: use assert(condition, message), which checks on the device',
      );
    }
    return error;
  }

  get(object: unknown, key: unknown, at: number): unknown {
    if (isIndexed(object) && (isDevice(key) || typeof key === 'number')) {
      this.mark(at);
      return object.getElement(key);
    }
    if (isDevice(key)) {
      this.mark(at)?.fail(
        `${describe(object)} cannot be indexed by a run-time value: unroll, select, or keep the data in shared memory`,
      );
    }
    return (object as Record<PropertyKey, unknown>)[key as PropertyKey];
  }

  put(object: unknown, key: unknown, value: unknown, at: number): unknown {
    this.mark(at);
    if (isIndexed(object) && (isDevice(key) || typeof key === 'number')) {
      object.putElement(key, value);
      return value;
    }
    if (isDevice(key)) {
      tracing()?.fail(`${describe(object)} cannot be indexed by a run-time value: use a tensor in shared memory`);
    }
    this.own(object, key as PropertyKey);
    (object as Record<PropertyKey, unknown>)[key as PropertyKey] = value;
    return value;
  }

  upd(object: unknown, key: unknown, change: (old: unknown) => unknown, at: number): unknown {
    return this.put(object, key, change(this.get(object, key, at)), at);
  }

  /** The value for a private field of `this`. */
  field(object: object, name: string, value: unknown, at: number): unknown {
    this.mark(at);
    this.own(object, name, true);
    return value;
  }

  /** Refuses changes of JavaScript objects that would happen once while tracing, not as often as on the device. */
  private own(object: unknown, key: PropertyKey, field = false): void {
    const trace = tracing();
    if (!trace || trace.current.dead || object === null || object === undefined) return;
    const home = trace.homes.get(object);
    const crossing = home ? home.crossing(trace) : trace.regions.every((r, i) => i === 0 || r.owner) ? 'none' : 'loop';
    if (crossing === 'none') return;
    if (!field && hasSetter(object, key)) return;
    trace.fail(
      `'${String(key)}' of ${describe(object)} is assigned under a run-time condition or loop, which happens only once while ` +
        `tracing: keep it in mutable({ ${typeof key === 'string' ? key : 'x'}: i32(0) }), a fragment, or a variable`,
    );
  }

  /** Checks before a method that changes an array, map or set. */
  changed<T>(object: T, method: string, at: number): T {
    if (Array.isArray(object) || object instanceof Map || object instanceof Set) {
      this.mark(at);
      this.own(object, method, true);
    }
    return object;
  }

  /** A new object, array or copy: it may be changed here. */
  made<T>(value: T): T {
    const trace = tracing();
    if (trace && typeof value === 'object' && value !== null) trace.homes.set(value, new Home(trace));
    return value;
  }

  method(object: unknown, key: unknown, at: number): unknown {
    const value = this.get(object, key, at);
    return typeof value === 'function' && !isIndexed(value) ? value.bind(object) : value;
  }

  opt(object: unknown, rest: (object: unknown) => unknown): unknown {
    return object === undefined || object === null ? undefined : rest(object);
  }

  text(value: unknown): unknown {
    return isDevice(value) ? `<${value.type}>` : value;
  }
}

/** Whether nodes do no harm where their condition does not hold: they only compute. */
function mayRunAlways(region: Region): boolean {
  return region.every((node) => {
    if (node.op === 'get') return true;
    return OPS[node.op]?.effect === 'pure' && node.regions.length === 0 && !mayDivideByZero(node);
  });
}

function hasSetter(object: unknown, key: PropertyKey): boolean {
  for (let at = object as object | null; at; at = Object.getPrototypeOf(at) as object | null) {
    const property = Object.getOwnPropertyDescriptor(at, key);
    if (property) return property.set !== undefined;
  }
  return false;
}

/** What a transformed file begins with. `url`: its `import.meta.url`. */
export function traceRuntime(url: string): Runtime {
  return new Runtime(url);
}
