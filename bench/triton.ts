/**
 * Triton's protocols under load: `rose serve` with the model `simple` of the examples, and load from another process over
 * the loopback interface. Its figures beside the bars: small requests over HTTP on one core and over gRPC, tensors of
 * 1 MB there and back, and what `generate_stream` adds to the engine's token.
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
  readonly bar?: { readonly requestsPerSecond?: number; readonly p50?: number; readonly gigabytesPerSecond?: number };
}

const CASES: Readonly<Record<string, Case>> = {
  'HTTP infer, binary, server on one core': { kind: 'http', pinned: true, bar: { requestsPerSecond: 15_000, p50: 1 } },
  'HTTP infer, JSON, server on one core': { kind: 'http-json', pinned: true },
  'gRPC infer, server on one core': { kind: 'grpc', pinned: true, bar: { requestsPerSecond: 8000, p50: 1 } },
  'HTTP infer, binary': { kind: 'http', pinned: false },
  'gRPC infer': { kind: 'grpc', pinned: false, bar: { requestsPerSecond: 8000, p50: 1 } },
  'HTTP infer, 1 MB in and out, server on one core': {
    ...{ kind: 'http-large', pinned: true },
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

async function measure(name: string): Promise<Figures[]> {
  const { kind, pinned } = CASES[name];
  const repositories = ['../examples/model-repository', './triton/models'].map(fileOf);
  const server = spawn(
    ...command(
      ...([pinned ? 0 : undefined, fileOf('../packages/rose/src/main.ts'), 'serve', '--port', '0'] as const),
      ...repositories.flatMap((directory) => ['--model-repository', directory]),
      ...['--model-control-mode', 'explicit', '--load-model', 'simple', '--load-model', 'echo'],
    ),
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  try {
    const [, http, grpc] = await started(server, /listening on http:\/\/[^:]+:(\d+)[^]*gRPC [^:]+:(\d+)/);
    const port = Number(kind === 'grpc' ? grpc : http);
    const core = pinned ? 1 : undefined;
    // Compilers have their say, and connections come and go.
    await load({ kind, port, seconds: 3 }, core);
    const all: Figures[] = [];
    for (let i = 0; i < rounds; i++) {
      const before = processorTime(server);
      const figures = await load<LoadFigures>({ kind, port, warmUpSeconds: 0.5 }, core);
      const after = processorTime(server);
      const requests = figures.requests * ((figures.seconds + 0.5) / figures.seconds);
      const cost = before === undefined || after === undefined ? undefined : round((after - before) / requests, 3);
      all.push({
        ...figures,
        ...(cost !== undefined && { serverMicrosecondsPerRequest: cost }),
        ...(kind === 'http-large' && { gigabytesPerSecond: round((figures.requestsPerSecond * LARGE_BYTES) / 1e9, 3) }),
      });
    }
    return all;
  } finally {
    await stop(server);
  }
}

async function measureStreams(streams: number): Promise<Delays[]> {
  const server = spawn(...command(0, fileOf('./triton/token-server.child.ts')), {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const [port] = await started(server, /\d+/);
    const all: Delays[] = [];
    for (let i = 0; i < rounds; i++) {
      all.push(await load<Delays>({ kind: 'stream', port: Number(port), connections: streams }, 1));
    }
    return all;
  } finally {
    await stop(server);
  }
}

const began = await circumstances();
const others = await watchOthers();
const results: Record<string, { bar: Case['bar']; rounds: Figures[] }> = {};
for (const name of Object.keys(CASES).filter((one) => one.includes(options.only))) {
  results[name] = { bar: CASES[name].bar, rounds: await measure(name) };
  for (const figures of results[name].rounds) console.log(name, JSON.stringify(figures));
}
const streams: Record<string, Delays[]> = {};
for (const count of [1, 8].filter((one) => `generate_stream, ${one} at once`.includes(options.only))) {
  streams[`generate_stream, ${count} at once`] = await measureStreams(count);
  console.log(`generate_stream, ${count} at once, us`, JSON.stringify(streams[`generate_stream, ${count} at once`]));
}
const coresBusy = await others();
if (options.write) {
  const note = {
    gigabytesPerSecond: 'of tensors in one direction; as much goes the other way at the same time',
    serverMicrosecondsPerRequest: 'of the processor, all threads of the server, the kernel on their behalf included',
    streams: 'microseconds from the engine’s token to the event in the client, a token every 2 ms',
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
