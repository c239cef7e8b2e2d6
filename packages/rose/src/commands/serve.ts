import { createServer } from 'node:net';
import { Command, Option } from 'commander';
import type { DialectOptions, ModelHub, ModelSource, ServedModel, Task } from '@rose/engine';
import type { RunningServer } from '@rose/server';
import { CommandError, ExitCode, roseCode } from '../errors.ts';
import { bundledModels, locate, open } from '../models.ts';
import { addDeviceOptions, collect, integer, type DeviceOptions } from '../options.ts';
import { amount, bold, bytes, dim, say } from '../output.ts';
import { StartProgress } from '../start.ts';
import { addGrpcOptions, grpcOptions, type GrpcFlags } from '../grpc.ts';
import { addLogOptions, logOptions, traceOptions, type LogFlags } from '../logs.ts';
import { addMetricsOptions, gpuReadings, metricsOptions, type MetricsFlags } from '../metrics.ts';
import { addRepositoryOptions, repositoryOptions, type RepositoryFlags } from '../repository.ts';
import { checkPortsDiffer } from '../ports.ts';
import { accessOptions, addSecurityOptions, tlsOptions, type SecurityFlags } from '../security.ts';
import { exitCodeOfSignal, onStop } from '../signals.ts';
import { version } from '../version.ts';

/** Between lines about steps of a model that fail. */
const SAY_AGAIN_MS = 10_000;

interface Options extends DeviceOptions, RepositoryFlags, GrpcFlags, MetricsFlags, LogFlags, SecurityFlags {
  host: string;
  port: number;
  servedModelName?: string[];
  /** `true` or `false`, as in Triton. */
  allowClientShm: string;
  drainSeconds: number;
  sendTimeoutSeconds: number;
  restartEngine: number;
  timeline?: boolean;
  toolFormat?: DialectOptions['toolFormat'];
  reasoningFormat?: DialectOptions['reasoningFormat'];
}

/** `rose serve [MODEL...]`: answer over Triton's protocols, OpenAI's and rerank until told to stop. */
export function serveCommand(): Command {
  const command = new Command('serve')
    .description('serve models over HTTP and gRPC: OpenAI, Triton (KServe v2), rerank, metrics and a page')
    .argument(
      '[models...]',
      'directories, bundled models or names on the hub (default: all bundled models, none beside a repository)',
    )
    .option('--host <address>', 'address to listen on; 0.0.0.0 lets other machines in', '127.0.0.1')
    .option('--port <number>', 'port to listen on; 0 takes a free one', integer(0, 65_535), 8000)
    .option(
      '--served-model-name <names>',
      'names for clients, in the order of the models (several times or a,b)',
      collect,
    )
    .addOption(
      new Option(
        '--tool-format <name>',
        'how models write calls of tools (default: as the chat template tells)',
      ).choices(['hermes', 'llama3', 'mistral', 'none']),
    )
    .addOption(
      new Option(
        '--reasoning-format <name>',
        'how models mark reasoning (default: as the chat template tells)',
      ).choices(['think', 'mistral', 'none']),
    )
    .option('--max-sequences <n>', 'sequences that run together (default: 32; on a GPU 128)', integer(1, 4096))
    .option('--max-rows <n>', 'tokens in one step (default: 512; on a GPU 4096)', integer(1, 65_536))
    .option('--step-ms <n>', 'how long a step with running answers may take (default: by their pace)', integer(1))
    .option('--queue-limit <n>', 'requests that may wait for each model (default: 1024)', integer(1))
    .option('--queue-timeout-ms <n>', 'refuse what has not begun after so long (default: never)', integer(1))
    .addOption(
      new Option('--loop <kind>', 'how engines step (default: as suits the device)').choices(['plain', 'overlapped']),
    )
    .addOption(
      new Option(
        '--allow-client-shm <boolean>',
        "let clients name this machine's shared memory for tensors; it may be another program's",
      )
        .choices(['true', 'false'])
        .default('false'),
    )
    .option(
      '--drain-seconds <n>',
      'how long running requests may go on after a request to stop',
      integer(0, 86_400),
      30,
    )
    .option(
      '--send-timeout-seconds <n>',
      'cut off a client that takes nothing of its answer for so long',
      integer(1, 86_400),
      60,
    )
    .option(
      '--restart-engine <n>',
      'times that an engine which stopped (a fault of its device) is started again',
      integer(0, 1000),
      0,
    )
    .option('--timeline', 'say when each part of the start was done');
  return addDeviceOptions(
    addLogOptions(addMetricsOptions(addRepositoryOptions(addSecurityOptions(addGrpcOptions(command))))),
  )
    .addHelpText(
      'after',
      '\nSIGINT (Ctrl-C) and SIGTERM let running requests end; a second one does not wait.\n\n' +
        'Examples:\n  rose serve\n  rose serve ./my-model Qwen/Qwen3-0.6B --served-model-name mine,qwen --quantize int8\n' +
        '  rose serve --model-repository ./models --model-control-mode poll',
    )
    .action(serve);
}

