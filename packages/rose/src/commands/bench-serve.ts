import { readFile, writeFile } from 'node:fs/promises';
import { Command, Option } from 'commander';
import { CommandError, ExitCode } from '../errors.ts';
import type { Headers } from '../load/http.ts';
import { fit, shareGptLike, type LengthSource } from '../load/lengths.ts';
import { openaiTarget } from '../load/openai.ts';
import { probe } from '../load/prepare.ts';
import { runLoad, type Load, type Progress } from '../load/run.ts';
import { send } from '../load/send.ts';
import { startServer } from '../load/server.ts';
import { summarize } from '../load/summary.ts';
import { loadTable } from '../load/table.ts';
import type { Target } from '../load/target.ts';
import { tritonTarget } from '../load/triton.ts';
import type { WordCount } from '../load/text.ts';
import { conversations, orderOf, randomPrompts, sharedPrefixes, type PromptSource } from '../load/workload.ts';
import { addDeviceOptions, collect, decimal, integer, type DeviceOptions } from '../options.ts';
import { print, say, statusLine } from '../output.ts';
import { bar } from '../progress.ts';
import { exitCodeOfSignal, onStop } from '../signals.ts';
import { version } from '../version.ts';

interface Options extends DeviceOptions {
  api: 'chat' | 'completions' | 'triton';
  model?: string;
  rate?: number;
  concurrency?: number;
  requests?: number;
  seconds?: number;
  warmUp: number;
  inputTokens?: number;
  outputTokens?: number;
  dataset?: string;
  context?: number;
  sharedPrefix: number;
  prefixes: number;
  cancel: number;
  temperature?: number;
  ignoreEos?: boolean;
  header?: string[];
  timeout: number;
  seed: number;
  json?: string;
}

const DEFAULT_REQUESTS = 100;
const DEFAULT_RATE = 2;
/** Of a model whose server does not say. */
const DEFAULT_CONTEXT = 2048;
const ASK_MS = 10_000;

/** `rose bench serve URL|MODEL`: put a load on a server and measure what its clients see. */
export function benchServeCommand(): Command {
  const command = new Command('serve')
    .description('put a load on a server, Rose or another, and measure what clients see')
    .argument('<server>', 'the URL of a server; or a model, which is then served for the time of the benchmark')
    .addOption(
      new Option('--api <protocol>', 'how to ask')
        .choices(['chat', 'completions', 'triton'])
        .default('chat', 'chat: OpenAI chat completions'),
    )
    .option('-m, --model <name>', 'the model, by the name that the server has for it (default: its first one)')
    .option('--rate <r>', `requests a second, at random times (default: ${DEFAULT_RATE})`, decimal(0.001, 100_000))
    .option('--concurrency <n>', 'instead: so many requests always under way', integer(1, 100_000))
    .option('--requests <n>', `end after so many (default: ${DEFAULT_REQUESTS} without --seconds)`, integer(1))
    .option('--seconds <s>', 'send no more after so long', decimal(0.1, 1_000_000))
    .option('--warm-up <n>', 'requests before the first that counts', integer(0), 2)
    .option('--input-tokens <n>', 'length of each prompt (default: as in ShareGPT)', integer(1))
    .option('--output-tokens <n>', 'length of each answer, at most (default: as in ShareGPT)', integer(1))
    .option('--dataset <file>', 'prompts from the conversations of a JSON file in the shape of ShareGPT')
    .option('--context <n>', "tokens of a request at most (default: the model's context, else 2048)", integer(16))
    .option('--shared-prefix <n>', 'tokens that come before each prompt and that others have too', integer(0), 0)
    .option('--prefixes <n>', 'different beginnings that prompts share', integer(1), 1)
    .option('--cancel <share>', 'share of the requests that hang up amid the answer', decimal(0, 1), 0)
    .option('--temperature <t>', "0 takes the most likely token each time (default: the server's)", decimal(0, 100))
    .option('--ignore-eos', "go on past the model's end tokens, so that answers are as long as asked (not all servers)")
    .option('--header <line>', "sent with each request, such as 'Authorization: Bearer KEY' (several times)", collect)
    .option('--timeout <s>', 'a request without an end after so long has failed', decimal(0.1, 1_000_000), 600)
    .option('--seed <n>', 'the same seed and options send the same requests', integer(0), 0)
    .option('--json <file>', 'write the figures to a file');
  return addDeviceOptions(command).addHelpText('after', HELP).action(benchServe);
}

const HELP = `
With --rate the arrivals are a Poisson process that waits for no answer, and latencies count from the time at which a
request was due. Without --input-tokens and --output-tokens lengths are log-normal with the means of ShareGPT (161 in,
338 out). --device, --threads, --quantize, --cache-dtype, --memory-share and --kv-cache-mib are for a MODEL that is served here.

Examples:
  rose bench serve tiny-chat --rate 20 --seconds 10
  rose bench serve http://127.0.0.1:8000 --concurrency 32 --input-tokens 512 --output-tokens 128 --ignore-eos
  rose bench serve http://127.0.0.1:8000 --api triton --model tiny-chat --cancel 0.1 --json load.json`;

