import type { HostData } from '../../src/ffi.ts';

interface Block {
  readonly base: number;
  readonly bytes: Uint8Array;
  readonly kind: string;
  alive: boolean;
}

/** What a broken pointer does to the fake: the driver would crash or corrupt memory. */
export class FakeFault extends Error {}

/** One address space for the memories of the devices and the host. Blocks never share or reuse addresses. */
export class AddressSpace {
  readonly #blocks: Block[] = [];
  readonly #hostBase = new WeakMap<ArrayBufferLike, number>();
  #next = 0x7f00_0000_0000;

  /** New memory, filled with a pattern so that reading it before writing shows. */
  allocate(bytes: number, kind: string): number {
    const base = this.#place(bytes, 0);
    this.#blocks.push({ base, bytes: new Uint8Array(bytes).fill(0xcd), kind, alive: true });
    return base;
  }

  /** Ends the block that starts at `address`. Says what is wrong with that, if something is. */
  free(address: number, kind: string): string | undefined {
    const block = this.#blocks.find(({ base }) => base === address);
    if (!block) return `free of 0x${address.toString(16)}, which was never allocated`;
    if (!block.alive) return `double free of 0x${address.toString(16)} (${kind})`;
    if (block.kind !== kind) return `memory of kind ${block.kind} freed as ${kind}`;
    block.alive = false;
    return undefined;
  }

  /** A second name of a block's bytes, as another process would map it. */
  alias(address: number, kind: string): number {
    const block = this.#blockOf(address, 1);
    const base = this.#place(block.bytes.length, 0);
    this.#blocks.push({ base, bytes: block.bytes, kind, alive: true });
    return base;
  }

  /** Bytes at a device or host address. Throws FakeFault where they are not all in one living block. */
  at(address: number, bytes: number): Uint8Array {
    const block = this.#blockOf(address, bytes);
    if (!block.alive) throw new FakeFault(`use after free at 0x${address.toString(16)} (${block.kind})`);
    return block.bytes.subarray(address - block.base, address - block.base + bytes);
  }

  /** Bytes from an address to the end of its block. */
  rest(address: number): Uint8Array {
    const block = this.#blockOf(address, 0);
    return this.at(address, block.base + block.bytes.length - address);
  }

  has(address: number): boolean {
    return this.#blocks.some(({ base, alive }) => base === address && alive);
  }

  /** Address of a view of the host. Host buffers lie at odd multiples of 16, as they may in V8. */
  addressOf(view: ArrayBufferView): number {
    let base = this.#hostBase.get(view.buffer);
    if (base === undefined) {
      base = this.#place(view.buffer.byteLength, 16);
      this.#hostBase.set(view.buffer, base);
      this.#blocks.push({ base, bytes: new Uint8Array(view.buffer), kind: 'host', alive: true });
    }
    return base + view.byteOffset;
  }

  /** What a call was given as a pointer to host memory. */
  host(data: HostData, bytes: number): Uint8Array {
    if (data === null) throw new FakeFault('a null pointer where the driver needs memory');
    if (typeof data === 'number') return this.at(data, bytes);
    if (data.byteLength < bytes) throw new FakeFault(`${bytes} bytes used of a buffer of ${data.byteLength}`);
    return new Uint8Array(data.buffer, data.byteOffset, bytes);
  }

  hostView(data: HostData, bytes: number): DataView {
    const { buffer, byteOffset } = this.host(data, bytes);
    return new DataView(buffer, byteOffset, bytes);
  }

  #place(bytes: number, odd: number): number {
    const base = this.#next + odd;
    // A gap between blocks, so that running over the end of one is found.
    this.#next += (Math.ceil(bytes / 256) + 1) * 256;
    return base;
  }

  #blockOf(address: number, bytes: number): Block {
    const block = this.#blocks.find(({ base, bytes: own }) => address >= base && address + bytes <= base + own.length);
    if (!block) throw new FakeFault(`${bytes} bytes at 0x${address.toString(16)} lie in no memory`);
    return block;
  }
}
