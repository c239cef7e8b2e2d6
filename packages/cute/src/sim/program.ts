import { numberOf, textOf } from '../ir/attributes.ts';
import { KernelError } from '../ir/error.ts';
import { walk, type KernelIR, type Node, type Region, type Value } from '../ir/ir.ts';
import type { TraceEvent } from './api.ts';
import { HANDLERS } from './handlers.ts';
import { SHARED_BASE, type Part } from './memory.ts';
import type { RegisterFile, Warp } from './machine.ts';
import { read, Registers } from './registers.ts';
import { isLaneWise, makeRun, type RunContext } from './runs.ts';

/** One step of a warp: it does the work of all its lanes, changes `pc` to jump, or sets `wait`. */
export type Step = (warp: Warp) => void;

/** Makes the step of a node. */
export type Handler = (node: Node, program: Program) => Step;

/** Where a jump goes; known once the code before it is laid out. */
interface Label {
  pc: number;
}

/** What `break` and `continue` of a label refer to, and its number. */
interface Target {
  readonly frame: number;
}

const MOST_IN_A_RUN = 48;

/** A kernel as a list of steps. */
export class Program implements RunContext {
  readonly kernel: KernelIR;
  readonly code: Step[] = [];
  /** The node of each step; of a run its first. */
  readonly nodes: (Node | undefined)[] = [];
  readonly registers: Registers = new Registers();
  readonly uses: Map<Value, number> = new Map();
  readonly accumulators: Set<number> = new Set();
  readonly shared: { bytes: number; parts: Part[] };
  frames: number = 0;
  /** Whether a node works with tensor memory. */
  readonly usesTensorMemory: boolean;
  /** One node a step, each told to `traced`. */
  private readonly trace: ((warp: Warp, node: Node) => void) | undefined;
  private readonly targets = new Map<string, Target[]>();
  private end: Label = { pc: -1 };

  constructor(kernel: KernelIR, trace?: (warp: Warp, node: Node) => void) {
    this.kernel = kernel;
    this.trace = trace;
    this.shared = placeShared(kernel);
    let tensor = false;
    walk(kernel.body, (node) => {
      if (node.op.startsWith('tcgen05_')) tensor = true;
      for (const arg of node.args) this.uses.set(arg, (this.uses.get(arg) ?? 0) + 1);
      // A trace reads every result and every value that is set.
      if (trace) for (const value of [...node.args, ...node.results]) this.uses.set(value, Infinity);
      if (trace && node.op === 'set') this.registers.of(node.args[0]);
      if (trace) for (const value of node.results) this.registers.of(value);
      if (node.op === 'wgmma') for (const slot of node.slots) this.accumulators.add(slot.id);
    });
    this.usesTensorMemory = tensor;
    this.region(kernel.body);
    this.end.pc = this.code.length;
    this.step(undefined, (warp) => {
      warp.exited = warp.valid;
      warp.done = true;
    });
  }

  get words(): number {
    return this.registers.words;
  }

  get longs(): number {
    return this.registers.longs;
  }

  putConstants(file: RegisterFile): void {
    this.registers.putConstants(file);
  }

  addressOf(allocation: number, node: Node): number {
    const part = this.shared.parts.find(({ id }) => id === allocation);
    if (!part) throw new KernelError(`there is no shared allocation ${allocation}`, node.position);
    return SHARED_BASE + part.offset;
  }

  private step(node: Node | undefined, run: Step): void {
    this.code.push(run);
    this.nodes.push(node);
  }

  private region(region: Region): void {
    let run: Node[] = [];
    const flush = (): void => {
      if (run.length === 0) return;
      const made = makeRun(run, this);
      if (made) this.step(run[0], made);
      run = [];
    };
    for (const node of region) {
      if (isLaneWise(node)) {
        run.push(node);
        if (run.length >= MOST_IN_A_RUN || this.trace) flush();
      } else {
        flush();
        this.node(node);
      }
      if (this.trace) {
        const { trace } = this;
        if (node.op !== 'const') this.step(node, (warp) => trace(warp, node));
      }
      if (JUMPS.has(node.op)) return;
    }
    flush();
  }

  private node(node: Node): void {
    switch (node.op) {
      case 'if':
        return this.branch(node);
      case 'loop':
        return this.loop(node);
      case 'block':
        return this.block(node);
      case 'break':
      case 'continue':
      case 'return':
        return this.jump(node);
      default: {
        const handler = HANDLERS[node.op];
        if (!handler) throw new KernelError(`${node.op} is not simulated`, node.position);
        this.step(node, handler(node, this));
      }
    }
  }

  /** Lays out a region whose end, for whoever left it, is a label. */
  private inner(region: Region, end: Label): void {
    const outer = this.end;
    this.end = end;
    this.region(region);
    this.end = outer;
  }

