import type { BackendModel, LoadRequest } from '../backend/backend.ts';
import { cached } from '../cache/cached.ts';
import type { ResponseCache } from '../cache/response-cache.ts';
import { InOrder } from '../scheduling/in-order.ts';
import { Users } from '../scheduling/users.ts';
import { ModelStatistics } from '../statistics/statistics.ts';
import { TritonError } from '../triton/errors.ts';
import type { ModelResponse, TritonModel } from '../triton/model.ts';
import { configJson } from './config-json.ts';
import { Loading } from './loading.ts';
import type { PreparedModel, PreparedVersion } from './prepare.ts';
import { Reshapes } from './reshape.ts';
import { signatureOf } from './signature.ts';

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
  /** Ensembles' requests that run through it. */
  readonly users: Users;
  /** Takes its responses out of the cache. */
  readonly forget: () => void;
}

/** What versions need of the rest of the server. */
export interface VersionSurroundings extends Pick<LoadRequest, 'call' | 'find' | 'limiter' | 'observe' | 'warn'> {
  /** What an operator may want to know. */
  readonly info: (message: string) => void;
  /** Undefined: responses are not kept, whatever configurations say. */
  readonly cache: ResponseCache | undefined;
  /** Requests under way may take so many milliseconds when their model is unloaded or replaced. */
  readonly unloadMs: number;
}

const UNLOADED = 'unloaded';

/** One model of the repository: its versions, and what the last attempts to load it saw. */
export class Entry {
  readonly name: string;
  readonly versions: Map<number, Version> = new Map();
  /** As it was last read, until it is unloaded on purpose. */
  prepared: PreparedModel | undefined;
  /** Of an ensemble that is in service: as it was held against its parts. */
  linked: PreparedModel | undefined;
  /** Somebody asked for it by its name; otherwise it serves ensembles alone. */
  asked = false;
  /** Why none of its versions was even tried. */
  problem: string | undefined;
  /** Files that a load request brought. */
  temporary: string | undefined;
  /** What the last attempt saw, so that poll mode does not repeat it. */
  seen = '';
  readonly #surroundings: VersionSurroundings;
  #last: Promise<unknown> = Promise.resolve();
  #loading: Loading | undefined;

  constructor(name: string, surroundings: VersionSurroundings) {
    this.name = name;
    this.#surroundings = surroundings;
  }

  /** Operations on one model come one after the other. */
  inTurn<T>(task: () => Promise<T>): Promise<T> {
    const work = this.#last.then(task);
    this.#last = work.catch(() => {});
    return work;
  }

