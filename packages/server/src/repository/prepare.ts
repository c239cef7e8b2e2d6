import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { clone, create } from '@bufbuild/protobuf';
import type { Backend } from '../backend/backend.ts';
import { WARM_UP_DIRECTORY } from '../backend/warm-up.ts';
import { ensembleBackend } from '../ensemble/backend.ts';
import { ModelConfigSchema, ModelTransactionPolicySchema, type ModelConfig } from '../grpc/proto/model_config_pb.js';
import { invalid, TritonError } from '../triton/errors.ts';
import { checkCache, checkConfig } from './check-config.ts';
import { ENSEMBLE_PLATFORM } from './check-ensemble.ts';
import { completeConfig, emptyConfig, parseConfig, parseConfigOverride } from './config.ts';
import { configJson } from './config-json.ts';
import { readLabels } from './labels.ts';
import { checkDirectory, CONFIG_FILE, fingerprint, readConfigFile, versionsIn } from './layout.ts';
import { INITIAL_STATE_DIRECTORY } from './sequence-states.ts';
import { wantedVersions } from './versions.ts';

/** Backends by the name that a configuration gives them. */
export type Backends = ReadonlyMap<string, Backend>;

/** A model as it stands in its directory, ready to be loaded. */
export interface PreparedModel {
  readonly config: ModelConfig;
  readonly backend: Backend;
  /** Of outputs by their names. */
  readonly labels: ReadonlyMap<string, readonly string[]>;
  /** Those that the version policy wants. */
  readonly versions: readonly PreparedVersion[];
}

export interface PreparedVersion {
  readonly number: number;
  readonly directory: string;
  /** Two loads with the same key load the same. */
  readonly key: string;
}

/**
 * Read a model's directory: its configuration, completed and checked, and the versions to load.
 * @param override a configuration that replaces the directory's, in JSON
 * @param signal ends the model's own code; this rejects with its reason
 * @throws TritonError saying what is wrong with it
 */
export async function prepareModel(
  name: string,
  directory: string,
  backends: Backends,
  override: string | undefined,
  signal: AbortSignal,
): Promise<PreparedModel> {
  const text = override === undefined ? await readConfigFile(directory) : undefined;
  let config: ModelConfig;
  if (override !== undefined) config = parseConfigOverride(override);
  else config = text === undefined ? emptyConfig() : parseConfig(text, join(directory, CONFIG_FILE));
  if (config.name !== '' && config.name !== name) {
    const rule = 'directory name must equal model name';
    throw invalid(`unexpected directory name '${name}' for model '${config.name}', ${rule}`);
  }
  const there = await versionsIn(directory);
  const wanted = wantedVersions(config.versionPolicy, there);
  // What nobody wants need not be readable.
  const number = wanted.at(-1) ?? there.at(-1);
  const newest = number === undefined ? directory : join(directory, String(number));
  await checkDirectory(newest);
  completeConfig(config, name, backendIn(newest, backends) ?? '');
  const backend = backendOf(config, backends);
  if (wanted.length === 0) {
    throw invalid(`at least one version must be available under the version policy of model '${name}'`);
  }
  checkConfig(config);
  if (config.input.length === 0 || config.output.length === 0 || backend.decidesTensors === true) {
    config = completeConfig(
      await backend.complete(config, join(directory, String(wanted.at(-1))), signal),
      name,
      config.backend,
    );
    checkConfig(config);
  }
  if (config.output.length === 0) {
    throw invalid(`must specify one or more 'output's for ${name}, in ${CONFIG_FILE} or by the model itself`);
  }
  const labels = await readLabels(config, directory);
  const data = await Promise.all(
    [WARM_UP_DIRECTORY, INITIAL_STATE_DIRECTORY].map((name) => fingerprint(join(directory, name))),
  );
  const key = JSON.stringify([configJson(config), ...labels, ...data]);
  const versions = await Promise.all(
    wanted.map(async (number): Promise<PreparedVersion> => {
      const place = join(directory, String(number));
      return { number, directory: place, key: `${place}\n${key}\n${await fingerprint(place)}` };
    }),
  );
  return { config, backend, labels, versions };
}

/** The same ensemble, once it is known whether its parts are decoupled. */
export function withDecoupled(prepared: PreparedModel, decoupled: boolean): PreparedModel {
  const { config, versions } = prepared;
  const linked = clone(ModelConfigSchema, config);
  linked.modelTransactionPolicy = create(ModelTransactionPolicySchema, { decoupled });
  checkCache(linked);
  const keyed = versions.map((version) => ({ ...version, key: `${version.key}\ndecoupled: ${decoupled}` }));
  return { ...prepared, config: linked, versions: keyed };
}

/** The backend whose file a version's directory holds. */
function backendIn(directory: string, backends: Backends): string | undefined {
  for (const [name, { files }] of backends) {
    if (files.some((file) => existsSync(join(directory, file)))) return name;
  }
  return undefined;
}

function backendOf(config: ModelConfig, backends: Backends): Backend {
  const { name, backend, platform } = config;
  if (backend === '' && platform === '') {
    throw invalid(`must specify 'platform' or 'backend' for '${name}', or give a version the file model.ts`);
  }
  if (platform === ENSEMBLE_PLATFORM) {
    if (backend === '') return ensembleBackend;
    throw invalid(`Ensemble model '${name}' must have platform type '${ENSEMBLE_PLATFORM}' and empty backend type`);
  }
  const found = backends.get(backend || platform);
  if (found !== undefined) return found;
  const there = [...backends.keys()].join(', ');
  const what = backend === '' ? `platform '${platform}'` : `backend '${backend}'`;
  throw new TritonError(400, `unable to find a backend for ${what} of model '${name}'; Rose has: ${there}`);
}
