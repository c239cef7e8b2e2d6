import { rm } from 'node:fs/promises';
import { RoseError, type ServedModel } from '@rose/engine';
import type { LoadRequest } from '../backend/backend.ts';
import { engineBackend } from '../backend/engine.ts';
import { onnxruntimeBackend } from '../backend/onnxruntime.ts';
import { typescriptBackend } from '../backend/typescript.ts';
import { ResponseCache } from '../cache/response-cache.ts';
import { linkEnsemble } from '../ensemble/link.ts';
import type { ModelConfig } from '../grpc/proto/model_config_pb.js';
import { RateLimiter } from '../scheduling/rate-limiter.ts';
import { TritonError } from '../triton/errors.ts';
import type { TritonModel } from '../triton/model.ts';
import { checkParts, ensemblesOf, loadOrder, partsOf } from './dependencies.ts';
import { Entry, loadFailed, messageOf, type IndexEntry } from './entry.ts';
import { checkModelName, fingerprint, scanRepositories } from './layout.ts';
import type { Loading } from './loading.ts';
import { NO_OVERRIDE, writeFiles, type LoadOverride } from './override.ts';
import type { ControlMode, RepositoryOptions } from './options.ts';
import { prepareModel, withDecoupled, type Backends, type PreparedModel } from './prepare.ts';
import { answeringVersion } from './versions.ts';

/** What came of reading a model: an ensemble is linked later, when its parts are there. */
type LoadOutcome = 'same' | 'loaded' | 'ensemble';

/** What the repository needs of the rest of the server. */
export interface RepositorySurroundings {
  readonly call: LoadRequest['call'];
  readonly observe: LoadRequest['observe'];
  readonly warn: (message: string) => void;
  readonly info: (message: string) => void;
  /** Models that are no part of the repository; their names are taken. */
  readonly builtin: ReadonlyMap<string, TritonModel>;
}

const DEFAULT_POLL_SECONDS = 15;
const DEFAULT_UNLOAD_MS = 30_000;

