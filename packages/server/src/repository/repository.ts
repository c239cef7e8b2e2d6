import { rm } from 'node:fs/promises';
import { RoseError } from '@rose/engine';
import type { BackendModel, LoadRequest } from '../backend/backend.ts';
import { ModelStatistics } from '../statistics/statistics.ts';
import { TritonError } from '../triton/errors.ts';
import type { TritonModel } from '../triton/model.ts';
import { configJson } from './config-json.ts';
import { signatureOf } from './signature.ts';
import { checkModelName, scanRepositories } from './layout.ts';
import { NO_OVERRIDE, writeFiles, type LoadOverride } from './override.ts';
import { prepareModel, type PreparedModel, type PreparedVersion } from './prepare.ts';
import { answeringVersion } from './versions.ts';

/** Who decides what is loaded: the start alone, clients, or the directory as it changes. */
export type ControlMode = 'none' | 'explicit' | 'poll';

export interface RepositoryOptions {
  readonly directories: readonly string[];
  /** Default `none`. */
  readonly mode?: ControlMode;
  /** Names to load at the start in mode `explicit`; `*` alone: all. */
  readonly loadModels?: readonly string[];
  /** Seconds between two looks at the directories in mode `poll`. Default 15. */
  readonly pollSeconds?: number;
  /** Whether a model that cannot be loaded at the start ends it. Default true. */
  readonly exitOnError?: boolean;
}

export type VersionState = 'LOADING' | 'READY' | 'UNLOADING' | 'UNAVAILABLE';

/** A line of the repository's index. A model that was never loaded has only a name. */
export interface IndexEntry {
  readonly name: string;
  readonly version?: string;
  readonly state?: VersionState;
  readonly reason?: string;
}

interface Version {
  state: VersionState;
  /** Why it is not READY. */
  reason: string;
  /** Kept while it can answer. */
  loaded: LoadedVersion | undefined;
}

interface LoadedVersion {
  readonly key: string;
  readonly model: TritonModel;
  readonly backend: BackendModel;
}

interface Entry {
  readonly versions: Map<number, Version>;
  /** Why none of its versions was even tried. */
  problem: string | undefined;
  /** Files that a load request brought. */
  temporary: string | undefined;
  /** What the last attempt saw, so that poll mode does not repeat it. */
  seen: string;
  /** Operations on one model come one after the other. */
  last: Promise<unknown>;
}

/** What the repository needs of the rest of the server. */
export interface RepositorySurroundings {
  readonly call: LoadRequest['call'];
  readonly warn: (message: string) => void;
  /** Names that models of the repository cannot have. */
  readonly taken: ReadonlySet<string>;
}

const DEFAULT_POLL_SECONDS = 15;
/** Requests under way may take so long when their model is unloaded. */
const UNLOAD_MS = 30_000;
const UNLOADED = 'unloaded';

/** Models in directories, loaded and unloaded while the server runs. */
export class ModelRepository {
  readonly #options: RepositoryOptions;
  readonly #surroundings: RepositorySurroundings;
  readonly #entries: Map<string, Entry> = new Map();
  #poll: NodeJS.Timeout | undefined;
  #polling: Promise<void> = Promise.resolve();
  #closed = false;

  /**
   * Load what the control mode says.
   * @throws RoseError `invalid` that names every model that failed, unless `exitOnError` is false
   */
  static async open(options: RepositoryOptions, surroundings: RepositorySurroundings): Promise<ModelRepository> {
    const repository = new ModelRepository(options, surroundings);
    try {
      await repository.#open();
      return repository;
    } catch (error) {
      await repository.close();
      throw error;
    }
  }

  private constructor(options: RepositoryOptions, surroundings: RepositorySurroundings) {
    this.#options = options;
    this.#surroundings = surroundings;
  }

  get mode(): ControlMode {
    return this.#options.mode ?? 'none';
  }

  /** Whether the model, or its version, is or was in service. */
  has(name: string, version: number | undefined): boolean {
    const entry = this.#entries.get(name);
    return entry !== undefined && (version === undefined || entry.versions.has(version));
  }

