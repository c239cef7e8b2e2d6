import { PinnedMemory, type Context, type DeviceRange } from '@rose/cuda';
import { assert } from '../../errors.ts';
import type { GpuMemory, GpuRange, PinnedBlock } from './gpu.ts';

/** A part of a block of memory that kernels reach. */
export class Range implements GpuMemory, DeviceRange {
  readonly bytes: number;
  readonly free: () => void;
  readonly #block: DeviceRange;
  readonly #offset: number;

  constructor(block: DeviceRange, offset: number, bytes: number, free: () => void) {
    assert(offset >= 0 && bytes >= 0 && offset + bytes <= block.bytes, 'a range outside of its memory');
    this.#block = block;
    this.#offset = offset;
    this.bytes = bytes;
    this.free = free;
  }

  get context(): Context {
    return this.#block.context;
  }

  get address(): number {
    return this.#block.address + this.#offset;
  }

  slice(offset: number, bytes: number = this.bytes - offset): GpuRange {
    assert(offset >= 0 && bytes >= 0 && offset + bytes <= this.bytes, 'a slice outside of its range');
    return new Range(this.#block, this.#offset + offset, bytes, this.free);
  }
}

/** Memory of the host that a GPU copies from and to. */
export class Pinned implements PinnedBlock {
  readonly memory: PinnedMemory;
  readonly range: GpuRange;

  constructor(context: Context, bytes: number) {
    this.memory = new PinnedMemory(context, bytes);
    this.range = new Range(this.memory, 0, bytes, () => this.free());
  }

  get buffer(): ArrayBuffer {
    return this.memory.buffer;
  }

  free(): void {
    this.memory[Symbol.dispose]();
  }
}
