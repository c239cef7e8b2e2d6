import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { InvalidArgumentError, Option, type Command } from 'commander';
import type { ControlMode, RepositoryOptions } from '@rose/server';
import { CommandError, ExitCode } from './errors.ts';
import { locateByName } from './models.ts';
import { collect, deviceOptions, integer, type DeviceOptions } from './options.ts';

/** What the command line says of a model repository. */
export interface RepositoryFlags {
  modelRepository?: string[];
  modelControlMode?: ControlMode;
  loadModel?: string[];
  repositoryPollSecs?: number;
  cacheConfig?: number;
  rateLimit?: 'off' | 'execution_count';
  rateLimitResource?: Map<string, number>;
  unloadSeconds?: number;
  exitOnError: boolean;
}

export function addRepositoryOptions(command: Command): Command {
  return command
    .option(
      '--model-repository <directory>',
      'a directory of models with config.pbtxt, as Triton has them (several times: more of them)',
      collect,
    )
    .addOption(
      new Option(
        '--model-control-mode <mode>',
        'who decides what is loaded from it: the start, clients, or changes of its files (default: none)',
      ).choices(['none', 'explicit', 'poll']),
    )
    .option('--load-model <name>', 'load it at the start, with mode explicit; * alone is all (several times)', collect)
    .option(
      '--repository-poll-secs <n>',
      'seconds between two looks at the repository, with mode poll (default: 15)',
      integer(1, 86_400),
    )
    .option(
      '--unload-seconds <n>',
      'how long requests under way may go on when their model is unloaded or replaced (default: 30)',
      integer(0, 86_400),
    )
    .option(
      '--cache-config <settings>',
      'local,size=N: keep responses of models that enable it, N bytes at most (default: none)',
      cacheBytes,
    )
    .addOption(
      new Option(
        '--rate-limit <mode>',
        'execution_count: instances execute by the resources and priorities in their configuration (default: off)',
      ).choices(['off', 'execution_count']),
    )
    .option(
      '--rate-limit-resource <name:count>',
      'how much there is of a resource (several times; default: as much as one instance wants)',
      rateResource,
    )
    .option('--no-exit-on-error', 'start even if a model of the repository cannot be loaded');
}

/** Undefined: there is no repository. */
export function repositoryOptions(
  options: RepositoryFlags & DeviceOptions & { restartEngine: number },
): RepositoryOptions | undefined {
  const { modelRepository, modelControlMode: mode, loadModel, repositoryPollSecs, exitOnError } = options;
  const { unloadSeconds, cacheConfig, rateLimit, rateLimitResource: resources } = options;
  const refuse = (option: string, needs: string): never => {
    throw new CommandError(ExitCode.usage, `${option} has no effect without ${needs}.`);
  };
  if (modelRepository === undefined) {
    if (mode !== undefined) refuse('--model-control-mode', '--model-repository');
    if (loadModel !== undefined) refuse('--load-model', '--model-repository');
    if (repositoryPollSecs !== undefined) refuse('--repository-poll-secs', '--model-repository');
    if (unloadSeconds !== undefined) refuse('--unload-seconds', '--model-repository');
    if (cacheConfig !== undefined) refuse('--cache-config', '--model-repository');
    if (rateLimit !== undefined) refuse('--rate-limit', '--model-repository');
    if (resources !== undefined) refuse('--rate-limit-resource', '--model-repository');
    return undefined;
  }
  if (loadModel !== undefined && mode !== 'explicit') refuse('--load-model', '--model-control-mode explicit');
  if (repositoryPollSecs !== undefined && mode !== 'poll')
    refuse('--repository-poll-secs', '--model-control-mode poll');
  if (resources !== undefined && rateLimit !== 'execution_count') {
    refuse('--rate-limit-resource', '--rate-limit execution_count');
  }
  const missing = modelRepository.find((directory) => !existsSync(directory));
  if (missing !== undefined) throw new CommandError(ExitCode.model, `there is no model repository "${missing}".`);
  return {
    directories: modelRepository.map((directory) => resolve(directory)),
    exitOnError,
    engine: {
      locate: async (name) => (await locateByName(name)).directory,
      settings: { ...deviceOptions(options), restarts: options.restartEngine },
    },
    ...(mode !== undefined && { mode }),
    ...(loadModel !== undefined && { loadModels: loadModel }),
    ...(repositoryPollSecs !== undefined && { pollSeconds: repositoryPollSecs }),
    ...(unloadSeconds !== undefined && { unloadMs: unloadSeconds * 1000 }),
    ...(cacheConfig !== undefined && { responseCacheBytes: cacheConfig }),
    ...(rateLimit === 'execution_count' && { rateLimit: { ...(resources && { resources }) } }),
  };
}

/** Triton's way to say it: a cache's name, and settings of it. */
function cacheBytes(text: string): number {
  const [name, ...settings] = text.split(',');
  if (name !== 'local') throw new InvalidArgumentError(`There is no cache "${name}": Rose has local, in memory.`);
  const size = settings.length === 1 ? /^size=([1-9]\d{0,14})$/.exec(settings[0])?.[1] : undefined;
  if (size === undefined) throw new InvalidArgumentError('Give local,size=N with the number of bytes.');
  return Number(size);
}

function rateResource(text: string, before: Map<string, number> = new Map()): Map<string, number> {
  const [name, count, device] = text.split(':');
  if (device !== undefined) {
    throw new InvalidArgumentError('Instances run on the CPU, which has no number: give NAME:COUNT.');
  }
  if (name === '' || !/^\d{1,9}$/.test(count ?? '')) throw new InvalidArgumentError('Give NAME:COUNT.');
  return new Map(before).set(name, Math.max(Number(count), before.get(name) ?? 0));
}
