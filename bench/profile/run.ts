/**
 * Why kernels are as fast as they are: Nsight Compute's figures of single launches (`cases.ts`) with cold caches and free
 * clocks. A launch alone does not overlap the one before it, so it takes longer than in `bench/gemm`.
 *
 *     node --conditions=development --import @rose/cute/register bench/profile/run.ts [--only TEXT] [--json FILE]
 *
 * Needs NVIDIA's `ncu` (ROSE_NCU or in PATH) and the right to read performance counters (root, usually).
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { openGpu, tuningsOf } from '../../packages/rose/src/kernel/gpu.ts';
import { circumstances, writeResult } from '../measure/report.ts';
import { CASES, specialised } from './cases.ts';

/** Nsight Compute's sections that have the metrics. */
const SECTIONS = [
  'SpeedOfLight',
  'MemoryWorkloadAnalysis',
  'WarpStateStats',
  'SchedulerStats',
  'Occupancy',
  'LaunchStats',
  'ComputeWorkloadAnalysis',
];

/** What is kept of them, by a name of ours. Units are Nsight Compute's, in `units`. */
const METRICS: Readonly<Record<string, string>> = {
  duration: 'gpu__time_duration.sum',
  memoryShareOfPeak: 'gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed',
  level2ShareOfPeak: 'lts__t_sectors.avg.pct_of_peak_sustained_elapsed',
  level2HitRate: 'lts__t_sector_hit_rate.pct',
  computeShareOfPeak: 'sm__throughput.avg.pct_of_peak_sustained_elapsed',
  memoryClock: 'dram__cycles_elapsed.avg.per_second',
  registers: 'launch__registers_per_thread',
  sharedBytesOfBlock: 'launch__shared_mem_per_block',
  blocksOfMultiprocessor: 'launch__occupancy_limit_shared_mem',
  waves: 'launch__waves_per_multiprocessor',
  occupancy: 'sm__warps_active.avg.pct_of_peak_sustained_active',
  issueActive: 'smsp__issue_active.avg.per_cycle_active',
};
/** Cycles that a warp waits between two of its instructions, by reason. */
const STALL = /^smsp__average_warps_issue_stalled_(\w+?)_per_issue_active\.ratio$/;
/** Busy share of the pipes, tensor cores among them. */
const PIPE = /^sm__inst_executed_pipe_(tensor\w*|alu|fma|lsu|uniform|xu)\.avg\.pct_of_peak_sustained_active$/;
const MOST_STALLS = 6;

const { values } = parseArgs({ options: { only: { type: 'string', default: '' }, json: { type: 'string' } } });
const cases = CASES.filter(({ id }) => id.includes(values.only));
const ncu = process.env['ROSE_NCU'] ?? 'ncu';
const { rows, text } = profile();
if (rows.length !== cases.length + 1) {
  console.error(`ncu gave ${rows.length} rows for ${cases.length} launches:\n${text.slice(-4000)}`);
  process.exit(1);
}

const [units, ...launches] = rows;
using gpu = openGpu(0);
const tunings = tuningsOf(gpu, console.log);
const figures = launches.map((row, i) => {
  const { module, s } = specialised(cases[i], tunings);
  const kept = Object.entries(METRICS)
    .filter(([, metric]) => metric in row)
    .map(([name, metric]) => [name, { value: numberOf(row[metric]), unit: units[metric] }]);
  const stalls = matching(row, STALL).slice(0, MOST_STALLS);
  const figure = {
    ...{ id: cases[i].id, kernel: module.name, dims: s.dims, options: s.options, tuning: s.tuning },
    ...{ leastBytes: module.roofline(s.dims, s.options).bytes, metrics: Object.fromEntries(kept) },
    ...{ stalls: Object.fromEntries(stalls), pipes: Object.fromEntries(matching(row, PIPE)) },
  };
  console.log(figure.id, figure.metrics, figure.stalls, figure.pipes);
  return figure;
});
const version = spawnSync(ncu, ['--version'], { encoding: 'utf8' }).stdout.trim().split('\n').at(-1);
const device = gpu.context.device.name;
const result = { ...(await circumstances()), device, nsightCompute: version, figures };
if (values.json === undefined) await writeResult('profile', result);
else writeFileSync(values.json, JSON.stringify(result, undefined, 2));

/** ncu's table, a record for its line of units and for every launch. */
function profile(): { rows: Record<string, string>[]; text: string } {
  const launchesFile = fileURLToPath(new URL('launches.ts', import.meta.url));
  const node = ['--disable-warning=ExperimentalWarning', '--conditions=development', '--import', '@rose/cute/register'];
  const { stdout, stderr, error } = spawnSync(
    ncu,
    [
      ...SECTIONS.flatMap((section) => ['--section', section]),
      ...['--page', 'raw', '--csv', '--clock-control', 'none', '--target-processes', 'all'],
      ...[process.execPath, ...node, launchesFile, '--only', values.only],
    ],
    { encoding: 'utf8', maxBuffer: 2 ** 27 },
  );
  if (error) {
    console.error(`${ncu} does not start (${error.message}): install Nsight Compute, or set ROSE_NCU.`);
    process.exit(1);
  }
  const lines = stdout.split('\n').filter((line) => line.startsWith('"'));
  const [names, ...table] = lines.map(fields);
  const rows = table.map((row) => Object.fromEntries(row.map((value, i) => [names[i], value])));
  return { rows, text: `${stdout}${stderr}` };
}

/** The fields of a line of CSV, all of them in quotation marks. */
function fields(line: string): string[] {
  return [...line.matchAll(/"((?:[^"]|"")*)"(?:,|$)/g)].map(([, value]) => value.replaceAll('""', '"'));
}

function numberOf(text: string): number {
  return Number(text.replaceAll(',', ''));
}

/** Metrics whose name has this form, by the part in brackets, the largest first. */
function matching(row: Record<string, string>, form: RegExp): [string, number][] {
  return Object.entries(row)
    .flatMap(([metric, value]): [string, number][] => {
      const name = form.exec(metric)?.[1];
      return name === undefined ? [] : [[name, numberOf(value)]];
    })
    .toSorted((a, b) => b[1] - a[1]);
}
