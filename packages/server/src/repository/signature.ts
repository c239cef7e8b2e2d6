import { DataType as ConfigType, type ModelConfig } from '../grpc/proto/model_config_pb.js';
import type { DataType } from '../triton/datatype.ts';
import type { ModelSignature } from '../triton/model.ts';

/**
 * What requests to a configured model are checked against.
 * @param labels of outputs by their names
 */
export function signatureOf(
  config: ModelConfig,
  labels: ReadonlyMap<string, readonly string[]> = new Map(),
): ModelSignature {
  return {
    name: config.name,
    maxBatchSize: config.maxBatchSize,
    decoupled: config.modelTransactionPolicy?.decoupled ?? false,
    inputs: config.input.map(({ name, dataType, dims, optional }) => ({
      name,
      datatypes: [datatypeOf(dataType)],
      dims: dims.map(Number),
      optional,
    })),
    outputs: config.output.map(({ name, dataType, dims }) => ({
      name,
      datatype: datatypeOf(dataType),
      dims: dims.map(Number),
      labels: labels.get(name),
    })),
  };
}

/** The protocol's name of a configuration's type. */
export function datatypeOf(type: ConfigType): DataType {
  return type === ConfigType.TYPE_STRING ? 'BYTES' : (ConfigType[type].slice('TYPE_'.length) as DataType);
}
