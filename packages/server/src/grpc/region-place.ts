import type { RegionPlace } from '../shared-memory/regions.ts';
import { invalid } from '../triton/errors.ts';
import type { InferParameter } from './proto/inference_pb.js';

type Choice = InferParameter['parameterChoice'];

/** The part of a region of shared memory that a tensor's parameters name; undefined: none. */
export function regionPlace(
  tensor: string,
  parameters: Readonly<Record<string, InferParameter>>,
): RegionPlace | undefined {
  const region = parameters.shared_memory_region?.parameterChoice;
  if (region === undefined) {
    for (const name of ['shared_memory_offset', 'shared_memory_byte_size']) {
      if (parameters[name] === undefined) continue;
      throw invalid(`'${name}' can not be specified without 'shared_memory_region' parameter for tensor '${tensor}'`);
    }
    return undefined;
  }
  if (region.case !== 'stringParam') throw wrongType('shared_memory_region', tensor, 'string_param');
  const bytes = parameters.shared_memory_byte_size?.parameterChoice;
  if (bytes === undefined) {
    throw invalid(
      `'shared_memory_byte_size' must be specified along with 'shared_memory_region' parameter for tensor '${tensor}'`,
    );
  }
  const offset: Choice = parameters.shared_memory_offset?.parameterChoice ?? { case: 'int64Param', value: 0n };
  if (offset.case !== 'int64Param') throw wrongType('shared_memory_offset', tensor, 'int64_param');
  if (bytes.case !== 'int64Param') throw wrongType('shared_memory_byte_size', tensor, 'int64_param');
  return { region: region.value, offset: offset.value, bytes: bytes.value };
}

function wrongType(parameter: string, tensor: string, expected: string): Error {
  return invalid(`invalid value type for '${parameter}' parameter for tensor '${tensor}', expected ${expected}.`);
}
