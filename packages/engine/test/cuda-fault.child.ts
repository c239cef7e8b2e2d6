/** An engine's process whose GPU breaks in its sixth step: a kernel reads memory that was given back. */
import { CudaDevice } from '../src/device/cuda/device.ts';
import { DriverGpu } from '../src/device/cuda/driver-gpu.ts';
import { kernelNamed } from '../src/device/cuda/kernels.ts';
import type { Device } from '../src/device/device.ts';
import { runProcess } from '../src/engine/host-process.ts';

const COUNT = 2 ** 26;

runProcess(async (): Promise<Device> => {
  const gpu = DriverGpu.open(0);
  const device = new CudaDevice(gpu);
  const { description, defaults } = device;
  const target = gpu.alloc(4 * COUNT);
  const source = gpu.alloc(4 * COUNT);
  const options = { from: 'f32', to: 'f32' };
  const launch = gpu.load(kernelNamed('cast'), { dims: { count: COUNT }, options }).prepare({
    x: source,
    y: target,
    count: COUNT,
  });
  source.free();
  target.free();
  return {
    description,
    defaults,
    async load(checkpoint, load) {
      const model = await device.load(checkpoint, { ...load, memoryShare: 0.05 });
      const step = model.step.bind(model);
      let steps = 0;
      model.step = (batch) => {
        if (++steps === 6) launch.run(gpu.stream);
        return step(batch);
      };
      return model;
    },
    get lost() {
      return device.lost;
    },
    close: () => device.close(),
  };
});
