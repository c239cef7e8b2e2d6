import { invalid } from '../triton/errors.ts';
import { TraceFile } from './file.ts';
import { Sampler } from './sampler.ts';
import { DEFAULT_TRACE, printTraceSettings, type TraceChange, type TraceSettings } from './settings.ts';
import type { Trace } from './trace.ts';

export interface TraceOptions extends Partial<TraceSettings> {
  /** Where traces are written; undefined: nothing can be traced. */
  readonly file?: string;
}

interface Level {
  /** What was set here; everything else is as in the level above. */
  specified: TraceChange;
  sampler: Sampler;
}

/**
 * Which requests are traced. Models follow the server's settings in what is not set for them, and the server follows
 * those of its start.
 */
export class Traces {
  readonly #start: TraceSettings;
  readonly #file: TraceFile;
  readonly #server: Level;
  readonly #models: Map<string, Level> = new Map();

  /** @throws TritonError where the settings are impossible */
  constructor({ file = '', ...settings }: TraceOptions, onError: (error: unknown) => void) {
    this.#start = { ...DEFAULT_TRACE, ...settings };
    this.#file = new TraceFile(file, onError);
    this.#check(this.#start);
    this.#server = { specified: {}, sampler: new Sampler(this.#start, this.#file) };
  }

  /** A trace if the next request to the model is one to be traced. */
  sample(model: string): Trace | undefined {
    return (this.#models.get(model) ?? this.#server).sampler.sample();
  }

  /** @param model undefined: the server's settings */
  print(model: string | undefined): Record<string, string | readonly string[]> {
    const level = (model === undefined ? undefined : this.#models.get(model)) ?? this.#server;
    return printTraceSettings(level.sampler.settings, this.#file.path);
  }

  /**
   * @param model undefined: the server's settings, which models follow
   * @throws TritonError where the result is impossible; then nothing has changed
   */
  update(model: string | undefined, change: TraceChange): void {
    if (model === undefined) {
      const next = this.#next(this.#server, this.#start, change);
      const models = [...this.#models.values()].map((level) => [level, this.#next(level, next.settings, {})] as const);
      for (const [level, of] of [[this.#server, next] as const, ...models]) this.#replace(level, of);
      return;
    }
    const above = this.#server.sampler.settings;
    const level = this.#models.get(model) ?? { specified: {}, sampler: new Sampler(above, this.#file) };
    this.#replace(level, this.#next(level, above, change));
    if (Object.keys(level.specified).length > 0) this.#models.set(model, level);
    else this.#models.delete(model);
  }

  /** Write what is held. */
  async close(): Promise<void> {
    for (const { sampler } of [this.#server, ...this.#models.values()]) sampler.replace();
    await this.#file.close();
  }

  /** @throws TritonError where that is impossible */
  #next(level: Level, above: TraceSettings, change: TraceChange): { specified: TraceChange; settings: TraceSettings } {
    const current = level.sampler.settings;
    // What was set stays set as it is now: a count has been counted down.
    const kept = Object.keys(level.specified).map((name) => [name, current[name as keyof TraceSettings]]);
    const specified = Object.fromEntries(
      Object.entries({ ...Object.fromEntries(kept), ...change }).filter(([, value]) => value !== null),
    ) as Partial<TraceSettings>;
    const settings: TraceSettings = { ...above, ...specified };
    this.#check(settings);
    return { specified, settings };
  }

  #replace(level: Level, { specified, settings }: { specified: TraceChange; settings: TraceSettings }): void {
    level.sampler.replace();
    level.specified = specified;
    level.sampler = new Sampler(settings, this.#file);
  }

  #check({ level, rate }: TraceSettings): void {
    if (level.length === 0) return;
    const fail = (reason: string): never => {
      throw invalid(`Attempting to set invalid trace setting :${reason}`);
    };
    if (rate === 0) fail('sample rate must be non-zero');
    if (this.#file.path === '') fail('trace file name is not given');
  }
}
