import { invalid } from '../triton/errors.ts';
import type { ModelRequest, ParameterValue, Sequence } from '../triton/model.ts';

/** A request's place in a sequence, as one step hands it to the next. The id 0, or an empty one, is no sequence. */
export type Place = Sequence;

export const NO_PLACE: Place = { id: 0n, start: false, end: false };

export function placeOf({ sequence }: ModelRequest): Place {
  return sequence ?? NO_PLACE;
}

export function sequenceOf(place: Place): Sequence | undefined {
  return place.id === 0n || place.id === '' ? undefined : place;
}

/** A response's parameters may send what follows to another sequence. */
export function placeAfter(place: Place, parameters: ReadonlyMap<string, ParameterValue> | undefined): Place {
  const given = ['sequence_id', 'sequence_start', 'sequence_end'].some((name) => parameters?.has(name));
  if (parameters === undefined || !given) return place;
  return {
    id: idOf(parameters.get('sequence_id') ?? place.id),
    start: flagOf('sequence_start', parameters.get('sequence_start') ?? false),
    end: flagOf('sequence_end', parameters.get('sequence_end') ?? false),
  };
}

function idOf(value: ParameterValue): string | bigint {
  if (typeof value === 'string' || typeof value === 'bigint') return value;
  if (typeof value === 'number' && Number.isSafeInteger(value)) return BigInt(value);
  throw invalid("expected parameter 'sequence_id' to be TRITONSERVER_PARAMETER_INT or TRITONSERVER_PARAMETER_STRING");
}

function flagOf(name: string, value: ParameterValue): boolean {
  if (typeof value === 'boolean') return value;
  throw invalid(`expect parameter '${name}' to be TRITONSERVER_PARAMETER_BOOL`);
}
