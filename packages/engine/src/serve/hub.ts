import { RoseError } from '../errors.ts';
import { readModel } from '../checkpoint/open.ts';
import type { ModelToCome } from '../device/device.ts';
import { now, type Phase } from '../device/phase.ts';
import { EngineClient } from '../engine/client.ts';
import { startProcess, startWorker, type EngineLink } from '../engine/link.ts';
import type { EngineLoadOptions } from '../engine/protocol.ts';
import { parameterCount } from '../model/memory.ts';
import { openText } from '../text/open.ts';
import type { HubStats, ModelHub, ServedModel } from './api.ts';
import { HubModel } from './model.ts';
import type { ModelSource, OpenOptions } from './options.ts';

/** Tokenizers of each model: a long document in one leaves the other to everybody else. */
const TEXT_WORKERS = 2;
/** Requests that may wait for each model. */
const QUEUE_LIMIT = 1024;
/** When it is worth asking again while the engine is started anew. */
const RESTART_SECONDS = 5;

/**
 * Load models and start their engine. Everything that can be wrong with a model is known before the promise resolves;
 * when it rejects, nothing is left running.
 * @param start starts an engine; default: where `options.engine` says
 */
export async function openModels(
  options: OpenOptions,
  start: () => EngineLink = options.engine === 'process' ? startProcess : startWorker,
): Promise<ModelHub> {
  const { signal } = options;
  signal?.throwIfAborted();
  const hub = new Hub(start, options);
  // What it waits for rejects when the engine is gone.
  const giveUp = (): void => hub.giveUp();
  signal?.addEventListener('abort', giveUp);
  try {
    await hub.open();
    return hub;
  } catch (error) {
    await hub.close();
    signal?.throwIfAborted();
    throw RoseError.from(error);
  } finally {
    signal?.removeEventListener('abort', giveUp);
  }
}

class Hub implements ModelHub {
  readonly models: HubModel[] = [];
  stats: HubStats = { device: '', restarts: 0 };
  readonly #start: () => EngineLink;
  readonly #options: OpenOptions;
  readonly #client: EngineClient;
  /** The models of the engine, by their numbers there; loaded again where it is started again. */
  readonly #loads: EngineLoadOptions[] = [];
  /** Those that no model has yet. */
  readonly #texts = new Set<ReturnType<typeof openText>>();
  #loading = '';
  #state: 'opening' | 'open' | 'restarting' | 'lost' = 'opening';
  #draining = false;

