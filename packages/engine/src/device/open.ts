import { RoseError } from '../errors.ts';
import type { CudaDevice } from './cuda/device.ts';
import type { Device } from './device.ts';
import type { OnPhase } from './phase.ts';

/** Which device, and how it is opened. */
export interface DeviceChoice {
  /** `cpu`, `cuda` (the first GPU), `cuda:N`, or `auto`: the first GPU where there is one, else the CPU. */
  readonly device: string;
  /** CPU threads that compute; not for GPUs. */
  readonly threads: number | undefined;
}

/**
 * Open a device by its name.
 * @param onPhase told of each part of it that is done
 * @throws RoseError `invalid` for a name that is none, `unavailable` for a device that this machine does not have
 */
export async function openDevice({ device, threads }: DeviceChoice, onPhase?: OnPhase): Promise<Device> {
  if (device === 'cpu') return openCpu(threads);
  if (device === 'auto') return (await openFirstGpu(onPhase)) ?? openCpu(threads);
  const index = gpuIndex(device);
  if (index === undefined) {
    throw new RoseError('invalid', `there is no device '${device}': use cpu, cuda, cuda:N or auto`, {
      param: 'device',
    });
  }
  if (threads !== undefined) {
    const message = `threads says how many CPU threads compute, and ${device} computes on a GPU: leave it out`;
    throw new RoseError('invalid', message, { param: 'threads' });
  }
  return (await cudaDevice(onPhase)).open(index, onPhase);
}

/** N of `cuda:N`; 0 for `cuda`; undefined: not a GPU's name. */
function gpuIndex(device: string): number | undefined {
  const [, index = '0'] = /^cuda(?::(\d+))?$/.exec(device) ?? [undefined, ''];
  return index === '' ? undefined : Number(index);
}

async function openCpu(threads: number | undefined): Promise<Device> {
  const { CpuDevice } = await import('./cpu/device.ts');
  return CpuDevice.open(threads);
}

async function openFirstGpu(onPhase?: OnPhase): Promise<Device | undefined> {
  const CudaDevice = await cudaDevice(onPhase);
  return CudaDevice.present() ? CudaDevice.open(0, onPhase) : undefined;
}

/** What a GPU needs is loaded only where one is asked for. */
async function cudaDevice(onPhase?: OnPhase): Promise<typeof CudaDevice> {
  // In a checkout kernels are transformed as they are imported.
  await import('@rose/cute/register');
  const module = await import('./cuda/device.ts');
  onPhase?.('kernel library');
  return module.CudaDevice;
}
