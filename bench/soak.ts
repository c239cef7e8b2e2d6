/**
 * Mixed random traffic against the real `rose serve`: answers must be right, errors honest, and when the traffic ends
 * nothing may be left behind. Findings go to the standard error, and the exit code is 1 if there are any.
 *
 *   node bench/soak.ts [--seconds 600] [--clients 12] [--seed 1] [--device cuda] [--threads 2] [--kv-cache-mib 32] [--write]
 */
import { parseArgs } from 'node:util';
import { circumstances, writeResult } from './measure/report.ts';
import { RandomBits } from './models/random.ts';
import { call, type Reply } from './soak/client.ts';
import { LiveFile, liveGrowth, residentGrowth, type ResidentSample } from './soak/memory.ts';
import { Server } from './soak/server.ts';
import { drawCase, type Case } from './soak/traffic.ts';

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '600' },
    clients: { type: 'string', default: '12' },
    seed: { type: 'string', default: '1' },
    device: { type: 'string', default: 'cpu' },
    threads: { type: 'string', default: '2' },
    /** Pages for keys and values of each model: so few that they run out, and sequences have to yield. */
    'kv-cache-mib': { type: 'string' },
    write: { type: 'boolean', default: false },
  },
});
const seconds = Number(options.seconds);
const clients = Number(options.clients);
const seed = Number(options.seed);
const onGpu = options.device !== 'cpu';
/** Of tiny-chat: two whole contexts of 2048 tokens, 8 KiB each in float32; one and a quarter on a GPU, which is done sooner, in bfloat16. */
const kvCacheMib = Number(options['kv-cache-mib'] ?? (onGpu ? 10 : 32));

const MODELS = ['tiny-chat', 'tiny-embed', 'tiny-rerank'];
const QUEUE_LIMIT = 24;
/** More at once than may wait. */
const BURST = 48;
const BURST_EVERY_MS = 10_000;
const SAMPLE_MS = 1000;
/** Runs shorter than this say nothing about memory. */
const LEAST_SECONDS = 300;
/** Runs as long as this must have seen pages run out. */
const LEAST_TO_YIELD = 60;
const IDLE_MS = 60_000;

const live = new LiveFile();
const server = await Server.start(
  [
    ...MODELS,
    ...['--device', options.device, ...(onGpu ? [] : ['--threads', options.threads])],
    ...['--queue-limit', String(QUEUE_LIMIT), '--max-sequences', '12'],
    ...['--kv-cache-mib', String(kvCacheMib), '--drain-seconds', '5'],
  ],
  live.path,
);
const findings: string[] = [];
const counts: Record<string, Record<string, number>> = {};
const memory: ResidentSample[] = [];
const growth: Record<string, Record<'before' | 'after' | 'most', string>> = {};
let overloads = 0;
const start = performance.now();
const startedAt = Date.now();
const began = await circumstances();
const elapsed = (): number => (performance.now() - start) / 1000;

try {
  const canary = await askCanary();
  const end = start + 1000 * seconds;
  const busy = [...Array.from({ length: clients }, (_, i) => client(i, end)), bursts(end), samples(end)];
  await Promise.all([...busy, canaries(canary, end)]);
  await settle(canary);
  judgeMemory();
} finally {
  const code = await server.stop();
  live.remove();
  if (code !== 0) find(`the server ended with code ${code}`);
}
if (server.log.includes('a fault of Rose') || /"level":[56]0/.test(server.log))
  find(`in the log: ${server.log.slice(0, 2000)}`);

console.table(counts);
console.log(`${seconds} s; ${overloads} refused for overload, as they should be; ${findings.length} findings`);
if (options.write) {
  await writeResult(onGpu ? 'soak-cuda' : 'soak', {
    ...{ ...began, seconds, clients, seed, kvCacheMib, queueLimit: QUEUE_LIMIT, burst: BURST },
    ...{
      counts,
      overloads,
      findings,
      growth,
      memory: memory.filter((_, i) => i % Math.ceil(memory.length / 60) === 0),
    },
  });
}
process.exit(findings.length > 0 ? 1 : 0);

/** One request after the other until the time is over. */
async function client(number: number, end: number): Promise<void> {
  const bits = new RandomBits(1000 * seed + number);
  while (performance.now() < end) await run(drawCase(bits));
}

async function bursts(end: number): Promise<void> {
  const bits = new RandomBits(1000 * seed + 999);
  while (performance.now() < end) {
    await Promise.all(Array.from({ length: BURST }, () => run(drawCase(bits))));
    await sleep(Math.min(BURST_EVERY_MS, Math.max(0, end - performance.now())));
  }
}

