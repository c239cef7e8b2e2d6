import { Builder, MOST_NODES } from '../ir/builder.ts';
import { KernelError } from '../ir/error.ts';
import type { KernelIR, Node, Position, Region } from '../ir/ir.ts';

/** A region that is being recorded. */
export interface OpenRegion {
  readonly region: Region;
  /** Regions that the builder has open when this one is the innermost. */
  depth: number;
  /** It may run several times. */
  readonly loop: boolean;
  /** The statement that this block is for: what is declared inside of the statement does not see the block. */
  readonly owner: Exit | undefined;
  /** Control never gets to what follows here. */
  dead: boolean;
}

/** A statement that control may leave by a jump: a function, a loop, one round of a loop, a switch, a labelled block. */
export interface Exit {
  readonly label: string;
  /** Where it begins. */
  home: OpenRegion;
  /** How many are around it, and the innermost of them. */
  readonly index: number;
  readonly around: Exit | undefined;
  /** A loop of the device: jumps out of it need no block. */
  readonly device: boolean;
  /** From the first jump under a run-time condition on, what the statement does is in a block of the IR. */
  block: OpenRegion | undefined;
  node: Node | undefined;
  /** Of a loop that is unrolled: where it is, and how many rounds were recorded. */
  unrolled: { readonly position: Position; rounds: number } | undefined;
}

/** Where control goes to another place under a condition, and the value that it takes along. */
export interface Departure {
  readonly region: Region;
  /** The jump; absent: the end of the region. */
  readonly jump: Node | undefined;
  readonly value: unknown;
}

/** A function that is running. */
export interface Frame {
  readonly name: string;
  readonly exit: Exit | undefined;
  /** The call. */
  readonly calledAt: Position | undefined;
  readonly inlinedAt: Position | undefined;
  readonly kernel: boolean;
  readonly returns: Departure[];
}

/** A kernel that is being recorded. */
export class Trace {
  readonly kernel: KernelIR;
  readonly builder: Builder;
  readonly regions: OpenRegion[];
  readonly exits: Exit[] = [];
  readonly frames: Frame[] = [];
  /** While a condition is tried: how to take back what it changed. */
  journal: (() => void)[] | undefined;
  /** Where plain objects were made, if not in the kernel's body. */
  readonly homes: WeakMap<object, Home> = new WeakMap();
  /** Parameters of the kernel that were written or read, by their number. */
  readonly accessed: Map<number, Set<'read' | 'write'>> = new Map();
  private labels = 0;

  constructor(kernel: KernelIR, position: Position) {
    this.kernel = kernel;
    this.builder = new Builder(kernel, position, () => this.tooLong());
    this.regions = [{ region: kernel.body, depth: 1, loop: false, owner: undefined, dead: false }];
  }

  /** The region that is recorded now. Functions that use the builder alone may have opened some by themselves. */
  get current(): OpenRegion {
    let top = this.regions[this.regions.length - 1];
    const { depth } = this.builder;
    while (top.depth > depth) {
      this.regions.pop();
      top = this.regions[this.regions.length - 1];
    }
    if (top.depth < depth) {
      top = { region: this.builder.region, depth, loop: true, owner: undefined, dead: false };
      this.regions.push(top);
    }
    return top;
  }

  open(region: Region, loop: boolean): OpenRegion {
    void this.current;
    this.builder.enter(region);
    const opened = { region, depth: this.builder.depth, loop, owner: undefined, dead: false };
    this.regions.push(opened);
    return opened;
  }

  close(): void {
    const { dead } = this.current;
    this.regions.pop();
    this.builder.close();
    if (dead) this.builder.close();
  }

  /** What follows in this region is recorded to nowhere. */
  die(): void {
    const { current } = this;
    if (current.dead) return;
    current.dead = true;
    this.builder.enter([]);
    current.depth = this.builder.depth;
  }

  label(name: string): string {
    return `${name}${this.labels++}`;
  }

  enterExit(name: string, device = false): Exit {
    const exit: Exit = {
      label: this.label(name),
      home: this.current,
      index: this.exits.length,
      around: this.exits.at(-1),
      device,
      block: undefined,
      node: undefined,
      unrolled: undefined,
    };
    this.exits.push(exit);
    return exit;
  }