  constructor(start: () => EngineLink, options: OpenOptions) {
    this.#start = start;
    this.#options = options;
    this.#client = new EngineClient(start(), {
      progress: (_, bytes, totalBytes) =>
        options.onProgress?.({ kind: 'weights', model: this.#loading, bytes, totalBytes }),
      phase: (phase) => this.#phase(phase),
      step: (number, step) => {
        const model = this.models[number];
        model?.observeStep(step);
        if (model !== undefined && step.fault !== undefined) options.onStepFailure?.(model.name, step.fault);
      },
      lost: (error) => {
        for (const model of this.models) model.observeLoss();
        // While models are loaded, whoever loads them says it.
        if (this.#state === 'open') void this.#restart(error);
      },
    });
  }

  async open(): Promise<void> {
    const { models, onProgress } = this.#options;
    checkNames(models);
    // Tokenizers are opened on this side while the engine starts and reads weights.
    const texts = models.map(({ directory, dialect }) => openText(directory, { ...dialect, workers: TEXT_WORKERS }));
    for (const text of texts) {
      this.#texts.add(text);
      // What is wrong with it is said when its model's turn comes.
      text.catch(() => {});
    }
    const description = await this.#openDevice();
    onProgress?.({ kind: 'device', description });
    for (const [i, source] of models.entries()) await this.#load(source, texts[i]);
    this.#state = 'open';
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
    const unused = [...this.#texts].map((text) =>
      text.then(
        ({ pool }) => pool.close(),
        () => undefined,
      ),
    );
    await Promise.all([this.#client.close(), ...unused, ...this.models.map((model) => model.close())]);
  }

  /** End the engine, whatever it does: nobody waits for its models. */
  giveUp(): void {
    this.#draining = true;
    this.#client.lose('its opening was given up');
  }

  async #openDevice(): Promise<string> {
    const { device = process.env.ROSE_DEVICE || 'cpu', threads } = this.#options;
    const description = await this.#client.open({ device, threads });
    this.stats = { ...this.stats, device: description };
    return description;
  }

  /** The engine is lost: start another one with the same models, as often as that is allowed. */
  async #restart(lost: RoseError): Promise<void> {
    const { restarts = 0, onLost, onRestart } = this.#options;
    const began = performance.now();
    for (let error = lost; ;) {
      const final = this.#draining || this.stats.restarts >= restarts;
      this.#state = final ? 'lost' : 'restarting';
      onLost?.(error, final);
      if (final) return;
      this.stats = { ...this.stats, restarts: this.stats.restarts + 1 };
      try {
        await this.#client.replace(this.#start);
        await this.#openDevice();
        for (const [number, load] of this.#loads.entries()) {
          const model = this.models[number];
          this.#loading = model.name;
          model.observeLoad(await this.#client.load(number, load));
        }
        this.#state = 'open';
        onRestart?.(performance.now() - began);
        return;
      } catch (failure) {
        error = this.#client.lose(`it could not be started again: ${RoseError.from(failure).message}`);
        if (this.#draining) return;
      }
    }
  }

  #phase(phase: Phase): void {
    this.#options.onProgress?.({ kind: 'phase', model: this.#loading || undefined, phase });
  }

  #admit(): void {
    if (this.#draining) throw new RoseError('unavailable', 'the server is shutting down');
    if (this.#state !== 'restarting') return;
    const message = 'the engine stopped and is being started again: try again soon';
    throw new RoseError('unavailable', message, { retryAfterSeconds: RESTART_SECONDS });
  }

  async #load(source: ModelSource, opening: ReturnType<typeof openText>): Promise<void> {
    const options = this.#options;
    const started = performance.now();
    this.#loading = source.name;
    // The engine opens the weights; this side needs what is said about them.
    const checkpoint = await readModel(source.directory);
    const number = this.models.length;
    const { queueLimit = QUEUE_LIMIT } = options;
    const load: EngineLoadOptions = {
      directory: source.directory,
      quantize: options.quantize,
      dtype: options.dtype,
      cacheDtype: options.cacheDtype,
      memoryShare: options.memoryShare,
      kvCacheMib: options.kvCacheMib,
      toCome: await this.#toCome(),
      maxSequences: options.maxSequences,
      maxRows: options.maxRows,
      queueLimit,
      queueTimeoutMs: options.queueTimeoutMs,
      stepMs: options.stepMs,
      loop: options.loop,
    };
    const opened = opening.then((text) => {
      this.#phase({ name: 'tokenizer', at: now() });
      return text;
    });
    const [text, report] = await Promise.all([opened, this.#client.load(number, load)]);
    this.#texts.delete(opening);
    this.#loads.push(load);
    const ready = async (): Promise<boolean> => (await this.#failedModels())?.has(number) === false;
    const model = new HubModel({
      name: source.name,
      number,
      client: this.#client,
      checkpoint,
      text,
      report,
      queueLimit,
      admit: () => this.#admit(),
      ready,
    });
    this.models.push(model);
    const milliseconds = performance.now() - started;
    options.onProgress?.({ kind: 'ready', model: source.name, milliseconds });
  }

  /** What the models behind the one that is being loaded will want. */
  async #toCome(): Promise<ModelToCome[]> {
    const behind = this.#options.models.slice(this.models.length + 1);
    const specs = await Promise.all(behind.map(async ({ directory }) => (await readModel(directory)).spec));
    return specs.map((spec) => ({ parameters: parameterCount(spec), decoder: spec.head.kind === 'logits' }));
  }

  /** Models whose steps fail; undefined when the engine does not answer at all. */
  async #failedModels(): Promise<ReadonlySet<number> | undefined> {
    if (this.#draining || this.#state !== 'open') return undefined;
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
