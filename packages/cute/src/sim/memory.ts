import { PendingRanges } from './pending.ts';

/** Where shared memory begins in a CTA's window: address 0 belongs to nobody, and 1024 is the widest alignment. */
export const SHARED_BASE = 1024;
/** Every global allocation has a window of this size of its own: whatever leaves it hits nothing. */
export const GLOBAL_WINDOW: number = 2 ** 36;

/** A part of a region with a name: an allocation of shared memory, or a whole tensor. */
export interface Part {
  readonly id: number;
  readonly name: string;
  readonly offset: number;
  readonly bytes: number;
}

/** Bytes that kernels see: a tensor in global memory, or the shared memory of a CTA. */
export class MemoryRegion {
  readonly space: 'global' | 'shared';
  readonly name: string;
  /** Address of byte 0. */
  readonly base: number;
  readonly size: number;
  readonly access: 'read' | 'write' | 'readwrite';
  readonly parts: readonly Part[];
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly halves: Uint16Array;
  readonly words: Int32Array;
  readonly longs: BigUint64Array;
  /** The last write of each byte and two reads of different warps, as stamps (record * 32 + lane); 0: none. */
  writes: Int32Array | undefined;
  reads: Int32Array | undefined;
  otherReads: Int32Array | undefined;
  /** Ranges that an asynchronous operation still reads or writes. */
  readonly pending: PendingRanges;

  constructor(
    space: 'global' | 'shared',
    name: string,
    base: number,
    size: number,
    access: 'read' | 'write' | 'readwrite',
    parts: readonly Part[],
  ) {
    this.space = space;
    this.name = name;
    this.base = base;
    this.size = size;
    this.access = access;
    this.parts = parts;
    this.pending = new PendingRanges(size);
    const buffer = new ArrayBuffer(Math.ceil(size / 16) * 16);
    this.bytes = new Uint8Array(buffer);
    this.halves = new Uint16Array(buffer);
    this.words = new Int32Array(buffer);
    this.longs = new BigUint64Array(buffer);
  }

  /** Begins to keep track of accesses. */
  watch(): void {
    if (this.writes || (this.space === 'global' && this.access === 'read')) return;
    this.writes = new Int32Array(this.size);
    this.reads = new Int32Array(this.size);
    this.otherReads = new Int32Array(this.size);
  }

  partAt(offset: number): Part | undefined {
    return this.parts.find((part) => offset >= part.offset && offset < part.offset + part.bytes);
  }

  /** `shared "part" + 16`. */
  describe(offset: number): string {
    const part = this.partAt(offset);
    if (part) return `${this.space} "${part.name}" + ${offset - part.offset}`;
    const name = this.space === 'shared' ? 'memory outside of its allocations' : `"${this.name}"`;
    return `${this.space} ${name} + ${offset}`;
  }
}
