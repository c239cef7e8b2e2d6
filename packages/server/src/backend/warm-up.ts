import { dirname, join } from 'node:path';
import type { ModelConfig, ModelWarmup, ModelWarmup_Input as Input } from '../grpc/proto/model_config_pb.js';
import { readWithin } from '../repository/layout.ts';
import { Reshapes } from '../repository/reshape.ts';
import { datatypeOf, signatureOf } from '../repository/signature.ts';
import { Job } from '../scheduling/job.ts';
import type { Executor } from '../scheduling/scheduler.ts';
import type { ModelStatistics } from '../statistics/statistics.ts';
import { invalid } from '../triton/errors.ts';
import type { ModelRequest, ModelSignature } from '../triton/model.ts';
import { byName, configuredBytes, tensorFromBytes, type Tensor } from '../triton/tensor.ts';
import { checkRequest } from '../triton/validate.ts';
import type { LoadRequest } from './backend.ts';

/** In a model's directory: where the files lie that `input_data_file` names. */
export const WARM_UP_DIRECTORY = 'warmup';

/** Requests that an instance executes, as one batch, before it serves any. */
export interface WarmUpSample {
  readonly name: string;
  /** How often. */
  readonly count: number;
  readonly requests: readonly ModelRequest[];
}

/**
 * The samples that a configuration asks for, with Triton's rules: a sample of batch size 0 is none; texts are empty
 * where data is zero or random; a file holds elements as they are, for texts each with its length in front.
 * @throws TritonError naming the input that cannot be made
 */
export async function warmUpSamples({ config, directory }: LoadRequest): Promise<WarmUpSample[]> {
  const signature = signatureOf(config);
  const files = join(dirname(directory), WARM_UP_DIRECTORY);
  const wanted = config.modelWarmup.filter(({ batchSize }) => batchSize > 0);
  return Promise.all(
    wanted.map(async (warmup) => ({
      name: warmup.name,
      count: Math.max(1, warmup.count),
      requests: Array.from({ length: warmup.batchSize }).fill(await requestOf(warmup, config, signature, files)),
    })) as Promise<WarmUpSample>[],
  );
}

/** Have an executor work on the samples, one after the other. Rejects when a request of one fails. */
export async function warmUp(
  executor: Executor,
  samples: readonly WarmUpSample[],
  statistics: ModelStatistics,
): Promise<void> {
  for (const { name, count, requests } of samples) {
    for (let i = 0; i < count; i++) {
      const jobs = requests.map((request) => new Job(request, 1, statistics));
      executor.execute(jobs);
      const results = await Promise.allSettled(jobs.map(drain));
      const failures = results.flatMap((result) =>
        result.status === 'rejected' ? [String(result.reason.message)] : [],
      );
      if (failures.length === 0) continue;
      throw invalid(`failed to run warmup sample '${name}': ${failures.map((text) => `${text}; `).join('')}`.trim());
    }
  }
}

async function drain({ responses }: Job): Promise<void> {
  let next = await responses.next();
  while (next.done !== true) next = await responses.next();
}

async function requestOf(
  { inputs }: ModelWarmup,
  config: ModelConfig,
  signature: ModelSignature,
  files: string,
): Promise<ModelRequest> {
  const tensors = await Promise.all(
    Object.entries(inputs).map(([name, input]) => tensorOf(name, input, config.maxBatchSize > 0, signature, files)),
  );
  const hidden = hiddenInputs(config);
  const declared = tensors.filter(({ name }) => !hidden.has(name));
  checkRequest(signature, declared, undefined, '');
  const request = {
    id: '',
    inputs: byName(tensors),
    outputs: undefined,
    parameters: new Map(),
    timeoutMs: undefined,
    priority: 0,
    sequence: undefined,
    signal: new AbortController().signal,
    tenant: '',
  };
  return new Reshapes(config).toModel(request);
}

/** Inputs that clients do not give. */
function hiddenInputs({ schedulingChoice }: ModelConfig): ReadonlySet<string> {
  if (schedulingChoice.case !== 'sequenceBatching') return new Set();
  const { controlInput, state } = schedulingChoice.value;
  return new Set([...controlInput.map(({ name }) => name), ...state.map(({ inputName }) => inputName)]);
}

async function tensorOf(
  name: string,
  { dataType, dims, inputDataType }: Input,
  batched: boolean,
  { name: model }: ModelSignature,
  files: string,
): Promise<Tensor> {
  if (dims.some((dim) => dim < 0n)) {
    throw invalid(`warmup setting expects all variable-size dimensions are specified for input '${name}'`);
  }
  const shape = [...(batched ? [1] : []), ...dims.map(Number)];
  const datatype = datatypeOf(dataType);
  const expected = configuredBytes(datatype, shape, `warmup input '${name}'`);
  switch (inputDataType.case) {
    case 'zeroData':
      return tensorFromBytes(name, datatype, shape, new Uint8Array(expected), model);
    case 'randomData': {
      const bytes = new Uint8Array(expected);
      const largest = datatype === 'BOOL' ? 2 : 256;
      if (datatype !== 'BYTES') bytes.forEach((_, i) => (bytes[i] = Math.floor(Math.random() * largest)));
      return tensorFromBytes(name, datatype, shape, bytes, model);
    }
    case 'inputDataFile': {
      const file = inputDataType.value;
      const bytes = await readWithin(files, file, `warmup input '${name}'`);
      if (datatype === 'BYTES') return tensorFromBytes(name, datatype, shape, bytes, model);
      if (bytes.length < expected) {
        const has = `only has ${bytes.length} bytes`;
        throw invalid(`warmup setting expects ${expected} bytes, but the data provided from ${file} ${has}`);
      }
      return tensorFromBytes(name, datatype, shape, bytes.subarray(0, expected), model);
    }
    default:
      throw invalid(`warmup setting expects input '${name}' to have input_data_type set`);
  }
}
