import {
  ScalarType,
  type DescField,
  type DescMessage,
  fromJson,
  toJson,
  type JsonObject,
  type JsonValue,
} from '@bufbuild/protobuf';
import { ModelConfigSchema, type ModelConfig } from '../grpc/proto/model_config_pb.js';
import { invalid } from '../triton/errors.ts';

/**
 * A configuration as Triton prints it: its own field names, every default, and 64-bit integers as numbers. (An integer
 * that no double holds stays a string, which protobuf reads too.)
 */
export function configJson(config: ModelConfig): object {
  const json = toJson(ModelConfigSchema, config, { alwaysEmitImplicit: true, useProtoFieldName: true });
  return withNumbers(ModelConfigSchema, json as JsonObject);
}

/** @param source where the JSON comes from, for messages */
export function configFromJson(json: object, source: string): ModelConfig {
  try {
    return fromJson(ModelConfigSchema, json as JsonValue);
  } catch (error) {
    throw invalid(`${source} is not a model configuration: ${(error as Error).message}`);
  }
}

function withNumbers(schema: DescMessage, json: JsonObject): JsonObject {
  for (const field of schema.fields) {
    const value = json[field.name];
    if (value !== undefined) json[field.name] = fieldWithNumbers(field, value);
  }
  return json;
}

function fieldWithNumbers(field: DescField, value: JsonValue): JsonValue {
  switch (field.fieldKind) {
    case 'scalar':
      return isLong(field.scalar) ? asNumber(value) : value;
    case 'message':
      return withNumbers(field.message, value as JsonObject);
    case 'list': {
      const list = value as JsonValue[];
      if (field.listKind === 'message') return list.map((item) => withNumbers(field.message, item as JsonObject));
      return field.listKind === 'scalar' && isLong(field.scalar) ? list.map(asNumber) : list;
    }
    case 'map': {
      if (field.mapKind !== 'message') return value;
      const { message } = field;
      const entries = Object.entries(value as JsonObject);
      return Object.fromEntries(entries.map(([key, item]) => [key, withNumbers(message, item as JsonObject)]));
    }
    default:
      return value;
  }
}

function isLong(type: ScalarType): boolean {
  return [ScalarType.INT64, ScalarType.UINT64, ScalarType.SINT64, ScalarType.FIXED64, ScalarType.SFIXED64].includes(
    type,
  );
}

function asNumber(value: JsonValue): JsonValue {
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}
