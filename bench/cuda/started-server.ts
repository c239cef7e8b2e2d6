import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const LAUNCHER = fileURLToPath(new URL('../../packages/rose/bin/rose.cjs', import.meta.url));

/** Times from the start of the process, in milliseconds. */
export interface Start {
  readonly listeningMilliseconds: number;
  /** To the first byte of a streamed answer of two tokens. */
  readonly firstTokenMilliseconds: number;
  /** Lines of `--timeline`. */
  readonly timeline: readonly string[];
}

/** `rose serve` of one model on an NVIDIA GPU, in a process of its own. */
export class StartedServer {
  readonly url: string;
  readonly #child: ChildProcess;
  readonly #began: number;
  readonly #listening: number;
  /** All that it said so far. */
  readonly #lines: readonly string[];

  private constructor(child: ChildProcess, url: string, began: number, lines: readonly string[]) {
    this.#child = child;
    this.url = url;
    this.#began = began;
    this.#listening = performance.now() - began;
    this.#lines = lines;
  }

  /**
   * Resolves when it listens.
   * @param options of `rose serve`, besides the device, the port and the timeline
   * @param env besides this process's
   */
  static async start(
    directory: string,
    options: readonly string[] = [],
    env: Readonly<Record<string, string>> = {},
  ): Promise<StartedServer> {
    const began = performance.now();
    const args = ['serve', directory, '--served-model-name', 'm', '--device', 'cuda', '--port', '0', '--timeline'];
    const child = spawn(process.execPath, [LAUNCHER, ...args, ...options], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...env },
    });
    const lines: string[] = [];
    const url = await new Promise<string>((resolve, reject) => {
      createInterface({ input: child.stderr }).on('line', (line) => {
        lines.push(line);
        const [, found] = /listening on (\S+)/.exec(line) ?? [];
        if (found !== undefined) resolve(found);
      });
      child.once('exit', (code) => reject(new Error(`the server ended with ${code}:\n${lines.join('\n')}`)));
    });
    return new StartedServer(child, url, began, lines);
  }

  /** Ask for the first tokens. */
  async firstToken(): Promise<Start> {
    const body = { model: 'm', prompt: 'Once upon a time', max_tokens: 2, ignore_eos: true, stream: true };
    const response = await fetch(`${this.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    if (response.status !== 200) throw new Error(`the request was answered with ${await response.text()}`);
    const reader = response.body!.getReader();
    await reader.read();
    const firstTokenMilliseconds = performance.now() - this.#began;
    await reader.cancel();
    const at = this.#lines.findIndex((line) => line.startsWith('timeline in ms'));
    const timeline = at < 0 ? [] : this.#lines.slice(at + 1).filter((line) => /^\s*\d/.test(line));
    return { listeningMilliseconds: this.#listening, firstTokenMilliseconds, timeline };
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGTERM');
    await ended;
  }
}

/** The start in the middle of several. */
export function middleOf(starts: readonly Start[]): Start {
  const sorted = starts.toSorted((a, b) => a.firstTokenMilliseconds - b.firstTokenMilliseconds);
  return sorted[Math.floor(sorted.length / 2)];
}