async function serve(models: string[], options: Options): Promise<void> {
  const progress = new StartProgress();
  progress.mark('command read');
  let stop = (): void => {};
  const stopped = new Promise<void>((resolve) => (stop = resolve));
  const state = { serving: false, stopping: false };
  const offStop = onStop((signal) => {
    if (!state.serving || state.stopping) process.exit(exitCodeOfSignal(signal));
    state.stopping = true;
    stop();
  });

  const grpc = grpcOptions(options, options.port);
  const metrics = metricsOptions(options, options.port);
  const listeners = [
    { what: 'HTTP', option: '--port', host: options.host, port: options.port },
    ...(grpc ? [{ what: 'gRPC', option: '--grpc-port', host: options.host, port: grpc.port }] : []),
    ...(metrics.port === undefined
      ? []
      : [{ what: 'metrics', option: '--metrics-port', host: metrics.host ?? options.host, port: metrics.port }]),
  ];
  checkPortsDiffer(listeners);
  for (const { host, port, option } of listeners) await checkAddress(host, port, option);
  const trace = traceOptions(options);
  const access = accessOptions(options);
  const tls = tlsOptions(options);
  const { corsOrigin: corsOrigins } = options;
  if (tls !== undefined) (await import('@rose/server')).checkTls(tls);
  if (corsOrigins !== undefined) (await import('@rose/server')).checkOrigins(corsOrigins);
  const repository = repositoryOptions(options);
  const sources = await sourcesOf(models, options.servedModelName, repository !== undefined);
  say(`${bold('rose')} ${version}, Node.js ${process.versions.node}`);
  const dialect = dialectOptions(options);
  const loading = load(
    sources.map((source) => ({ ...source, dialect })),
    options,
    progress,
  );
  // While the engine's process starts, the server's code is read.
  const [hub, { startServer }] = await Promise.all([loading, import('@rose/server')]);
  progress.mark('models ready');
  const { host, port, sendTimeoutSeconds } = options;
  const sendTimeoutMs = sendTimeoutSeconds * 1000;
  const gpus = metrics.port === undefined ? undefined : await gpuReadings();
  const server = await startServer(hub, {
    host,
    port,
    version,
    sendTimeoutMs,
    metrics: gpus === undefined ? metrics : { ...metrics, gpus },
    allowClientSharedMemory: options.allowClientShm === 'true',
    trace,
    access,
    ...(tls && { tls }),
    ...(corsOrigins && { corsOrigins }),
    maxBodyBytes: options.httpMaxInputSize,
    receiveTimeoutMs: options.receiveTimeoutSeconds * 1000,
    log: logOptions(options),
    ...(grpc && { grpc }),
    ...(repository && { repository }),
  }).catch(async (error: unknown) => {
    await hub.close();
    if (roseCode(error) === 'invalid') throw new CommandError(ExitCode.model, (error as Error).message);
    throw addressError(error, host, port, '--port');
  });
  progress.mark('listening');
  announce(hub, server, (access.apiKeys ?? []).length > 0);
  if (options.timeline) say(progress.timeline());
  state.serving = true;
  // One request's fault is no reason to end those of everybody else.
  process.removeAllListeners('unhandledRejection');
  process.on('unhandledRejection', (error) => say(`rose: a fault of Rose, and the server goes on: ${String(error)}`));

  await stopped;
  const running = hub.models.reduce((sum, model) => sum + model.counters.running + model.counters.waiting, 0);
  say(
    running > 0
      ? `stopping: ${running} request${running === 1 ? '' : 's'} may take up to ${options.drainSeconds} s`
      : 'stopping',
  );
  await hub.drain(options.drainSeconds * 1000);
  await server.close(repository && options.drainSeconds * 1000);
  await hub.close();
  offStop();
}

