import { RoseError } from '../errors.ts';
import { readModel } from '../checkpoint/open.ts';
import { EngineClient } from '../engine/client.ts';
import { startProcess, startWorker, type EngineLink } from '../engine/link.ts';
import { openText } from '../text/open.ts';
import type { HubStats, ModelHub, ServedModel } from './api.ts';
import { HubModel } from './model.ts';
import type { ModelSource, OpenOptions } from './options.ts';

const DEFAULT_SEQUENCES = 32;
const DEFAULT_ROWS = 512;
/** Tokenizers of each model: a long document in one leaves the other to everybody else. */
const TEXT_WORKERS = 2;
/** Requests that may wait for each model. */
const QUEUE_LIMIT = 1024;

/**
 * Load models and start their engine. Everything that can be wrong with a model is known before the promise resolves;
 * when it rejects, nothing is left running.
 * @param link where the engine lives; default: as `options.engine` says
 */
export async function openModels(options: OpenOptions, link: EngineLink = startEngine(options)): Promise<ModelHub> {
  const hub = new Hub(link, options);
  try {
    await hub.open(options);
    return hub;
  } catch (error) {
    await hub.close();
    throw RoseError.from(error);
  }
}

function startEngine({ engine = 'thread' }: OpenOptions): EngineLink {
  return engine === 'process' ? startProcess() : startWorker();
}

class Hub implements ModelHub {
  readonly models: HubModel[] = [];
  stats: HubStats = { device: '' };
  readonly #client: EngineClient;
  #progress: OpenOptions['onProgress'];
  #loading = '';
  #opened = false;
  #draining = false;

  constructor(link: EngineLink, { onLost, onStepFailure }: OpenOptions) {
    this.#client = new EngineClient(link, {
      progress: (_, bytes, totalBytes) =>
        this.#progress?.({ kind: 'weights', model: this.#loading, bytes, totalBytes }),
      step: (number, step) => {
        const model = this.models[number];
        model?.observeStep(step);
        if (model !== undefined && step.fault !== undefined) onStepFailure?.(model.name, step.fault);
      },
      lost: (error) => {
        for (const model of this.models) model.observeLoss();
        // While models are loaded, `open` itself says it.
        if (this.#opened) onLost?.(error);
      },
    });
  }

  async open(options: OpenOptions): Promise<void> {
    this.#progress = options.onProgress;
    checkNames(options.models);
    const description = await this.#client.open(options.device ?? 'cpu', options.threads);
    this.stats = { device: description };
    options.onProgress?.({ kind: 'device', description });
    for (const source of options.models) await this.#load(source, options);
    this.#opened = true;
  }

  get(name: string): ServedModel {
    const model = this.models.find((candidate) => candidate.name === name);
    if (model !== undefined) return model;
    const known = this.models.map((candidate) => `'${candidate.name}'`).join(', ');
    throw new RoseError('not_found', `there is no model '${name}'; loaded: ${known || 'none'}`, { param: 'model' });
  }

  async ready(): Promise<boolean> {
    const failed = await this.#failedModels();
    return failed?.size === 0;
  }

  async drain(limitMs: number): Promise<void> {
    this.#draining = true;
    const end = Date.now() + limitMs;
    const busy = (): boolean => this.models.some((model) => model.active > 0);
    while (busy() && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
    for (const model of this.models) model.abandon(new RoseError('unavailable', 'the server is shutting down'));
  }

  async close(): Promise<void> {
    this.#draining = true;
    for (const model of this.models) model.abandon(new RoseError('unavailable', 'the server is shutting down'));
    await Promise.all([this.#client.close(), ...this.models.map((model) => model.close())]);
  }

  async #load(source: ModelSource, options: OpenOptions): Promise<void> {
    const started = performance.now();
    this.#loading = source.name;
    // The engine opens the weights; this side needs what is said about them.
    const checkpoint = await readModel(source.directory);
    const text = await openText(source.directory, { ...source.dialect, workers: TEXT_WORKERS });
    const number = this.models.length;
    const { queueLimit = QUEUE_LIMIT } = options;
    try {
      const report = await this.#client.load(number, {
        directory: source.directory,
        quantize: options.quantize,
        cacheDtype: options.cacheDtype ?? 'f32',
        memoryShare: options.memoryShare,
        maxSequences: options.maxSequences ?? DEFAULT_SEQUENCES,
        maxRows: options.maxRows ?? DEFAULT_ROWS,
        queueLimit,
        queueTimeoutMs: options.queueTimeoutMs,
        stepMs: options.stepMs,
        loop: options.loop,
      });
      const admit = (): void => {
        if (this.#draining) throw new RoseError('unavailable', 'the server is shutting down');
      };
      const ready = async (): Promise<boolean> => (await this.#failedModels())?.has(number) === false;
      const model = new HubModel({
        name: source.name,
        number,
        client: this.#client,
        checkpoint,
        text,
        report,
        queueLimit,
        admit,
        ready,
      });
      this.models.push(model);
    } catch (error) {
      await text.pool.close();
      throw error;
    }
    const milliseconds = performance.now() - started;
    options.onProgress?.({ kind: 'ready', model: source.name, milliseconds });
  }

  /** Models whose steps fail; undefined when the engine does not answer at all. */
  async #failedModels(): Promise<ReadonlySet<number> | undefined> {
    if (this.#draining) return undefined;
    try {
      return await this.#client.probe();
    } catch {
      return undefined;
    }
  }
}

function checkNames(models: readonly ModelSource[]): void {
  const seen = new Set<string>();
  for (const { name } of models) {
    if (name === '') throw new RoseError('invalid', 'a model needs a name');
    if (seen.has(name)) throw new RoseError('invalid', `two models are named '${name}': give them different names`);
    seen.add(name);
  }
}