  /** @throws RoseError `not_found`, TritonError 503 where the version exists and cannot answer */
  find(name: string, version: number | undefined): TritonModel {
    const entry = this.#entries.get(name);
    const unknown = (what: string): RoseError => new RoseError('not_found', `Request for unknown model: ${what}`);
    if (entry === undefined) throw unknown(`'${name}' is not found`);
    const number = version ?? answeringVersion(this.readyVersions(name));
    if (number === undefined) throw unknown(`'${name}' has no available versions`);
    const found = entry.versions.get(number);
    if (found === undefined) throw unknown(`'${name}' version ${number} is not found`);
    if (found.state === 'READY' && found.loaded !== undefined) return found.loaded.model;
    throw new TritonError(503, `Request for unknown model: '${name}' version ${number} is not at ready state`);
  }

  /** Numbers of the versions that answer, in order. */
  readyVersions(name: string): number[] {
    const versions = this.#entries.get(name)?.versions ?? [];
    return [...versions].flatMap(([number, { state }]) => (state === 'READY' ? number : [])).sort((a, b) => a - b);
  }

  /** All versions that answer now. */
  get models(): TritonModel[] {
    return [...this.#entries.keys()].flatMap((name) =>
      this.readyVersions(name).map((version) => this.find(name, version)),
    );
  }

