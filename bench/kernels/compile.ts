/**
 * How long kernels take to become images on an NVIDIA GPU: of the largest one of each, milliseconds to record and emit PTX, for the
 * driver to compile it, and to load it again from the caches on disk. Caches are empty at the start and in a folder of their own.
 *
 *     node --conditions=development --import @rose/cute/register bench/kernels/compile.ts [--largest 12] [--json FILE]
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Kernel, versionText } from '@rose/cuda';
import { compileKernel, KernelError, type Program } from '@rose/cute';
import { KERNELS, specialise } from '@rose/kernels';
import { openGpu } from '../../packages/rose/src/kernel/gpu.ts';
import { circumstances, writeResult } from '../measure/report.ts';

/** Milliseconds in which the largest kernel is to be there: recorded, emitted and compiled; and from the cache. */
const BAR = 1500;
const CACHED_BAR = 5;
const CACHED_RUNS = 5;

const { values } = parseArgs({ options: { largest: { type: 'string', default: '12' }, json: { type: 'string' } } });
const caches = mkdtempSync(join(tmpdir(), 'rose-caches-'));
process.on('exit', () => rmSync(caches, { recursive: true, force: true }));
process.env.ROSE_CACHE_DIR = caches;
// The driver reads it when it is loaded.
process.env.CUDA_CACHE_PATH = join(caches, 'driver');
delete process.env.CUDA_CACHE_DISABLE;
using gpu = openGpu(0);
const { context, arch } = gpu;

interface Made {
  readonly kernel: string;
  readonly options: object;
  readonly tuning: object;
  readonly program: Program;
  readonly recordMilliseconds: number;
}

const made: Made[] = [];
for (const module of KERNELS.filter((one) => (one.arch ?? arch) === arch)) {
  for (const wanted of module.cases) {
    const s = specialise(module, wanted);
    const at = performance.now();
    let program: Program;
    try {
      ({ program } = compileKernel(module.trace(s), { arch }));
    } catch (error) {
      // A case may need what this GPU lacks.
      if (error instanceof KernelError) continue;
      throw error;
    }
    const recordMilliseconds = performance.now() - at;
    made.push({ kernel: module.name, options: s.options, tuning: s.tuning, program, recordMilliseconds });
  }
}
made.sort((a, b) => b.program.ptx.length - a.program.ptx.length);
const largest = made.filter((one, i) => made.findIndex(({ kernel }) => kernel === one.kernel) === i);

const figures = largest.slice(0, Number(values.largest)).map(({ program, ...one }) => {
  const load = (): { readonly milliseconds: number; readonly cached: boolean } => {
    const at = performance.now();
    using kernel = new Kernel(context, program);
    return { milliseconds: performance.now() - at, cached: kernel.cached };
  };
  const compiled = load();
  if (compiled.cached) throw new Error(`${one.kernel} was in an empty cache`);
  const again = Array.from({ length: CACHED_RUNS }, load);
  if (again.some(({ cached }) => !cached)) throw new Error(`${one.kernel} was not kept`);
  const cachedMilliseconds = again.map(({ milliseconds }) => milliseconds).toSorted((a, b) => a - b)[CACHED_RUNS >> 1];
  const figure = {
    ...one,
    ptxBytes: program.ptx.length,
    compileMilliseconds: compiled.milliseconds,
    totalMilliseconds: one.recordMilliseconds + compiled.milliseconds,
    cachedMilliseconds,
  };
  console.log(
    `${one.kernel} ${JSON.stringify(one.options)}: ${program.ptx.length} bytes of PTX, recorded in ${one.recordMilliseconds.toFixed(0)} ms, ` +
      `compiled in ${compiled.milliseconds.toFixed(0)} ms, from the cache in ${cachedMilliseconds.toFixed(1)} ms`,
  );
  return figure;
});

const result = {
  ...(await circumstances()),
  ...{ device: context.device.name, driver: versionText(context.driver.version), bar: BAR, cachedBar: CACHED_BAR },
  figures,
};
if (values.json === undefined) await writeResult('kernel-compile', result);
else writeFileSync(values.json, JSON.stringify(result, undefined, 2));
