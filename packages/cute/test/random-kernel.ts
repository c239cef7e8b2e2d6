import { Builder } from '../src/ir/builder.ts';
import type { KernelIR, Region, Slot, Value } from '../src/ir/ir.ts';
import { RareValues } from './random-values.ts';

/** Bytes of memory that a random kernel's tensor has. */
export const RANDOM_BYTES = 4096;

/** Numbers that repeat for a seed (a linear congruential generator of Knuth's). */
export function random(seed: number): (below: number) => number {
  let state = BigInt(seed) * 2654435761n + 1n;
  return (below) => {
    state = BigInt.asUintN(64, state * 6364136223846793005n + 1442695040888963407n);
    return Number(state >> 33n) % below;
  };
}

const TYPES = ['i32', 'u32', 'f32', 'bf16', 'pred'] as const;
type Known = (typeof TYPES)[number];

/**
 * A kernel that ends, reads and writes within its tensor, and uses every kind of control flow; `rare`: also operations of
 * every family that gives numbers, which the test's own interpreter does not know.
 */
export function randomKernel(seed: number, rare: boolean = false): KernelIR {
  const kernel: KernelIR = {
    name: `random_${seed}`,
    params: [{ kind: 'tensor', name: 'x', element: 'f32', align: 16, access: 'readwrite' }],
    shared: [],
    body: [],
    threads: [64, 1, 1],
    values: 0,
    slotCount: 0,
  };
  new Generator(kernel, random(seed), rare).run();
  return kernel;
}

class Generator {
  private readonly b: Builder;
  private readonly next: (below: number) => number;
  private readonly base: Value;
  private readonly slots: Slot[] = [];
  private pool: Value[] = [];
  private line = 1;
  private labels = 0;

  private readonly rare: RareValues | undefined;

  constructor(kernel: KernelIR, next: (below: number) => number, rare: boolean) {
    this.b = new Builder(kernel, { file: 'random.ts', line: 1, column: 1 });
    this.next = next;
    if (rare) this.rare = new RareValues(this.b, next, (type) => this.pick(type));
    this.base = this.b.value('param', 'ptr.global', { attributes: { index: 0 } });
    this.pool.push(this.b.value('special', 'i32', { attributes: { name: 'tid.x' } }));
  }

  run(): void {
    for (const type of ['i32', 'f32', 'u32'] as const) {
      const slot = this.b.slot(type, `s_${type}`);
      this.b.emit('set', { args: [this.constant(type)], slots: [slot] });
      this.slots.push(slot);
    }
    this.statements(8, 3, []);
    for (const slot of this.slots) {
      this.store([this.b.value('get', slot.type, { slots: [slot] })]);
    }
  }

  private statements(count: number, depth: number, loops: readonly string[]): void {
    const saved = [...this.pool];
    for (let i = 0; i < count; i++) {
      const name = this.next(3) === 0 ? 'helper' : undefined;
      const inlinedAt = { file: 'caller.ts', line: 7, column: 3 };
      this.b.position = {
        file: 'random.ts',
        line: this.line++,
        column: 1 + this.next(9),
        ...(name && { name, inlinedAt }),
      };
      const kind = this.next(depth > 0 ? 12 : 8);
      if (kind < 5) this.expression();
      else if (kind === 5) this.assign();
      else if (kind === 6) this.load();
      else if (kind === 7) this.stores();
      else if (kind === 8 || kind === 9) this.branch(depth, loops);
      else if (kind === 10) this.loop(depth, loops);
      else this.block(depth, loops);
    }
    this.pool = saved;
  }

  private push(value: Value): Value {
    this.pool.push(value);
    return value;
  }

  private constant(type: Known): Value {
    const whole = [0, 1, 2, 3, 5, 7, 8, 16, 31, 64, 100, 1 << 20][this.next(12)];
    const value =
      type === 'pred'
        ? this.next(2) === 1
        : type === 'f32' || type === 'bf16'
          ? [0.5, -1, 3, 0, -0, 1e30][this.next(6)]
          : whole;
    return this.b.value('const', type, { attributes: { value } });
  }

  private pick(type: Known): Value {
    const fit = this.pool.filter((value) => value.type === type);
    if (fit.length > 0 && this.next(4) > 0) return fit[this.next(fit.length)];
    const slot = this.slots.find((candidate) => candidate.type === type);
    if (slot && this.next(2) === 0) return this.b.value('get', type, { slots: [slot] });
    if (type === 'pred') return this.compare();
    return this.push(this.constant(type));
  }

  private compare(): Value {
    const type = (['i32', 'u32', 'f32'] as const)[this.next(3)];
    const test = ['eq', 'ne', 'lt', 'le', 'gt', 'ge'][this.next(6)];
    return this.push(
      this.b.value('compare', 'pred', { args: [this.pick(type), this.pick(type)], attributes: { test } }),
    );
  }

