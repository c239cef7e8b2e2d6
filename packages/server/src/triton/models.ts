import { RoseError, type ModelHub, type ServedModel } from '@rose/engine';
import type { ObserveModel } from '../metrics/observe.ts';
import type { WireCall } from '../backend/protocol.ts';
import type { LoadOverride } from '../repository/override.ts';
import type { ResponseCache } from '../cache/response-cache.ts';
import type { IndexEntry } from '../repository/entry.ts';
import type { RepositoryOptions } from '../repository/options.ts';
import { ModelRepository, type RepositorySurroundings } from '../repository/repository.ts';
import { ModelStatistics } from '../statistics/statistics.ts';
import { builtinModel } from './builtin.ts';
import { invalid, TritonError } from './errors.ts';
import type { ModelResponse, TritonModel } from './model.ts';
import { byName, tensorFromBytes } from './tensor.ts';
import { checkRequest } from './validate.ts';

/** All models of a server in Triton's words: those of the hub, each with the one version 1, and those of a repository. */
export class TritonModels {
  readonly #hub: ModelHub;
  readonly #observe: ObserveModel;
  readonly #builtin: ReadonlyMap<string, TritonModel>;
  /** What other protocols see: the hub's models, and those of the repository that an engine runs. */
  readonly hub: ModelHub;
  #repository: ModelRepository | undefined;

  constructor(hub: ModelHub, observe: ObserveModel) {
    this.#hub = hub;
    this.#observe = observe;
    const statistics = hub.models.map(() => new ModelStatistics());
    const observed = hub.models.map((model, i) => observe(model, '1', statistics[i]).model);
    this.#builtin = new Map(observed.map((model, i) => [model.name, builtinModel(model, statistics[i])]));
    this.hub = this.#wholeHub(observed);
  }

