/**
 * The kernel library on an NVIDIA GPU: microseconds and GB/s of every bar of "Kernel language", with their share of the
 * bandwidth of a device-to-device copy, beside torch.compile in the same run. Graphs are replayed, inputs rotate so that
 * the L2 cache does not serve them, numbers are medians.
 *
 *     node --conditions=development --import @rose/cute/register bench/kernels/run.ts
 *       [--only TEXT] [--peer-seconds 0.3] [--no-peer] [--check] [--json FILE]
 *
 * First of all it tells what launches and first uses of kernels cost the host (`host.ts`). `--only none`: nothing but that.
 * `--check` compares every kernel's cases with the float64 reference first. Tunings are those of `rose tune` where its
 * tables have one. Without --json the result goes to bench/results.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { compileKernel, type Program } from '@rose/cute';
import { versionText } from '@rose/cuda';
import {
  checkKernel,
  formatReport,
  KERNELS,
  specialise,
  type KernelCase,
  type KernelModule,
  type Specialisation,
} from '@rose/kernels';
import {
  copyOf,
  gpuExecutor,
  openGpu,
  timeKernel,
  tuningsOf,
  type Timing,
} from '../../packages/rose/src/kernel/gpu.ts';
import { circumstances, writeResult } from '../measure/report.ts';
import { apart, FIRST_USE_BARS, hostCosts } from './host.ts';

interface BenchCase extends KernelCase {
  readonly id: string;
  readonly kernel: string;
  /** Least share of the copy's bandwidth. */
  readonly bar?: number;
  /** torch.compile must not be faster. */
  readonly notSlower?: boolean;
  /** Most microseconds of a launch. */
  readonly microseconds?: number;
}

interface Figure {
  readonly id: string;
  readonly tuning: object;
  readonly microseconds: number;
  readonly range: readonly [number, number];
  readonly gigabytes: number;
  /** Of the bandwidth of a copy of 256 MiB. */
  readonly copyShare: number;
  readonly registers?: number;
  /** The same launches, each starting when the one before has ended, as torch's do. */
  readonly apartMicroseconds?: number;
  readonly torchMicroseconds?: number;
  /** Whether the bars of this case are met; absent where it has none. */
  readonly passed?: boolean;
}

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    'peer-seconds': { type: 'string', default: '0.3' },
    'no-peer': { type: 'boolean', default: false },
    check: { type: 'boolean', default: false },
    json: { type: 'string' },
  },
});
const cases = (JSON.parse(readFileSync(new URL('cases.json', import.meta.url), 'utf8')) as BenchCase[]).filter(
  ({ id }) => id.includes(values.only),
);

// The driver's own cache, which has the kernels that it compiles as it loads them, is empty at first. It reads this once.
const driverCache = mkdtempSync(join(tmpdir(), 'rose-bench-driver-'));
process.on('exit', () => rmSync(driverCache, { recursive: true, force: true }));
process.env.CUDA_CACHE_PATH = driverCache;
delete process.env.CUDA_CACHE_DISABLE;
using gpu = openGpu(0);
const { context } = gpu;
const { device } = context;
const multiprocessors = device.attribute('multiprocessors');
console.log(
  `${device.name}, driver for CUDA ${versionText(context.driver.version)}, ${multiprocessors} multiprocessors`,
);

if (values.check) await check();
const copy = copyOf(gpu);
console.log(`device-to-device copy of 256 MiB: ${(copy / 1e9).toFixed(0)} GB/s read and written`);
const tunings = tuningsOf(gpu, console.log);
await measureAll();

function moduleOf(name: string): KernelModule {
  const module = KERNELS.find((kernel) => kernel.name === name);
  if (!module) throw new RangeError(`there is no kernel ${name}`);
  return module;
}

async function check(): Promise<void> {
  const executor = gpuExecutor(gpu, console.log);
  let failed = 0;
  for (const module of KERNELS.filter(({ arch = gpu.arch }) => arch === gpu.arch)) {
    for (const wanted of module.cases.filter(({ large }) => !large)) {
      const s = specialise(module, wanted);
      const report = await checkKernel(module, s, executor, compileKernel(module.trace(s), { arch: gpu.arch }), {
        multiprocessors,
      });
      if (!report.passed) failed += 1;
      console.log(formatReport(report));
    }
  }
  if (failed > 0) throw new Error(`${failed} cases failed: nothing is timed`);
}

