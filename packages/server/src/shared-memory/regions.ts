import { assert } from '@rose/engine';
import { invalid, TritonError } from '../triton/errors.ts';
import { CudaMemory } from './cuda-memory.ts';
import type { ClientMemory } from './memory.ts';
import { SystemMemory } from './system-memory.ts';

export type RegionKind = 'system' | 'CUDA';

/** A region as its status tells; `key` and `offset` of system memory, `device_id` of CUDA memory. */
export interface RegionStatus {
  readonly name: string;
  readonly key: string;
  readonly offset: number;
  readonly device_id: number;
  readonly byte_size: number;
}

interface Region {
  readonly kind: RegionKind;
  readonly status: RegionStatus;
  readonly memory: ClientMemory;
  /** Requests under way that use it. */
  uses: number;
  /** It goes when they have ended. */
  leaving: boolean;
}

const UINT64_MAX = 2n ** 64n - 1n;
/** Largest input of a region, as large as the largest of a gRPC message. */
const MOST_BYTES = 2n ** 31n - 1n;

/** Triton's shared memory extensions: memory of clients that tensors are read from and written to. */
export class SharedMemoryRegions {
  /** Whether clients may register regions. */
  readonly enabled: boolean;
  readonly #regions: Map<string, Region> = new Map();

  constructor(enabled: boolean) {
    this.enabled = enabled;
  }

  /** @throws TritonError */
  registerSystem(name: string, key: string, offset: bigint, bytes: bigint): void {
    this.checkRegister('system', name);
    const memory = new SystemMemory(name, key, offset, bytes);
    this.#add('system', memory, { name, key, offset: Number(offset), device_id: 0, byte_size: Number(bytes) });
  }

  /** @param handle a cudaIpcMemHandle_t. @throws TritonError, also where there is no GPU */
  async registerCuda(name: string, handle: Uint8Array, device: bigint, bytes: bigint): Promise<void> {
    this.checkRegister('CUDA', name);
    const memory = await CudaMemory.open(name, handle, device, bytes);
    if (this.#regions.has(name)) memory.close();
    this.checkRegister('CUDA', name);
    this.#add('CUDA', memory, { name, key: '', offset: 0, device_id: Number(device), byte_size: Number(bytes) });
  }

  /** @param name empty: all regions of the kind. @throws TritonError 404 where there is no such region */
  status(kind: RegionKind, name: string): RegionStatus[] {
    if (name === '') return [...this.#regions.values()].filter((region) => region.kind === kind).map((r) => r.status);
    const region = this.#regions.get(name);
    const lower = kind.toLowerCase();
    if (region === undefined) throw notFound(`Unable to find ${lower} shared memory region: '${name}'`);
    if (region.kind === kind) return [region.status];
    throw notFound(
      `The region named '${name}' is registered as ${region.kind} shared memory, not ${kind} shared memory`,
    );
  }

  /** Forget a region once no request uses it. @param name empty: all regions of the kind; an unknown one is no error */
  unregister(kind: RegionKind, name: string): void {
    if (!this.enabled) throw disabled();
    for (const region of name === '' ? [...this.#regions.values()] : [this.#regions.get(name)]) {
      if (region?.kind !== kind) continue;
      region.leaving = true;
      if (region.uses === 0) this.#remove(region);
    }
  }

  /** The regions that one request uses. */
  use(): RegionUse {
    return new RegionUse(this);
  }

  /** For RegionUse alone. @throws TritonError 404 where there is no such region, 400 where the range is not in it */
  take(name: string, offset: bigint, bytes: bigint): Region {
    const region = this.#regions.get(name);
    if (region === undefined) throw notFound(`Unable to find shared memory region: '${name}'`);
    const size = BigInt(region.status.byte_size);
    if (offset < 0n || offset >= size) throw invalid(`Invalid offset for shared memory region: '${name}'`);
    if (offset + bytes > UINT64_MAX) {
      throw invalid(
        `Integer overflow detected: byte_size (${bytes}) + offset (${offset}) exceeds maximum value (${UINT64_MAX}) for region '${name}'`,
      );
    }
    if (bytes < 0n || offset + bytes > size) {
      throw invalid(`Invalid offset + byte size for shared memory region: '${name}'`);
    }
    region.uses++;
    return region;
  }

  /** For RegionUse alone. */
  release(region: Region): void {
    region.uses--;
    assert(region.uses >= 0, 'a region of shared memory was released more often than taken');
    if (region.leaving && region.uses === 0) this.#remove(region);
  }

  close(): void {
    for (const region of [...this.#regions.values()]) this.#remove(region);
  }

  /** @throws TritonError 501 where clients must not register regions, 400 where this name cannot be */
  checkRegister(kind: RegionKind, name: string): void {
    if (!this.enabled) throw disabled();
    if (name === '') {
      throw invalid(`'region name' is necessary to register ${kind.toLowerCase()} shared memory region`);
    }
    if (this.#regions.has(name)) throw invalid(`shared memory region '${name}' already in manager`);
  }

  #add(kind: RegionKind, memory: ClientMemory, status: RegionStatus): void {
    this.#regions.set(status.name, { kind, status, memory, uses: 0, leaving: false });
  }

  #remove(region: Region): void {
    this.#regions.delete(region.status.name);
    region.memory.close();
  }
}

/** A part of a region, as a request names it. */
export interface RegionPlace {
  readonly region: string;
  readonly offset: bigint;
  readonly bytes: bigint;
}

/** The regions of one request: they stay until it has ended, whatever clients unregister meanwhile. */
export class RegionUse {
  readonly #regions: SharedMemoryRegions;
  readonly #taken: Region[] = [];

  constructor(regions: SharedMemoryRegions) {
    this.#regions = regions;
  }

  /** Bytes of an input as they are now. */
  input({ region, offset, bytes }: RegionPlace): Uint8Array {
    const { memory } = this.#take(region, offset, bytes);
    if (bytes > MOST_BYTES) {
      throw invalid(
        `${bytes} bytes of shared memory region '${region}' exceed the maximum of ${MOST_BYTES} for an input`,
      );
    }
    const length = Number(bytes);
    const target = Buffer.allocUnsafeSlow(length);
    memory.read(Number(offset), target);
    return target;
  }

  /** Where an output goes. */
  output({ region, offset, bytes }: RegionPlace): OutputRange {
    return new OutputRange(this.#take(region, offset, bytes).memory, Number(offset), Number(bytes));
  }

  /** The request has ended. */
  release(): void {
    for (const region of this.#taken) this.#regions.release(region);
    this.#taken.length = 0;
  }

  #take(name: string, offset: bigint, bytes: bigint): Region {
    const region = this.#regions.take(name, offset, bytes);
    this.#taken.push(region);
    return region;
  }
}

/** Room that a client made for an output. */
export class OutputRange {
  readonly #memory: ClientMemory;
  readonly #offset: number;
  readonly #bytes: number;

  constructor(memory: ClientMemory, offset: number, bytes: number) {
    this.#memory = memory;
    this.#offset = offset;
    this.#bytes = bytes;
  }

  /** @param output its name. @throws TritonError 500 where it does not fit */
  write(output: string, source: Uint8Array): void {
    if (source.length > this.#bytes) {
      throw new TritonError(
        500,
        `shared memory size specified with the request for output '${output}' (${this.#bytes} bytes) should be at least ${source.length} bytes to hold the results`,
      );
    }
    this.#memory.write(this.#offset, source);
  }
}

function notFound(message: string): TritonError {
  return new TritonError(404, message);
}

function disabled(): TritonError {
  return new TritonError(
    501,
    "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable.",
  );
}
