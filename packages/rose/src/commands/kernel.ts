import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import type { KernelIR } from '@rose/cute';
import type { KernelCase, KernelModule, Specialisation } from '@rose/kernels';
import { CommandError, ExitCode } from '../errors.ts';
import type { CaseOptions } from '../kernel/cases.ts';
import { integer } from '../options.ts';
import { print, say } from '../output.ts';

interface PtxOptions extends CaseOptions {
  arch?: string;
  output?: string;
  ir?: boolean;
}

interface SimOptions extends CaseOptions {
  schedule: 'round-robin' | 'random' | 'late';
  seed: number;
  banks?: boolean;
}

interface GpuOptions extends CaseOptions {
  gpu: number;
  json?: boolean;
}

/** Multiprocessors that the simulator's grids are for: small, so that loops over blocks take several turns. */
const SIMULATED_MULTIPROCESSORS = 2;

/** Rose's packages. */
const OWN = new URL('../../../', import.meta.url).href;

/** `rose kernel ptx|sim|run|bench FILE`: one kernel, from its file. */
export function kernelCommand(): Command {
  const command = new Command('kernel').description('compile, simulate, run and time one kernel');
  const sub = (name: string, description: string): Command =>
    command
      .command(name)
      .description(description)
      .argument('<file>', 'a file with a kernel, or the name of one of Rose')
      .option('--set <name=value>', 'sizes, options and tuning, with commas or repeated', assignment);

  sub('ptx', 'print the PTX of a case, with registers and spills where ptxas is found')
    .option('--arch <sm>', 'architecture (default: the one that the kernel is for, or sm_90a)')
    .option('--output <file>', 'write the PTX there')
    .option('--ir', 'print the IR instead, as it is compiled')
    .action(ptx);
  sub('sim', 'run the cases in the simulator, beside the float64 reference')
    .option('--schedule <name>', 'round-robin, random or late', schedule, 'round-robin')
    .option('--seed <n>', 'seed of the inputs and of the random schedule', integer(1, 2 ** 31 - 1), 1)
    .option('--banks', "report conflicts of shared memory's banks and scattered accesses")
    .action(sim);
  sub('run', 'run the cases on a GPU, beside the float64 reference')
    .option('--gpu <n>', 'which GPU', integer(0, 63), 0)
    .action(run);
  sub('bench', 'time the cases on a GPU, beside a copy from device to device')
    .option('--gpu <n>', 'which GPU', integer(0, 63), 0)
    .option('--json', 'print the figures as JSON')
    .action(bench);
  return command.addHelpText(
    'after',
    `
Examples:
  rose kernel sim rmsnorm
  rose kernel ptx my-kernel.ts --set rows=16384,columns=4096 --arch sm_90a
  rose kernel run my-kernel.ts
  rose kernel bench rmsnorm --set rows=16384,columns=4096,residual=true`,
  );
}

/** Collects `name=value`, each option with one or several. */
export function assignment(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, ...text.split(',').filter((part) => part !== '')];
}

/** The parts that only these commands need: they load the kernel language. */
async function tools(): Promise<
  typeof import('../kernel/cases.ts') & Pick<typeof import('../kernel/load.ts'), 'loadKernel'>
> {
  const { loadKernel, prepareImports } = await import('../kernel/load.ts');
  await prepareImports();
  return { loadKernel, ...(await import('../kernel/cases.ts')) };
}

function schedule(text: string): string {
  if (text === 'round-robin' || text === 'random' || text === 'late') return text;
  throw new CommandError(ExitCode.usage, `--schedule ${text}: it can be round-robin, random or late.`);
}

