import { invalid, malformed } from './errors.ts';
import type { JsonValue } from './json.ts';
import type { ParameterValue, Sequence } from './model.ts';

/** A request's parameters, Triton's own apart from the model's. */
export interface RequestParameters {
  /** Milliseconds. */
  readonly timeoutMs: number | undefined;
  readonly priority: number;
  readonly sequence: Sequence | undefined;
  /** Whether outputs that the request does not list come back as bytes. */
  readonly binaryOutput: boolean;
  readonly custom: ReadonlyMap<string, ParameterValue>;
}

/** Parameters of sequences and of priority levels have no effect on models that have neither. */
export function takeParameters(parameters: Iterable<readonly [name: string, value: JsonValue]>): RequestParameters {
  let timeoutMs: number | undefined;
  let binaryOutput = false;
  let priority = 0;
  let sequenceId: string | bigint = 0n;
  let start = false;
  let end = false;
  const custom = new Map<string, ParameterValue>();
  for (const [name, value] of parameters) {
    if (name === 'timeout') {
      const microseconds = expect(name, value, 'unsigned-integer');
      timeoutMs = Number(microseconds) > 0 ? Number(microseconds) / 1000 : undefined;
    } else if (name === 'binary_data_output') {
      binaryOutput = expect(name, value, 'boolean') === true;
    } else if (name === 'priority') {
      priority = Number(expect(name, value, 'unsigned-integer'));
    } else if (name === 'sequence_start') {
      start = expect(name, value, 'boolean') === true;
    } else if (name === 'sequence_end') {
      end = expect(name, value, 'boolean') === true;
    } else if (name === 'sequence_id') {
      sequenceId = typeof value === 'string' ? value : BigInt(expect(name, value, 'unsigned-integer') as number);
    } else if (name.startsWith('triton_')) {
      throw invalid(
        "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.",
      );
    } else {
      custom.set(name, checkParameter(name, value));
    }
  }
  const sequence = sequenceId === 0n || sequenceId === '' ? undefined : { id: sequenceId, start, end };
  return { timeoutMs, priority, sequence, binaryOutput, custom };
}

/** A parameter for the model is a scalar. */
export function checkParameter(name: string, value: JsonValue): ParameterValue {
  if (value !== null && typeof value !== 'object') return value;
  throw invalid(`parameter '${name}' has invalid type. It should be either 'int', 'bool', or 'string'.`);
}

function expect(name: string, value: JsonValue, type: 'unsigned-integer' | 'boolean'): JsonValue {
  const fits =
    type === 'boolean'
      ? typeof value === 'boolean'
      : // Larger numbers than 64 bits hold come as those that are no integers.
        (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) ||
        (typeof value === 'bigint' && value >= 0n);
  if (!fits) throw malformed(`Unable to parse '${name}': attempt to access JSON non-${type} as ${type}`);
  return value;
}
