import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = (path: string): string => fileURLToPath(new URL(`../../../${path}`, import.meta.url));

export interface RoseServer {
  readonly url: string;
  /** Of gRPC. */
  readonly address: string;
  close(): Promise<void>;
}

/** `rose serve` with some of the example models, or none. */
export async function startRose(models: readonly string[], options: readonly string[] = []): Promise<RoseServer> {
  const loads = models.flatMap((name) => ['--load-model', name]);
  const repository = ['--model-repository', root('examples/model-repository'), '--model-control-mode', 'explicit'];
  const child = spawn(process.execPath, [
    root('packages/rose/bin/rose.cjs'),
    ...['serve', '--port', '0', '--threads', '1', ...repository, ...loads, ...options],
  ]);
  let said = '';
  const url = await new Promise<string>((resolve, reject) => {
    const look = (data: Buffer): void => {
      said += data.toString();
      if (/try:/.test(said)) resolve(/listening on (\S+)/.exec(said)![1]);
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    child.on('exit', () => reject(new Error(`rose ended: ${said}`)));
  });
  return {
    url,
    address: /gRPC (\S+)/.exec(said)![1],
    close: async () => {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      await ended;
    },
  };
}
