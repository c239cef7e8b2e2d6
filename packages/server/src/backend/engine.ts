import {
  openModels,
  readModel,
  RoseError,
  taskOf,
  type ModelHub,
  type OpenOptions,
  type ServedModel,
} from '@rose/engine';
import type { ObservedModel } from '../metrics/observe.ts';
import type { ModelStatistics } from '../statistics/statistics.ts';
import { BUILTIN_TASKS, countResponses, engineStatistics } from '../triton/builtin.ts';
import { TritonError } from '../triton/errors.ts';
import type { ModelRequest, ModelResponse, ModelSignature } from '../triton/model.ts';
import { runApart, runTogether } from '../triton/rows.ts';
import type { Backend, BackendModel, LoadRequest } from './backend.ts';
import { CHECKPOINT_FILE, MODEL_FILE, versionCheckpoint, type Locate, type VersionCheckpoint } from './checkpoint.ts';
import { completeForEngine } from './engine-config.ts';
import { warmUpSamples, type WarmUpSample } from './warm-up.ts';

/** How checkpoints of a repository are found and run. */
export interface EngineOptions {
  /** Find a checkpoint that a version names; default: names are refused. */
  readonly locate?: Locate;
  /** What engines are opened with, unless a version says otherwise. */
  readonly settings?: Omit<OpenOptions, 'models' | 'signal' | 'onProgress' | 'onLost' | 'onRestart' | 'onStepFailure'>;
}

/** Checkpoints that Rose's engine runs, each version in an engine of its own: in a process, unless the options differ. */
export function engineBackend({ locate = refuseNames, settings = {} }: EngineOptions): Backend {
  /** A name stands for the same directory as long as the server runs: asking anew may mean asking a hub. */
  const located = new Map<string, Promise<string>>();
  const locateOnce: Locate = (name) => {
    let directory = located.get(name);
    if (directory === undefined) {
      directory = locate(name);
      directory.catch(() => located.delete(name));
      located.set(name, directory);
    }
    return directory;
  };
  return {
    files: [MODEL_FILE, CHECKPOINT_FILE],
    decidesTensors: true,
    complete: async (config, directory) => {
      const checkpoint = await versionCheckpoint(directory, locateOnce);
      const { spec } = await readModel(checkpoint.directory);
      const task = taskOf(spec);
      return completeForEngine(config, BUILTIN_TASKS[task].describe({ name: config.name, task, spec }), task);
    },
    load: async (request) => {
      const checkpoint = await versionCheckpoint(request.directory, locateOnce);
      return EngineModel.load(request, checkpoint, { engine: 'process', ...settings });
    },
  };
}

async function refuseNames(name: string): Promise<never> {
  throw new RoseError('not_found', `there is no checkpoint '${name}': give its path, beginning with ./ or /`);
}

type Settings = Omit<OpenOptions, 'models'>;

class EngineModel implements BackendModel {
  readonly #request: LoadRequest;
  readonly #hub: ModelHub;
  readonly #observed: ObservedModel;
  readonly signature: ModelSignature;
  #trouble: string | undefined;
  #closing = false;

  static async load(request: LoadRequest, checkpoint: VersionCheckpoint, settings: Settings): Promise<EngineModel> {
    const { name, version, signature, warn } = request;
    const { directory, dialect, unused } = checkpoint;
    const which = `model '${name}' version ${version}`;
    if (unused.length > 0) warn(`${which}: ${MODEL_FILE} has fields without effect here: ${unused.join(', ')}`);
    let model: EngineModel | undefined;
    const hub = await openModels({
      ...settings,
      ...checkpoint.settings,
      models: [{ name, directory, dialect }],
      onLost: ({ message }, final) => model?.lost(message, final),
      onRestart: () => model?.restarted(),
      onStepFailure: (_, reason) => warn(`a step of ${which} failed: ${reason}`),
      signal: request.signal,
    });
    try {
      const samples = await warmUpSamples(request);
      model = new EngineModel(request, hub, fit(signature, BUILTIN_TASKS[hub.models[0].task].describe(hub.models[0])));
      for (const sample of samples) await model.#warmUp(sample);
    } catch (error) {
      model?.forget();
      await hub.close();
      throw error;
    }
    for (const note of hub.models[0].notes) warn(`${which}: ${note}`);
    return model;
  }