async function run({ kind, call: request, wrong }: Case): Promise<void> {
  try {
    const reply = await call(server.url, request);
    count(kind, reply.status === 0 ? 'hung up' : String(reply.status));
    const problem = isOverload(reply) ? undefined : wrong(reply);
    if (problem !== undefined) find(`${kind}: ${problem}`);
  } catch (error) {
    count(kind, 'error');
    const { message, cause } = error as Error;
    find(`${kind}: ${message}${cause instanceof Error ? ` (${cause.message})` : ''}`);
  }
}

/** A full queue refuses, and says when to come again. */
function isOverload({ status, body, retryAfter }: Reply): boolean {
  if (!(status === 429 || status === 503) || !body.includes('the queue is full')) return false;
  overloads++;
  if (!(Number(retryAfter) >= 1)) find(`overload without Retry-After: ${body}`);
  return true;
}

/** A request whose answer is known: the same bits in any company. */
async function askCanary(): Promise<string> {
  const body = { model: 'tiny-chat', prompt: 'Once upon a time', max_tokens: 40, temperature: 1, seed: 7 };
  for (;;) {
    const reply = await call(server.url, {
      path: '/v1/completions',
      body: { ...body, priority: -1 },
      tenant: 'canary',
    });
    if (reply.status === 200) return (JSON.parse(reply.body) as { choices: { text: string }[] }).choices[0].text;
    if (!isOverload(reply)) throw new Error(`the canary got ${reply.status}: ${reply.body}`);
    await sleep(200);
  }
}

async function canaries(known: string, end: number): Promise<void> {
  while (performance.now() < end) {
    const answer = await askCanary().catch((error: unknown) => String(error));
    count('canary', answer === known ? 'same' : 'other');
    if (answer !== known) find(`the canary said "${answer}" instead of "${known}"`);
    await sleep(500);
  }
}

async function samples(end: number): Promise<void> {
  while (performance.now() < end) {
    const bytes = server.ended ? undefined : server.residentBytes();
    if (bytes !== undefined) memory.push({ second: Math.round(elapsed()), bytes });
    await sleep(SAMPLE_MS);
  }
}

/** When nobody asks any more, nothing runs, no page is used, and the engines' own check of every page has passed. */
async function settle(canary: string): Promise<void> {
  const busy = async (): Promise<string[]> => {
    const metric = await server.metrics();
    const gauges = ['rose_sequences_running', 'rose_sequences_waiting', 'rose_pages_used'];
    return MODELS.flatMap((model) =>
      gauges.filter((name) => metric(name, model) !== 0).map((name) => `${name} of ${model} is ${metric(name, model)}`),
    );
  };
  const deadline = performance.now() + IDLE_MS;
  let left = await busy();
  while (left.length > 0 && performance.now() < deadline) {
    await sleep(100);
    left = await busy();
  }
  for (const what of left) find(`after the traffic: ${what}`);
  // An engine checks its pages whenever it has nothing to do; one that found a fault has ended.
  if (!(await server.ready())) find('after the traffic: not ready');
  if ((await askCanary()) !== canary) find('after the traffic: the canary gives another answer');
  const metric = await server.metrics();
  // Requests go on after a step that failed: their answers do not show it.
  for (const model of MODELS) {
    const steps = metric('rose_step_failures_total', model);
    if (steps > 0) find(`${steps} steps of ${model} failed`);
  }
  const preemptions = metric('rose_preemptions_total', 'tiny-chat');
  count('engine', 'preemptions', preemptions);
  count('engine', 'turns', metric('rose_turns_total', 'tiny-chat'));
  if (preemptions === 0 && seconds >= LEAST_TO_YIELD)
    find('no sequence had to yield its pages: give less --kv-cache-mib');
  count('engine', 'cached tokens', metric('rose_cached_tokens_total', 'tiny-chat'));
  count('engine', 'tokens', metric('rose_generated_tokens_total', 'tiny-chat'));
}

function judgeMemory(): void {
  const growths = [...liveGrowth(live.read(), startedAt, seconds), ...residentGrowth(memory, seconds)];
  for (const { what, before, after, most } of growths) {
    const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
    console.log(`${what}: ${mib(before)} after the warm-up, ${mib(after)} at the end`);
    growth[what] = { before: mib(before), after: mib(after), most: mib(most) };
    if (seconds >= LEAST_SECONDS && after > most) find(`${what}: it grew from ${mib(before)} to ${mib(after)}`);
  }
}

function count(kind: string, what: string, by = 1): void {
  const row = (counts[kind] ??= {});
  row[what] = (row[what] ?? 0) + by;
}

function find(what: string): void {
  findings.push(what);
  if (findings.length <= 50) console.error(`${elapsed().toFixed(1)} s: ${what}`);
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