  /** @throws RoseError `invalid` where a model that must be there at the start cannot be loaded */
  async openRepository(options: RepositoryOptions, say: Pick<RepositorySurroundings, 'warn' | 'info'>): Promise<void> {
    this.#repository = await ModelRepository.open(options, {
      call: (call, signal) => this.#call(call, signal),
      ...say,
      observe: this.#observe,
      builtin: this.#builtin,
    });
  }

  /**
   * @param version decimal digits; undefined or empty: the server chooses
   * @throws RoseError `not_found`, TritonError where the version is no number or not ready
   */
  find(name: string, version: string | undefined): TritonModel {
    const number = numberOf(name, version);
    const model = this.#builtin.get(name);
    if (model !== undefined && (number === undefined || number === 1)) return model;
    if (model === undefined && this.#repository !== undefined) return this.#repository.find(name, number);
    const which = number === undefined ? `'${name}'` : `'${name}' version ${number}`;
    throw new RoseError('not_found', `Request for unknown model: ${which} is not found`);
  }

  /** Versions for metadata: the one that was named, or all that answer. */
  versions(name: string, version: string | undefined): string[] {
    if (version) return [String(numberOf(name, version))];
    return this.#builtin.has(name) ? ['1'] : (this.#repository?.readyVersions(name) ?? []).map(String);
  }

  /** Versions that answer: all, those of a model, or one. */
  select(name: string, version: string | undefined): TritonModel[] {
    if (name === '') return this.all;
    const number = numberOf(name, version);
    if (!this.all.some((model) => model.name === name && (number === undefined || model.version === String(number)))) {
      throw invalid(`requested model ${version ? `version ${number} of ` : ''}'${name}' is not available`);
    }
    return this.versions(name, version).map((one) => this.find(name, one));
  }

  /** Whether the model, or its version, is or was in service. */
  has(name: string, version: string | undefined): boolean {
    const number = numberOf(name, version);
    if (this.#builtin.has(name)) return number === undefined || number === 1;
    return this.#repository?.has(name, number) ?? false;
  }

  /** Every version that answers. */
  get all(): TritonModel[] {
    return [...this.#builtin.values(), ...(this.#repository?.models ?? [])];
  }

  /** Responses that are kept; undefined: none are. */
  get cache(): ResponseCache | undefined {
    return this.#repository?.cache;
  }

  /** Versions of the repository that answer, as `NAME/VERSION`. */
  get repositoryVersions(): string[] {
    return (this.#repository?.models ?? []).map(({ name, version }) => `${name}/${version}`);
  }

  /** Whether every model that should answer can. */
  async ready(): Promise<boolean> {
    return ((await this.#repository?.ready()) ?? true) && this.#hub.ready();
  }

  /** Whether a model can answer; of one that does not exist the answer is no. */
  async isReady(name: string, version: string | undefined): Promise<boolean> {
    try {
      return await this.find(name, version).ready();
    } catch (error) {
      if (error instanceof RoseError || (error instanceof TritonError && error.status === 503)) return false;
      throw error;
    }
  }

  /** @param onlyReady leave out what cannot answer */
  async index(onlyReady: boolean): Promise<IndexEntry[]> {
    const builtin = await Promise.all(
      [...this.#builtin.values()].map(async (model): Promise<IndexEntry> => {
        const { name, version } = model;
        if (await model.ready()) return { name, version, state: 'READY' };
        return { name, version, state: 'UNAVAILABLE', reason: 'its engine cannot answer now' };
      }),
    );
    const index = [...builtin, ...((await this.#repository?.index()) ?? [])];
    return onlyReady ? index.filter(({ state }) => state === 'READY') : index;
  }

  async load(name: string, override: LoadOverride): Promise<void> {
    await this.#explicit().load(name, override);
  }

  /** @param parts unload what was loaded only for this model's sake, too */
  async unload(name: string, parts: boolean): Promise<void> {
    await this.#explicit().unload(name, parts);
  }

  /** Give up what is being loaded, and load nothing any more. */
  stopLoading(): void {
    this.#repository?.stopLoading();
  }

  /** Free what the repository holds; the hub is its owner's. */
  async close(limitMs: number): Promise<void> {
    await this.#repository?.close(limitMs);
  }

  #wholeHub(own: readonly ServedModel[]): ModelHub {
    const hub = this.#hub;
    const all = (): ServedModel[] => [...own, ...(this.#repository?.served ?? [])];
    return {
      get models() {
        return all();
      },
      get stats() {
        return hub.stats;
      },
      get: (name) => all().find((model) => model.name === name) ?? hub.get(name),
      ready: () => this.ready(),
      drain: (limitMs) => hub.drain(limitMs),
      close: () => hub.close(),
    };
  }

  #explicit(): ModelRepository {
    if (this.#repository !== undefined) return this.#repository;
    throw new TritonError(503, 'explicit model load / unload is not allowed if polling is enabled');
  }

  /** One model's request to another. */
  #call(call: WireCall, signal: AbortSignal): AsyncIterable<ModelResponse> {
    const model = this.find(call.model, call.version);
    const inputs = call.inputs.map(({ name, datatype, shape, data }) =>
      tensorFromBytes(name, datatype, shape, data, model.name),
    );
    checkRequest(model, inputs, call.outputs, '');
    return model.run({
      id: '',
      inputs: byName(inputs),
      outputs: call.outputs && new Set(call.outputs),
      parameters: new Map(Object.entries(call.parameters)),
      timeoutMs: undefined,
      priority: 0,
      sequence: undefined,
      signal,
      tenant: '',
    });
  }
}

function numberOf(name: string, version: string | undefined): number | undefined {
  if (version === undefined || version === '') return undefined;
  if (/^\d+$/.test(version)) {
    const number = Number(version);
    // No directory has such a number, and printing it would round it.
    if (Number.isSafeInteger(number)) return number;
    throw new RoseError('not_found', `Request for unknown model: '${name}' version ${BigInt(version)} is not found`);
  }
  throw invalid(`failed to get model version from specified version string '${version}'`);
}
