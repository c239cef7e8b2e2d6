import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { CommandError, ExitCode } from '../errors.ts';
import type { DeviceOptions } from '../options.ts';
import { say } from '../output.ts';

export interface OwnServer {
  readonly url: string;
  stop(): Promise<void>;
}

/**
 * `rose serve` of one model in a process of its own, so that it shares no thread with what measures it.
 * @throws CommandError with what the server said, and its exit code, if it does not get as far as listening
 */
export async function startServer(model: string, options: DeviceOptions, signal: AbortSignal): Promise<OwnServer> {
  const { device, threads, quantize, dtype, cacheDtype, memoryShare, kvCacheMib } = options;
  const flags = {
    ...{ device, threads, quantize, dtype },
    ...{ 'cache-dtype': cacheDtype, 'memory-share': memoryShare, 'kv-cache-mib': kvCacheMib },
  };
  const args = Object.entries(flags).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name}`, String(value)],
  );
  say(`serving ${model}`);
  const command = [...process.execArgv, process.argv[1], 'serve', model, '--port', '0', ...args];
  const child = spawn(process.execPath, command, { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(child, 'exit');
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    await ended;
  };
  signal.addEventListener('abort', () => child.kill('SIGTERM'));
  let said = '';
  const url = await new Promise<string | undefined>((resolve) => {
    child.stderr.on('data', (data: Buffer) => {
      said += String(data);
      const [, found] = /listening on (\S+)/.exec(said) ?? [];
      if (found !== undefined) resolve(found);
    });
    child.on('close', () => resolve(undefined));
  });
  if (url !== undefined) return { url, stop };
  const [code] = (await ended) as [number | null];
  throw new CommandError(
    code ?? ExitCode.interrupted,
    said
      .trim()
      .split('\n')
      .at(-1)!
      .replace(/^rose: /, ''),
  );
}
