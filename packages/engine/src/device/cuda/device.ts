import { CudaUnavailableError, listDevices, loadDriver } from '@rose/cuda';
import type { Checkpoint } from '../../checkpoint/checkpoint.ts';
import { RoseError } from '../../errors.ts';
import type { Device, DeviceDefaults, DeviceModel, LoadOptions } from '../device.ts';
import type { OnPhase } from '../phase.ts';
import { DriverGpu } from './driver-gpu.ts';
import type { Gpu } from './gpu.ts';
import { CudaModel } from './model.ts';

/** Ampere: the first with bfloat16 products and asynchronous copies, which all kernels use. */
const OLDEST_CAPABILITY = 80;

/** A GPU behind NVIDIA's driver, or in tests a simulated one. */
export class CudaDevice implements Device {
  readonly description: string;
  readonly defaults: DeviceDefaults = { maxSequences: 128, maxRows: 4096, loop: 'overlapped' };
  readonly #gpu: Gpu;

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
    const { free, total } = gpu.memory();
    const gib = (bytes: number): string => (bytes / 1024 ** 3).toFixed(1);
    this.description = `${gpu.description}, ${gpu.arch}, ${gib(free)} of ${gib(total)} GiB free`;
  }

  /** @throws RoseError `unavailable` where there is no driver, no such GPU, or one that is too old */
  static open(index: number, onPhase?: OnPhase): CudaDevice {
    const gpu = DriverGpu.open(index, onPhase);
    const [capability] = /\d+/.exec(gpu.arch) ?? ['0'];
    if (Number(capability) >= OLDEST_CAPABILITY) return new CudaDevice(gpu);
    gpu.close();
    const message = `${gpu.description} has compute capability ${Number(capability) / 10}, and Rose's kernels need 8.0 (Ampere) or newer: use --device cpu`;
    throw new RoseError('unavailable', message, { param: 'device' });
  }

  /** Whether this machine has a first GPU that `open` would take. */
  static present(): boolean {
    try {
      return listDevices(loadDriver())[0].capability >= OLDEST_CAPABILITY;
    } catch (error) {
      if (error instanceof CudaUnavailableError) return false;
      throw error;
    }
  }

  load(checkpoint: Checkpoint, options: LoadOptions): Promise<DeviceModel> {
    return CudaModel.load(this.#gpu, checkpoint, options);
  }

  get lost(): Error | undefined {
    return this.#gpu.lost;
  }

  async close(): Promise<void> {
    this.#gpu.close();
  }
}
