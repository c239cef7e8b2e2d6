/** Launches every case of `cases.ts` once: what `run.ts` starts under ncu. `--only TEXT` as there. */
import { parseArgs } from 'node:util';
import { compileKernel } from '@rose/cute';
import { Kernel } from '@rose/cuda';
import { DeviceArgs } from '../../packages/rose/src/kernel/device-args.ts';
import { openGpu, tuningsOf } from '../../packages/rose/src/kernel/gpu.ts';
import { CASES, specialised } from './cases.ts';

const { values } = parseArgs({ options: { only: { type: 'string', default: '' } } });
using gpu = openGpu(0);
const { context, stream, arch } = gpu;
const tunings = tuningsOf(gpu, console.error);
for (const one of CASES.filter(({ id }) => id.includes(values.only))) {
  const { module, s } = specialised(one, tunings);
  using kernel = new Kernel(context, compileKernel(module.trace(s), { arch }).program);
  using args = new DeviceArgs(context, module, s, 1);
  kernel
    .prepare()
    .grid(...module.grid(s, { multiprocessors: context.device.attribute('multiprocessors') }))
    .args(args.values)
    .launch(stream);
  stream.synchronize();
}
