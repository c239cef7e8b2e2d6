import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { APPROXIMATE, compileKernel, walk, type KernelIR } from '@rose/cute';
import { CudaUnavailableError, Kernel, listDevices, loadDriver, type DeviceMemory } from '@rose/cuda';
import { KERNELS, makeCase, specialise } from '@rose/kernels';
import { DeviceArgs } from '../src/kernel/device-args.ts';
import { gpuExecutor, openGpu } from '../src/kernel/gpu.ts';
import { simulatorExecutor } from '../src/kernel/simulator.ts';

/** Kernels on an NVIDIA GPU, where there is one, beside the simulator. */

const skip = whyNot();
const folder = mkdtempSync(join(tmpdir(), 'rose-kernel-gpu-'));
after(() => rmSync(folder, { recursive: true, force: true }));

function whyNot(): string | false {
  try {
    return listDevices(loadDriver()).length === 0 && 'no GPU';
  } catch (error) {
    if (error instanceof CudaUnavailableError) return error.message;
    throw error;
  }
}

/** Whether the simulator promises the GPU's bits: see APPROXIMATE. */
function isExact(kernel: KernelIR): boolean {
  let exact = true;
  walk(kernel.body, ({ op, attributes }) => {
    const name =
      op === 'approx' ? `approx ${String(attributes['function'])}` : attributes['approx'] ? `${op} approx` : op;
    if (APPROXIMATE.includes(name)) exact = false;
  });
  return exact;
}

for (const module of KERNELS) {
  test(`${module.name}: the simulator's bits, where nothing is approximate`, { skip }, async (t) => {
    using gpu = openGpu(0);
    if (module.arch !== undefined && module.arch !== gpu.arch) return t.skip(`for ${module.arch}`);
    const device = gpuExecutor(gpu, () => {});
    const simulator = simulatorExecutor({}, ({ findings }) => assert.deepEqual(findings, []));
    let compared = 0;
    for (const wanted of module.cases.filter(({ large }) => !large)) {
      const s = specialise(module, wanted);
      const kernel = module.trace(s);
      if (!isExact(kernel)) continue;
      const grid = module.grid(s, { multiprocessors: 2 });
      const [there, here] = [makeCase(module, s), makeCase(module, s)];
      await device.run(compileKernel(kernel, { arch: gpu.arch }), there.args, grid);
      await simulator.run(kernel, here.args, grid);
      assert.deepEqual(there.args, here.args);
      compared += 1;
    }
    t.diagnostic(`${compared} cases`);
  });
}

test('launches that overlap give the bits of launches one at a time, also from a graph', { skip }, () => {
  using gpu = openGpu(0);
  const { context, stream } = gpu;
  const module = KERNELS.find(({ name }) => name === 'rmsnorm')!;
  const s = specialise(module, { dims: { rows: 64, columns: 4096 } });
  const { program } = compileKernel(module.trace(s), { arch: gpu.arch });
  assert.equal(program.overlapsPrevious, true);
  using kernel = new Kernel(context, program);
  using args = new DeviceArgs(context, module, s, 1);
  const { x, y } = args.values as Readonly<Record<string, DeviceMemory>>;
  const grid = module.grid(s, { multiprocessors: context.device.attribute('multiprocessors') });
  const launches = [args.values, { ...args.values, x: y, y: x }].map((values) =>
    kernel
      .prepare()
      .grid(...grid)
      .args(values),
  );
  const before = new Uint8Array(x.bytes);
  x.read(before);
  /** What 101 launches leave, each of which reads what the one before it wrote. */
  const after = (run: () => void): Uint8Array => {
    x.write(before);
    run();
    stream.synchronize();
    const bytes = new Uint8Array(y.bytes);
    y.read(bytes);
    return bytes;
  };
  const all = (each: () => void): void => {
    for (let i = 0; i < 101; i++) {
      launches[i % 2].launch(stream);
      each();
    }
  };
  const apart = after(() => all(() => stream.synchronize()));
  assert.deepEqual(
    after(() => all(() => {})),
    apart,
  );
  using graph = stream.capture(() => all(() => {}));
  using exec = graph.instantiate();
  for (let replay = 0; replay < 3; replay++) {
    assert.deepEqual(
      after(() => exec.launch(stream)),
      apart,
    );
  }
});

/** Runs the kernel of docs/write-a-kernel.md with a line added to its function. */
function runWith(line: string): { status: number | null; stdout: string; stderr: string } {
  const page = readFileSync(new URL('../../../docs/write-a-kernel.md', import.meta.url), 'utf8');
  const text = page.split('```ts\n')[1].split('```')[0];
  const changed = text
    .replace("tid } from '@rose/cute'", "deviceAssert, printf, tid } from '@rose/cute'")
    .replace("'use gpu';", `'use gpu'; ${line}`);
  const file = join(folder, 'axpy.ts');
  writeFileSync(file, changed);
  const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
  const flags = ['--disable-warning=ExperimentalWarning', '--conditions=development'];
  return spawnSync(process.execPath, [...flags, main, 'kernel', 'run', file, '--set', 'n=2048'], { encoding: 'utf8' });
}

test('the kernel of the page runs, and prints', { skip }, () => {
  const { status, stdout, stderr } = runWith("if (tid() === 0) printf('block {}', bid());");
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^ok {3}axpy/);
  assert.match(stderr, /axpy\.ts:\d+:\d+ \[block 1,0,0 thread 0,0,0\] block 1/);
});

test('a failed assertion is the kernel’s, and says its line', { skip }, () => {
  const { status, stderr } = runWith("deviceAssert(tid() < 8, 'few threads');");
  assert.equal(status, 2);
  assert.match(stderr, /axpy\.ts:\d+:\d+ \[block \d,0,0 thread \d+,0,0\] assertion failed: few threads/);
  assert.match(stderr, /axpy\.ts:\d+:\d+ and \d+ more threads/);
  assert.doesNotMatch(stderr, /fault of Rose/);
});
