/**
 * Everything that has to be seen on a GPU, in steps: tests, protocols, tunings, benchmarks. A step that fails or takes too long
 * does not keep the others from running.
 *
 *     node_modules/.bin/node --conditions=development scripts/gpu-checks.ts --out DIR [--only tests,bench-gemm] [--budget SECONDS]
 *     node_modules/.bin/node --conditions=development scripts/gpu-checks.ts --list
 *
 * `--only` takes names of steps and of groups; `--budget`: no step begins or goes on after so long. In DIR lie `summary.json`,
 * which is written anew after every step, `logs/STEP.log`, and `results` with what the benchmarks have written, and the table of
 * tunings as it ships with what the tune steps have added.
 */
import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { CudaUnavailableError, listDevices, loadDriver } from '@rose/cuda';
import { tableName } from '@rose/kernels';
import { circumstances } from '../bench/measure/report.ts';
import { openGpu, tunedDevice } from '../packages/rose/src/kernel/gpu.ts';
import { runSteps, type Step, type StepReport } from './gpu-checks/runner.ts';
import { gpuSteps } from './gpu-checks/step-list.ts';

const USAGE = 2;
const ROOT = fileURLToPath(new URL('..', import.meta.url));

const { values } = parseArgs({
  options: {
    out: { type: 'string' },
    only: { type: 'string' },
    budget: { type: 'string' },
    list: { type: 'boolean', default: false },
  },
});
const { devices, reason } = gpus();
const steps = chosen(gpuSteps(ROOT, reason), values.only?.split(','));
if (values.list) {
  for (const { name, group, limitSeconds } of steps)
    console.log(`${group.padEnd(10)} ${name}  ${limitSeconds} s at most`);
} else if (values.out === undefined) fail('give --out DIR, where logs, results and the summary go, or --list');
else {
  const out = resolve(values.out);
  mkdirSync(out, { recursive: true });
  const budget = values.budget === undefined ? {} : { budgetSeconds: number('budget', values.budget) };
  const about = { ...(await circumstances()), devices };
  // What the tune steps find is added to what ships for this GPU, and counts for the steps behind them.
  if (devices.length > 0 && steps.some(({ group }) => group === 'tune')) {
    process.env['ROSE_TUNE_TABLE'] = tableIn(join(out, 'results'));
  }
  const reports = await runSteps(steps, { out, directory: ROOT, ...budget, onStep: report, about });
  const failed = reports.filter(({ status }) => status !== 'passed' && status !== 'skipped');
  console.log(
    `${reports.length - failed.length} of ${reports.length} steps passed or were skipped: ${out}/summary.json`,
  );
  process.exitCode = failed.length > 0 ? 1 : 0;
}

function report({ name, status, seconds, reason: why }: StepReport): void {
  console.log(`${status.padEnd(9)} ${name}, ${seconds} s${why === undefined ? '' : `: ${why}`}`);
}

/** A copy of the table of tunings that ships for this GPU, if one does; an earlier run's stays. */
function tableIn(results: string): string {
  using gpu = openGpu(0);
  const name = tableName(tunedDevice(gpu));
  mkdirSync(results, { recursive: true });
  const shipped = join(ROOT, 'packages/kernels/src/tables', name);
  const own = join(results, name);
  if (existsSync(shipped) && !existsSync(own)) copyFileSync(shipped, own);
  return own;
}

function gpus(): { readonly devices: readonly string[]; readonly reason?: string } {
  try {
    return { devices: listDevices(loadDriver()).map(String) };
  } catch (error) {
    if (error instanceof CudaUnavailableError) return { devices: [], reason: error.message };
    throw error;
  }
}

function chosen(all: readonly Step[], only: readonly string[] | undefined): readonly Step[] {
  if (only === undefined) return all;
  const unknown = only.filter((word) => !all.some(({ name, group }) => name === word || group === word));
  if (unknown.length > 0) fail(`there is no step or group ${unknown.join(', ')}: --list names them`);
  return all.filter(({ name, group }) => only.includes(name) || only.includes(group));
}

function number(option: string, text: string): number {
  const value = Number(text);
  if (!(value > 0)) fail(`--${option} takes a number of seconds, not ${text}`);
  return value;
}

function fail(message: string): never {
  console.error(`gpu-checks: ${message}`);
  process.exit(USAGE);
}
