/**
 * What NVIDIA's perf_analyzer (on PyPI: perf-analyzer) says of `rose serve` with the example models: its own figures of
 * the client beside those that it takes from the server's statistics. Both must tell the same story: as many requests,
 * but for those under way at the window's ends, and no more time in the server than the client waited.
 *
 *   PATH=DIRECTORY_OF_PERF_ANALYZER:$PATH node --conditions=development bench/perf-analyzer.ts
 *     [--seconds 3] [--cases simple-http,simple-grpc,...] [--write]
 *
 * The server has one thread for products, and so many cores as perf_analyzer leaves it.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { circumstances, watchOthers, writeResult } from './measure/report.ts';

interface Case {
  readonly model: string;
  readonly protocol: 'http' | 'grpc';
  readonly concurrency: number;
  readonly arguments?: readonly string[];
  /** Of `--input-data`. */
  readonly data?: object;
}

const chat = { text_input: ['Once upon a time'], stream: [true], max_tokens: [32], top_k: [1], end_id: [-1] };
const text = { content: ['A bear sleeps in a cave.'], shape: [1] };
const CASES: Readonly<Record<string, Case>> = {
  'simple-http': { model: 'simple', protocol: 'http', concurrency: 4 },
  'simple-grpc': { model: 'simple', protocol: 'grpc', concurrency: 4 },
  'simple-grpc-batch': { model: 'simple', protocol: 'grpc', concurrency: 4, arguments: ['-b', '8'] },
  'identity-http': { model: 'identity_fp32', protocol: 'http', concurrency: 8, arguments: ['--shape', 'INPUT0:16'] },
  'tiny-embed-grpc': { model: 'tiny_embed', protocol: 'grpc', concurrency: 4, data: { data: [{ TEXT: text }] } },
  'tiny-chat-stream': {
    ...{ model: 'tiny_chat', protocol: 'grpc', concurrency: 4, data: { data: [chat] } },
    arguments: ['--streaming', '--async'],
  },
};

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '3' },
    cases: { type: 'string', default: Object.keys(CASES).join(',') },
    write: { type: 'boolean', default: false },
  },
});
const names = options.cases.split(',');
const unknown = names.find((name) => !(name in CASES));
if (unknown !== undefined) throw new Error(`there is no case ${unknown}: there are ${Object.keys(CASES).join(', ')}`);

const root = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url));
const began = await circumstances();
const others = await watchOthers();
const folder = await mkdtemp(join(tmpdir(), 'rose-perf-'));
const models = [...new Set(names.map((name) => CASES[name].model))];
const server = spawn(process.execPath, [
  ...[root('packages/rose/bin/rose.cjs'), 'serve', '--port', '0', '--threads', '1'],
  ...['--model-repository', root('examples/model-repository'), '--model-control-mode', 'explicit'],
  ...models.flatMap((name) => ['--load-model', name]),
]);
const results: object[] = [];
try {
  const said = await collect(server, /try:/);
  const addresses = { http: /listening on http:\/\/(\S+)/.exec(said)![1], grpc: /gRPC (\S+)/.exec(said)![1] };
  for (const name of names) {
    const result = await measure(name, CASES[name], addresses[CASES[name].protocol]);
    results.push(result);
    console.log(JSON.stringify(result));
  }
} finally {
  server.kill('SIGTERM');
  await rm(folder, { recursive: true });
}
if (options.write) await writeResult('perf-analyzer', { ...began, coresOfOthers: await others(), results });

/** Output of a program until it matches; rejects where it ends before. */
function collect(program: ReturnType<typeof spawn>, pattern: RegExp): Promise<string> {
  let output = '';
  return new Promise((resolve, reject) => {
    const look = (data: Buffer): void => {
      output += data.toString();
      if (pattern.test(output)) resolve(output);
    };
    program.stdout!.on('data', look);
    program.stderr!.on('data', look);
    program.on('error', reject);
    program.on('close', (code) => reject(new Error(`it ended with ${code}:\n${output}`)));
  });
}

async function measure(name: string, { model, protocol, concurrency, arguments: more = [], data }: Case, url: string) {
  const input = join(folder, `${name}.json`);
  if (data !== undefined) await writeFile(input, JSON.stringify(data));
  const milliseconds = String(1000 * Number(options.seconds));
  const perf = spawn('perf_analyzer', [
    ...['-m', model, '-u', url, '-i', protocol, '--concurrency-range', String(concurrency), '-p', milliseconds],
    ...['-s', '25', ...more, ...(data === undefined ? [] : ['--input-data', input])],
  ]);
  const output = await collect(perf, /Inferences\/Second vs.*\n.*latency \d+ usec/);
  const number = (pattern: RegExp): number => {
    const found = pattern.exec(output);
    if (found === null) throw new Error(`perf_analyzer did not say ${pattern}:\n${output}`);
    return Number(found[1]);
  };
  const [ofClient, ofServer] = output.split('Server: ');
  if (ofServer === undefined) throw new Error(`perf_analyzer has no figures of the server:\n${ofClient}`);
  const batch = more[0] === '-b' ? Number(more[1]) : 1;
  const client = {
    requests: number(/Request count: (\d+)/),
    inferencesPerSecond: number(/Throughput: ([\d.]+)/),
    ...(output.includes('Response Throughput') && { responsesPerSecond: number(/Response Throughput: ([\d.]+)/) }),
    averageUs: number(/Avg latency: (\d+)/),
    p50Us: number(/p50 latency: (\d+)/),
    p99Us: number(/p99 latency: (\d+)/),
  };
  const served = {
    inferences: number(/Inference count: (\d+)/),
    executions: number(/Execution count: (\d+)/),
    requests: number(/Successful request count: (\d+)/),
    averageUs: number(/Avg request latency: (\d+)/),
    queueUs: number(/queue (\d+) usec/),
    computeInputUs: number(/compute input (\d+) usec/),
    computeInferUs: number(/compute infer (\d+) usec/),
    computeOutputUs: number(/compute output (\d+) usec/),
  };
  // Requests under way when the window opens or closes count on one side alone.
  const difference = served.requests - client.requests;
  const consistent =
    Math.abs(difference) <= concurrency &&
    served.inferences === batch * served.requests &&
    served.averageUs <= client.averageUs;
  return { name, model, protocol, concurrency, batch, client, server: served, consistent };
}