function dialectOptions({ toolFormat, reasoningFormat }: Options): DialectOptions {
  return { ...(toolFormat && { toolFormat }), ...(reasoningFormat && { reasoningFormat }) };
}

/** Find all models before any is loaded: a wrong name should not cost the time of loading the others. */
async function sourcesOf(
  models: readonly string[],
  servedNames: readonly string[] | undefined,
  besideRepository: boolean,
): Promise<ModelSource[]> {
  if (models.length === 0 && besideRepository) return [];
  const wanted = models.length > 0 ? models : bundledModels();
  if (wanted.length === 0) throw new CommandError(ExitCode.model, 'no models come with this Rose: name one to serve.');
  const names = servedNames?.flatMap((list) => list.split(',')).map((name) => name.trim());
  if (names && names.length !== wanted.length) {
    throw new CommandError(
      ExitCode.usage,
      `--served-model-name gives ${names.length} names (${names.join(', ')}) for ${wanted.length} models (${wanted.join(', ')}).`,
    );
  }
  const sources: ModelSource[] = [];
  for (const [i, model] of wanted.entries()) {
    const source = await locate(model);
    sources.push({ ...source, name: names?.[i] ?? source.name });
  }
  const repeated = sources.find((source, i) => sources.findIndex((other) => other.name === source.name) !== i);
  if (repeated) {
    throw new CommandError(
      ExitCode.usage,
      `two models would be named "${repeated.name}": give each a name of its own with --served-model-name.`,
    );
  }
  return sources;
}

async function load(sources: readonly ModelSource[], options: Options, progress: StartProgress): Promise<ModelHub> {
  if (sources.length === 0) return (await import('@rose/engine')).emptyHub();
  const { status, onProgress } = progress;
  const onLost = ({ message }: Error, final: boolean): void => {
    status.clear();
    say(`rose: ${message}; ${final ? 'not ready any more: start the server again' : 'starting it again'}`);
  };
  const onRestart = (after: number): void => {
    status.clear();
    say(`rose: the engine is ready again, ${(after / 1000).toFixed(2)} s after it stopped`);
  };
  const saidAt = new Map<string, number>();
  const onStepFailure = (model: string, reason: string): void => {
    // A device that is gone fails with every request.
    if (Date.now() - (saidAt.get(model) ?? 0) < SAY_AGAIN_MS) return;
    saidAt.set(model, Date.now());
    say(`rose: a step of ${model} failed: ${reason}`);
  };
  const restarts = options.restartEngine;
  const where = { engine: 'process', restarts, onLost, onRestart, onStepFailure } as const;
  const hub = await open(sources, options, onProgress, where).finally(() => status.clear());
  const { parametersOf, sizeOf } = await import('@rose/engine');
  for (const model of hub.models) {
    const parameters = parametersOf(model.spec).reduce((sum, parameter) => sum + sizeOf(parameter), 0);
    say(`${bold(model.name)}: ${summary(model, parameters)}, ${progress.summary(model.name)}`);
    for (const note of model.notes) say(`  note: ${note}`);
  }
  return hub;
}

