import { availableParallelism } from 'node:os';
import { createCpu, type Cpu } from '@rose/cpu';
import type { Checkpoint } from '../../checkpoint/checkpoint.ts';
import { RoseError } from '../../errors.ts';
import type { Device, DeviceDefaults, DeviceModel, LoadOptions } from '../device.ts';
import { loadCpuModel } from './load.ts';
import type { CpuLoadOptions } from './memory.ts';

/** More threads than this rarely help: decoding is bound by memory long before. */
const MOST_DEFAULT_THREADS = 16;

/** This machine's CPU: one thread team, an arena of at most 4 GiB for each model. */
export class CpuDevice implements Device {
  readonly description: string;
  readonly defaults: DeviceDefaults = { maxSequences: 32, maxRows: 512, loop: 'plain' };
  readonly #cpu: Cpu;

  private constructor(cpu: Cpu) {
    this.#cpu = cpu;
    this.description = cpu.description;
  }

  /**
   * @param threads threads that compute; default: the cores this process may use, 16 at most
   * @throws RoseError `invalid` for a number of threads that cannot be, `unavailable` where the kernels do not work
   */
  static async open(threads?: number): Promise<CpuDevice> {
    const count = threads ?? Math.min(availableParallelism(), MOST_DEFAULT_THREADS);
    try {
      return new CpuDevice(await createCpu({ threads: count }));
    } catch (error) {
      const code = error instanceof RangeError ? 'invalid' : 'unavailable';
      throw new RoseError(code, (error as Error).message, { cause: error });
    }
  }

  async load(checkpoint: Checkpoint, options: LoadOptions): Promise<DeviceModel> {
    return loadCpuModel(this.#cpu, checkpoint, ofCpu(options));
  }

  close(): Promise<void> {
    return this.#cpu.close();
  }
}

/** Throws RoseError `unsupported` for what only GPUs do. */
function ofCpu(options: LoadOptions): CpuLoadOptions {
  const { quantize, dtype = 'auto', cacheDtype = 'f32' } = options;
  if (quantize === 'fp8') throw unsupported('quantize', 'fp8 weights', 'int8 and int4');
  if (dtype === 'bf16' || dtype === 'f16') {
    throw unsupported('dtype', `a choice of ${dtype}`, 'auto (as the checkpoint has it) and f32');
  }
  if (cacheDtype === 'f16' || cacheDtype === 'fp8')
    throw unsupported('cacheDtype', `a ${cacheDtype} cache`, 'f32 and bf16');
  return { ...options, quantize, dtype, cacheDtype };
}

function unsupported(param: string, what: string, has: string): RoseError {
  return new RoseError('unsupported', `the CPU device does not have ${what}: it has ${has}`, { param });
}