async function benchServe(server: string, options: Options): Promise<void> {
  if (options.rate !== undefined && options.concurrency !== undefined) {
    throw new CommandError(ExitCode.usage, '--rate and --concurrency exclude each other: give one of them.');
  }
  if (options.dataset !== undefined && (options.inputTokens ?? options.outputTokens) !== undefined) {
    throw new CommandError(
      ExitCode.usage,
      '--dataset has its own lengths: leave out --input-tokens and --output-tokens.',
    );
  }
  const stopping = new AbortController();
  const offStop = onStop((signal) => {
    process.exitCode = exitCodeOfSignal(signal);
    // A second one does not wait.
    if (stopping.signal.aborted) process.exit();
    stopping.abort();
  });
  const own = /^https?:\/\//.test(server) ? undefined : await startServer(server, options, stopping.signal);
  try {
    await measure(new URL(own?.url ?? server), options, stopping.signal);
  } finally {
    await own?.stop();
    offStop();
  }
}

async function measure(url: URL, options: Options, signal: AbortSignal): Promise<void> {
  const headers = headersOf(options.header ?? []);
  const target = await targetOf(url, options, headers);
  const sending = { headers, timeoutMs: options.timeout * 1000, signal };
  const words = await probe(target, options.seed, sending);
  const source = await sourceOf(options, target, words);
  const prefixes = sharedPrefixes(options.seed, options.prefixes, options.sharedPrefix, words);
  const workload = { seed: options.seed, source, prefixes, cancel: options.cancel };
  // Behind all that count, so that no prompt is sent twice.
  for (let i = 0; i < options.warmUp && !signal.aborted; i++) {
    await send(target, orderOf(workload, WARM_UP_FROM + i), performance.now(), sending);
  }

  const load = loadOf(options);
  const requests = options.requests ?? (options.seconds === undefined ? DEFAULT_REQUESTS : Infinity);
  const milliseconds = 1000 * (options.seconds ?? Infinity);
  say(`${target.description}: ${describeLoad(load, requests, milliseconds)}`);
  const status = statusLine();
  const from = performance.now();
  const show = ({ sent, ended, failed }: Progress): void => {
    const share = Math.max(ended / requests, Math.min(1, (performance.now() - from) / milliseconds) * (ended / sent));
    const errors = failed > 0 ? `, ${failed} failed` : '';
    status.show(`${bar(share)} ${ended} of ${sent} sent have ended${errors}`);
  };
  const records = await runLoad((i, scheduled) => send(target, orderOf(workload, i), scheduled, sending), {
    ...{ load, seed: options.seed, requests, milliseconds, signal, onChange: show },
  }).finally(() => status.clear());
  if (records.length === 0)
    throw new CommandError(ExitCode.usage, 'no request was sent in this time: give more of it.');

  const summary = summarize(records);
  await print(loadTable(summary));
  if (options.json !== undefined) {
    const { api, json: file, ...settings } = options;
    const facts = { rose: version, date: new Date().toISOString(), api, model: target.model, words };
    await writeFile(file, `${JSON.stringify({ ...facts, settings, load, summary }, undefined, 2)}\n`);
    say(`written to ${file}`);
  }
  if (summary.done + summary.cancelled === 0 && !signal.aborted) {
    throw new CommandError(ExitCode.address, 'every request failed.');
  }
}

const WARM_UP_FROM = 2 ** 30;

function loadOf({ rate, concurrency }: Options): Load {
  return concurrency === undefined
    ? { kind: 'open', perSecond: rate ?? DEFAULT_RATE }
    : { kind: 'closed', concurrency };
}

function describeLoad(load: Load, requests: number, milliseconds: number): string {
  const how = load.kind === 'open' ? `${load.perSecond} requests a second` : `${load.concurrency} requests at a time`;
  const limits = [
    ...(requests < Infinity ? [`${requests} requests`] : []),
    ...(milliseconds < Infinity ? [`${milliseconds / 1000} s`] : []),
  ];
  return `${how}, ${limits.join(' or ')}`;
}

async function targetOf(url: URL, options: Options, headers: Headers): Promise<Target> {
  const { api, model, temperature, ignoreEos } = options;
  const fields = { ...(temperature !== undefined && { temperature }), ...(ignoreEos && { ignoreEos }) };
  return api === 'triton'
    ? await tritonTarget(url, model, fields, headers, ASK_MS)
    : await openaiTarget(url, api, model, fields, headers, ASK_MS);
}

async function sourceOf(options: Options, target: Target, words: WordCount): Promise<PromptSource> {
  const { dataset, inputTokens, outputTokens, sharedPrefix } = options;
  const whole = options.context ?? target.context ?? DEFAULT_CONTEXT;
  // Texts come out a few tokens longer or shorter than asked for.
  const context = Math.floor(0.95 * whole) - sharedPrefix;
  if (context < 16) {
    throw new CommandError(
      ExitCode.usage,
      `a shared prefix of ${sharedPrefix} tokens leaves no room in ${whole} tokens of context.`,
    );
  }
  if (dataset === undefined) {
    const like = shareGptLike(context);
    const lengths: LengthSource = (random) => {
      const drawn = like(random);
      return fit(inputTokens ?? drawn.input, outputTokens ?? drawn.output, context);
    };
    return randomPrompts(lengths, words);
  }
  try {
    return conversations(await readFile(dataset, 'utf8'), context, words);
  } catch (error) {
    throw new CommandError(ExitCode.usage, `--dataset ${dataset}: ${(error as Error).message}`, { cause: error });
  }
}

function headersOf(lines: readonly string[]): Headers {
  return Object.fromEntries(
    lines.map((line) => {
      const [, name, value] = /^([\w-]+):\s*(.+)$/.exec(line) ?? [];
      if (name === undefined) throw new CommandError(ExitCode.usage, `--header: "${line}" is not 'Name: value'.`);
      return [name, value];
    }),
  );
}
