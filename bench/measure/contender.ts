import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Answer, Call } from './child.ts';

/**
 * An engine in a process of its own, started once. Between calls the whole process is stopped (SIGSTOP), so that
 * threads which spin while they wait for work take nothing from the others. Where signals cannot do that (Windows) it
 * only idles.
 */
export class Contender {
  readonly #child: ChildProcess;
  readonly #canStop = process.platform !== 'win32';
  #failure: Error | undefined;

  private constructor(child: ChildProcess, name: string) {
    this.#child = child;
    child.on('exit', (code, signal) => {
      this.#failure = new Error(`${name} ended (${signal ?? `exit code ${code}`})`);
    });
    // A stopped process would not notice that this one has gone.
    process.on('exit', () => child.kill('SIGKILL'));
  }

  static start(url: URL): Contender {
    const execArgv = ['--conditions=development', '--disable-warning=ExperimentalWarning'];
    const child = fork(url, { execArgv, serialization: 'advanced' });
    return new Contender(child, url.pathname);
  }

  async call<T>(method: string, argument: unknown): Promise<T> {
    if (this.#failure) throw this.#failure;
    if (this.#canStop) this.#child.kill('SIGCONT');
    this.#child.send({ method, argument } satisfies Call);
    const exited = new AbortController();
    const onExit = (): void => exited.abort();
    this.#child.once('exit', onExit);
    try {
      const [answer] = (await once(this.#child, 'message', { signal: exited.signal })) as [Answer];
      if ('error' in answer) throw new Error(answer.error);
      return answer.value as T;
    } catch (error) {
      throw this.#failure ?? error;
    } finally {
      this.#child.off('exit', onExit);
      if (this.#canStop) this.#child.kill('SIGSTOP');
    }
  }

  close(): void {
    this.#child.kill('SIGKILL');
  }
}
