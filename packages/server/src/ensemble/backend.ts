import type { Backend, BackendModel, LoadRequest } from '../backend/backend.ts';
import { Users } from '../scheduling/users.ts';
import { TritonError } from '../triton/errors.ts';
import type { ModelRequest, ModelResponse, TritonModel } from '../triton/model.ts';
import { EnsemblePlan, type Step } from './plan.ts';
import { EnsembleRun, inEnsemble } from './run.ts';
import { Turns } from './turns.ts';

/** Models that are made of others. They have no files: their configuration says it all. */
export const ensembleBackend: Backend = {
  files: [],
  complete: async (config) => config,
  load: async (request) => new EnsembleModel(request),
};

class EnsembleModel implements BackendModel {
  readonly #request: LoadRequest;
  readonly #plan: EnsemblePlan;
  readonly #limits: ReadonlyMap<Step, Turns>;
  readonly #runs: Set<EnsembleRun> = new Set();
  readonly #users: Users = new Users();
  #closing = false;

  constructor(request: LoadRequest) {
    this.#request = request;
    this.#plan = new EnsemblePlan(request.config);
    const { maxInflight, steps } = this.#plan;
    this.#limits = new Map(maxInflight > 0 ? steps.map((step) => [step, new Turns(maxInflight)]) : []);
  }

  get trouble(): string | undefined {
    return this.#closing ? 'it is being unloaded' : undefined;
  }

  /** An ensemble can answer as long as its parts can. */
  async ready(): Promise<boolean> {
    if (this.#closing) return false;
    try {
      const parts = this.#plan.steps.map(({ model, version }) => this.#request.find(model, version).ready());
      return (await Promise.all(parts)).every((ready) => ready);
    } catch {
      return false;
    }
  }

  run(request: ModelRequest): AsyncIterable<ModelResponse> {
    if (this.#closing) throw new TritonError(503, 'the model is being unloaded');
    const { statistics } = this.#request;
    const models = new Map<Step, TritonModel>();
    // What a request runs through stays until it has ended, even if it is unloaded or replaced meanwhile.
    const releases = [this.#users.enter()];
    const release = (): void => releases.forEach((one) => one());
    try {
      for (const step of this.#plan.steps) {
        const model = this.#request.find(step.model, step.version);
        models.set(step, model);
        releases.push(model.hold());
      }
    } catch (error) {
      release();
      statistics.failed(0, 'OTHER');
      throw inEnsemble(this.#plan.name, error);
    }
    const rows = this.#plan.batched ? ([...request.inputs.values()][0]?.shape[0] ?? 1) : 1;
    const over = (): void => {
      this.#runs.delete(run);
      release();
    };
    const run = new EnsembleRun(request, rows, { plan: this.#plan, statistics, models, limits: this.#limits, over });
    this.#runs.add(run);
    run.start();
    return run.responses;
  }

  async close(limitMs: number): Promise<void> {
    this.#closing = true;
    await this.#users.gone(limitMs);
    for (const run of this.#runs) run.abandon();
  }
}
