import { invalid, malformed } from './errors.ts';
import type { JsonValue } from './json.ts';

/** A request's parameters, Triton's own apart from the model's. */
export interface RequestParameters {
  /** Milliseconds. */
  readonly timeoutMs: number | undefined;
  /** Whether outputs that the request does not list come back as bytes. */
  readonly binaryOutput: boolean;
  readonly custom: ReadonlyMap<string, JsonValue>;
}

/** Parameters of sequences and of priority levels are checked, and have no effect on models that have neither. */
export function takeParameters(parameters: Iterable<readonly [name: string, value: JsonValue]>): RequestParameters {
  let timeoutMs: number | undefined;
  let binaryOutput = false;
  const custom = new Map<string, JsonValue>();
  for (const [name, value] of parameters) {
    if (name === 'timeout') {
      const microseconds = expect(name, value, 'unsigned-integer');
      timeoutMs = Number(microseconds) > 0 ? Number(microseconds) / 1000 : undefined;
    } else if (name === 'binary_data_output') {
      binaryOutput = expect(name, value, 'boolean') === true;
    } else if (name === 'priority') {
      expect(name, value, 'unsigned-integer');
    } else if (name === 'sequence_start' || name === 'sequence_end') {
      expect(name, value, 'boolean');
    } else if (name === 'sequence_id') {
      if (typeof value !== 'string') expect(name, value, 'unsigned-integer');
    } else if (name.startsWith('triton_')) {
      throw invalid(
        "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.",
      );
    } else {
      custom.set(name, checkParameter(name, value));
    }
  }
  return { timeoutMs, binaryOutput, custom };
}

/** A parameter for the model is a scalar. */
export function checkParameter(name: string, value: JsonValue): JsonValue {
  if (value !== null && typeof value !== 'object') return value;
  throw invalid(`parameter '${name}' has invalid type. It should be either 'int', 'bool', or 'string'.`);
}

function expect(name: string, value: JsonValue, type: 'unsigned-integer' | 'boolean'): JsonValue {
  const fits =
    type === 'boolean'
      ? typeof value === 'boolean'
      : (typeof value === 'number' && Number.isInteger(value) && value >= 0) ||
        (typeof value === 'bigint' && value >= 0n);
  if (!fits) throw malformed(`Unable to parse '${name}': attempt to access JSON non-${type} as ${type}`);
  return value;
}
