import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { RoseError } from '@rose/engine';
import type { ModelConfig, ModelRateLimiter } from '../grpc/proto/model_config_pb.js';
import { configFromJson, configJson } from '../repository/config-json.ts';
import { jobQueue } from '../repository/scheduling.ts';
import { checkReadable } from '../repository/unreadable.ts';
import { readStates, type SequenceStates } from '../repository/sequence-states.ts';
import { Job } from '../scheduling/job.ts';
import type { Permit, RateLimiter } from '../scheduling/rate-limiter.ts';
import type { JobQueue } from '../scheduling/scheduler.ts';
import type { ModelStatistics } from '../statistics/statistics.ts';
import { invalid, TritonError, tritonStatus } from '../triton/errors.ts';
import type { ModelRequest, ModelResponse } from '../triton/model.ts';
import type { Backend, BackendModel, LoadRequest } from './backend.ts';
import type { ModelConfig as ModelConfigJson } from './api.ts';
import { completeByModel, Instance, type InstanceSurroundings } from './instance.ts';
import { abortable } from './abortable.ts';
import { acceptResponse } from './accept.ts';
import type { InstanceData } from './protocol.ts';
import { SupervisedInstance } from './supervised.ts';
import { warmUp, warmUpSamples } from './warm-up.ts';

const FILES = ['model.ts', 'model.mts', 'model.js', 'model.mjs'];

/**
 * Requests that wait inside the only instance of a model that has no say in their order, so that it never waits for the
 * next message. Where there is a choice to make (several instances, priorities, batches), it is made as late as can be.
 */
const BATCHES_AHEAD = 15;

/** Models written in TypeScript or JavaScript, each instance in a thread of its own. */
export const typescriptBackend: Backend = instancesBackend(FILES, modelFile);

/** The file of the class that a model's instances run. */
type FindFile = (config: ModelConfig, directory: string) => string;

/** Models whose instances are objects of a class. */
export function instancesBackend(files: readonly string[], find: FindFile): Backend {
  return {
    files,
    complete: async (config, directory, signal) => {
      const data = { ...instanceData(config, directory, find), version: '', instance: 0 };
      return configFromJson(await completeByModel(data, signal), `the configuration that ${data.file} returned`);
    },
    load: (request) => TypeScriptModel.load(request, find),
  };
}

class TypeScriptModel implements BackendModel {
  readonly #request: LoadRequest;
  readonly #statistics: ModelStatistics;
  readonly #scheduler: JobQueue;
  readonly #states: SequenceStates;
  readonly #batched: boolean;
  /** By the numbers of instances; empty: they need none. */
  readonly #permits: Permit[] = [];
  #limiter: RateLimiter | undefined;
  #instances: readonly SupervisedInstance[] = [];
  #closing = false;
  #onIdle: () => void = () => {};

  static async load(request: LoadRequest, find: FindFile): Promise<TypeScriptModel> {
    const model = new TypeScriptModel(request, await readStates(request.config, request.directory));
    await model.#start(request, find);
    return model;
  }

  private constructor(request: LoadRequest, states: SequenceStates) {
    const { config, statistics } = request;
    this.#request = request;
    this.#statistics = statistics;
    this.#states = states;
    this.#scheduler = jobQueue(config, states.initial);
    this.#batched = config.maxBatchSize > 0;
  }

