import { flushCompileCache } from 'node:module';
import { setImmediate } from 'node:timers/promises';
import { assert, RoseError } from '../errors.ts';
import { openCheckpoint } from '../checkpoint/open.ts';
import { WorkerGrammars } from '../grammar/grammars.ts';
import type { Device } from '../device/device.ts';
import { openDevice, type DeviceChoice } from '../device/open.ts';
import { now } from '../device/phase.ts';
import type { Engine, EngineState } from './engine.ts';
import { LlmEngine } from './llm.ts';
import { Outbox } from './outbox.ts';
import { PoolingEngine } from './pooling.ts';
import type { EngineLoadOptions, FromEngine, LoadReport, ToEngine, Transport } from './protocol.ts';
import { contextOf } from './context.ts';

/** How an engine stands that is not there. */
const NO_STATE: EngineState = {
  running: 0,
  waiting: 0,
  usedPages: 0,
  cachedPages: 0,
  pages: 0,
  cachedTokens: 0,
  preemptions: 0,
  turns: 0,
  stepFailures: 0,
};

/**
 * The far end of an engine channel: one device, the engines of its models, and the loop that steps them in turn. It
 * lives in a worker thread or a process of its own.
 */
export class EngineHost {
  readonly #transport: Transport<FromEngine, ToEngine>;
  readonly #openDevice: typeof openDevice;
  readonly #engines = new Map<number, Engine>();
  #device: Device | undefined;
  #wake: (() => void) | undefined;
  /** The engine whose step is awaited, and that step. */
  #stepping: { readonly engine: Engine; readonly step: Promise<unknown> } | undefined;
  #closed = false;
  readonly #outbox = new Outbox();
  /** Canary steps asked for since the last turn of the loop. */
  readonly #probes: number[] = [];

  /** @param open opens devices */
  constructor(transport: Transport<FromEngine, ToEngine>, open: typeof openDevice = openDevice) {
    this.#transport = transport;
    this.#openDevice = open;
    // A process's own beginning; a thread's, too.
    this.#phase('engine started', performance.timeOrigin);
    this.#phase('engine loaded');
    transport.listen((message) => this.#receive(message));
  }

  #receive(message: ToEngine): void {
    switch (message.kind) {
      case 'submit': {
        const engine = this.#engines.get(message.request.model);
        if (engine !== undefined) engine.submit(message.request, Date.now());
        else this.#refuse(message.request.model, message.request.id);
        break;
      }
      case 'cancel':
        this.#engines.get(message.model)?.cancel(message.id);
        break;
      case 'probe':
        this.#probes.push(message.call);
        break;
      case 'open':
        void this.#answer(message.call, () => this.#open(message.choice));
        break;
      case 'load':
        void this.#answer(message.call, () => this.#load(message.model, message.options));
        break;
      case 'unload':
        void this.#answer(message.call, () => this.#unload(message.model));
        break;
      case 'close':
        void this.#answer(message.call, () => this.#close());
        break;
    }
    this.#wake?.();
  }