  private constructor(request: LoadRequest, hub: ModelHub, signature: ModelSignature) {
    this.#request = request;
    this.#hub = hub;
    this.signature = signature;
    this.#observed = request.observe(hub.models[0], String(request.version), request.statistics);
  }

  get trouble(): string | undefined {
    return this.#closing ? 'it is being unloaded' : this.#trouble;
  }

  get served(): ServedModel {
    return this.#observed.model;
  }

  get statistics(): ModelStatistics {
    return engineStatistics(this.served, this.#request.statistics);
  }

  async ready(): Promise<boolean> {
    return this.trouble === undefined && this.#hub.ready();
  }

  run(request: ModelRequest): AsyncIterable<ModelResponse> {
    if (this.#closing) throw new TritonError(503, 'the model is being unloaded');
    const responses = this.#answers(this.served, request);
    return this.signature.decoupled ? countResponses(responses, this.#request.statistics) : responses;
  }

  #answers(served: ServedModel, request: ModelRequest): AsyncIterable<ModelResponse> {
    const task = BUILTIN_TASKS[served.task];
    if (served.task !== 'generate') return task.run(served, request);
    const { name, maxBatchSize, decoupled } = this.signature;
    const one = (row: ModelRequest): AsyncIterable<ModelResponse> => task.run(served, row);
    if (maxBatchSize > 0) return decoupled ? runApart(request, one) : runTogether(name, request, one);
    return decoupled ? one(request) : onlyOne(name, one(request));
  }

  /** Its requests run together, past what counts requests. */
  async #warmUp({ name, count, requests }: WarmUpSample): Promise<void> {
    const drain = async (request: ModelRequest): Promise<void> => {
      for await (const _ of this.#answers(this.#hub.models[0], request));
    };
    try {
      for (let i = 0; i < count; i++) await Promise.all(requests.map(drain));
    } catch (error) {
      throw new TritonError(400, `failed to run warmup sample '${name}': ${(error as Error).message}`);
    }
  }

  async close(limitMs: number): Promise<void> {
    this.#closing = true;
    await this.#hub.drain(limitMs);
    this.forget();
    await this.#hub.close();
  }

  /** Its engine is reported no longer. */
  forget(): void {
    this.#observed.end();
  }

  lost(message: string, final: boolean): void {
    this.#trouble = message;
    if (this.#closing) return;
    const { name, version, warn } = this.#request;
    const then = final ? 'load the model again' : 'it is started again';
    warn(`the engine of model '${name}' version ${version} is lost: ${message}; ${then}`);
  }

  restarted(): void {
    this.#trouble = undefined;
    this.#observed.restarted();
  }
}

/**
 * What a version's requests are checked against. Versions of a model share its configuration: a checkpoint of another
 * width, or for another task, does not fit it.
 */
function fit(configured: ModelSignature, { inputs, outputs }: ModelSignature): ModelSignature {
  const print = (of: ModelSignature['outputs']): string =>
    of.map((one) => `${one.name} [${one.dims.join(',')}]`).join(', ');
  if (print(outputs) !== print(configured.outputs)) {
    const here = `has the outputs ${print(outputs)}`;
    throw new TritonError(
      400,
      `the checkpoint ${here}, but the model's configuration has ${print(configured.outputs)}`,
    );
  }
  // The configuration's labels count; a classifier that it gives none has its own.
  const labelled = configured.outputs.map((output, i) => ({ ...output, labels: output.labels ?? outputs[i].labels }));
  return { ...configured, inputs, outputs: labelled };
}

/** The answer of a model that is not decoupled. */
async function* onlyOne(name: string, responses: AsyncIterable<ModelResponse>): AsyncIterable<ModelResponse> {
  let count = 0;
  for await (const response of responses) {
    if (count++ > 0) throw new TritonError(400, `model '${name}' cannot stream: its configuration is not decoupled`);
    yield response;
  }
}
