import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import type { Choice, KernelCase, KernelModule, TunedDevice, TuningTable } from '@rose/kernels';
import { CommandError, ExitCode } from '../errors.ts';
import type { Shape } from '../kernel/shapes.ts';
import type { TunedCase, TuningBench } from '../kernel/tune.ts';
import { decimal, integer } from '../options.ts';
import { print, say, statusLine } from '../output.ts';
import { exitCodeOfSignal, onStop, type StopSignal } from '../signals.ts';
import { assignment } from './kernel.ts';

/** Threads that compile: about as many as a name of a tuning has values. */
const MOST_COMPILERS = 8;

interface Options {
  shapes?: string;
  set?: readonly string[];
  output?: string;
  budget?: number;
  all?: boolean;
  missing?: boolean;
  gpu: number;
}

/** `rose tune [KERNEL...]`: measures which tunings are fast on this GPU, and keeps them for everything that runs here. */
export function tuneCommand(): Command {
  return new Command('tune')
    .description('find the fastest tuning of kernels on this GPU, and keep it for later runs')
    .argument('[kernels...]', 'names of kernels of Rose, or files with one (default: those of --shapes, else all)')
    .option(
      '--shapes <file>',
      'JSON list of the sizes and options to tune for (default: the large cases of each kernel)',
    )
    .option('--set <name=value>', 'sizes and options of one case instead, with commas or repeated', assignment)
    .option('--output <file>', "the table to add to (default: $ROSE_TUNE_TABLE, else this GPU's in the cache)")
    .option('--budget <seconds>', 'time for all of it: each case gets its share of what is left', decimal(1, 1e6))
    .option('--all', 'time every combination, not only the neighbours of what is fast')
    .option('--missing', 'leave out what the table has already')
    .option('--gpu <n>', 'which GPU', integer(0, 63), 0)
    .action(tune)
    .addHelpText(
      'after',
      `
Examples:
  rose tune                                     the large cases of every kernel
  rose tune linear_small --set rows=16,columns=4096,depth=4096
  rose tune --shapes shapes.json --budget 120 --missing

A tuning changes how fast a kernel is, never a bit of what it computes: each one's output is compared. What decides the
order of a sum is not tuned. docs/tuning-kernels.md says more.`,
    );
}

/** A case to tune. */
export interface TuneJob extends Shape {
  readonly module: KernelModule;
}

async function tune(names: readonly string[], options: Options): Promise<void> {
  const { loadKernel, prepareImports } = await import('../kernel/load.ts');
  await prepareImports();
  const { readShapes } = await import('../kernel/shapes.ts');
  const shapes = options.shapes === undefined ? undefined : readShapes(options.shapes);
  const { KERNELS, tableName } = await import('@rose/kernels');
  const wanted = names.length > 0 ? names : (shapes?.map(({ kernel }) => kernel) ?? KERNELS.map(({ name }) => name));
  const modules = await Promise.all([...new Set(wanted)].map(loadKernel));
  const jobs = await jobsOf(modules, shapes, options, names.length > 0);

  const { openGpu, tunedDevice } = await import('../kernel/gpu.ts');
  using gpu = openGpu(options.gpu);
  const facts = tunedDevice(gpu);
  const { cacheDirectory } = await import('@rose/cuda');
  const path = options.output ?? (ownTable() || join(cacheDirectory('tuning'), tableName(facts)));
  const { GpuTuningBench } = await import('../kernel/tuning-bench.ts');
  using bench = new GpuTuningBench(gpu, Math.min(MOST_COMPILERS, availableParallelism() - 1));
  await tuneAll(jobs, bench, facts, { ...options, path });
}

/** What `ROSE_TUNE_TABLE` names. */
function ownTable(): string | undefined {
  const named = process.env['ROSE_TUNE_TABLE'];
  return named === 'none' ? undefined : named;
}

async function jobsOf(
  modules: readonly KernelModule[],
  shapes: readonly Shape[] | undefined,
  options: Options,
  named: boolean,
): Promise<TuneJob[]> {
  const { casesOf } = await import('../kernel/cases.ts');
  const { specialise, tunableNames } = await import('@rose/kernels');
  if (options.set !== undefined && (shapes !== undefined || modules.length !== 1)) {
    throw new CommandError(ExitCode.usage, '--set gives the sizes of one kernel: name it, and leave --shapes out.');
  }
  return modules.flatMap((module) => {
    if (tunableNames(module).length === 0) {
      if (named) throw new CommandError(ExitCode.usage, `${module.name} has nothing to tune.`);
      return [];
    }
    const own: readonly Shape[] =
      shapes?.filter(({ kernel }) => kernel === module.name) ??
      casesOf(module, options, ({ large }) => large === true).map(({ dims, options: chosen }) => {
        return { kernel: module.name, dims, options: chosen };
      });
    return own.map((shape) => {
      try {
        // A mistake in the list is told before anything is measured.
        specialise(module, shape);
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        throw new CommandError(ExitCode.usage, `${error.message}.`, { cause: error });
      }
      return { ...shape, module };
    });
  });
}