  /** Ends a statement, and those inside of it that a jump left. */
  leaveExit(exit: Exit): void {
    for (let i = this.exits.length - 1; i >= exit.index; i--) {
      if (this.exits[i].block) this.close();
    }
    this.exits.length = exit.index;
  }

  /** Leaves those inside of a statement, but not it. */
  leaveInner(exit: Exit): void {
    const inner = this.exits[exit.index + 1];
    if (inner) this.leaveExit(inner);
  }

  /** Whether a jump to the end of a statement is taken whenever the statement runs. */
  isDirect(exit: Exit): boolean {
    const { current } = this;
    return current === exit.home || current === exit.block;
  }

  /** Leaves a statement under a run-time condition; the node that does. */
  jumpOut(exit: Exit, op: 'break' | 'continue' = 'break'): Node {
    if (!exit.device && !exit.block) this.wrap(exit);
    const node = this.builder.emit(op, { attributes: { label: exit.label } });
    this.die();
    return node;
  }

  private wrap(exit: Exit): void {
    void this.current;
    const at = this.regions.indexOf(exit.home);
    const node = this.builder.wrap(exit.home.depth, 'block', { label: exit.label });
    const block = { region: node.regions[0], depth: exit.home.depth + 1, loop: false, owner: exit, dead: false };
    for (const inner of this.regions.slice(at + 1)) inner.depth++;
    this.regions.splice(at + 1, 0, block);
    // Statements inside of this one go on inside of its block.
    for (const inner of this.exits.slice(exit.index + 1)) if (inner.home === exit.home) inner.home = block;
    exit.block = block;
    exit.node = node;
  }

  /** Names the loop that recorded too much: the one around here with the most rounds. */
  private tooLong(): never {
    const what = `kernel ${this.kernel.name} records more than ${MOST_NODES} operations`;
    const [loop] = this.exits.flatMap((exit) => exit.unrolled ?? []).toSorted((a, b) => b.rounds - a.rounds);
    if (!loop) this.fail(`${what}: a recursion, or what runs for each element of an array, has no end`);
    throw new KernelError(
      `${what}, and the loop here was unrolled for ${loop.rounds} rounds so far, since its bounds are known: ` +
        'for a loop of the device write for (const i of range(n)), or count with a device value, let i = i32(0)',
      loop.position,
    );
  }

  fail(message: string): never {
    throw new KernelError(message, this.builder.position);
  }
}

/** Where something was made: it may be changed at compile time there, and nowhere that runs under other conditions. */
export class Home {
  readonly region: OpenRegion;
  private readonly inside: Exit | undefined;

  constructor(trace: Trace) {
    this.region = trace.current;
    this.inside = trace.exits.at(-1);
  }

  /** The block of a statement that the home is inside of does not count: what was made there does not outlive it. */
  private hides(region: OpenRegion): boolean {
    if (region.owner === undefined) return false;
    for (let exit = this.inside; exit; exit = exit.around) if (exit === region.owner) return true;
    return false;
  }

  /** What lies between here and there: nothing, a condition, or a loop. `gone`: the home has ended. */
  crossing(trace: Trace): 'none' | 'condition' | 'loop' | 'gone' {
    void trace.current;
    let found: 'none' | 'condition' | 'loop' = 'none';
    for (let i = trace.regions.length - 1; i >= 0; i--) {
      const region = trace.regions[i];
      if (region === this.region) return found;
      if (this.hides(region)) continue;
      if (region.loop) found = 'loop';
      else if (found === 'none') found = 'condition';
    }
    return 'gone';
  }

  /** Puts nodes where the home ends for now: before the node that is open in it. */
  insert(trace: Trace, nodes: readonly Node[]): void {
    let at = trace.regions.indexOf(this.region);
    while (at + 1 < trace.regions.length && this.hides(trace.regions[at + 1])) at++;
    const { region } = trace.regions[at];
    const open = at + 1 < trace.regions.length;
    region.splice(open ? region.length - 1 : region.length, 0, ...nodes);
  }
}

let active: Trace | undefined;

/** The kernel that is being recorded, if one is. */
export function tracing(): Trace | undefined {
  return active;
}

/** The same, where there must be one. */
export function need(what: string): Trace {
  if (active) return active;
  throw new KernelError(`${what} happens only while a kernel is traced: call it inside of a kernel`);
}

export function setTrace(trace: Trace | undefined): Trace | undefined {
  const before = active;
  active = trace;
  return before;
}
