import type { Ffi, ForeignFunction, Word } from './ffi.ts';
import { openLibrary } from './koffi.ts';

/** What a GPU says of itself; what it does not say is undefined. */
export interface GpuReading {
  /** `GPU-...`. */
  readonly uuid: string;
  /** Share of the last sample period in which a kernel ran, 0 to 1. */
  readonly utilization: number | undefined;
  readonly totalBytes: number | undefined;
  readonly usedBytes: number | undefined;
  /** Watts. */
  readonly power: number | undefined;
  /** Watts. */
  readonly powerLimit: number | undefined;
  /** Joules since the monitor was opened. */
  readonly energy: number | undefined;
}

const LIBRARIES: Readonly<Partial<Record<NodeJS.Platform, readonly string[]>>> = {
  linux: ['libnvidia-ml.so.1'],
  win32: ['nvml.dll'],
};

/** NVML_DEVICE_UUID_V2_BUFFER_SIZE. */
const UUID_BYTES = 96;

/** Functions of NVML: parameters, each giving an nvmlReturn_t, of which 0 is success. */
const FUNCTIONS = {
  nvmlInit_v2: [],
  nvmlShutdown: [],
  nvmlDeviceGetCount_v2: ['data'],
  nvmlDeviceGetHandleByIndex_v2: ['u32', 'data'],
  nvmlDeviceGetUUID: ['word', 'data', 'u32'],
  nvmlDeviceGetUtilizationRates: ['word', 'data'],
  nvmlDeviceGetMemoryInfo: ['word', 'data'],
  nvmlDeviceGetPowerUsage: ['word', 'data'],
  nvmlDeviceGetPowerManagementLimit: ['word', 'data'],
  nvmlDeviceGetTotalEnergyConsumption: ['word', 'data'],
} as const satisfies Record<string, readonly Word[]>;
type Name = keyof typeof FUNCTIONS;

interface Gpu {
  readonly uuid: string;
  readonly handle: number;
  /** Millijoules when it was first asked. */
  readonly energy: number | undefined;
}

/** The machine's GPUs as NVIDIA's management library sees them; it comes with the driver and needs no context. */
export class GpuMonitor {
  readonly #calls: Readonly<Record<Name, ForeignFunction | undefined>>;
  readonly #gpus: readonly Gpu[];

  /** Undefined where there is no library or no GPU. @param ffi default: the machine's own library */
  static open(ffi: Ffi | undefined = openNvml()): GpuMonitor | undefined {
    if (ffi === undefined) return undefined;
    const entries = Object.entries(FUNCTIONS).map(([name, words]) => [name, ffi.find(name, words)]);
    const monitor = new GpuMonitor(Object.fromEntries(entries) as Record<Name, ForeignFunction | undefined>);
    return monitor.#gpus.length > 0 ? monitor : undefined;
  }

  private constructor(calls: Readonly<Record<Name, ForeignFunction | undefined>>) {
    this.#calls = calls;
    this.#gpus = this.#find();
  }

  read(): GpuReading[] {
    return this.#gpus.map(({ uuid, handle, energy }) => {
      const use = this.#ask('nvmlDeviceGetUtilizationRates', handle, new Uint32Array(2))?.[0];
      // total, free, used
      const memory = this.#ask('nvmlDeviceGetMemoryInfo', handle, new BigUint64Array(3));
      const power = this.#ask('nvmlDeviceGetPowerUsage', handle, new Uint32Array(1))?.[0];
      const limit = this.#ask('nvmlDeviceGetPowerManagementLimit', handle, new Uint32Array(1))?.[0];
      const now = this.#energy(handle);
      return {
        uuid,
        utilization: use === undefined ? undefined : use / 100,
        totalBytes: memory && Number(memory[0]),
        usedBytes: memory && Number(memory[2]),
        power: power === undefined ? undefined : power / 1000,
        powerLimit: limit === undefined ? undefined : limit / 1000,
        energy: energy === undefined || now === undefined ? undefined : (now - energy) / 1000,
      };
    });
  }

  close(): void {
    this.#call('nvmlShutdown');
  }

  #find(): Gpu[] {
    const count = new Uint32Array(1);
    if (!this.#call('nvmlInit_v2') || !this.#call('nvmlDeviceGetCount_v2', count)) return [];
    return Array.from({ length: count[0] }, (_, index): Gpu[] => {
      const handle = new BigUint64Array(1);
      if (!this.#call('nvmlDeviceGetHandleByIndex_v2', index, handle)) return [];
      const device = Number(handle[0]);
      const text = Buffer.alloc(UUID_BYTES);
      if (!this.#call('nvmlDeviceGetUUID', device, text, UUID_BYTES)) return [];
      const uuid = text.toString('latin1', 0, text.indexOf(0));
      return [{ uuid, handle: device, energy: this.#energy(device) }];
    }).flat();
  }

  /** Millijoules since the driver was loaded. */
  #energy(handle: number): number | undefined {
    const energy = this.#ask('nvmlDeviceGetTotalEnergyConsumption', handle, new BigUint64Array(1));
    return energy && Number(energy[0]);
  }

  /** What a call writes; undefined: this GPU, or this driver, does not know. */
  #ask<T extends NodeJS.TypedArray>(name: Name, handle: number, into: T): T | undefined {
    return this.#call(name, handle, into) ? into : undefined;
  }

  #call(name: Name, ...values: unknown[]): boolean {
    const call = this.#calls[name] as ((...all: unknown[]) => number) | undefined;
    return call?.(...values) === 0;
  }
}

function openNvml(): Ffi | undefined {
  try {
    return openLibrary(LIBRARIES[process.platform] ?? []);
  } catch {
    return undefined;
  }
}
