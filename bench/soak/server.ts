import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { LIVE_FILE } from './live.ts';

const probe = new URL('live.ts', import.meta.url).href;
const launcher = fileURLToPath(new URL('../../packages/rose/bin/rose.cjs', import.meta.url));

/** A number of a model's row in the server's metrics. */
export type Metric = (name: string, model: string) => number;

/** The real `rose serve`, as a process. */
export class Server {
  readonly url: string;
  readonly #child: ChildProcess;
  readonly #said: () => string;

  private constructor(child: ChildProcess, url: string, said: () => string) {
    this.#child = child;
    this.url = url;
    this.#said = said;
  }

  /** @param live where its threads write what memory they have live (`live.ts`) */
  static async start(args: readonly string[], live: string): Promise<Server> {
    const child = spawn(process.execPath, [launcher, 'serve', '--port', '0', '--http-metrics', ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, [LIVE_FILE]: live, NODE_OPTIONS: `--expose-gc --import ${probe}` },
    });
    let said = '';
    const url = await new Promise<string>((resolve, reject) => {
      child.stderr.on('data', (data: Buffer) => {
        said += String(data);
        const match = /listening on (\S+)/.exec(said);
        if (match) resolve(match[1]);
      });
      child.on('exit', () => reject(new Error(`the server ended at its start: ${said}`)));
    });
    return new Server(child, url, () => said);
  }

  /** What it wrote for people since it listened. */
  get log(): string {
    return this.#said().replace(/^[^]*try:\n.*\n/, '');
  }

  get ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  async metrics(): Promise<Metric> {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    return (name, model) => {
      const line = text.split('\n').find((row) => row.startsWith(`${name}{`) && row.includes(`model="${model}"`));
      if (line === undefined) throw new Error(`the server has no metric ${name} of ${model}`);
      return Number(line.split(' ').at(-1));
    };
  }

  async ready(): Promise<boolean> {
    return (await fetch(`${this.url}/v2/health/ready`)).status === 200;
  }

  /** Resident bytes of the server's processes by name, undefined where the system does not show them (not Linux). */
  residentBytes(): Record<string, number> | undefined {
    if (process.platform !== 'linux') return undefined;
    const bytes: Record<string, number> = {};
    const visit = (pid: number): void => {
      const status = readFileSync(`/proc/${pid}/status`, 'utf8');
      const name = /^Name:\s*(.*)$/m.exec(status)![1];
      bytes[name] = (bytes[name] ?? 0) + 1024 * Number(/^VmRSS:\s*(\d+)/m.exec(status)?.[1] ?? 0);
      for (const child of readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ')) {
        if (child.trim() !== '') visit(Number(child));
      }
    };
    visit(this.#child.pid!);
    return bytes;
  }

  /** Asks it to stop; returns its exit code. */
  async stop(): Promise<number | null> {
    if (!this.ended) {
      const exit = new Promise((resolve) => this.#child.once('exit', resolve));
      this.#child.kill('SIGTERM');
      await exit;
    }
    return this.#child.exitCode;
  }
}
