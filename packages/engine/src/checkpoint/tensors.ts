import { RoseError } from '../errors.ts';
import { sizeOf, type Parameter } from '../model/parameters.ts';
import type { TensorNames } from './architectures/architecture.ts';
import type { CheckpointTensor, StoredCacheScales, TensorDtype } from './checkpoint.ts';
import type { Fp8Scheme } from './fp8-scheme.ts';
import { fp8Tensor, scaleTensor } from './fp8-tensor.ts';
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
  fp8: Fp8Scheme | undefined,
): { readonly tensors: CheckpointTensor[]; readonly cacheScales: ReadonlyMap<number, StoredCacheScales> } {
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
      // What is stored decides: a configuration's lists say of many a module what its tensors say by themselves.
      const narrow = fp8 !== undefined && parameter.kind === 'matrix' && stored.entry.dtype === 'F8_E4M3';
      checkShape(parameter, stored);
      matched.push(narrow ? fp8Tensor(parameter, stored, fp8, weights, used) : checkpointTensor(parameter, stored));
    }
  }
  if (missing.length > 0) {
    throw new RoseError('invalid', `${directory}: ${count(missing)} missing: ${shorten(missing)}`);
  }
  const cacheScales = cacheScalesOf(matched, weights, used);
  const unexpected = [...tensors.keys()].filter(
    (name) => !used.has(name) && !names.ignored.some(({ pattern }) => pattern.test(name)),
  );
  if (unexpected.length > 0) {
    throw new RoseError(
      'invalid',
      `${directory}: ${count(unexpected)} not part of the model that config.json describes: ${shorten(unexpected)}`,
    );
  }
  return { tensors: matched, cacheScales };
}

/** Scales of keys and values, which stand beside the projections: `self_attn.k_scale`, or `self_attn.k_proj.k_scale`. */
function cacheScalesOf(
  matched: readonly CheckpointTensor[],
  { tensors }: Weights,
  used: Set<string>,
): ReadonlyMap<number, StoredCacheScales> {
  const scales = new Map<number, StoredCacheScales>();
  const scaleOf = (tensorName: string, which: string): StoredTensor | undefined => {
    const module = tensorName.replace(/\.weight$/, '');
    return tensors.get(module.replace(/[^.]+$/, which)) ?? tensors.get(`${module}.${which}`);
  };
  for (const { parameter, tensorName } of matched) {
    const layer = /^blocks\.(\d+)\.mixer\.k\.weight$/.exec(parameter.name)?.[1];
    if (layer === undefined) continue;
    const values = matched.find(({ parameter: { name } }) => name === `blocks.${layer}.mixer.v.weight`)!;
    const [k, v] = [scaleOf(tensorName, 'k_scale'), scaleOf(values.tensorName, 'v_scale')];
    if (k === undefined || v === undefined) continue;
    scales.set(Number(layer), { keys: scaleTensor(k, 1, used), values: scaleTensor(v, 1, used) });
  }
  return scales;
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
  const { dtype } = entry;
  if (!isReadable(dtype)) {
    const readable = Object.keys(DTYPE_BYTES).join(', ');
    throw new RoseError('unsupported', `${at}: dtype ${dtype} is not supported (Rose reads ${readable})`);
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

function checkShape(parameter: Parameter, { entry: { name, shape }, file }: StoredTensor): void {
  if (shape.length === parameter.shape.length && shape.every((extent, i) => extent === parameter.shape[i])) return;
  throw new RoseError(
    'invalid',
    `${file.path}: tensor "${name}": its shape is [${shape.join(', ')}]; by config.json it should be [${parameter.shape.join(', ')}]`,
  );
}

function isReadable(dtype: string): dtype is TensorDtype {
  return Object.hasOwn(DTYPE_BYTES, dtype);
}