  /** An operation in its turn that may go on as long as the model's code does. */
  inTurnLoading<T>(task: (loading: Loading) => Promise<T>): Promise<T> {
    return this.inTurn(async () => {
      const loading = new Loading(this.name, this.#surroundings.warn);
      this.#loading = loading;
      try {
        return await task(loading);
      } finally {
        loading.end();
        this.#loading = undefined;
      }
    });
  }

  /** The load that is under way, if one is. */
  get loading(): Loading | undefined {
    return this.#loading;
  }

  /** Numbers of the versions that answer, in order. */
  get readyVersions(): number[] {
    const ready: number[] = [];
    // Asked for by every request that names no version.
    for (const [number, { state }] of this.versions) if (state === 'READY') ready.push(number);
    return ready.sort((a, b) => a - b);
  }

  /** Whether every version that should answer can. What was unloaded on purpose does not count. */
  async ready(): Promise<boolean> {
    if (this.problem !== undefined) return false;
    // What has no versions yet may be about to get some.
    if (this.#loading !== undefined && this.readyVersions.length === 0) return false;
    const answers = [...this.versions.values()].map(async ({ state, reason, loaded }) =>
      state === 'READY' ? ((await loaded?.model.ready()) ?? false) : reason === UNLOADED,
    );
    return (await Promise.all(answers)).every(Boolean);
  }

  /** Why nothing of it answers; empty: nothing failed. */
  get failure(): string {
    if (this.problem !== undefined) return this.problem;
    const failed = [...this.versions].filter(([, { state, reason }]) => state === 'UNAVAILABLE' && reason !== UNLOADED);
    return failed.map(([number, { reason }]) => `version ${number} is at UNAVAILABLE state: ${reason};`).join(' ');
  }

  get index(): IndexEntry[] {
    const { name, problem } = this;
    if (this.versions.size === 0) {
      return [problem === undefined ? { name } : { name, state: 'UNAVAILABLE', reason: problem }];
    }
    return [...this.versions]
      .sort(([a], [b]) => a - b)
      .map(([number, { state, reason, loaded }]) => {
        const why = state === 'READY' ? (loaded?.backend.trouble ?? '') : reason;
        return { name, version: String(number), state, ...(why !== '' && { reason: why }) };
      });
  }

  /** Load what is new, then put all of it in place of what was there, or none of it. */
  async load(prepared: PreparedModel, loading: Loading): Promise<void> {
    const { versions } = prepared;
    const isSame = ({ number, key }: PreparedVersion): boolean => {
      const loaded = this.versions.get(number)?.loaded;
      return loaded?.key === key && loaded.backend.trouble === undefined;
    };
    const changed = versions.filter((version) => !isSame(version));
    for (const { number } of changed) {
      const version = this.versions.get(number);
      if (version?.state !== 'READY') this.versions.set(number, { state: 'LOADING', reason: '', loaded: undefined });
    }
    const results = await Promise.allSettled(changed.map((version) => this.#loadVersion(prepared, version, loading)));
    const failures = results.flatMap((result, i) =>
      result.status === 'rejected' ? [{ number: changed[i].number, reason: messageOf(result.reason) }] : [],
    );
    if (failures.length > 0) {
      const loaded = results.flatMap((result) => (result.status === 'fulfilled' ? result.value.backend : []));
      await Promise.all(loaded.map((one) => one.close(0)));
      for (const { number } of changed) {
        if (this.versions.get(number)?.state !== 'LOADING') continue;
        const reason = failures.find((failure) => failure.number === number)?.reason ?? UNLOADED;
        this.versions.set(number, { state: 'UNAVAILABLE', reason, loaded: undefined });
      }
      // The files may have changed before they were seen: then those have not been tried.
      if (loading.outdated) this.seen = '';
      const text = failures.map(({ number, reason }) => `version ${number} is at UNAVAILABLE state: ${reason};`);
      throw loadFailed(this.name, text.join(' '));
    }
    const replaced: LoadedVersion[] = [];
    results.forEach((result, i) => {
      const { number } = changed[i];
      const before = this.versions.get(number)?.loaded;
      if (before !== undefined) replaced.push(before);
      const loaded = (result as PromiseFulfilledResult<LoadedVersion>).value;
      this.versions.set(number, { state: 'READY', reason: '', loaded });
      this.#surroundings.info(`successfully loaded '${this.name}' version ${number}`);
    });
    const wanted = new Set(versions.map(({ number }) => number));
    const dropped = [...this.versions.keys()].filter((number) => !wanted.has(number));
    const { unloadMs } = this.#surroundings;
    loading.stage = 'requests to the versions before are ending';
    await Promise.all([
      ...replaced.map((old) => close(old, unloadMs)),
      ...dropped.map((number) => this.#unloadVersion(number, unloadMs, UNLOADED)),
    ]);
  }

  /** @param reason why its versions do not answer from now on */
  async unload(limitMs: number, reason: string = UNLOADED): Promise<void> {
    await Promise.all([...this.versions.keys()].map((number) => this.#unloadVersion(number, limitMs, reason)));
  }

  async #loadVersion(
    { config, backend, labels }: PreparedModel,
    { number, directory, key }: PreparedVersion,
    loading: Loading,
  ): Promise<LoadedVersion> {
    const signature = signatureOf(config, labels);
    const statistics = new ModelStatistics();
    const { cache } = this.#surroundings;
    const reshapes = new Reshapes(config);
    const inside = reshapes.inside(signature);
    const what = { name: config.name, version: number, directory, config, signature: inside, statistics };
    const begun = performance.now();
    const load = backend.load({ ...what, ...this.#surroundings, signal: loading.signal });
    const loaded = await loading.part(`version ${number} is starting`, load, (late) => late.close(0));
    statistics.loadSeconds = (performance.now() - begun) / 1000;
    const users = new Users();
    let run: TritonModel['run'] = (infer) => loaded.run(infer);
    if (!reshapes.none) run = (infer) => reshaped(loaded.run(reshapes.toModel(infer)), reshapes);
    let forget = (): void => {};
    if (cache !== undefined && config.responseCache?.enable === true) {
      ({ run, close: forget } = cached(run, cache, loaded.statistics ?? statistics));
    }
    const { schedulingChoice } = config;
    if (schedulingChoice.case === 'dynamicBatching' && schedulingChoice.value.preserveOrdering) {
      const [order, unordered] = [new InOrder(), run];
      run = (infer) => order.after(unordered(infer));
    }
    const model: TritonModel = {
      ...(loaded.signature ?? signature),
      version: String(number),
      platform: config.platform || config.backend,
      config: () => configJson(config),
      ready: async () => loaded.ready?.() ?? loaded.trouble === undefined,
      hold: () => users.enter(),
      get statistics() {
        return loaded.statistics ?? statistics;
      },
      run,
    };
    return { key, model, backend: loaded, users, forget };
  }

  async #unloadVersion(number: number, limitMs: number, reason: string): Promise<void> {
    const version = this.versions.get(number);
    if (version === undefined) return;
    if (version.loaded !== undefined) {
      version.state = 'UNLOADING';
      await close(version.loaded, limitMs);
      this.#surroundings.info(`successfully unloaded '${this.name}' version ${number}`);
    }
    this.versions.set(number, { state: 'UNAVAILABLE', reason, loaded: undefined });
  }
}

async function* reshaped(responses: AsyncIterable<ModelResponse>, reshapes: Reshapes): AsyncIterable<ModelResponse> {
  for await (const response of responses) yield reshapes.toClient(response);
}

/** First what runs through it, then what it was asked itself. */
async function close({ backend, users, forget }: LoadedVersion, limitMs: number): Promise<void> {
  const begun = performance.now();
  await users.gone(limitMs);
  await backend.close(Math.max(0, limitMs - (performance.now() - begun)));
  forget();
}

/** What a model's own code, or what it consists of, does not allow. */
export function loadFailed(name: string, reason: string): TritonError {
  return new TritonError(400, `load failed for model '${name}': ${reason}\n`);
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