async function ptx(file: string, options: PtxOptions): Promise<void> {
  const { casesOf, describeCase, describeChoices, loadKernel } = await tools();
  const module = await loadKernel(file);
  const [s] = casesOf(module, options, () => true);
  const { ARCHS, compileKernel, printKernel } = await import('@rose/cute');
  const { arch = module.arch ?? 'sm_90a' } = options;
  if (!Object.hasOwn(ARCHS, arch)) {
    throw new CommandError(ExitCode.usage, `--arch ${arch}: it can be ${Object.keys(ARCHS).join(', ')}.`);
  }
  const traced = await traceCase(module, s);
  const compiled = inFile(module, () => compileKernel(traced, { arch }));
  say(`${module.name}: ${describeCase(module, s)}. ${describeChoices(module)}`);
  say(await resourcesOf(module.name, compiled.program.ptx, arch));
  const text = options.ir ? printKernel(compiled.kernel) : compiled.program.ptx;
  if (options.output === undefined) return print(text);
  try {
    await writeFile(options.output, text);
  } catch (error) {
    throw new CommandError(ExitCode.usage, `${options.output} cannot be written: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** Registers and spills, from an assembler on this machine. */
async function resourcesOf(name: string, text: string, arch: string): Promise<string> {
  const { CompileError, PtxasAssembler } = await import('@rose/cuda');
  const { spillsOf } = await import('../kernel/gpu.ts');
  let assembler;
  try {
    assembler = new PtxasAssembler(process.env.ROSE_PTXAS ?? 'ptxas');
  } catch (error) {
    // A path that somebody set is meant.
    if (process.env.ROSE_PTXAS !== undefined) {
      throw new CommandError(ExitCode.usage, `${(error as Error).message}.`, { cause: error });
    }
    return 'No ptxas here (ROSE_PTXAS or PATH): registers and spills are not known.';
  }
  try {
    const { kernels } = assembler.assemble(name, text, arch);
    return kernels
      .map((one) => {
        return `${one.registers} registers a thread, ${spillsOf(one)} bytes of spills, ${one.stackBytes} bytes of stack.`;
      })
      .join('\n');
  } catch (error) {
    if (error instanceof CompileError) throw new CommandError(ExitCode.usage, error.message, { cause: error });
    throw error;
  }
}

async function sim(file: string, options: SimOptions): Promise<void> {
  const { casesOf, loadKernel } = await tools();
  const module = await loadKernel(file);
  const { checkKernel, formatReport } = await import('@rose/kernels');
  const { describeResult, simulatorExecutor } = await import('../kernel/simulator.ts');
  let failed = 0;
  for (const s of casesOf(module, options, (one) => !one.large)) {
    const kernel = await traceCase(module, s);
    let lines: string[] = [];
    let clean = false;
    const executor = simulatorExecutor(
      {
        schedule: options.schedule,
        seed: options.seed,
        report: { banks: options.banks ?? false, coalescing: options.banks ?? false },
      },
      (result) => {
        lines = describeResult(result);
        clean = result.ok;
      },
    );
    const report = await checkKernel(module, s, executor, kernel, {
      multiprocessors: SIMULATED_MULTIPROCESSORS,
      seed: options.seed,
    }).catch((error: unknown) => {
      throw ofFile(module, error);
    });
    if (!report.passed || !clean) failed += 1;
    await print(`${[formatReport(report, !clean), ...lines].join('\n')}\n`);
  }
  endWith(module, failed);
}

async function run(file: string, options: GpuOptions): Promise<void> {
  const { casesOf, loadKernel } = await tools();
  const module = await loadKernel(file);
  const { checkKernel, formatReport } = await import('@rose/kernels');
  const { compileKernel } = await import('@rose/cute');
  const { gpuExecutor, openGpu, tuningsOf } = await import('../kernel/gpu.ts');
  using gpu = openGpu(options.gpu);
  checkArch(module, gpu.arch);
  const executor = gpuExecutor(gpu, say);
  let failed = 0;
  for (const s of casesOf(module, options, (one) => !one.large, tuningsOf(gpu, say))) {
    const traced = await traceCase(module, s);
    const compiled = inFile(module, () => compileKernel(traced, { arch: gpu.arch }));
    const report = await checkKernel(module, s, executor, compiled, {
      multiprocessors: gpu.context.device.attribute('multiprocessors'),
    });
    if (!report.passed) failed += 1;
    await print(`${formatReport(report)}\n`);
  }
  endWith(module, failed);
}

async function bench(file: string, options: GpuOptions): Promise<void> {
  const { casesOf, describeCase, loadKernel } = await tools();
  const module = await loadKernel(file);
  const { compileKernel } = await import('@rose/cute');
  const { copyOf, openGpu, timeKernel, tuningsOf } = await import('../kernel/gpu.ts');
  using gpu = openGpu(options.gpu);
  checkArch(module, gpu.arch);
  const copy = copyOf(gpu);
  const device = gpu.context.device.toString();
  const hasLarge = module.cases.some(({ large }) => large);
  const wanted = (one: KernelCase): boolean => !hasLarge || one.large === true;
  const figures = [];
  for (const s of casesOf(module, options, wanted, tuningsOf(gpu, say))) {
    const traced = await traceCase(module, s);
    const compiled = inFile(module, () => compileKernel(traced, { arch: gpu.arch }));
    figures.push({ case: describeCase(module, s), ...timeKernel(gpu, module, s, compiled, copy) });
  }
  if (options.json) {
    return print(`${JSON.stringify({ kernel: module.name, device, copy, figures }, undefined, 2)}\n`);
  }
  await print(`${module.name} on ${device}; a copy moves ${terabytes(copy)}\n`);
  for (const figure of figures) {
    await print(
      `  ${figure.case}: ${figure.median.toFixed(2)} us (${figure.fastest.toFixed(2)} to ${figure.slowest.toFixed(2)}), ` +
        `${terabytes(figure.bandwidth)}, ${(100 * figure.shareOfCopy).toFixed(1)} % of the copy` +
        (figure.registers === undefined ? '\n' : `, ${figure.registers} registers, ${figure.spills} bytes of spills\n`),
    );
  }
}

function terabytes(bandwidth: number): string {
  return `${(bandwidth / 1e12).toFixed(2)} TB/s`;
}

/** The recorded kernel of a case, whose parameters are those that the file gives arguments for. */
async function traceCase(module: KernelModule, s: Specialisation): Promise<KernelIR> {
  const { checkParameters } = await import('@rose/kernels');
  return inFile(module, () => {
    const kernel = module.trace(s);
    checkParameters(module, s, kernel);
    return kernel;
  });
}

/** Runs a part of the compiler; what the kernel's author got wrong is told without a stack trace. */
function inFile<T>(module: KernelModule, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw ofFile(module, error);
  }
}

/** What the file's author got wrong is no fault of Rose: what the language refuses, and what the file's own functions throw. */
function ofFile(module: KernelModule, error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const [, url, line] = /^\s+at (?:.* \()?(file:\/\/.+?):(\d+:\d+)\)?$/m.exec(error.stack ?? '') ?? [];
  const refused = /^(Kernel|Layout|Transform|Verify|Spec)Error$/.test(error.name);
  if (!refused && (url === undefined || url.startsWith(OWN))) return error;
  const message = error.message.replace(/^(kernel )?/, '').replace(`${module.name}: `, '');
  // What is thrown while the kernel is recorded says its line.
  const where = refused || /\n {2}at /.test(message) ? '' : `\n  at ${fileURLToPath(url)}:${line}`;
  return new CommandError(ExitCode.usage, `kernel ${module.name}: ${message}${where}`, { cause: error });
}

function checkArch({ name, arch }: KernelModule, has: string): void {
  if (arch === undefined || arch === has) return;
  throw new CommandError(
    ExitCode.usage,
    `kernel ${name} is for ${arch}, and this GPU is ${has}: \`rose kernel sim\` runs it on the CPU.`,
  );
}

function endWith(module: KernelModule, failed: number): void {
  if (failed === 0) return;
  throw new CommandError(ExitCode.usage, `${module.name}: ${failed} ${failed === 1 ? 'case' : 'cases'} failed.`);
}
