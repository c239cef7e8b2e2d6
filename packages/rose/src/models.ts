import { existsSync, readdirSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ModelHub, ModelSource, OpenOptions, OpenProgress, ResolveOptions, ServedModel, Task } from '@rose/engine';
import { CommandError, ExitCode, withExitCodes } from './errors.ts';
import { deviceOptions, type DeviceOptions } from './options.ts';
import { bytes, statusLine } from './output.ts';
import { downloadProgress } from './progress.ts';
import { exitCodeOfSignal, onStop } from './signals.ts';

/** The models that come with Rose: in the package, or in the checkout that these sources are part of. */
const BUNDLED = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../../../models/' : '../models/', import.meta.url),
);

/** ORG/NAME, perhaps with @REVISION; what starts with a dot or a slash is a path. */
const HUB_NAME = /^\w[\w.-]*\/\w[\w.-]*(@.+)?$/;

/** Names of the models that come with Rose. */
export function bundledModels(): string[] {
  if (!existsSync(BUNDLED)) return [];
  return readdirSync(BUNDLED).filter((name) => existsSync(join(BUNDLED, name, 'config.json')));
}

/** A network or a disk that fails while a model is fetched leaves the command without its model. */
const FIND_CODES = {
  invalid: ExitCode.model,
  not_found: ExitCode.model,
  unsupported: ExitCode.model,
  too_large: ExitCode.model,
  unavailable: ExitCode.model,
  cancelled: ExitCode.interrupted,
} as const;
const OPEN_CODES = { ...FIND_CODES, unavailable: ExitCode.device } as const;

/**
 * The directory of a model: a directory that exists, else a bundled model's name, else a name on the hub, which is
 * downloaded unless it is in the cache.
 */
export async function locate(model: string, options: ResolveOptions = {}): Promise<ModelSource> {
  if (existsSync(model)) return { name: basename(resolve(model)), directory: resolve(model) };
  return locateByName(model, options);
}

/** As `locate`, but what lies in the working directory has no say. */
export async function locateByName(model: string, options: ResolveOptions = {}): Promise<ModelSource> {
  const bundled = bundledModels();
  if (bundled.includes(model)) return { name: model, directory: join(BUNDLED, model) };
  if (!HUB_NAME.test(model)) {
    const names = bundled.length > 0 ? `one of the bundled models (${bundled.join(', ')})` : 'a bundled model';
    throw new CommandError(
      ExitCode.model,
      `there is no model "${model}": it is neither a directory, nor ${names}, nor a name on the hub such as ORG/NAME.`,
    );
  }
  const { resolveModel } = await import('@rose/engine');
  const progress = downloadProgress();
  try {
    const directory = await withExitCodes(FIND_CODES, () =>
      resolveModel(model, { onProgress: progress.update, ...options }),
    );
    return { name: model.replace(/@.*/, ''), directory };
  } finally {
    progress.end();
  }
}

/** Loads models; `onProgress` is told as weights come in. */
export async function open(
  models: readonly ModelSource[],
  options: DeviceOptions,
  onProgress: (event: OpenProgress) => void,
  where: Pick<OpenOptions, 'engine' | 'restarts' | 'onLost' | 'onRestart' | 'onStepFailure'> = {},
): Promise<ModelHub> {
  const { openModels } = await import('@rose/engine');
  return withExitCodes(OPEN_CODES, () => openModels({ models, ...deviceOptions(options), ...where, onProgress }));
}

const TASKS: Readonly<Record<Task, string>> = {
  generate: 'generates text',
  embed: 'makes embeddings',
  score: 'scores pairs of texts',
};

/**
 * Loads one model for one task, lets `use` work with it and unloads it. A request to stop aborts `signal`; a second one
 * ends the process.
 */
export async function withModel(
  name: string,
  task: Task,
  options: DeviceOptions,
  use: (model: ServedModel, signal: AbortSignal, hub: ModelHub) => Promise<void>,
): Promise<void> {
  const controller = new AbortController();
  let working = false;
  const offStop = onStop((signal) => {
    if (!working || controller.signal.aborted) process.exit(exitCodeOfSignal(signal));
    process.exitCode = exitCodeOfSignal(signal);
    controller.abort();
  });
  try {
    const source = await locate(name);
    const status = statusLine();
    const hub = await open([source], options, (event) => {
      if (event.kind === 'weights') {
        status.show(`loading ${event.model}: ${bytes(event.bytes)} of ${bytes(event.totalBytes)}`);
      }
    }).finally(() => status.clear());
    try {
      working = true;
      const model = hub.get(source.name);
      if (model.task !== task) {
        throw new CommandError(
          ExitCode.usage,
          `${name} ${TASKS[model.task]}; this command needs a model that ${TASKS[task]}. Choose one with --model.`,
        );
      }
      await use(model, controller.signal, hub);
    } finally {
      await hub.close();
    }
  } finally {
    offStop();
  }
}
