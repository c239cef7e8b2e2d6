import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A command of its own, with a name by which it is chosen. */
export interface Step {
  readonly name: string;
  /** Chosen together. */
  readonly group: string;
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly limitSeconds: number;
  /** Why it cannot run here. */
  readonly skip?: string;
}

export type Status = 'passed' | 'failed' | 'timed out' | 'skipped' | 'not run';

export interface StepReport {
  readonly name: string;
  readonly status: Status;
  /** Why it was skipped or not run; of one that failed, the last line it wrote. */
  readonly reason?: string;
  readonly seconds: number;
  readonly limitSeconds: number;
  readonly command: string;
  /** In the folder. */
  readonly log?: string;
  readonly results?: readonly string[];
}

export interface RunOptions {
  /** Everything is written here: `logs/STEP.log`, `results/*.json`, `summary.json`. */
  readonly out: string;
  /** Where the commands run. */
  readonly directory: string;
  /** No step begins or goes on after so long. */
  readonly budgetSeconds?: number;
  /** Told of each step that has ended. */
  readonly onStep?: (report: StepReport) => void;
  /** Put into the summary. */
  readonly about?: object;
}

/** A step that does not end when it is asked to is killed after so long. */
const GRACE_MS = 5000;

/**
 * Run steps one after the other, whatever becomes of each. The summary is written anew after every step, so that it is there
 * when the machine goes.
 */
export async function runSteps(steps: readonly Step[], options: RunOptions): Promise<readonly StepReport[]> {
  const { out, budgetSeconds = Infinity, onStep, about = {} } = options;
  const results = join(out, 'results');
  mkdirSync(join(out, 'logs'), { recursive: true });
  mkdirSync(results, { recursive: true });
  const end = performance.now() + 1000 * budgetSeconds;
  const reports: StepReport[] = [];
  for (const step of steps) {
    const left = Math.floor((end - performance.now()) / 1000);
    let report: StepReport;
    if (step.skip !== undefined) report = untouched(step, 'skipped', step.skip);
    else if (left < 1) report = untouched(step, 'not run', 'the budget was over');
    else report = await runStep(step, Math.min(left, step.limitSeconds), options);
    reports.push(report);
    writeFileSync(join(out, 'summary.json'), `${JSON.stringify({ ...about, steps: reports }, undefined, 2)}\n`);
    onStep?.(report);
  }
  return reports;
}

function untouched(step: Step, status: Status, reason: string): StepReport {
  const { name, limitSeconds, command } = step;
  return { name, status, reason, seconds: 0, limitSeconds, command: command.join(' ') };
}

async function runStep(
  { name, command, env }: Step,
  limitSeconds: number,
  { out, directory }: RunOptions,
): Promise<StepReport> {
  const log = join('logs', `${name}.log`);
  const before = stamps(join(out, 'results'));
  const file = openSync(join(out, log), 'w');
  const began = performance.now();
  const child = spawn(command[0], command.slice(1), {
    cwd: directory,
    env: { ...process.env, ROSE_BENCH_RESULTS: join(out, 'results'), ...env },
    stdio: ['ignore', file, file],
    // A group of its own, so that what it started goes with it.
    detached: process.platform !== 'win32',
  });
  let timedOut = false;
  const kill = (signal: NodeJS.Signals): void => {
    try {
      if (process.platform === 'win32') child.kill(signal);
      else process.kill(-child.pid!, signal);
    } catch {
      // All of it has ended.
    }
  };
  let killing: NodeJS.Timeout | undefined;
  const limit = setTimeout(() => {
    timedOut = true;
    kill('SIGTERM');
    killing = setTimeout(() => kill('SIGKILL'), GRACE_MS);
  }, 1000 * limitSeconds);
  const ended = await new Promise<number | string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(code ?? signal!));
  });
  clearTimeout(limit);
  clearTimeout(killing);
  // What is left of its group after it has ended itself.
  if (child.pid !== undefined) kill('SIGKILL');
  closeSync(file);
  const seconds = Math.round((performance.now() - began) / 100) / 10;
  const status = timedOut ? 'timed out' : ended === 0 ? 'passed' : 'failed';
  const reason = status === 'failed' ? (reasonIn(join(out, log)) ?? `it ended with ${ended}`) : undefined;
  const after = stamps(join(out, 'results'));
  const results = [...after].flatMap(([result, stamp]) =>
    before.get(result) === stamp ? [] : [join('results', result)],
  );
  return {
    name,
    status,
    ...(reason !== undefined && { reason }),
    seconds,
    limitSeconds,
    command: command.join(' '),
    log,
    results,
  };
}

/** Contents of the files by name, as far as it takes to see that one was written. */
function stamps(directory: string): Map<string, string> {
  return new Map(readdirSync(directory).map((name) => [name, readFileSync(join(directory, name), 'utf8')]));
}

/** What a log says last of an error, else its last line. */
function reasonIn(path: string): string | undefined {
  const lines = readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line.trim() !== '');
  return (lines.findLast((line) => /^\s*(\w*Error\b|error:|rose: )/.test(line)) ?? lines.at(-1))?.trim().slice(0, 400);
}
