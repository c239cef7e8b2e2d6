import type { Ffi, ForeignFunction, HostData, Word } from '../../src/ffi.ts';
import { setWord } from '../../src/structs.ts';
import { TABLE, type CallName, type Calls } from '../../src/table.ts';
import { deviceCalls } from './device-calls.ts';
import { executionCalls } from './execution-calls.ts';
import { AddressSpace, FakeFault } from './memory.ts';
import { memoryCalls } from './memory-calls.ts';
import { moduleCalls, type FakeKernel } from './module-calls.ts';
import { streamCalls } from './stream-calls.ts';

export interface FakeOptions {
  readonly devices?: number;
  readonly version?: number;
  /** CUresult of cuInit. */
  readonly init?: number;
  /** Functions that the library does not have. */
  readonly without?: readonly string[];
  /** Kernels by name; they run when they are launched. */
  readonly kernels?: Readonly<Record<string, FakeKernel>>;
  readonly capability?: readonly [major: number, minor: number];
  /** Bytes of spills that the compiler tells of a kernel. */
  readonly spills?: (ptx: string) => number;
}

interface Entry<T> {
  readonly kind: string;
  readonly value: T;
  alive: boolean;
}

/** Part of the driver's functions; each may return nothing for success. */
export type FakeCalls = Partial<{
  [Name in CallName]: (...values: Parameters<Calls[Name]>) => number | undefined | void;
}>;

/**
 * A driver in TypeScript. Work runs at once, in the order it is put in (which every stream allows); captured work is
 * kept and runs with the graph. Wrong handles and pointers become `faults`; what was not freed is in `live`.
 */
export class FakeDriver implements Ffi {
  readonly memory: AddressSpace = new AddressSpace();
  readonly options: FakeOptions;
  /** Wrong uses that the real driver would punish at random: double free, use after free, unknown handles. */
  readonly faults: string[] = [];
  /** How often each function was called. */
  readonly counts: Map<CallName, number> = new Map();
  /** Nonzero after a kernel failed: the answer to everything. */
  sticky = 0;
  context = 0;
  /** Milliseconds that events record: 0.25 more for each, and what kernels add that take their time. */
  clock = 0;
  /** Sees every call before it happens, and gives the code with which it shall fail, or 0. */
  onCall: (name: CallName) => number = () => 0;
  readonly retained: Map<number, number> = new Map();
  readonly peers: Set<string> = new Set();
  initialised = false;
  readonly #handles = new Map<number, Entry<unknown>>();
  readonly #injected = new Map<CallName, { code: number; after: number }>();
  #nextHandle = 0x5000_0000_0000;

  constructor(options: FakeOptions = {}) {
    this.options = options;
  }

  /** Lets the call after `after` more successful ones fail with `code`. */
  inject(name: CallName, code: number, after = 0): void {
    this.#injected.set(name, { code, after });
  }

  /** Objects that are alive, by kind. */
  live(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { kind, alive } of this.#handles.values()) if (alive) counts[kind] = (counts[kind] ?? 0) + 1;
    for (const [device, count] of this.retained) if (count > 0) counts[`context of ${device}`] = count;
    return counts;
  }

  find(name: string, words: readonly Word[]): ForeignFunction | undefined {
    const known = name as CallName;
    if (!(name in TABLE) || this.options.without?.includes(name)) return undefined;
    const implemented = this.#calls()[known] as ((...values: unknown[]) => number | undefined | void) | undefined;
    if (!implemented) throw new Error(`the fake driver lacks ${name}`);
    return (...values: unknown[]) => {
      if (values.length !== words.length)
        throw new FakeFault(`${name} takes ${words.length} arguments, not ${values.length}`);
      for (const [at, word] of words.entries()) checkWord(name, word, values[at]);
      return this.#call(known, () => implemented(...values));
    };
  }

  address(view: ArrayBufferView): number {
    return this.memory.addressOf(view);
  }

  /** Maps memory as a buffer of its own, which can be detached: what is written must be moved by `sync`. */
  view(address: number, bytes: number): ArrayBuffer {
    const target = this.memory.at(address, bytes);
    if (target.byteOffset === 0 && target.byteLength === target.buffer.byteLength) return target.buffer as ArrayBuffer;
    return target.slice().buffer;
  }

  /** A new handle for an object. */
  create<T>(kind: string, value: T): number {
    const handle = (this.#nextHandle += 16);
    this.#handles.set(handle, { kind, value, alive: true });
    return handle;
  }

  /** A handle for what needs no freeing (functions, nodes). */
  name<T>(kind: string, value: T): number {
    const handle = this.create(kind, value);
    this.#handles.delete(handle);
    this.#names.set(handle, { kind, value, alive: true });
    return handle;
  }
  readonly #names = new Map<number, Entry<unknown>>();

  get<T>(kind: string, handle: number): T {
    const entry = this.#handles.get(handle) ?? this.#names.get(handle);
    if (!entry) throw new FakeFault(`0x${handle.toString(16)} is no ${kind}`);
    if (!entry.alive) throw new FakeFault(`${kind} 0x${handle.toString(16)} is used after it was destroyed`);
    if (entry.kind !== kind) throw new FakeFault(`a ${entry.kind} is used as a ${kind}`);
    return entry.value as T;
  }

  destroy<T>(kind: string, handle: number): T {
    const value = this.get<T>(kind, handle);
    const entry = this.#handles.get(handle);
    if (entry) entry.alive = false;
    return value;
  }

  putWord(data: HostData, value: number): void {
    setWord(this.memory.hostView(data, 8), 0, value);
  }
  putI32(data: HostData, value: number): void {
    this.memory.hostView(data, 4).setInt32(0, value, true);
  }

  #call(name: CallName, run: () => number | undefined | void): number {
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
    const wanted = this.onCall(name);
    if (wanted !== 0) return wanted;
    const injected = this.#injected.get(name);
    if (injected && injected.after-- === 0) {
      this.#injected.delete(name);
      return injected.code;
    }
    if (!this.initialised && name !== 'cuInit' && name !== 'cuDriverGetVersion') return 3;
    if (this.sticky !== 0) return this.sticky;
    try {
      return run() ?? 0;
    } catch (error) {
      if (!(error instanceof FakeFault)) throw error;
      this.faults.push(`${name}: ${error.message}`);
      return 400;
    }
  }

  #all: FakeCalls | undefined;
  #calls(): FakeCalls {
    this.#all ??= {
      ...deviceCalls(this),
      ...memoryCalls(this),
      ...streamCalls(this),
      ...moduleCalls(this),
      ...executionCalls(this),
    };
    return this.#all;
  }
}

function checkWord(name: string, word: Word, value: unknown): void {
  const good =
    word === 'data'
      ? value === null || typeof value === 'number' || ArrayBuffer.isView(value)
      : word === 'text'
        ? typeof value === 'string'
        : word === 'handle64'
          ? value instanceof Uint8Array && value.length === 64
          : typeof value === 'number' && Number.isSafeInteger(value) && (word === 'i32' || value >= 0);
  if (!good) throw new FakeFault(`${name} got ${String(value)} for a ${word}`);
}
