/**
 * What `sanitizer-gpu.test.ts` runs under compute-sanitizer: the small cases of kernels, each tensor an allocation of its
 * own and of its exact size; or a kernel with one fault, to see that the tool finds it.
 *
 *     sanitizer.child.ts kernels NAME...
 *     sanitizer.child.ts fault out-of-bounds|race|uninitialised
 */
import { compileKernel, f32, kernel, shared, tid, type Compiled } from '@rose/cute';
import { DeviceMemory, Kernel } from '@rose/cuda';
import { KERNELS, specialise } from '@rose/kernels';
import { DeviceArgs } from '../src/kernel/device-args.ts';
import { openGpu, type Gpu } from '../src/kernel/gpu.ts';

const THREADS = 64;
const params = { x: f32.tensor('n'), y: f32.tensor('n') };

const FAULTS = {
  'out-of-bounds': kernel({ name: 'out_of_bounds', params, threads: THREADS }, ({ x, y }) => {
    'use gpu';
    y[tid()] = x[tid() + 1];
  }),
  race: kernel({ name: 'race', params, threads: THREADS }, ({ x, y }) => {
    'use gpu';
    const kept = shared(f32, THREADS);
    kept[tid()] = x[tid()];
    y[tid()] = kept[THREADS - 1 - tid()];
  }),
  uninitialised: kernel({ name: 'uninitialised', params, threads: THREADS }, ({ x, y }) => {
    'use gpu';
    x[tid()] = y[tid()];
  }),
} as const;

const [what, ...names] = process.argv.slice(2);
using gpu = openGpu(0);
if (what === 'fault') withFault(gpu, names[0] as keyof typeof FAULTS);
else runKernels(gpu, names);

function withFault({ context, stream, arch }: Gpu, fault: keyof typeof FAULTS): void {
  const compiled: Compiled = compileKernel(FAULTS[fault].trace({ dims: { n: THREADS } }), { arch });
  using faulty = new Kernel(context, compiled.program);
  using x = new DeviceMemory(context, 4 * THREADS);
  using y = new DeviceMemory(context, 4 * THREADS);
  x.write(new Uint8Array(4 * THREADS));
  faulty.prepare().grid(1).args({ x, y }).launch(stream);
  stream.synchronize();
}

function runKernels({ context, stream, arch }: Gpu, wanted: readonly string[]): void {
  const multiprocessors = context.device.attribute('multiprocessors');
  let launches = 0;
  for (const module of KERNELS.filter(({ name }) => wanted.includes(name))) {
    for (const one of module.cases.filter(({ large }) => !large)) {
      const s = specialise(module, one);
      using ours = new Kernel(context, compileKernel(module.trace(s), { arch }).program);
      using args = new DeviceArgs(context, module, s, 1);
      ours
        .prepare()
        .grid(...module.grid(s, { multiprocessors }))
        .args(args.values)
        .launch(stream);
      stream.synchronize();
      launches += 1;
    }
  }
  console.log(`${launches} launches`);
}
