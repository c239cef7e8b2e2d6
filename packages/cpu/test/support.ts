import assert from 'node:assert/strict';
import { after } from 'node:test';
import { createCpu, type Arena, type Cpu, type CpuOptions, type Program, type ScratchNeed } from '@rose/cpu';

/** Every way to compute the same bits: families, numbers of threads, and operands at addresses beyond 2 GiB. */
export const WAYS: readonly Way[] = [
  { threads: 1, family: 'plain' },
  { threads: 2, family: 'plain', high: true },
  { threads: 3, family: 'wide' },
];

export interface Way extends CpuOptions {
  readonly high?: boolean;
}

const HIGH = 2 ** 31;

const NEED: ScratchNeed = { maxRows: 80, maxInputs: 0, maxContext: 512, maxHeadDim: 128, maxWidth: 512 };

/** An arena to fill with operands and run commands over. */
export class Bench {
  readonly cpu: Cpu;
  readonly arena: Arena;
  readonly program: Program;
  readonly name: string;

  private constructor(cpu: Cpu, arena: Arena, { threads, family, high }: Way) {
    this.cpu = cpu;
    this.name = `${threads} ${family}${high === true ? ' high' : ''}`;
    this.arena = arena;
    arena.reserve(NEED);
    this.program = arena.program();
  }

  /** Closed when the tests of the file are done. */
  static async open(way: Way, bytes: number = 16 << 20): Promise<Bench> {
    const cpu = await createCpu(way);
    after(() => cpu.close());
    if (way.high !== true) return new Bench(cpu, await cpu.createArena(bytes), way);
    const arena = await cpu.createArena(HIGH + bytes);
    // Memory that nobody touches takes no room.
    arena.alloc(HIGH);
    return new Bench(cpu, arena, way);
  }

  floats(values: ArrayLike<number>): number {
    const pointer = this.arena.alloc(4 * values.length);
    this.arena.f32(pointer, values.length).set(values);
    return pointer;
  }

  ints(values: ArrayLike<number>): number {
    const pointer = this.arena.alloc(4 * values.length);
    this.arena.i32(pointer, values.length).set(values);
    return pointer;
  }

  halves(values: Uint16Array | Float16Array): number {
    const pointer = this.arena.alloc(2 * values.length);
    this.arena.u8(pointer, 2 * values.length).set(new Uint8Array(values.buffer, values.byteOffset, 2 * values.length));
    return pointer;
  }

  /** Room whose contents nobody may rely on. */
  room(length: number): number {
    return this.floats(new Float32Array(length).fill(NaN));
  }

  /** A copy of float32 values. */
  read(pointer: number, length: number): Float32Array {
    return this.arena.f32(pointer, length).slice();
  }

  /** Append commands and run them; what was allocated meanwhile is given back, what `result` reads is copied before. */
  run<T>(work: (program: Program) => () => T): T {
    const mark = this.arena.used;
    this.program.reset();
    const result = work(this.program);
    this.program.run();
    const value = result();
    this.arena.release(mark);
    return value;
  }
}

/** Numbers from (-1, 1), always the same for a seed (mulberry32). */
export function random(length: number, seed: number): Float32Array {
  let state = seed;
  return new Float32Array(length).map(() => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
  });
}

/** The bfloat16 nearest to each value, ties to even: its upper 16 bits. */
export function bf16Bits(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.slice().buffer);
  return Uint16Array.from(bits, (word) => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16);
}

export function bf16Values(values: Float32Array): Float32Array {
  return new Float32Array(Uint32Array.from(bf16Bits(values), (word) => word << 16).buffer);
}

export function bits(values: Float32Array): Int32Array {
  return new Int32Array(values.buffer, values.byteOffset, values.length);
}

export function sameBits(actual: Float32Array, expected: Float32Array, message: string): void {
  assert.equal(actual.length, expected.length, message);
  const [a, b] = [bits(actual), bits(expected)];
  for (let i = 0; i < a.length; i++) {
    if (a[i] !== b[i]) assert.fail(`${message}: element ${i} is ${actual[i]}, not ${expected[i]}`);
  }
}

/** |actual - expected| <= bound * max(1, |expected|), element by element; NaN equals NaN alone. */
export function close(actual: ArrayLike<number>, expected: ArrayLike<number>, bound: number, message: string): void {
  assert.equal(actual.length, expected.length, message);
  for (let i = 0; i < actual.length; i++) {
    const [a, b] = [actual[i], expected[i]];
    if (Object.is(a, b) || a === b || Math.abs(a - b) <= bound * Math.max(1, Math.abs(b))) continue;
    assert.fail(`${message}: element ${i} is ${a}, not ${b} +- ${bound}`);
  }
}
