/**
 * Triton's protocols under load: `rose serve` with the model `simple` of the examples, and load from another process over
 * the loopback interface. Its figures beside the bars: small requests over HTTP on one core and over gRPC, tensors of
 * 1 MB there and back, and what `generate_stream` adds to the engine's token. Where it says `bare`, the same load has gone
 * in turn to a server of a few lines (`triton/bare-server.child.ts`): what Node.js and the machine take by themselves.
 *
 *   node --conditions=development bench/triton.ts [--rounds 3] [--seconds 4] [--connections 8] [--only TEXT] [--write]
 *
 * On Linux the server has core 0 and the load core 1 (`taskset`), but for the case where both take what they need.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { circumstances, watchOthers, writeResult } from './measure/report.ts';
import { round } from './measure/summary.ts';
import type { LoadFigures } from './triton/connection.ts';
import type { LoadOrder } from './triton/load.child.ts';
import type { Delays } from './triton/stream-delays.ts';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '4' },
    connections: { type: 'string', default: '8' },
    only: { type: 'string', default: '' },
    write: { type: 'boolean', default: false },
  },
});
const rounds = Number(options.rounds);
const seconds = Number(options.seconds);
const connections = Number(options.connections);

const HOST = '127.0.0.1';
const LARGE_BYTES = 2 ** 20;
/** A hundredth of a second, what Linux counts the time of processes in. */
const TICK_US = 10_000;
const pinning = process.platform === 'linux';

interface Case {
  readonly kind: LoadOrder['kind'];
  /** The server has one core, and the load another. */
  readonly pinned: boolean;
  /** The bare server knows the request, too. */
  readonly bare?: boolean;
  readonly bar?: { readonly requestsPerSecond?: number; readonly p50?: number; readonly gigabytesPerSecond?: number };
}

const CASES: Readonly<Record<string, Case>> = {
  'HTTP infer, binary, server on one core': {
    ...{ kind: 'http', pinned: true, bare: true },
    bar: { requestsPerSecond: 15_000, p50: 1 },
  },
  'HTTP infer, JSON, server on one core': { kind: 'http-json', pinned: true },
  'gRPC infer, server on one core': {
    ...{ kind: 'grpc', pinned: true, bare: true },
    bar: { requestsPerSecond: 8000, p50: 1 },
  },
  'HTTP infer, binary': { kind: 'http', pinned: false },
  'gRPC infer': { kind: 'grpc', pinned: false, bar: { requestsPerSecond: 8000, p50: 1 } },
  'HTTP infer, 1 MB in and out, server on one core': {
    ...{ kind: 'http-large', pinned: true, bare: true },
    bar: { gigabytesPerSecond: 1 },
  },
};
/** Microseconds that `generate_stream` may add to a token. */
const STREAM_BAR = 100;

const fileOf = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** A Node.js program of ours, on one core where that is wanted and can be. */
function command(core: number | undefined, script: string, ...args: readonly string[]): [string, string[]] {
  const words = [
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    '--conditions=development',
    script,
    ...args,
  ];
  const [program, ...rest] = core !== undefined && pinning ? ['taskset', '-c', String(core), ...words] : words;
  return [program, rest];
}

async function started(child: ChildProcess, pattern: RegExp): Promise<RegExpExecArray> {
  let said = '';
  return new Promise((resolve, reject) => {
    const listen = (data: Buffer): void => {
      said += String(data);
      const match = pattern.exec(said);
      if (match) resolve(match);
    };
    child.stderr?.on('data', listen);
    child.stdout?.on('data', listen);
    child.on('exit', () => reject(new Error(`the server ended at its start: ${said}`)));
  });
}

async function stop(child: ChildProcess): Promise<void> {
  const over = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await over;
}

async function load<T>(
  order: Partial<LoadOrder> & Pick<LoadOrder, 'kind' | 'port'>,
  core: number | undefined,
): Promise<T> {
  const whole: LoadOrder = { host: HOST, connections, warmUpSeconds: 0.5, seconds, bytes: LARGE_BYTES, ...order };
  const { stdout } = await promisify(execFile)(
    ...command(core, fileOf('./triton/load.child.ts'), JSON.stringify(whole)),
  );
  return JSON.parse(stdout) as T;
}

/** Microseconds of the processor that a process has taken with all its threads; undefined where nobody tells. */
function processorTime({ pid }: ChildProcess): number | undefined {
  if (process.platform !== 'linux') return undefined;
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_US;
}

type Figures = LoadFigures & { readonly gigabytesPerSecond?: number; readonly serverMicrosecondsPerRequest?: number };

interface Rounds {
  readonly rounds: Figures[];
  readonly bare?: Figures[];
}