const TASKS: Readonly<Record<Task, string>> = { generate: 'generates text', embed: 'embeds', score: 'scores pairs' };

function summary({ task, spec, memory }: ServedModel, parameters: number): string {
  return [
    `${TASKS[task]}, ${spec.architecture}, ${amount(parameters)} parameters, ${spec.contextLength} tokens of context`,
    `weights ${bytes(memory.weights)}, sequences ${bytes(memory.sequences)}, workspace ${bytes(memory.workspace)}` +
      (memory.pinned === undefined ? '' : `, pinned memory of the host ${bytes(memory.pinned)}`),
    ...memory.pages.map(
      (group) =>
        `pages of ${group.window === undefined ? 'full attention' : `window ${group.window}`}: ` +
        `${group.pages} in ${group.layers} layers, ${group.tokens} tokens, ${bytes(group.bytes)}`,
    ),
  ].join('\n  ');
}

function announce(
  hub: ModelHub,
  { url, grpcPort, metricsPort, repositoryModels }: RunningServer,
  needsKey: boolean,
): void {
  const reachable = url.replace('//0.0.0.0:', '//127.0.0.1:').replace('//[::]:', '//[::1]:');
  say(`listening on ${bold(url)}`);
  say(dim(`  page ${reachable}/   OpenAI ${reachable}/v1   Triton ${reachable}/v2`));
  const { hostname } = new URL(reachable);
  if (grpcPort !== undefined) say(dim(`  gRPC ${hostname}:${grpcPort}`));
  if (metricsPort !== undefined)
    say(dim(`  metrics ${new URL(reachable).protocol}//${hostname}:${metricsPort}/metrics`));
  if (repositoryModels !== undefined) say(`model repository: ${repositoryModels.join(', ') || 'nothing loaded'}`);
  const [first] = hub.models;
  const command = first === undefined ? `curl -X POST ${reachable}/v2/repository/index` : example(first, reachable);
  say(`try:\n  ${command}${needsKey ? " -H 'authorization: Bearer KEY'" : ''}`);
}

/** A request that the first model can answer, for a shell. */
function example({ name, task }: ServedModel, url: string): string {
  const [path, fields] = {
    generate: [
      'chat/completions',
      { messages: [{ role: 'user', content: 'Tell me a story about a bear and a lost key' }] },
    ],
    embed: ['embeddings', { input: ['A bear sleeps in a cave.', 'The bear is in its den.'] }],
    score: ['rerank', { query: 'where do bears sleep', documents: ['Bears sleep in dens.', 'The boat is red.'] }],
  }[task] as [string, object];
  const body = JSON.stringify({ model: name, ...fields }).replaceAll("'", String.raw`'\''`);
  return `curl ${url}/v1/${path} -H 'content-type: application/json' -d '${body}'`;
}

/** Fails early if the address cannot be had: loading models takes longer than asking. */
async function checkAddress(host: string, port: number, option: string): Promise<void> {
  const probe = createServer();
  try {
    await new Promise<void>((resolve, reject) => {
      probe.once('error', reject);
      probe.listen({ host, port }, resolve);
    });
  } catch (error) {
    throw addressError(error, host, port, option);
  }
  await new Promise((resolve) => probe.close(resolve));
}

function addressError(error: unknown, host: string, port: number, option: string): unknown {
  const code = (error as NodeJS.ErrnoException).code;
  const why = {
    EADDRINUSE: `port ${port} on ${host} is taken by another program. Stop that one, or choose another port with ${option} (0 takes a free one).`,
    EACCES: `this user may not listen on port ${port}: ports below 1024 need rights. Choose another with ${option}.`,
    EADDRNOTAVAIL: `${host} is not an address of this machine. Choose another with --host.`,
    ENOTFOUND: `the host name ${host} is unknown. Choose another with --host.`,
    EAI_AGAIN: `the host name ${host} could not be looked up: the name service does not answer. Choose another with --host.`,
  }[code ?? ''];
  return why === undefined ? error : new CommandError(ExitCode.address, why, { cause: error });
}
