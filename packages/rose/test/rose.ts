import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The `rose` command. */
export const launcher: string = fileURLToPath(new URL('../bin/rose.cjs', import.meta.url));

/** One thread where the CPU computes, as tests run beside each other; a GPU (`ROSE_DEVICE`) has no such option. */
export const threads: readonly string[] = process.env.ROSE_DEVICE === undefined ? ['--threads', '1'] : [];

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly process: ChildProcess;
  /** What has come on stderr so far. */
  readonly stderr: () => string;
  /** Resolves to the match once stdout and stderr together contain it; rejects if the command ends without it. */
  readonly until: (pattern: RegExp) => Promise<RegExpMatchArray>;
  readonly ended: Promise<Ended>;
}

/** Starts the `rose` command through its launcher, with `input` on stdin. */
export function start(args: readonly string[], input = '', environment: NodeJS.ProcessEnv = {}): Running {
  const child = spawn(process.execPath, [launcher, ...args], { env: { ...process.env, ...environment } });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data) => (stdout += data));
  child.stderr.on('data', (data) => (stderr += data));
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const ended = new Promise<Ended>((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
  const until = (pattern: RegExp): Promise<RegExpMatchArray> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        const match = pattern.exec(stdout + stderr);
        if (match) resolve(match);
      };
      child.stdout.on('data', look);
      child.stderr.on('data', look);
      child.on('close', () => reject(new Error(`rose ended without ${pattern}: ${stderr}`)));
      look();
    });
  return { process: child, stderr: () => stderr, until, ended };
}

/** Runs the `rose` command to its end. */
export function rose(args: readonly string[], input = '', environment: NodeJS.ProcessEnv = {}): Promise<Ended> {
  return start(args, input, environment).ended;
}