async function measure({ kind, pinned, bare }: Case): Promise<Rounds> {
  const repositories = ['../examples/model-repository', './triton/models'].map(fileOf);
  const rose = await serve(
    ...([pinned, /listening on http:\/\/[^:]+:(\d+)[^]*gRPC [^:]+:(\d+)/] as const),
    ...['../packages/rose/src/main.ts', 'serve', '--port', '0'],
    ...repositories.flatMap((directory) => ['--model-repository', directory]),
    ...['--model-control-mode', 'explicit', '--load-model', 'simple', '--load-model', 'echo'],
  );
  const servers = bare === true ? [rose, await serveBare(pinned)] : [rose];
  const core = pinned ? 1 : undefined;
  const portOf = ({ ports }: Server): number => ports[kind === 'grpc' ? 1 : 0];
  try {
    // Compilers have their say, and connections come and go.
    for (const server of servers) await load({ kind, port: portOf(server), seconds: 3 }, core);
    const all: Figures[][] = servers.map(() => []);
    for (let i = 0; i < rounds; i++) {
      for (const [j, server] of servers.entries()) {
        const before = processorTime(server.child);
        const figures = await load<LoadFigures>({ kind, port: portOf(server), warmUpSeconds: 0.5 }, core);
        const after = processorTime(server.child);
        const requests = figures.requests * ((figures.seconds + 0.5) / figures.seconds);
        const cost = before === undefined || after === undefined ? undefined : round((after - before) / requests, 3);
        all[j].push({
          ...figures,
          ...(cost !== undefined && { serverMicrosecondsPerRequest: cost }),
          ...(kind === 'http-large' && {
            gigabytesPerSecond: round((figures.requestsPerSecond * LARGE_BYTES) / 1e9, 3),
          }),
        });
      }
    }
    return { rounds: all[0], ...(bare === true && { bare: all[1] }) };
  } finally {
    await Promise.all(servers.map(({ child }) => stop(child)));
  }
}

async function measureStreams(streams: number): Promise<{ readonly rounds: Delays[]; readonly bare: Delays[] }> {
  const rose = await serve(true, /(\d+)/, './triton/token-server.child.ts');
  const bare = await serveBare(true);
  const delays = ({ ports: [port] }: Server): Promise<Delays> =>
    load({ kind: 'stream', port, connections: streams }, 1);
  try {
    const all: { rounds: Delays[]; bare: Delays[] } = { rounds: [], bare: [] };
    for (let i = 0; i < rounds; i++) {
      all.rounds.push(await delays(rose));
      all.bare.push(await delays(bare));
    }
    return all;
  } finally {
    await Promise.all([stop(rose.child), stop(bare.child)]);
  }
}

interface Server {
  readonly child: ChildProcess;
  readonly ports: readonly number[];
}

/** @param pattern of what it says when it listens, with its ports as groups */
async function serve(pinned: boolean, pattern: RegExp, script: string, ...args: readonly string[]): Promise<Server> {
  const child = spawn(...command(pinned ? 0 : undefined, fileOf(script), ...args), {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [, ...ports] = await started(child, pattern);
  return { child, ports: ports.map(Number) };
}

function serveBare(pinned: boolean): Promise<Server> {
  return serve(pinned, /(\d+) (\d+)/, './triton/bare-server.child.ts');
}

const began = await circumstances();
const others = await watchOthers();
const chosen = (name: string): boolean => name.includes(options.only);
const results: Record<string, { bar: Case['bar'] } & Rounds> = {};
for (const name of Object.keys(CASES).filter(chosen)) {
  results[name] = { bar: CASES[name].bar, ...(await measure(CASES[name])) };
  for (const figures of results[name].rounds) console.log(name, JSON.stringify(figures));
  for (const figures of results[name].bare ?? []) console.log('  bare', JSON.stringify(figures));
}
const streams: Record<string, { readonly rounds: Delays[]; readonly bare: Delays[] }> = {};
for (const count of [1, 8]) {
  const name = `generate_stream, ${count} at once`;
  if (!chosen(name)) continue;
  streams[name] = await measureStreams(count);
  console.log(`${name}, us`, JSON.stringify(streams[name]));
}
const coresBusy = await others();
if (options.write) {
  const note = {
    gigabytesPerSecond: 'of tensors in one direction; as much goes the other way at the same time',
    loadBusy: 'cores that the load took itself: where it has one, it must be well below 1',
    bare: 'the same load in turn on a server of Node.js that does nothing but answer',
    serverMicrosecondsPerRequest: 'of the processor, all threads of the server, the kernel on their behalf included',
    streams:
      'microseconds from the engine’s token to the event in the client, a token every 2 ms; what Rose adds is the difference to bare',
  };
  await writeResult('triton', {
    ...began,
    connections,
    pinned: pinning,
    coresBusy,
    note,
    results,
    streamBar: STREAM_BAR,
    streams,
  });
}