  get trouble(): string | undefined {
    if (this.#closing) return 'it is being unloaded';
    return this.#instances.every(({ instance }) => instance === undefined) ? this.#instances[0].reason : undefined;
  }

  run(request: ModelRequest): AsyncIterable<ModelResponse> {
    if (this.#closing) throw new TritonError(503, 'the model is being unloaded');
    const rows = this.#batched ? ([...request.inputs.values()][0]?.shape[0] ?? 1) : 1;
    const job = new Job(request, rows, this.#statistics);
    try {
      // A client may be gone before its request is read.
      if (!job.ended) this.#scheduler.add(job);
    } catch (error) {
      job.fail(error, tritonStatus(error) === 503 ? 'REJECTED' : 'OTHER');
    }
    return job.responses;
  }

  async close(limitMs: number): Promise<void> {
    this.#closing = true;
    let limit: NodeJS.Timeout | undefined;
    if (!this.#idle()) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
        limit = setTimeout(resolve, limitMs);
      });
    }
    clearTimeout(limit);
    await this.#end(new TritonError(503, 'the model was unloaded before it answered the request'));
  }

  /** What waits and what runs fails with this reason. */
  async #end(reason: TritonError): Promise<void> {
    this.#scheduler.abandon(reason);
    const ended = await Promise.all(this.#instances.map((instance) => instance.close(reason)));
    this.#forgetPermits();
    const left = ended.filter((one) => !one).length;
    if (left === 0) return;
    const { name, version, warn } = this.#request;
    const what = `${left === 1 ? 'a thread' : `${left} threads`} of model '${name}' version ${version}`;
    warn(
      `${what} cannot be ended: it is in a call of the system that nothing interrupts, and holds its memory until then`,
    );
  }

  /** Start all instances; when one fails none is left. */
  async #start(request: LoadRequest, find: FindFile): Promise<void> {
    const { config, directory, version } = request;
    const data = { ...instanceData(config, directory, find), version: String(version) };
    const samples = await warmUpSamples(request);
    const groups = config.instanceGroup.flatMap((group) => Array.from({ length: group.count }, () => group));
    const count = groups.length;
    const surroundings: Omit<InstanceSurroundings, 'permit'> = {
      decoupled: request.signature.decoupled,
      call: request.call,
      keep: (job, set) => {
        job.states = new Map([...(job.states ?? []), ...this.#states.accept(set)]);
      },
      accept: (job, response) => this.#accept(request, job, response),
      ahead: count === 1 && config.schedulingChoice.case === undefined && !request.limiter ? BATCHES_AHEAD : 0,
      executed: (rows, times, ended) =>
        this.#statistics.executed(rows, {
          computeInput: times.computeStart - times.begun,
          computeInfer: times.computeEnd - times.computeStart,
          computeOutput: ended - times.computeEnd,
        }),
    };
    for (const { rateLimiter } of groups) this.#permit(request, rateLimiter);
    const start = async (number: number, signal: AbortSignal): Promise<Instance> => {
      const permit = this.#permits[number];
      const instance = await Instance.start({ ...data, instance: number }, { ...surroundings, permit }, signal);
      try {
        await abortable(warmUp(instance, samples, this.#statistics), signal);
        return instance;
      } catch (error) {
        await instance.close(RoseError.from(error));
        throw error;
      }
    };
    const started = await Promise.allSettled(
      Array.from({ length: count }, (_, instance) =>
        SupervisedInstance.open(
          (signal) => start(instance, signal),
          (up) => this.#up(up),
          (down, reason, waiting) => {
            this.#scheduler.detach(down);
            this.#scheduler.putBack(waiting);
            request.warn(`instance ${instance} of model '${request.name}' version ${version} failed: ${reason}`);
          },
          request.signal,
        ),
      ),
    );
    this.#instances = started.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    const failed = started.find((result) => result.status === 'rejected');
    if (failed === undefined) return;
    await this.#end(new TritonError(503, 'another instance of the model could not start'));
    throw failed.reason;
  }

  #permit({ limiter }: LoadRequest, { resources = [], priority = 0 }: Partial<ModelRateLimiter> = {}): void {
    if (limiter === undefined) return;
    this.#limiter = limiter;
    try {
      this.#permits.push(limiter.register({ resources, priority }));
    } catch (error) {
      this.#forgetPermits();
      throw error;
    }
  }

  #forgetPermits(): void {
    for (const permit of this.#permits) this.#limiter?.forget(permit);
  }

  #up(instance: Instance): void {
    this.#scheduler.attach(instance);
    if (this.#closing && this.#idle()) this.#onIdle();
  }

  #idle(): boolean {
    return this.#scheduler.waiting === 0 && this.#instances.every(({ instance }) => instance?.empty ?? true);
  }

  #accept({ signature }: LoadRequest, job: Job, response: ModelResponse): void {
    acceptResponse(signature, job, response);
    if (!signature.decoupled) return;
    const kind = response.outputs.length === 0 ? 'emptyResponse' : 'success';
    const at = Number(process.hrtime.bigint());
    this.#statistics.responded(job.sent, kind, at - job.lastEvent, 0);
    job.lastEvent = at;
  }
}

function instanceData(
  config: ModelConfig,
  directory: string,
  find: FindFile,
): Omit<InstanceData, 'complete' | 'version' | 'instance'> {
  const file = find(config, directory);
  return { file, directory, name: config.name, config: configJson(config) as ModelConfigJson };
}

function modelFile({ defaultModelFilename }: ModelConfig, directory: string): string {
  const names = defaultModelFilename === '' ? FILES : [defaultModelFilename];
  const name = names.find((candidate) => existsSync(join(directory, candidate)));
  if (name === undefined) throw invalid(`there is no ${names.join(' or ')} in the version's directory`);
  const file = join(directory, name);
  checkReadable(file);
  return file;
}
