import type { Context } from './context.ts';
import { CudaUsageError } from './errors.ts';
import { Out } from './out.ts';
import { Resource, type ResourceKind } from './resource.ts';

/** Some bytes in a device's memory. `address` throws once their owner is disposed. */
export interface DeviceRange {
  readonly context: Context;
  readonly address: number;
  readonly bytes: number;
}

type HostBytes = NodeJS.TypedArray | DataView;

/** Memory with an address that kernels use. */
export abstract class DeviceBlock extends Resource implements DeviceRange {
  readonly bytes: number;

  constructor(context: Context, kind: ResourceKind, address: number, bytes: number) {
    super(context, kind, address);
    this.bytes = bytes;
  }

  get address(): number {
    return this.handle;
  }

  /** A part of it. Throws CudaUsageError where it does not lie inside. */
  slice(offset: number, bytes: number = this.bytes - offset): DeviceRange {
    return new DeviceSlice(this, offset, bytes);
  }

  /** Copies `source` here and waits until it has arrived. For loading and tests; a step uses a stream and pinned memory. */
  write(source: HostBytes, offset = 0): void {
    const address = this.slice(offset, source.byteLength).address;
    this.context.run('cuMemcpyHtoDAsync_v2', address, source, source.byteLength, 0);
    // Pageable memory is only staged when the call returns, and streams of our own do not wait for the default one.
    this.context.run('cuStreamSynchronize', 0);
  }

  /** Fills `target` from here and waits for it. Work in streams that writes here must be over: synchronise first. */
  read(target: HostBytes, offset = 0): void {
    const address = this.slice(offset, target.byteLength).address;
    this.context.run('cuMemcpyDtoHAsync_v2', target, address, target.byteLength, 0);
    this.context.run('cuStreamSynchronize', 0);
  }
}

class DeviceSlice implements DeviceRange {
  readonly bytes: number;
  readonly #block: DeviceBlock;
  readonly #offset: number;

  constructor(block: DeviceBlock, offset: number, bytes: number) {
    checkRange(block, offset, bytes);
    this.#block = block;
    this.#offset = offset;
    this.bytes = bytes;
  }

  get context(): Context {
    return this.#block.context;
  }
  get address(): number {
    return this.#block.address + this.#offset;
  }
}

/** Memory of the device, aligned to at least 256 bytes, until it is disposed. Allocation and freeing wait for the device. */
export class DeviceMemory extends DeviceBlock {
  constructor(context: Context, bytes: number) {
    const out = new Out();
    context.run('cuMemAlloc_v2', out.data, checkSize(bytes));
    super(context, 'device memory', out.word, bytes);
  }

  protected override release(address: number): void {
    this.context.run('cuMemFree_v2', address);
  }
}

const HOST_ALLOC = { portable: 1, mapped: 2, writeCombined: 4 } as const;

/**
 * Memory of the host that the device reaches directly: copies from and to it run beside everything else, and kernels
 * may use `address`. `buffer` is detached on disposal, so that late views of it are empty and not dangling.
 */
export class PinnedMemory extends Resource implements DeviceRange {
  readonly bytes: number;
  /** Its bytes, for the host. */
  readonly buffer: ArrayBuffer;
  readonly #address: number;

  /** `writeCombined`: faster for the device to read, very slow for the host to read. */
  constructor(context: Context, bytes: number, options: { writeCombined?: boolean } = {}) {
    const out = new Out();
    const flags = HOST_ALLOC.portable | HOST_ALLOC.mapped | (options.writeCombined ? HOST_ALLOC.writeCombined : 0);
    context.run('cuMemHostAlloc', out.data, checkSize(bytes), flags);
    super(context, 'pinned memory', out.word);
    this.bytes = bytes;
    this.buffer = context.driver.ffi.view(this.handle, bytes);
    this.#address = this.orDispose(() => {
      context.run('cuMemHostGetDevicePointer_v2', out.data, this.handle, 0);
      return out.word;
    });
  }

  /** Where kernels find it. */
  get address(): number {
    return this.handle === 0 ? 0 : this.#address;
  }

  /** Where the host finds it: what copies take. */
  hostAddress(offset: number, bytes: number): number {
    checkRange(this, offset, bytes);
    return this.handle + offset;
  }

  protected override release(handle: number): void {
    this.buffer.transfer(0);
    this.context.run('cuMemFreeHost', handle);
  }
}

function checkSize(bytes: number): number {
  if (!Number.isSafeInteger(bytes) || bytes <= 0) {
    throw new CudaUsageError(`memory of ${bytes} bytes cannot be allocated: the size must be a positive integer`);
  }
  return bytes;
}

/** Throws CudaUsageError unless `[offset, offset + bytes)` lies in `range`. */
export function checkRange(range: { readonly bytes: number }, offset: number, bytes: number): void {
  if (
    offset >= 0 &&
    bytes >= 0 &&
    Number.isSafeInteger(offset) &&
    Number.isSafeInteger(bytes) &&
    offset + bytes <= range.bytes
  ) {
    return;
  }
  throw new CudaUsageError(`bytes ${offset} to ${offset + bytes} do not lie in memory of ${range.bytes} bytes`);
}
