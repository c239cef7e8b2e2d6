import type { Context } from './context.ts';
import { DeviceBlock } from './memory.ts';
import { Out } from './out.ts';
import { Resource } from './resource.ts';
import type { Stream } from './stream.ts';
import { MEM_ACCESS, MEM_POOL_PROPS, setWord } from './structs.ts';

const ATTRIBUTE = { releaseThreshold: 4, reservedBytes: 5, reservedHigh: 6, usedBytes: 7, usedHigh: 8 } as const;
const LOCATION_DEVICE = 1;
const ALLOCATION_PINNED = 1;
const READ_WRITE = 3;

/** Memory handed out and taken back in a stream's order, without waiting for the device. */
export class MemoryPool extends Resource {
  /**
   * `releaseThreshold`: bytes that stay reserved when they are free (default: all); above it, a synchronisation gives
   * memory back to the device.
   */
  constructor(context: Context, options: { releaseThreshold?: number } = {}) {
    const props = new DataView(new ArrayBuffer(MEM_POOL_PROPS.bytes));
    props.setUint32(MEM_POOL_PROPS.allocationType, ALLOCATION_PINNED, true);
    props.setUint32(MEM_POOL_PROPS.locationType, LOCATION_DEVICE, true);
    props.setUint32(MEM_POOL_PROPS.locationId, context.device.id, true);
    const out = new Out();
    context.run('cuMemPoolCreate', out.data, props);
    super(context, 'memory pool', out.word);
    const threshold = new DataView(new ArrayBuffer(8));
    setWord(threshold, 0, options.releaseThreshold ?? Number.MAX_SAFE_INTEGER);
    this.orDispose(() => {
      context.run('cuMemPoolSetAttribute', this.handle, ATTRIBUTE.releaseThreshold, threshold);
    });
  }

  /** Memory that work in `stream` after this call may use. */
  allocate(bytes: number, stream: Stream): PoolMemory {
    return new PoolMemory(this, bytes, stream);
  }

  /** Bytes reserved from the device and bytes handed out, now and at most so far. */
  usage(): { reserved: number; used: number; reservedHigh: number; usedHigh: number } {
    const read = (attribute: number): number => {
      const out = new Out();
      this.context.run('cuMemPoolGetAttribute', this.handle, attribute, out.data);
      return out.word;
    };
    return {
      reserved: read(ATTRIBUTE.reservedBytes),
      used: read(ATTRIBUTE.usedBytes),
      reservedHigh: read(ATTRIBUTE.reservedHigh),
      usedHigh: read(ATTRIBUTE.usedHigh),
    };
  }

  /** Gives memory that is not handed out back to the device, down to `keepBytes`. */
  trim(keepBytes = 0): void {
    this.context.run('cuMemPoolTrimTo', this.handle, keepBytes);
  }

  /** Lets kernels on the device of `peer` use what is allocated here. */
  allowAccess(peer: Context): void {
    const access = new DataView(new ArrayBuffer(MEM_ACCESS.bytes));
    access.setUint32(MEM_ACCESS.locationType, LOCATION_DEVICE, true);
    access.setUint32(MEM_ACCESS.locationId, peer.device.id, true);
    access.setUint32(MEM_ACCESS.flags, READ_WRITE, true);
    this.context.run('cuMemPoolSetAccess', this.handle, access, 1);
  }

  protected override release(handle: number): void {
    this.context.run('cuMemPoolDestroy', handle);
  }
}

/** Memory from a pool. Disposal is ordered after the work so far in the stream it was allocated in (or `freeIn`). */
export class PoolMemory extends DeviceBlock {
  #stream: Stream;

  constructor(pool: MemoryPool, bytes: number, stream: Stream) {
    const out = new Out();
    pool.context.run('cuMemAllocFromPoolAsync', out.data, bytes, pool.handle, stream.handle);
    super(pool.context, 'pool memory', out.word, bytes);
    this.#stream = stream;
  }

  /** Frees it after the work so far in another stream, which must itself be ordered after every use. */
  freeIn(stream: Stream): void {
    this.#stream = stream;
    this[Symbol.dispose]();
  }

  protected override release(address: number): void {
    // A stream that is gone may still have work on the device, which no other stream is ordered after.
    if (this.#stream.disposed) this.context.synchronize();
    this.context.run('cuMemFreeAsync', address, this.#stream.disposed ? 0 : this.#stream.handle);
  }
}
