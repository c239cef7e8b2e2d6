import {
  ScalarType,
  toJson,
  type DescField,
  type DescMessage,
  type JsonObject,
  type JsonValue,
  type Message,
} from '@bufbuild/protobuf';

/** A message as HTTP's JSON has it: its own field names, every default, and 64-bit integers as numbers. */
export function plain<T>(schema: DescMessage, message: Message): T {
  const json = toJson(schema, message, { alwaysEmitImplicit: true, useProtoFieldName: true });
  return withNumbers(schema, json as JsonObject) as T;
}

function withNumbers(schema: DescMessage, json: JsonObject): JsonObject {
  const fields = new Map(schema.fields.map((field) => [field.name, field]));
  const members = Object.entries(json).map(([name, value]) => {
    const field = fields.get(name);
    return [name, field === undefined ? value : fieldWithNumbers(field, value)];
  });
  return Object.fromEntries(members) as JsonObject;
}

function fieldWithNumbers(field: DescField, value: JsonValue): JsonValue {
  const one = (element: JsonValue): JsonValue => {
    if (field.message !== undefined) return withNumbers(field.message, element as JsonObject);
    return field.scalar !== undefined && LONG.has(field.scalar) ? Number(element) : element;
  };
  if (field.fieldKind === 'list') return (value as JsonValue[]).map(one);
  if (field.fieldKind !== 'map') return one(value);
  return Object.fromEntries(Object.entries(value as JsonObject).map(([key, element]) => [key, one(element)]));
}

const LONG: ReadonlySet<ScalarType> = new Set([
  ScalarType.INT64,
  ScalarType.UINT64,
  ScalarType.SINT64,
  ScalarType.FIXED64,
  ScalarType.SFIXED64,
]);