  /** Whether every version that should answer can. What was unloaded on purpose does not count. */
  get ready(): boolean {
    if (this.#closed) return false;
    return [...this.#entries.values()].every(
      ({ problem, versions }) =>
        problem === undefined &&
        [...versions.values()].every(({ state, reason, loaded }) =>
          state === 'READY' ? loaded?.backend.trouble === undefined : reason === UNLOADED,
        ),
    );
  }

  async index(): Promise<IndexEntry[]> {
    const names = new Set([...(await scanRepositories(this.#options.directories)).keys(), ...this.#entries.keys()]);
    return [...names].sort().flatMap((name): IndexEntry[] => {
      const entry = this.#entries.get(name);
      if (entry === undefined) return [{ name }];
      if (entry.versions.size === 0) {
        return [entry.problem === undefined ? { name } : { name, state: 'UNAVAILABLE', reason: entry.problem }];
      }
      return [...entry.versions]
        .sort(([a], [b]) => a - b)
        .map(([number, { state, reason, loaded }]) => {
          const why = state === 'READY' ? (loaded?.backend.trouble ?? '') : reason;
          return { name, version: String(number), state, ...(why !== '' && { reason: why }) };
        });
    });
  }

  /** Load a model as it stands now, or as a client says; what has not changed goes on as it is. */
  async load(name: string, override: LoadOverride): Promise<void> {
    this.#checkExplicit();
    checkModelName(name);
    const directories = (await scanRepositories(this.#options.directories)).get(name) ?? [];
    if (directories.length === 0 && override.files.size === 0) {
      throw notPolled(name, 'no repository holds it');
    }
    await this.#load(name, directories, override);
  }

  /** A model that is not there is unloaded already. */
  async unload(name: string): Promise<void> {
    this.#checkExplicit();
    await this.#unload(name);
  }

  /** @param limitMs how long requests under way may take */
  async close(limitMs: number = UNLOAD_MS): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#poll);
    await this.#polling;
    await Promise.all([...this.#entries.keys()].map((name) => this.#unload(name, limitMs)));
  }

  #checkExplicit(): void {
    if (this.mode === 'explicit') return;
    throw new TritonError(503, 'explicit model load / unload is not allowed if polling is enabled');
  }

  async #open(): Promise<void> {
    const there = await scanRepositories(this.#options.directories);
    const names = this.#startNames([...there.keys()]);
    const missing = names.find((name) => !there.has(name));
    if (missing !== undefined) {
      throw new RoseError('invalid', notPolled(missing, 'no repository holds it').message);
    }
    const results = await Promise.allSettled(names.map((name) => this.#load(name, there.get(name) ?? [], NO_OVERRIDE)));
    const failures = results.flatMap((result) => (result.status === 'rejected' ? [messageOf(result.reason)] : []));
    if (failures.length > 0 && (this.#options.exitOnError ?? true)) {
      throw new RoseError('invalid', failures.map((text) => text.trim()).join('\n'));
    }
    for (const text of failures) this.#surroundings.warn(text.trim());
    if (this.mode === 'poll') this.#schedulePoll();
  }

  #startNames(there: readonly string[]): readonly string[] {
    const { loadModels = [] } = this.#options;
    if (this.mode !== 'explicit') return there;
    if (!loadModels.includes('*')) return [...new Set(loadModels)];
    if (loadModels.length === 1) return there;
    throw new RoseError('invalid', "Wildcard model name '*' must be the ONLY startup model if specified at all.");
  }

  #schedulePoll(): void {
    const seconds = this.#options.pollSeconds ?? DEFAULT_POLL_SECONDS;
    this.#poll = setTimeout(() => {
      this.#polling = this.#look()
        .catch((error: unknown) => this.#surroundings.warn(`cannot look at the repository: ${messageOf(error)}`))
        .then(() => {
          if (!this.#closed) this.#schedulePoll();
        });
    }, seconds * 1000);
  }

  /** Follow what changed in the directories. */
  async #look(): Promise<void> {
    const there = await scanRepositories(this.#options.directories);
    const gone = [...this.#entries.keys()].filter((name) => !there.has(name));
    await Promise.all([
      ...gone.map((name) => this.#unload(name)),
      ...[...there].map(([name, directories]) =>
        this.#load(name, directories, NO_OVERRIDE, true).catch((error: unknown) =>
          this.#surroundings.warn(messageOf(error).trim()),
        ),
      ),
    ]);
  }

  #entry(name: string): Entry {
    let entry = this.#entries.get(name);
    if (entry === undefined) {
      entry = { versions: new Map(), problem: undefined, temporary: undefined, seen: '', last: Promise.resolve() };
      this.#entries.set(name, entry);
    }
    return entry;
  }

  /** @param onlyChanges do nothing where the last attempt saw the same */
  #load(name: string, directories: readonly string[], override: LoadOverride, onlyChanges = false): Promise<void> {
    const entry = this.#entry(name);
    const work = entry.last.then(async () => {
      if (this.#closed) throw new TritonError(503, 'the server is shutting down');
      const temporary = override.files.size > 0 ? await this.#write(name, override) : undefined;
      const replaced = entry.temporary;
      try {
        await this.#loadFrom(name, entry, temporary === undefined ? directories : [temporary], override, onlyChanges);
        entry.temporary = temporary;
        if (replaced !== undefined) await rm(replaced, { recursive: true, force: true });
      } catch (error) {
        if (temporary !== undefined) await rm(temporary, { recursive: true, force: true });
        throw error;
      }
    });
    entry.last = work.catch(() => {});
    return work;
  }

  async #write(name: string, override: LoadOverride): Promise<string> {
    try {
      return await writeFiles(override);
    } catch (error) {
      throw notPolled(name, messageOf(error));
    }
  }

  async #loadFrom(
    name: string,
    entry: Entry,
    directories: readonly string[],
    override: LoadOverride,
    onlyChanges: boolean,
  ): Promise<void> {
    let prepared: PreparedModel;
    try {
      if (this.#surroundings.taken.has(name)) throw new TritonError(400, 'a model named at the start has this name');
      if (directories.length > 1) throw new TritonError(400, 'model appears in two or more repositories');
      prepared = await prepareModel(name, directories[0], override.config);
      entry.problem = undefined;
    } catch (error) {
      const message = messageOf(error);
      const known = onlyChanges && entry.problem === message;
      // What answers goes on; a model that has nothing to answer with is not ready.
      if (this.readyVersions(name).length === 0) entry.problem = message;
      if (known) return;
      throw notPolled(name, message);
    }
    const seen = prepared.versions.map(({ key }) => key).join('\n');
    if (onlyChanges && seen === entry.seen) return;
    entry.seen = seen;
    await this.#loadVersions(name, entry, prepared);
  }

  /** Load what is new, then put all of it in place of what was there, or none of it. */
  async #loadVersions(name: string, entry: Entry, prepared: PreparedModel): Promise<void> {
    const { versions } = prepared;
    const isSame = ({ number, key }: PreparedVersion): boolean => entry.versions.get(number)?.loaded?.key === key;
    const changed = versions.filter((version) => !isSame(version));
    for (const { number } of changed) {
      const version = entry.versions.get(number);
      if (version?.state !== 'READY') entry.versions.set(number, { state: 'LOADING', reason: '', loaded: undefined });
    }
    const results = await Promise.allSettled(changed.map((version) => this.#loadVersion(prepared, version)));
    const failures = results.flatMap((result, i) =>
      result.status === 'rejected' ? [{ number: changed[i].number, reason: messageOf(result.reason) }] : [],
    );
    if (failures.length > 0) {
      const loaded = results.flatMap((result) => (result.status === 'fulfilled' ? result.value.backend : []));
      await Promise.all(loaded.map((one) => one.close(0)));
      for (const { number } of changed) {
        if (entry.versions.get(number)?.state !== 'LOADING') continue;
        const reason = failures.find((failure) => failure.number === number)?.reason ?? UNLOADED;
        entry.versions.set(number, { state: 'UNAVAILABLE', reason, loaded: undefined });
      }
      const text = failures.map(({ number, reason }) => `version ${number} is at UNAVAILABLE state: ${reason};`);
      throw new TritonError(400, `load failed for model '${name}': ${text.join(' ')}\n`);
    }
    const replaced: BackendModel[] = [];
    results.forEach((result, i) => {
      const { number } = changed[i];
      const before = entry.versions.get(number)?.loaded;
      if (before !== undefined) replaced.push(before.backend);
      const loaded = (result as PromiseFulfilledResult<LoadedVersion>).value;
      entry.versions.set(number, { state: 'READY', reason: '', loaded });
    });
    const wanted = new Set(versions.map(({ number }) => number));
    const dropped = [...entry.versions.keys()].filter((number) => !wanted.has(number));
    await Promise.all([
      ...replaced.map((old) => old.close(UNLOAD_MS)),
      ...dropped.map((number) => this.#unloadVersion(entry, number, UNLOAD_MS)),
    ]);
  }

  async #loadVersion(
    { config, backend, labels }: PreparedModel,
    { number, directory, key }: PreparedVersion,
  ): Promise<LoadedVersion> {
    const signature = signatureOf(config, labels);
    const statistics = new ModelStatistics();
    const { call, warn } = this.#surroundings;
    const request = { name: config.name, version: number, directory, config, signature, statistics, call, warn };
    const begun = performance.now();
    const loaded = await backend.load(request);
    statistics.loadSeconds = (performance.now() - begun) / 1000;
    const model: TritonModel = {
      ...signature,
      version: String(number),
      platform: config.platform || config.backend,
      config: () => configJson(config),
      ready: async () => loaded.trouble === undefined,
      statistics,
      run: (infer) => loaded.run(infer),
    };
    return { key, model, backend: loaded };
  }

  #unload(name: string, limitMs: number = UNLOAD_MS): Promise<void> {
    const entry = this.#entries.get(name);
    if (entry === undefined) return Promise.resolve();
    const work = entry.last.then(async () => {
      entry.problem = undefined;
      entry.seen = '';
      await Promise.all([...entry.versions.keys()].map((number) => this.#unloadVersion(entry, number, limitMs)));
      if (entry.temporary !== undefined) await rm(entry.temporary, { recursive: true, force: true });
      entry.temporary = undefined;
    });
    entry.last = work.catch(() => {});
    return work;
  }

  async #unloadVersion(entry: Entry, number: number, limitMs: number): Promise<void> {
    const version = entry.versions.get(number);
    if (version === undefined) return;
    const { loaded } = version;
    if (loaded !== undefined) {
      version.state = 'UNLOADING';
      await loaded.backend.close(limitMs);
    }
    entry.versions.set(number, { state: 'UNAVAILABLE', reason: UNLOADED, loaded: undefined });
  }
}

/** What stands in the directory cannot even be tried. Triton answers with 500 and the first half of the text. */
function notPolled(name: string, reason: string): TritonError {
  return new TritonError(500, `failed to load '${name}', failed to poll from model repository: ${reason}`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