/** Models in directories, loaded and unloaded while the server runs. */
export class ModelRepository {
  readonly #options: RepositoryOptions;
  readonly #surroundings: RepositorySurroundings;
  readonly #backends: Backends;
  readonly #entries: Map<string, Entry> = new Map();
  readonly cache: ResponseCache | undefined;
  readonly #limiter: RateLimiter | undefined;
  #poll: NodeJS.Timeout | undefined;
  #polling: Promise<void> = Promise.resolve();
  #closed = false;
  /** Why the last look at the directories failed; empty: it did not. */
  #trouble = '';

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
    const engine = engineBackend(options.engine ?? {});
    // A directory of Triton's vLLM backend is one of ours: its `model.json` names the checkpoint.
    this.#backends = new Map([
      ['typescript', typescriptBackend],
      ['rose', engine],
      ['vllm', engine],
      ['onnxruntime', onnxruntimeBackend],
      ['onnxruntime_onnx', onnxruntimeBackend],
    ]);
    const { responseCacheBytes, rateLimit } = options;
    this.#limiter = rateLimit && new RateLimiter(rateLimit.resources);
    this.cache = responseCacheBytes === undefined ? undefined : new ResponseCache(responseCacheBytes);
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
    return this.#entries.get(name)?.readyVersions ?? [];
  }

  /** All versions that answer now. */
  get models(): TritonModel[] {
    return [...this.#entries.keys()].flatMap((name) =>
      this.readyVersions(name).map((version) => this.find(name, version)),
    );
  }

  /** What engines run of it now: of each such model the version that answers where none is named. */
  get served(): ServedModel[] {
    return [...this.#entries.values()].flatMap(({ versions, readyVersions }) => {
      const number = answeringVersion(readyVersions);
      return (number !== undefined && versions.get(number)?.loaded?.backend.served) || [];
    });
  }

  /** Whether every version that should answer can. What was unloaded on purpose does not count. */
  async ready(): Promise<boolean> {
    if (this.#closed) return false;
    return (await Promise.all([...this.#entries.values()].map((entry) => entry.ready()))).every(Boolean);
  }

  async index(): Promise<IndexEntry[]> {
    const names = new Set([...(await scanRepositories(this.#options.directories)).keys(), ...this.#entries.keys()]);
    return [...names].sort().flatMap((name) => this.#entries.get(name)?.index ?? [{ name }]);
  }

  /** Load a model as it stands now, or as a client says; what has not changed goes on as it is. */
  async load(name: string, override: LoadOverride): Promise<void> {
    this.#checkExplicit();
    checkModelName(name);
    const directories = (await scanRepositories(this.#options.directories)).get(name) ?? [];
    if (directories.length === 0 && override.files.size === 0) {
      throw notPolled(name, 'no repository holds it');
    }
    const failures = await this.#loadAll(new Map([[name, directories]]), { override });
    if (failures.has(name)) throw failures.get(name);
    for (const error of failures.values()) this.#surroundings.warn(messageOf(error).trim());
  }

  /**
   * A model that is not there is unloaded already. Ensembles that need it are unloaded before it.
   * @param parts unload what was loaded only for its sake, too
   */
  async unload(name: string, parts: boolean): Promise<void> {
    this.#checkExplicit();
    await this.#unloadAll([name]);
    if (!parts) return;
    const needed = new Set([...this.#configs.values()].flatMap((config) => [...partsOf(config).keys()]));
    const idle = [...this.#entries].filter(([other, { asked, prepared }]) => !asked && prepared && !needed.has(other));
    for (const [other] of idle) await this.unload(other, true);
  }

  /** Give up what is being loaded, and load nothing any more. */
  stopLoading(): void {
    this.#closed = true;
    const reason = new TritonError(503, 'the server is shutting down');
    for (const { loading } of this.#entries.values()) loading?.giveUp(reason);
  }

  /** @param limitMs how long requests under way may take */
  async close(limitMs: number = this.#unloadMs): Promise<void> {
    this.stopLoading();
    clearTimeout(this.#poll);
    await this.#polling;
    await Promise.all([...this.#entries.keys()].map((name) => this.#unload(name, limitMs)));
  }

  get #unloadMs(): number {
    return this.#options.unloadMs ?? DEFAULT_UNLOAD_MS;
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
    const failed = await this.#loadAll(new Map(names.map((name) => [name, there.get(name) ?? []])));
    const failures = [...failed.values()].map(messageOf);
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

  get #pollMs(): number {
    return (this.#options.pollSeconds ?? DEFAULT_POLL_SECONDS) * 1000;
  }

  #schedulePoll(): void {
    this.#poll = setTimeout(() => {
      this.#polling = this.#look()
        .then(
          () => this.#tellTrouble(''),
          (error: unknown) => this.#tellTrouble(messageOf(error)),
        )
        .then(() => {
          if (!this.#closed) this.#schedulePoll();
        });
    }, this.#pollMs);
  }

  /** A directory that is away, such as one of a network, is told once, and once more when it is back. */
  #tellTrouble(trouble: string): void {
    if (trouble === this.#trouble) return;
    this.#trouble = trouble;
    if (trouble === '') this.#surroundings.warn('the model repository can be read again: changes are followed');
    else this.#surroundings.warn(`${trouble}; until it can be read, models stay as they are`);
  }

  /** Follow what changed in the directories. */
  async #look(): Promise<void> {
    const there = await scanRepositories(this.#options.directories);
    const gone = [...this.#entries.keys()].filter((name) => !there.has(name));
    await this.#unloadAll(gone);
    // Code that never returns would keep everything else from being looked at until its author mends it.
    const again = setInterval(() => {
      for (const { loading } of this.#entries.values()) void loading?.giveUpIfChanged();
    }, this.#pollMs);
    try {
      const failures = await this.#loadAll(there, { onlyChanges: true });
      for (const error of failures.values()) this.#surroundings.warn(messageOf(error).trim());
    } finally {
      clearInterval(again);
    }
  }

  /** Configurations of everything that is, or should be, loaded. */
  get #configs(): Map<string, ModelConfig> {
    return new Map([...this.#entries].flatMap(([name, { prepared }]) => (prepared ? [[name, prepared.config]] : [])));
  }

  /**
   * Load models, what ensembles among them need, and then the ensembles: those, and others that need what has changed.
   * @returns why some could not be loaded
   */
  async #loadAll(
    wanted: ReadonlyMap<string, readonly string[]>,
    { override = NO_OVERRIDE, onlyChanges = false }: { override?: LoadOverride; onlyChanges?: boolean } = {},
  ): Promise<Map<string, unknown>> {
    const failures = new Map<string, unknown>();
    const ensembles = new Set<string>();
    const changed = new Set<string>();
    const load = async (name: string, directories: readonly string[], of: LoadOverride, asked: boolean) => {
      try {
        const outcome = await this.#load(name, directories, of, onlyChanges, asked);
        if (outcome !== 'same') changed.add(name);
        if (outcome === 'ensemble') ensembles.add(name);
      } catch (error) {
        failures.set(name, error);
      }
    };
    await Promise.all([...wanted].map(([name, directories]) => load(name, directories, override, true)));
    if (this.mode === 'explicit') await this.#loadParts(ensembles, failures, load);
    const configs = this.#configs;
    const affected = ensemblesOf(changed, configs).union(ensembles);
    const { order, circular } = loadOrder(affected, configs);
    for (const [name, error] of circular) {
      const entry = this.#entry(name);
      await entry
        .inTurn(() => giveUp(entry, error, this.#unloadMs))
        .catch((refusal: unknown) => failures.set(name, refusal));
    }
    for (const name of order) await this.#link(name).catch((error: unknown) => failures.set(name, error));
    return failures;
  }

  /** What ensembles need and nobody has asked for. */
  async #loadParts(
    ensembles: ReadonlySet<string>,
    failures: ReadonlyMap<string, unknown>,
    load: (name: string, directories: readonly string[], override: LoadOverride, asked: boolean) => Promise<void>,
  ): Promise<void> {
    if (ensembles.size === 0) return;
    const there = await scanRepositories(this.#options.directories);
    // Grows while it is gone through: a part may be an ensemble.
    for (const ensemble of ensembles) {
      const config = this.#entry(ensemble).prepared?.config;
      const parts = config === undefined ? [] : [...partsOf(config).keys()];
      const absent = parts.filter(
        (part) =>
          there.has(part) && !failures.has(part) && !ensembles.has(part) && this.readyVersions(part).length === 0,
      );
      await Promise.all(absent.map((part) => load(part, there.get(part) ?? [], NO_OVERRIDE, false)));
    }
  }

  /** Ensembles that need these go first, those that are farthest away before all others. */
  async #unloadAll(names: readonly string[]): Promise<void> {
    const configs = this.#configs;
    const { order } = loadOrder(ensemblesOf(names, configs), configs);
    for (const name of order.filter((one) => !names.includes(one)).toReversed()) {
      const needed = names.join(', ');
      const because = `ensemble ${name} contains models that are not available or ambiguous: ${needed}`;
      if (this.readyVersions(name).length > 0) this.#surroundings.warn(`'${name}' is unloaded: ${because}`);
      await this.#unload(name, this.#unloadMs, true);
    }
    await Promise.all(names.map((name) => this.#unload(name)));
  }

  /** Put an ensemble in service, as its parts are now. */
  #link(name: string): Promise<void> {
    const entry = this.#entry(name);
    return entry.inTurnLoading(async (loading) => {
      const { prepared, linked } = entry;
      if (prepared === undefined) return;
      try {
        entry.linked = withDecoupled(prepared, this.#connect(prepared.config));
      } catch (error) {
        // What answers goes on as long as it fits its parts.
        if (linked === undefined || !this.#fits(linked.config)) return giveUp(entry, error, this.#unloadMs);
        throw loadFailed(name, messageOf(error));
      }
      await entry.load(entry.linked, loading);
    });
  }

  /** @returns whether the ensemble is decoupled. Throws what does not fit. */
  #connect(config: ModelConfig): boolean {
    checkParts(config, (part) => {
      if (this.#surroundings.builtin.has(part)) return { versions: [1], problem: '' };
      const entry = this.#entries.get(part);
      return entry && { versions: entry.readyVersions, problem: entry.failure };
    });
    return linkEnsemble(config, (step) => this.#model(step.modelName, versionOf(step)));
  }

  #fits(config: ModelConfig): boolean {
    try {
      this.#connect(config);
      return true;
    } catch {
      return false;
    }
  }

  #model(name: string, version: number | undefined): TritonModel {
    return this.#surroundings.builtin.get(name) ?? this.find(name, version);
  }

  #entry(name: string): Entry {
    let entry = this.#entries.get(name);
    if (entry === undefined) {
      const { call, observe, warn, info } = this.#surroundings;
      const find = (part: string, version: number | undefined): TritonModel => this.#model(part, version);
      const own = { cache: this.cache, limiter: this.#limiter, unloadMs: this.#unloadMs };
      entry = new Entry(name, { call, find, observe, warn, info, ...own });
      this.#entries.set(name, entry);
    }
    return entry;
  }

  /** @param onlyChanges do nothing where the last attempt saw the same */
  #load(
    name: string,
    directories: readonly string[],
    override: LoadOverride,
    onlyChanges: boolean,
    asked: boolean,
  ): Promise<LoadOutcome> {
    const entry = this.#entry(name);
    return entry.inTurnLoading(async (loading) => {
      if (this.#closed) throw new TritonError(503, 'the server is shutting down');
      entry.asked ||= asked;
      const temporary = override.files.size > 0 ? await this.#write(name, override) : undefined;
      const replaced = entry.temporary;
      try {
        const from = temporary === undefined ? directories : [temporary];
        const outcome = await this.#loadFrom(entry, from, override, onlyChanges, loading);
        entry.temporary = temporary;
        if (replaced !== undefined) await rm(replaced, { recursive: true, force: true });
        return outcome;
      } catch (error) {
        if (temporary !== undefined) await rm(temporary, { recursive: true, force: true });
        throw error;
      }
    });
  }

  async #write(name: string, override: LoadOverride): Promise<string> {
    try {
      return await writeFiles(override);
    } catch (error) {
      throw notPolled(name, messageOf(error));
    }
  }

  async #loadFrom(
    entry: Entry,
    directories: readonly string[],
    override: LoadOverride,
    onlyChanges: boolean,
    loading: Loading,
  ): Promise<LoadOutcome> {
    const { name } = entry;
    let prepared: PreparedModel;
    try {
      if (this.#surroundings.builtin.has(name)) throw new TritonError(400, 'a model named at the start has this name');
      if (directories.length > 1) throw new TritonError(400, 'model appears in two or more repositories');
      const [directory] = directories;
      if (this.mode === 'poll') await loading.watch(() => fingerprint(directory));
      const reading = prepareModel(name, directory, this.#backends, override.config, loading.signal);
      prepared = await loading.part('its configuration is being read and completed', reading);
      entry.problem = undefined;
    } catch (error) {
      const message = messageOf(error);
      const known = onlyChanges && entry.problem === message;
      // What answers goes on; a model that has nothing to answer with is not ready.
      if (entry.readyVersions.length === 0) entry.problem = message;
      if (known) return 'same';
      throw notPolled(name, message);
    }
    const seen = prepared.versions.map(({ key }) => key).join('\n');
    if (onlyChanges && seen === entry.seen) return 'same';
    entry.seen = seen;
    entry.prepared = prepared;
    if (partsOf(prepared.config).size > 0) return 'ensemble';
    await entry.load(prepared, loading);
    return 'loaded';
  }

  /** @param keep it comes back as soon as it can */
  #unload(name: string, limitMs: number = this.#unloadMs, keep = false): Promise<void> {
    const entry = this.#entries.get(name);
    if (entry === undefined) return Promise.resolve();
    // Loads that are before it may never end; each has as long as requests have.
    const unloaded = new TritonError(503, 'it was unloaded before it was loaded');
    let under = entry.loading;
    const late = setInterval(
      () => {
        if (under === entry.loading) under?.giveUp(unloaded);
        under = entry.loading;
      },
      Math.max(1, limitMs),
    );
    return entry.inTurn(async () => {
      clearInterval(late);
      entry.problem = undefined;
      await entry.unload(limitMs);
      entry.linked = undefined;
      if (keep) return;
      entry.seen = '';
      entry.prepared = undefined;
      entry.asked = false;
      if (entry.temporary !== undefined) await rm(entry.temporary, { recursive: true, force: true });
      entry.temporary = undefined;
    });
  }
}

/** What stands in the directory cannot even be tried. Triton answers with 500 and the first half of the text. */
function notPolled(name: string, reason: string): TritonError {
  return new TritonError(500, `failed to load '${name}', failed to poll from model repository: ${reason}`);
}

/** An ensemble that does not fit its parts cannot answer, even if it did before they changed. */
async function giveUp(entry: Entry, error: unknown, limitMs: number): Promise<never> {
  const reason = messageOf(error);
  for (const { number } of entry.prepared?.versions ?? []) {
    if (!entry.versions.has(number)) entry.versions.set(number, { state: 'UNAVAILABLE', reason, loaded: undefined });
  }
  await entry.unload(limitMs, reason);
  entry.linked = undefined;
  throw loadFailed(entry.name, reason);
}

function versionOf({ modelVersion }: { readonly modelVersion: bigint }): number | undefined {
  return modelVersion < 0n ? undefined : Number(modelVersion);
}