  private branch(node: Node): void {
    const frame = this.frames++;
    const p = this.registers.of(node.args[0]).at;
    const outside = this.end;
    const [other, done]: Label[] = [{ pc: -1 }, { pc: -1 }];
    this.step(node, (warp) => {
      const { mask, n } = warp;
      let yes = 0;
      for (let i = 0; i < 32; i++) if (n[p + i] !== 0) yes |= 1 << i;
      warp.entered[frame] = mask;
      warp.left[frame] = mask & ~yes;
      warp.mask = mask & yes;
      if (warp.mask === 0) warp.pc = other.pc;
    });
    this.inner(node.regions[0], other);
    other.pc = this.code.length;
    this.step(node, (warp) => {
      warp.mask = warp.left[frame];
      if (warp.mask === 0) warp.pc = done.pc;
    });
    if (node.regions[1]) this.inner(node.regions[1], done);
    done.pc = this.code.length;
    this.step(node, (warp) => {
      warp.mask = warp.entered[frame] & ~warp.away;
      if (warp.mask === 0) warp.pc = outside.pc;
    });
  }

  private within(node: Node, frame: number, lay: () => void): void {
    const label = textOf(node, 'label');
    const stack = this.targets.get(label) ?? [];
    this.targets.set(label, stack);
    stack.push({ frame });
    lay();
    stack.pop();
  }

  private loop(node: Node): void {
    const frame = this.frames++;
    const outside = this.end;
    const [latch, latchEnd, exit]: Label[] = [{ pc: -1 }, { pc: -1 }, { pc: -1 }];
    this.step(node, (warp) => {
      warp.entered[frame] = warp.mask;
      warp.left[frame] = 0;
      warp.again[frame] = 0;
    });
    const head = this.code.length;
    this.within(node, frame, () => this.inner(node.regions[0], latch));
    latch.pc = this.code.length;
    this.step(node, (warp) => {
      warp.away &= ~warp.again[frame];
      warp.again[frame] = 0;
      warp.mask = warp.entered[frame] & ~warp.away;
      if (warp.mask === 0) warp.pc = exit.pc;
    });
    this.within(node, frame, () => this.inner(node.regions[1] ?? [], latchEnd));
    latchEnd.pc = this.code.length;
    this.step(node, (warp) => {
      warp.mask = warp.entered[frame] & ~warp.away;
      if (warp.mask !== 0) warp.pc = head;
    });
    exit.pc = this.code.length;
    this.leave(node, frame, outside);
  }

  private block(node: Node): void {
    const frame = this.frames++;
    const outside = this.end;
    const exit: Label = { pc: -1 };
    this.step(node, (warp) => {
      warp.entered[frame] = warp.mask;
      warp.left[frame] = 0;
    });
    this.within(node, frame, () => this.inner(node.regions[0], exit));
    exit.pc = this.code.length;
    this.leave(node, frame, outside);
  }

  /** Those who left a loop or block come back. */
  private leave(node: Node, frame: number, outside: Label): void {
    this.step(node, (warp) => {
      warp.away &= ~warp.left[frame];
      warp.mask = warp.entered[frame] & ~warp.away;
      if (warp.mask === 0) warp.pc = outside.pc;
    });
  }

  private jump(node: Node): void {
    const { end } = this;
    if (node.op === 'return') {
      return this.step(node, (warp) => {
        warp.exited |= warp.mask;
        warp.away |= warp.mask;
        warp.mask = 0;
        warp.pc = end.pc;
      });
    }
    const target = this.targets.get(textOf(node, 'label'))?.at(-1);
    if (!target) throw new KernelError(`${node.op} to ${textOf(node, 'label')}, which is not around it`, node.position);
    const { frame } = target;
    const field = node.op === 'break' ? 'left' : 'again';
    this.step(node, (warp) => {
      warp[field][frame] |= warp.mask;
      warp.away |= warp.mask;
      warp.mask = 0;
      warp.pc = end.pc;
    });
  }

  /** The allocation that an address of shared memory was made from, where that is known. */
  allocationOf(address: Value): Part | undefined {
    let value = address;
    while (value.node.op === 'ptr_add' || value.node.op === 'ptr_cast') value = value.node.args[0];
    if (value.node.op !== 'shared_address') return undefined;
    const id = numberOf(value.node, 'id');
    return this.shared.parts.find((part) => part.id === id);
  }

  /** A node's results in one lane, for tracing. */
  valuesOf(warp: Warp, node: Node, lane: number): TraceEvent['values'] {
    const operands =
      node.op === 'set'
        ? node.args.map((value) => this.registers.of(value))
        : node.results.map((value) => this.registers.of(value));
    return operands.map((operand) => {
      const value = read(warp, operand, lane);
      return operand.type === 'pred' ? value !== 0 : value;
    });
  }
}

const JUMPS = new Set(['break', 'continue', 'return', 'trap']);

/** Allocations at their offsets; without any, side by side with gaps that nobody owns. */
function placeShared(kernel: KernelIR): { bytes: number; parts: Part[] } {
  const parts: Part[] = [];
  let end = 0;
  const placed = kernel.shared.length > 0 && kernel.shared.every(({ offset }) => offset !== undefined);
  for (const { id, name, bytes, align, offset } of kernel.shared) {
    const at = placed ? offset! : Math.ceil(end / align) * align;
    parts.push({ id, name, offset: at, bytes });
    end = Math.max(end, at + bytes + (placed ? 0 : 16));
  }
  return { bytes: end, parts };
}
