import type { ServerContext } from '../context.ts';
import type { BuiltinSignature } from './builtin.ts';
import { configType } from './datatype.ts';
import { fullShape, type TritonModel } from './model.ts';

/** What runs the models that are named at the start, in Triton's words. */
export const BUILTIN_BACKEND = 'rose';

export const SERVER_NAME = 'triton';
/** Protocol extensions that work here. */
const EXTENSIONS: readonly string[] = [
  'classification',
  'sequence',
  'model_repository',
  'model_repository(unload_dependents)',
  'schedule_policy',
  'model_configuration',
  'binary_tensor_data',
  'parameters',
  'statistics',
  'trace',
  'logging',
];

export function serverMetadata({ version, regions }: Pick<ServerContext, 'version' | 'regions'>): object {
  const memory = regions.enabled ? ['system_shared_memory', 'cuda_shared_memory'] : [];
  return { name: SERVER_NAME, version, extensions: [...EXTENSIONS, ...memory] };
}

/** @param versions those to name */
export function modelMetadata(model: TritonModel, versions: readonly string[]): object {
  return {
    name: model.name,
    versions,
    platform: model.platform,
    inputs: model.inputs.map(({ name, datatypes, dims }) => ({
      name,
      datatype: datatypes[0],
      shape: fullShape(model, dims),
    })),
    outputs: model.outputs.map(({ name, datatype, dims }) => ({ name, datatype, shape: fullShape(model, dims) })),
  };
}

/** A built-in model's configuration as protobuf's JSON with every default printed, which is what clients parse. */
export function builtinConfig(model: BuiltinSignature): object {
  const { name, decoupled } = model;
  const dynamicBatching = {
    preferred_batch_size: [],
    max_queue_delay_microseconds: 0,
    preserve_ordering: false,
    priority_levels: 0,
    default_priority_level: 0,
    priority_queue_policy: {},
  };
  return {
    name,
    platform: '',
    backend: BUILTIN_BACKEND,
    runtime: '',
    version_policy: { latest: { num_versions: 1 } },
    max_batch_size: model.maxBatchSize,
    input: model.inputs.map((input) => ({
      name: input.name,
      data_type: configType(input.datatypes[0]),
      format: 'FORMAT_NONE',
      dims: input.dims,
      is_shape_tensor: false,
      allow_ragged_batch: false,
      optional: input.optional,
      is_non_linear_format_io: false,
    })),
    output: model.outputs.map((output) => ({
      name: output.name,
      data_type: configType(output.datatype),
      dims: output.dims,
      label_filename: '',
      is_shape_tensor: false,
      is_non_linear_format_io: false,
    })),
    batch_input: [],
    batch_output: [],
    optimization: {
      priority: 'PRIORITY_DEFAULT',
      input_pinned_memory: { enable: true },
      output_pinned_memory: { enable: true },
      gather_kernel_buffer_threshold: 0,
      eager_batching: false,
    },
    ...(model.maxBatchSize > 0 && { dynamic_batching: dynamicBatching }),
    instance_group: [
      {
        name: `${name}_0`,
        kind: 'KIND_MODEL',
        count: 1,
        gpus: [],
        secondary_devices: [],
        profile: [],
        passive: false,
        host_policy: '',
      },
    ],
    default_model_filename: '',
    cc_model_filenames: {},
    metric_tags: {},
    parameters: Object.fromEntries(Object.entries(model.facts).map(([key, value]) => [key, { string_value: value }])),
    model_warmup: [],
    model_transaction_policy: { decoupled },
  };
}