  private expression(): void {
    if (this.rare && this.next(2) === 0) {
      this.push(this.rare.make());
      return;
    }
    const type = TYPES[this.next(TYPES.length)];
    if (type === 'pred') {
      if (this.next(2) === 0) this.compare();
      else
        this.push(this.b.value(['and', 'or', 'xor'][this.next(3)], type, { args: [this.pick(type), this.pick(type)] }));
      return;
    }
    if (type === 'bf16') {
      this.push(this.b.value('convert', type, { args: [this.pick('f32')] }));
      return;
    }
    if (type === 'f32') {
      if (this.next(4) === 0) this.push(this.b.value('convert', type, { args: [this.pick('bf16')] }));
      else
        this.push(
          this.b.value(['add', 'sub', 'mul'][this.next(3)], type, { args: [this.pick(type), this.pick(type)] }),
        );
      return;
    }
    const op = ['add', 'sub', 'mul', 'and', 'or', 'xor', 'min', 'max', 'shl', 'shr', 'div', 'rem', 'select'][
      this.next(13)
    ];
    if (op === 'select')
      this.push(this.b.value(op, type, { args: [this.pick('pred'), this.pick(type), this.pick(type)] }));
    else if (op === 'div' || op === 'rem') {
      const divisor = this.b.value('const', type, {
        attributes: { value: [1, 2, 3, 7, 8, 10, 100, 4096][this.next(8)] },
      });
      this.push(this.b.value(op, type, { args: [this.pick(type), divisor] }));
    } else if (op === 'shl' || op === 'shr') {
      const count = this.b.value('const', 'u32', { attributes: { value: this.next(34) } });
      this.push(this.b.value(op, type, { args: [this.pick(type), count] }));
    } else this.push(this.b.value(op, type, { args: [this.pick(type), this.pick(type)] }));
  }

  private assign(): void {
    const slot = this.slots[this.next(this.slots.length)];
    this.b.emit('set', { args: [this.pick(slot.type as Known)], slots: [slot] });
  }

  /** An address within the tensor, made in several ways. */
  private address(): Value {
    const mask = this.b.value('const', 'i32', { attributes: { value: 127 } });
    const index = this.b.value('and', 'i32', { args: [this.pick('i32'), mask] });
    const extra = this.b.value('const', 'i32', { attributes: { value: this.next(8) * 4 } });
    const sum = this.b.value('add', 'i32', { args: [index, extra] });
    return this.b.value('ptr_add', 'ptr.global', {
      args: [this.base, sum],
      attributes: { scale: 16, bytes: 16 * this.next(8) },
    });
  }

  private load(): void {
    const address = this.address();
    for (let i = 0; i < 1 + this.next(4); i++) {
      const at = this.b.value('ptr_add', 'ptr.global', { args: [address], attributes: { bytes: 4 * i } });
      this.push(this.b.value('load', 'f32', { args: [at], attributes: { count: 1, align: 4 } }));
    }
  }

  private stores(): void {
    const type = (['f32', 'bf16', 'i32'] as const)[this.next(3)];
    if (type === 'bf16') {
      const pair = [0, 1, 2, 3].map(() => this.b.value('convert', 'bf16', { args: [this.pick('f32')] }));
      return this.store(pair);
    }
    const values = Array.from({ length: [1, 2, 4][this.next(3)] }, () => this.pick(type));
    const address = this.address();
    for (const [i, value] of values.entries()) {
      const at = this.b.value('ptr_add', 'ptr.global', { args: [address], attributes: { bytes: 4 * i } });
      this.b.emit('store', { args: [at, value], attributes: { count: 1, align: 4 } });
    }
  }

  private store(values: readonly Value[]): void {
    const bytes = values[0].type === 'bf16' ? 2 : 4;
    const attributes = { count: values.length, align: bytes * (values.length === 3 ? 1 : values.length) };
    this.b.emit('store', { args: [this.address(), ...values], attributes });
  }

  private inside(region: Region, count: number, depth: number, loops: readonly string[]): void {
    this.b.enter(region);
    this.statements(count, depth, loops);
    this.b.close();
  }

  private branch(depth: number, loops: readonly string[]): void {
    const node = this.b.emit('if', { args: [this.pick('pred')], regions: [[], []] });
    this.inside(node.regions[0], 1 + this.next(3), depth - 1, loops);
    if (loops.length > 0 && this.next(3) === 0) {
      this.b.enter(node.regions[0]);
      const label = loops[this.next(loops.length)];
      this.b.emit(label.startsWith('loop') && this.next(2) === 0 ? 'continue' : 'break', { attributes: { label } });
      this.b.close();
    }
    if (this.next(2) === 0) this.inside(node.regions[1], 1 + this.next(2), depth - 1, loops);
  }

  /** At most five rounds, counted by a slot that nothing else writes. */
  private loop(depth: number, loops: readonly string[]): void {
    const counter = this.b.slot('i32', 'i');
    const label = `loop${this.labels++}`;
    this.b.emit('set', { args: [this.b.value('const', 'i32', { attributes: { value: 0 } })], slots: [counter] });
    const unroll = this.next(4);
    const node = this.b.emit('loop', { attributes: { label, unroll }, regions: [[], []] });
    this.b.enter(node.regions[0]);
    const saved = [...this.pool];
    const i = this.push(this.b.value('get', 'i32', { slots: [counter] }));
    const end = this.b.value('const', 'i32', { attributes: { value: this.next(5) } });
    const done = this.b.value('compare', 'pred', { args: [i, end], attributes: { test: 'ge' } });
    const leave = this.b.emit('if', { args: [done], regions: [[], []] });
    this.b.enter(leave.regions[0]);
    this.b.emit('break', { attributes: { label } });
    this.b.close();
    this.statements(1 + this.next(5), depth - 1, [...loops, label]);
    this.b.close();
    this.pool = saved;
    this.b.enter(node.regions[1]);
    const one = this.b.value('const', 'i32', { attributes: { value: 1 } });
    const before = this.b.value('get', 'i32', { slots: [counter] });
    this.b.emit('set', { args: [this.b.value('add', 'i32', { args: [before, one] })], slots: [counter] });
    this.b.close();
  }

  private block(depth: number, loops: readonly string[]): void {
    const label = `block${this.labels++}`;
    const node = this.b.emit('block', { attributes: { label }, regions: [[]] });
    this.inside(node.regions[0], 1 + this.next(4), depth - 1, [...loops, label]);
  }
}
