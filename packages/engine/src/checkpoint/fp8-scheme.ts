import { z } from 'zod';
import { RoseError } from '../errors.ts';
import { checkJson } from './json.ts';

/** What a checkpoint's configuration says of its matrices of e4m3, however it spells it. */
export interface Fp8Scheme {
  /** What of a matrix has a scale: all of it, each row, or each 128 x 128 elements. */
  readonly weights: 'tensor' | 'row' | 'block';
  /** Whether activations have one scale that is stored, or scales that follow from their values. */
  readonly activations: 'static' | 'dynamic';
  /** Whether the configuration names this module as one that is not of 8 bits. */
  leavesAlone(module: string): boolean;
}

/** compressed-tensors' names of the layout in which e4m3 lies as it is; old versions call it naive. */
const PLAIN = ['float-quantized', 'naive-quantized'];

/** Elements of a block's side, and of a group of activations: the only ones there are kernels for. */
export const BLOCK = 128;

/** What is null says as little as what is absent. */
const given = <T extends z.ZodType>(schema: T) => schema.nullish().transform((value) => value ?? undefined);
const names = given(z.array(z.string()));
const text = given(z.string());

const fp8Schema = z.looseObject({
  activation_scheme: z.enum(['dynamic', 'static']).default('dynamic'),
  weight_block_size: given(z.tuple([z.int(), z.int()])),
  modules_to_not_convert: names,
  ignored_layers: names,
  scale_fmt: text,
});

const argumentsSchema = z.looseObject({
  num_bits: z.int(),
  type: z.string(),
  strategy: text,
  symmetric: z.boolean().default(true),
  dynamic: given(z.union([z.boolean(), z.string()])),
  block_structure: given(z.array(z.int())),
  group_size: given(z.int()),
});
type QuantisationArguments = z.output<typeof argumentsSchema>;

const compressedSchema = z.looseObject({
  format: text,
  config_groups: z.record(
    z.string(),
    z.looseObject({ weights: given(argumentsSchema), input_activations: given(argumentsSchema) }),
  ),
  ignore: names,
  sparsity_config: given(z.looseObject({ format: text })),
});

/**
 * The scheme that `quantization_config` of config.json describes: transformers' `fp8`, or `compressed-tensors` of format
 * `float-quantized`. Throws a RoseError naming the field for everything else.
 */
export function fp8SchemeOf(config: unknown, path: string): Fp8Scheme {
  const { quant_method: method } = checkJson(path, z.looseObject({ quant_method: text }), config);
  if (method === 'fp8') return transformersScheme(config, path);
  if (method === 'compressed-tensors') return compressedScheme(config, path);
  throw new RoseError(
    'unsupported',
    `${path}: the weights are quantized (${method ?? 'an unnamed method'}), which Rose does not read: it reads fp8 and ` +
      `compressed-tensors' float-quantized. Use the original checkpoint; Rose can quantize it when it loads.`,
  );
}

function transformersScheme(config: unknown, path: string): Fp8Scheme {
  const fields = checkJson(path, fp8Schema, config);
  const { activation_scheme: activations, weight_block_size: block, scale_fmt: format } = fields;
  // Scales of 8 bits are powers of two in a number format of their own.
  if (format !== undefined && format !== 'float') throw unsupported(path, `"scale_fmt" is ${format}`, 'float');
  return schemeOf(
    { weights: block === undefined ? 'tensor' : 'block', activations, block },
    // As transformers has it: a module's own name, one above it, or the end of its name.
    (module, name) => new RegExp(`^(?:${name})(?=\\.|$)`).test(module) || module.endsWith(name),
    [...(fields.modules_to_not_convert ?? []), ...(fields.ignored_layers ?? [])],
    path,
  );
}

function compressedScheme(config: unknown, path: string): Fp8Scheme {
  const fields = checkJson(path, compressedSchema, config);
  const { format, config_groups: groups, sparsity_config: sparsity } = fields;
  if (format !== undefined && !PLAIN.includes(format))
    throw unsupported(path, `"format" is ${format}`, PLAIN.join(' and '));
  if (sparsity?.format !== undefined && sparsity.format !== 'dense') {
    throw unsupported(path, `"sparsity_config.format" is ${sparsity.format}`, 'dense');
  }
  const all = Object.values(groups);
  if (all.length !== 1) throw unsupported(path, `"config_groups" has ${all.length} groups`, 'one group');
  const [{ weights, input_activations: input }] = all;
  checkE4m3(weights, 'weights', path);
  checkE4m3(input, 'input_activations', path);
  const kind = { tensor: 'tensor', channel: 'row', block: 'block' }[weights.strategy ?? 'tensor'];
  if (kind === undefined) {
    throw unsupported(path, `"weights.strategy" is ${weights.strategy}`, 'tensor, channel and block');
  }
  if (input.group_size !== undefined && input.group_size !== BLOCK) {
    throw unsupported(path, `"input_activations.group_size" is ${input.group_size}`, `${BLOCK}`);
  }
  return schemeOf(
    {
      weights: kind as Fp8Scheme['weights'],
      activations: input.dynamic ? 'dynamic' : 'static',
      block: weights.block_structure,
    },
    (module, name) => (name.startsWith('re:') ? new RegExp(`^(?:${name.slice(3)})`).test(module) : module === name),
    fields.ignore ?? [],
    path,
  );
}

function checkE4m3(
  found: QuantisationArguments | undefined,
  what: string,
  path: string,
): asserts found is QuantisationArguments {
  if (found === undefined) throw unsupported(path, `"${what}" are not quantized`, 'weights and activations of e4m3');
  const { num_bits: bits, type, symmetric } = found;
  if (bits !== 8 || type !== 'float' || !symmetric) {
    throw unsupported(
      path,
      `"${what}" are ${bits} bits of ${symmetric ? '' : 'asymmetric '}${type}`,
      '8 bits of float',
    );
  }
}

function schemeOf(
  scheme: Pick<Fp8Scheme, 'weights' | 'activations'> & { readonly block: readonly number[] | undefined },
  matches: (module: string, name: string) => boolean,
  alone: readonly string[],
  path: string,
): Fp8Scheme {
  const { weights, activations, block } = scheme;
  if (weights === 'block') {
    if (block?.length !== 2 || block.some((side) => side !== BLOCK)) {
      throw unsupported(path, `blocks of weights are ${block?.join(' x ') ?? 'of no size'}`, `${BLOCK} x ${BLOCK}`);
    }
    if (activations === 'static') {
      throw unsupported(path, 'activations beside blocks of weights have static scales', 'dynamic ones');
    }
  }
  // A list may hold a pattern that only Python reads.
  for (const name of alone) {
    try {
      matches('', name);
    } catch (cause) {
      const message = `${path}: ${JSON.stringify(name)} in the list of modules that are left alone is no regular expression that Rose reads`;
      throw new RoseError('unsupported', message, { cause });
    }
  }
  return { weights, activations, leavesAlone: (module) => alone.some((name) => matches(module, name)) };
}

function unsupported(path: string, what: string, has: string): RoseError {
  return new RoseError('unsupported', `${path}: "quantization_config": ${what}; Rose reads ${has}`);
}
