import { RoseError } from '../errors.ts';
import { sizeOf, type Parameter } from '../model/parameters.ts';
import type { TensorNames } from './architectures/architecture.ts';
import type { CheckpointTensor, TensorDtype } from './checkpoint.ts';
import { shorten } from './json.ts';
import type { StoredTensor, Weights } from './weights.ts';

/** Bytes of a weight, for each dtype Rose reads. */
const DTYPE_BYTES: Readonly<Record<TensorDtype, number>> = { F32: 4, F16: 2, BF16: 2 };

/**
 * The tensor of each parameter, in the parameters' order. Throws a RoseError naming the tensors that are missing, not
 * expected, of another shape, or of a dtype Rose does not read.
 */
export function matchTensors(
  directory: string,
  parameters: readonly Parameter[],
  names: TensorNames,
  weights: Weights,
): CheckpointTensor[] {
  const { tensors } = weights;
  const prefix = names.prefixes.find((candidate) => tensors.has(candidate + names.anchor)) ?? names.prefixes[0];
  const used = new Set<string>();
  const missing: string[] = [];
  const matched: CheckpointTensor[] = [];
  for (const parameter of parameters) {
    const spellings = spellingsOf(parameter.name, names, prefix);
    const stored = spellings.map((name) => tensors.get(name)).find((found) => found !== undefined);
    if (stored === undefined) missing.push(spellings[0]);
    else {
      used.add(stored.entry.name);
      matched.push(checkpointTensor(parameter, stored));
    }
  }
  if (missing.length > 0) {
    throw new RoseError('invalid', `${directory}: ${count(missing)} missing: ${shorten(missing)}`);
  }
  const unexpected = [...tensors.keys()].filter(
    (name) => !used.has(name) && !names.ignored.some(({ pattern }) => pattern.test(name)),
  );
  if (unexpected.length > 0) {
    throw new RoseError(
      'invalid',
      `${directory}: ${count(unexpected)} not part of the model that config.json describes: ${shorten(unexpected)}`,
    );
  }
  return matched;
}

/** `3 tensors are`, `a tensor is`. */
function count(names: readonly string[]): string {
  return names.length === 1 ? 'a tensor is' : `${names.length} tensors are`;
}

/** The names under which a parameter may be stored, the usual one first. */
function spellingsOf(parameter: string, names: TensorNames, prefix: string): string[] {
  const [, stem, suffix] = /^(.*?)(?:\.(weight|bias))?$/.exec(parameter) as unknown as [string, string, string?];
  const block = /^blocks\.(\d+)\./.exec(stem)?.[1];
  const key = block === undefined ? stem : stem.replace(block, '*');
  const inBody = Object.hasOwn(names.body, key);
  const pattern = inBody ? names.body[key] : names.head[key];
  if (pattern === undefined) throw new RoseError('internal', `internal error: no tensor name for ${parameter}`);
  const name = (inBody ? prefix : '') + (block === undefined ? pattern : pattern.replace('*', block));
  // Tables are the only parameters without a suffix in Rose.
  const suffixes = names.suffixes[suffix === 'bias' ? 'bias' : 'weight'];
  return suffixes.map((ending) => `${name}.${ending}`);
}

function checkpointTensor(parameter: Parameter, { entry, file }: StoredTensor): CheckpointTensor {
  const at = `${file.path}: tensor "${entry.name}"`;
  const { dtype, shape } = entry;
  if (!isReadable(dtype)) {
    const readable = Object.keys(DTYPE_BYTES).join(', ');
    throw new RoseError('unsupported', `${at}: dtype ${dtype} is not supported (Rose reads ${readable})`);
  }
  if (shape.length !== parameter.shape.length || shape.some((extent, i) => extent !== parameter.shape[i])) {
    throw new RoseError(
      'invalid',
      `${at}: its shape is [${shape.join(', ')}]; by config.json it should be [${parameter.shape.join(', ')}]`,
    );
  }
  if (entry.byteLength !== sizeOf(parameter) * DTYPE_BYTES[dtype]) {
    throw new RoseError('internal', `internal error: ${at} has ${entry.byteLength} bytes`);
  }
  return {
    parameter,
    tensorName: entry.name,
    dtype,
    byteLength: entry.byteLength,
    read: (target, offset) => file.read(entry, [target], offset),
    scatter: (targets, offset) => file.read(entry, targets, offset),
  };
}

function isReadable(dtype: string): dtype is TensorDtype {
  return Object.hasOwn(DTYPE_BYTES, dtype);
}
