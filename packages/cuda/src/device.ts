import type { Driver } from './driver.ts';
import { CudaUnavailableError, CudaUsageError } from './errors.ts';
import { Out, textOf } from './out.ts';

/** CUdevice_attribute, as far as Rose asks. Clocks are in kHz, sizes in bytes. */
export const DEVICE_ATTRIBUTE = {
  maxThreadsPerBlock: 1,
  warpSize: 10,
  clockRate: 13,
  multiprocessors: 16,
  integrated: 18,
  canMapHostMemory: 19,
  computeMode: 20,
  eccEnabled: 32,
  memoryClockRate: 36,
  memoryBusBits: 37,
  l2Bytes: 38,
  maxThreadsPerMultiprocessor: 39,
  unifiedAddressing: 41,
  computeMajor: 75,
  computeMinor: 76,
  sharedBytesPerMultiprocessor: 81,
  registersPerMultiprocessor: 82,
  hostNativeAtomics: 86,
  cooperativeLaunch: 95,
  sharedBytesPerBlock: 97,
  maxBlocksPerMultiprocessor: 106,
  reservedSharedBytesPerBlock: 111,
  memoryPools: 115,
  clusterLaunch: 120,
  ipcEvents: 125,
  tensorMaps: 127,
  multicast: 132,
} as const;

export type DeviceAttribute = keyof typeof DEVICE_ATTRIBUTE;

/** A GPU, described. Nothing is held on it until a Context is made. */
export class Device {
  readonly driver: Driver;
  readonly ordinal: number;
  /** CUdevice. */
  readonly id: number;
  readonly name: string;
  /** `GPU-xxxxxxxx-xxxx-...`, as nvidia-smi prints it. */
  readonly uuid: string;
  /** Compute capability as major * 10 + minor: 90 is Hopper, 100 is Blackwell. */
  readonly capability: number;
  readonly memoryBytes: number;
  readonly #attributes = new Map<DeviceAttribute, number>();

  constructor(driver: Driver, ordinal: number) {
    const count = countOf(driver);
    if (!Number.isInteger(ordinal) || ordinal < 0 || ordinal >= count) {
      throw new CudaUsageError(
        `there is no GPU ${ordinal}: this machine shows ${count} (CUDA_VISIBLE_DEVICES may hide some)`,
      );
    }
    const out = new Out();
    driver.run('cuDeviceGet', out.data, ordinal);
    this.driver = driver;
    this.ordinal = ordinal;
    this.id = out.i32;
    this.name = text(driver, 'cuDeviceGetName', this.id);
    this.uuid = uuidOf(driver, this.id);
    this.capability = this.attribute('computeMajor') * 10 + this.attribute('computeMinor');
    driver.run('cuDeviceTotalMem_v2', out.data, this.id);
    this.memoryBytes = out.word;
  }

  /** One attribute; asked once and kept. */
  attribute(name: DeviceAttribute): number {
    const known = this.#attributes.get(name);
    if (known !== undefined) return known;
    const out = new Out();
    this.driver.run('cuDeviceGetAttribute', out.data, DEVICE_ATTRIBUTE[name], this.id);
    this.#attributes.set(name, out.i32);
    return out.i32;
  }

  /** `0000:1b:00.0`. */
  get pciBusId(): string {
    return text(this.driver, 'cuDeviceGetPCIBusId', this.id);
  }

  /** Whether kernels here can read and write the memory of `other`. */
  reaches(other: Device): boolean {
    if (other.id === this.id) return true;
    const out = new Out();
    this.driver.run('cuDeviceCanAccessPeer', out.data, this.id, other.id);
    return out.i32 !== 0;
  }

  toString(): string {
    return `GPU ${this.ordinal} (${this.name})`;
  }
}

/** All GPUs the driver shows, at least one. Throws CudaUnavailableError where there is none. */
export function listDevices(driver: Driver): Device[] {
  const count = countOf(driver);
  if (count === 0) {
    throw new CudaUnavailableError(
      "NVIDIA's driver is installed but shows no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES, or use the CPU device.",
    );
  }
  return Array.from({ length: count }, (_, ordinal) => new Device(driver, ordinal));
}

function countOf(driver: Driver): number {
  const out = new Out();
  driver.run('cuDeviceGetCount', out.data);
  return out.i32;
}

function text(driver: Driver, call: 'cuDeviceGetName' | 'cuDeviceGetPCIBusId', id: number): string {
  const bytes = new Uint8Array(256);
  driver.run(call, bytes, bytes.length, id);
  return textOf(bytes);
}

function uuidOf(driver: Driver, id: number): string {
  const bytes = Buffer.alloc(16);
  driver.run('cuDeviceGetUuid_v2', bytes, id);
  const hex = bytes.toString('hex');
  return `GPU-${[hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')}`;
}