  /**
   * Run steps while there is work, one model after the other; read the channel between steps. Ends with `close`. Throws when
   * the device is lost: whoever is near the channel's other end then fails all requests, and may start another engine.
   */
  async run(): Promise<void> {
    while (!this.#closed) {
      for (const [model, engine] of [...this.#engines]) {
        // It may have been unloaded while another one was stepped.
        if (!engine.hasWork || this.#engines.get(model) !== engine) continue;
        const step = engine.step(Date.now(), this.#outbox);
        this.#stepping = { engine, step };
        const { sequences, rows } = await step;
        this.#stepping = undefined;
        this.#checkDevice();
        const { state } = engine;
        const failed = engine.failure !== undefined;
        const fault = engine.stepFault?.message;
        this.#transport.post({ kind: 'step', model, sequences, rows, failed, fault, state, ...this.#outbox.take() });
        // Lets messages in, so that a cancellation or a new request meets the very next step.
        await setImmediate();
      }
      if (this.#probes.length > 0) await this.#probe();
      if (!this.#hasWork()) {
        await new Promise<void>((wake) => (this.#wake = wake));
        this.#wake = undefined;
        // What comes at once, such as the inputs of a list, comes in messages of their own, and shall be one step's.
        await setImmediate();
      }
    }
  }

  #checkDevice(): void {
    const lost = this.#device?.lost;
    if (lost !== undefined) throw new RoseError('unavailable', `the device was lost: ${lost.message}`, { cause: lost });
  }

  #hasWork(): boolean {
    if (this.#closed || this.#probes.length > 0) return true;
    for (const engine of this.#engines.values()) if (engine.hasWork) return true;
    return false;
  }

  async #probe(): Promise<void> {
    const calls = this.#probes.splice(0);
    const failed: number[] = [];
    for (const [model, engine] of this.#engines) {
      if (!engine.hasWork) await engine.probe();
      this.#checkDevice();
      if (engine.failure !== undefined) failed.push(model);
    }
    for (const call of calls) this.#transport.post({ kind: 'reply', call, value: failed });
  }

  async #open(choice: DeviceChoice): Promise<string> {
    this.#device = await this.#openDevice(choice, (name) => this.#phase(name));
    this.#phase('device');
    return this.#device.description;
  }

  async #load(model: number, options: EngineLoadOptions): Promise<LoadReport> {
    assert(this.#device, 'a load before the device was opened');
    const checkpoint = await openCheckpoint(options.directory);
    try {
      const { spec } = checkpoint;
      const { defaults } = this.#device;
      const { dtype, memoryShare, kvCacheMib, toCome } = options;
      const loaded = await this.#device.load(checkpoint, {
        quantize: options.quantize,
        cacheDtype: options.cacheDtype,
        ...(dtype !== undefined && { dtype }),
        ...(memoryShare !== undefined && { memoryShare }),
        ...(kvCacheMib !== undefined && { kvCacheMib }),
        ...(toCome !== undefined && { toCome }),
        maxSequences: options.maxSequences ?? defaults.maxSequences,
        maxRows: options.maxRows ?? defaults.maxRows,
        onPhase: (name) => this.#phase(name),
        onProgress: (bytes, totalBytes) => this.#transport.post({ kind: 'progress', model, bytes, totalBytes }),
      });
      const decoder = spec.head.kind === 'logits';
      const limits = { entries: options.queueLimit, timeoutMs: options.queueTimeoutMs };
      const { stepMs, loop = defaults.loop } = options;
      const clock = (): number => performance.now();
      const { endTokens } = checkpoint.defaults;
      const grammars = new WorkerGrammars({ directory: options.directory, vocabSize: spec.vocabSize, endTokens });
      const onWork = (): void => this.#wake?.();
      let engine: Engine;
      try {
        engine = decoder
          ? new LlmEngine(spec, loaded, { ...limits, stepMs, loop, clock, grammars, onWork })
          : new PoolingEngine(spec, loaded, { ...limits, loop });
      } catch (error) {
        grammars.close();
        loaded.close();
        throw error;
      }
      await this.#firstStep(engine);
      this.#engines.set(model, engine);
      // Processes of engines end without ceremony: what Node.js compiled for this one is kept now, if anywhere.
      flushCompileCache();
      return {
        memory: loaded.memory,
        contextLength: decoder ? contextOf(spec, loaded) : spec.contextLength,
        notes: loaded.notes ?? [],
      };
    } finally {
      await checkpoint.close();
    }
  }

  /** The smallest step, so that what is ready is known to work, and the first request waits for nothing. */
  async #firstStep(engine: Engine): Promise<void> {
    await engine.probe();
    this.#phase('first step');
    if (engine.failure === undefined) return;
    engine.close();
    const message = `the first step failed: ${engine.failure.message}`;
    throw new RoseError('unavailable', message, { cause: engine.failure });
  }

  #phase(name: string, at = now()): void {
    this.#transport.post({ kind: 'phase', phase: { name, at } });
  }

  async #unload(model: number): Promise<void> {
    const engine = this.#engines.get(model);
    this.#engines.delete(model);
    // What it computes now reads and writes its memory.
    if (engine !== undefined && this.#stepping?.engine === engine) await this.#stepping.step.catch(() => {});
    engine?.close();
  }

  async #close(): Promise<void> {
    this.#closed = true;
    for (const model of [...this.#engines.keys()]) await this.#unload(model);
    await this.#device?.close();
  }

  #refuse(model: number, id: number): void {
    const error = new RoseError('unavailable', 'the model is not loaded').toJSON();
    const outbox = new Outbox();
    outbox.event({ kind: 'failed', id, error });
    const step = {
      kind: 'step',
      model,
      sequences: 0,
      rows: 0,
      failed: false,
      fault: undefined,
      state: NO_STATE,
    } as const;
    this.#transport.post({ ...step, ...outbox.take() });
  }

  async #answer(call: number, act: () => Promise<unknown>): Promise<void> {
    try {
      this.#transport.post({ kind: 'reply', call, value: await act() });
    } catch (error) {
      this.#transport.post({ kind: 'error', call, error: RoseError.from(error).toJSON() });
    }
  }
}