function measure(module: KernelModule, s: Specialisation, change = (program: Program): Program => program): Timing {
  const compiled = compileKernel(module.trace(s), { arch: gpu.arch });
  return timeKernel(gpu, module, s, { ...compiled, program: change(compiled.program) }, copy);
}

async function measureAll(): Promise<void> {
  const host = hostCosts(gpu, multiprocessors, tunings);
  const { firstUse, ...launches } = host;
  console.log(launches);
  for (const [name, { emptyCache, load }] of Object.entries(firstUse)) {
    if (emptyCache > FIRST_USE_BARS.emptyCache || load > FIRST_USE_BARS.load) console.log(`${name}: ABOVE ITS BAR`);
  }
  const figures: Figure[] = [];
  const peer = values['no-peer'] || cases.length === 0 ? undefined : runPeer();
  for (const wanted of cases) {
    const module = moduleOf(wanted.kernel);
    const s = specialise(module, wanted, tunings);
    const { median: microseconds, fastest, slowest, registers, bandwidth, shareOfCopy } = measure(module, s);
    const rate = bandwidth / 1e9;
    const hasBar = wanted.bar !== undefined || wanted.microseconds !== undefined;
    const apartMicroseconds = hasBar ? measure(module, s, apart).median : undefined;
    const torch = peer?.results[wanted.id]?.microseconds;
    const bars = [
      ...(wanted.bar === undefined ? [] : [shareOfCopy >= wanted.bar]),
      ...(wanted.notSlower && torch !== undefined ? [microseconds <= torch] : []),
      ...(wanted.microseconds === undefined ? [] : [microseconds <= wanted.microseconds]),
    ];
    const figure: Figure = {
      id: wanted.id,
      tuning: s.tuning,
      microseconds: rounded(microseconds),
      range: [rounded(fastest), rounded(slowest)],
      gigabytes: rounded(rate),
      copyShare: rounded(shareOfCopy),
      ...(registers === undefined ? {} : { registers }),
      ...(apartMicroseconds === undefined ? {} : { apartMicroseconds: rounded(apartMicroseconds) }),
      ...(torch === undefined ? {} : { torchMicroseconds: rounded(torch) }),
      ...(bars.length === 0 ? {} : { passed: bars.every(Boolean) }),
    };
    figures.push(figure);
    console.log(
      `${wanted.id.padEnd(30)} ${microseconds.toFixed(2).padStart(9)} us ${rate.toFixed(0).padStart(6)} GB/s ` +
        `${(100 * shareOfCopy).toFixed(1).padStart(5)} % of copy` +
        (apartMicroseconds === undefined ? '' : `, apart ${apartMicroseconds.toFixed(2)} us`) +
        (torch === undefined ? '' : `, torch.compile ${torch.toFixed(2)} us`) +
        (figure.passed === undefined ? '' : figure.passed ? ' ok' : ' BELOW ITS BAR'),
    );
  }
  const result = {
    ...(await circumstances()),
    device: device.name,
    driver: versionText(context.driver.version),
    copyGigabytes: rounded(copy / 1e9),
    peer: peer && { torch: peer.torch, copyGigabytes: rounded(peer.copyGBs), errors: errorsOf(peer) },
    figures,
    firstUseBars: FIRST_USE_BARS,
    host,
  };
  if (values.json === undefined) await writeResult('kernels', result);
  else writeFileSync(values.json, JSON.stringify(result, undefined, 2));
}

interface Peer {
  readonly torch: string;
  readonly copyGBs: number;
  readonly results: Readonly<Record<string, { microseconds?: number; error?: string }>>;
}

function runPeer(): Peer | undefined {
  const script = fileURLToPath(new URL('peer.py', import.meta.url));
  const list = JSON.stringify(cases);
  const run = spawnSync('python3', [script, '-', values['peer-seconds']], {
    input: list,
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  });
  if (run.status === 0) return JSON.parse(run.stdout.slice(run.stdout.indexOf('{'))) as Peer;
  console.log(`no peer: ${run.error?.message ?? run.stderr.trim().split('\n').at(-1)}`);
  return undefined;
}

function errorsOf(peer: Peer): Record<string, string> {
  const failed = Object.entries(peer.results).filter(([, { error }]) => error !== undefined);
  return Object.fromEntries(failed.map(([id, { error }]) => [id, error!]));
}

function rounded(value: number): number {
  return Number(value.toPrecision(5));
}