/**
 * Tunes one case after the other and writes the table after each. A signal ends it after the tuning that is being tried; what
 * is finished is kept.
 */
export async function tuneAll(
  jobs: readonly TuneJob[],
  bench: TuningBench,
  device: TunedDevice,
  options: Pick<Options, 'budget' | 'all' | 'missing'> & { readonly path: string },
): Promise<TuningTable> {
  const { keyText, specialise, withEntry } = await import('@rose/kernels');
  const { openTable, saveTable } = await import('../kernel/table-file.ts');
  const { entryOf, tuneCase, TuningExcluded } = await import('../kernel/tune.ts');
  const { path, budget = Infinity, all = false } = options;
  let table = openTable(path, device);
  // That it cannot be written is told before anything is measured.
  saveTable(path, table);

  const todo = jobs.filter(({ module, ...wanted }) => {
    if (module.arch !== undefined && module.arch !== device.arch) return false;
    const { dims, options: chosen } = specialise(module, wanted);
    const known = table.kernels[module.name];
    if (!options.missing || known?.version !== module.tables.version) return true;
    const key = keyText(module.tables.key(dims, chosen));
    return !known.entries.some((entry) => keyText(entry.key) === key);
  });
  say(`${device.name}: ${count(todo.length, 'case')} to tune, kept in ${path}`);

  const end = performance.now() + 1000 * budget;
  const status = statusLine();
  let signal: StopSignal | undefined;
  const release = onStop((name) => (signal = name));
  let done = 0;
  try {
    for (const [i, { module, ...wanted }] of todo.entries()) {
      const now = performance.now();
      if (now >= end || signal !== undefined) break;
      // Those before may have left more than their share.
      const share = now + (end - now) / (todo.length - i);
      let result: TunedCase | undefined;
      try {
        const known = table.kernels[module.name];
        result = await tuneCase(module, wanted, bench, {
          all,
          known: known?.version === module.tables.version ? known.entries : [],
          signal: () => (signal !== undefined ? 'stop' : performance.now() >= share ? 'enough' : 'go'),
          onTry: (tried, best) => {
            status.show(
              `${i + 1} of ${todo.length}: ${module.name} ${sizes(module, wanted)}: ${count(tried, 'tuning')}, best ${best.toFixed(2)} us`,
            );
          },
        });
      } catch (error) {
        status.clear();
        if (!(error instanceof TuningExcluded)) throw lost(error, module, done, path);
        await print(`${module.name} ${sizes(module, wanted)}: cannot be measured: ${error.message}\n`);
        continue;
      }
      if (!result) break;
      table = withEntry(table, module, entryOf(module, result));
      saveTable(path, table);
      done += 1;
      status.clear();
      await print(`${describe(module, result)}\n`);
    }
  } finally {
    release();
    status.clear();
  }
  if (signal !== undefined) {
    say(`interrupted: ${done} of ${count(todo.length, 'case')} are in ${path}; --missing goes on from there`);
    process.exitCode = exitCodeOfSignal(signal);
  } else if (performance.now() >= end && done < todo.length) {
    say(
      `the ${budget} s are over: ${done} of ${count(todo.length, 'case')} are in ${path}; --missing goes on from there`,
    );
  }
  return table;
}

function lost(error: unknown, module: KernelModule, done: number, path: string): unknown {
  if (!(error instanceof Error) || !('sticky' in error) || error.sticky !== true) return error;
  return new CommandError(
    ExitCode.device,
    `a tuning of ${module.name} took the GPU away: ${error.message}. ${count(done, 'case')} before it are in ${path}.`,
    { cause: error },
  );
}

/** What was found, in a line; below it what was left out and why. */
function describe(module: KernelModule, { s, chosen, tuning, ...result }: TunedCase): string {
  const { microseconds, chosenMicroseconds, tried, excluded } = result;
  const gain = 100 * (1 - microseconds / chosenMicroseconds);
  const differs = Object.entries(tuning).filter(([name, value]) => value !== chosen[name]);
  const what =
    differs.length === 0
      ? `${microseconds.toFixed(2)} us as chosen (${list(tuning)})`
      : `${microseconds.toFixed(2)} us with ${list(Object.fromEntries(differs))}, ${gain.toFixed(1)} % less than ` +
        `${chosenMicroseconds.toFixed(2)} us as chosen (${list(chosen)})`;
  const lines = [`${module.name} ${sizes(module, s)}: ${what}; ${count(tried, 'tuning')}`];
  for (const { tuning: out, why } of excluded) lines.push(`  left out: ${list(out)}: ${why}`);
  return lines.join('\n');
}

/** Sizes, and options that are not the usual ones. */
function sizes({ options: space }: KernelModule, { dims, options = {} }: KernelCase): string {
  const unusual = Object.entries(options).filter(([name, value]) => value !== space[name][0]);
  return list({ ...dims, ...Object.fromEntries(unusual) });
}

function list(values: Readonly<Record<string, Choice | undefined>>): string {
  return Object.entries(values)
    .map(([name, value]) => `${name}=${String(value)}`)
    .join(' ');
}

function count(n: number, word: string): string {
  return `${n} ${word}${n === 1 ? '' : 's'}`;
}
