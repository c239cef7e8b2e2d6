import { z } from 'zod';
import { RoseError } from '../../errors.ts';
import type { RopeScaling, RopeSpec } from '../../model/spec.ts';
import { checkJson } from '../json.ts';

/**
 * Fields of config.json about the rotary embedding, in both spellings: `rope_theta` with `rope_scaling`, and
 * `rope_parameters` with everything in it (transformers 5). Which one wins is decided as transformers 5 does
 * (`RotaryEmbeddingConfigMixin.convert_rope_params_to_dict`).
 */
const configSchema = z.looseObject({
  rope_theta: z.number().positive().nullish(),
  rope_scaling: z.looseObject({}).nullish(),
  rope_parameters: z.looseObject({}).nullish(),
  partial_rotary_factor: z.number().nullish(),
  original_max_position_embeddings: z.int().positive().nullish(),
  max_position_embeddings: z.int().positive(),
});

type Config = z.output<typeof configSchema>;

const common = z.looseObject({
  rope_type: z.string().nullish(),
  type: z.string().nullish(),
  rope_theta: z.number().positive().nullish(),
  partial_rotary_factor: z.number().nullish(),
});
const linear = z.looseObject({ factor: z.number().positive() });
const llama3 = z.looseObject({
  factor: z.number().positive(),
  low_freq_factor: z.number().positive(),
  high_freq_factor: z.number().positive(),
  original_max_position_embeddings: z.int().positive().nullish(),
});
const yarn = z.looseObject({
  factor: z.number().positive().nullish(),
  original_max_position_embeddings: z.int().positive().nullish(),
  beta_fast: z.number().nonnegative().nullish(),
  beta_slow: z.number().nonnegative().nullish(),
  attention_factor: z.number().positive().nullish(),
  mscale: z.number().nullish(),
  mscale_all_dim: z.number().nullish(),
  truncate: z.boolean().nullish(),
});

/** The rotary embedding that config.json (`json`, at `path`) describes, for a model whose whole heads turn. */
export function ropeOf(json: unknown, headDim: number, path: string): RopeSpec {
  const config = checkJson(path, configSchema, json);
  const fields = nonEmpty(config.rope_scaling) ?? nonEmpty(config.rope_parameters) ?? {};
  const where = `${path}: "${nonEmpty(config.rope_scaling) ? 'rope_scaling' : 'rope_parameters'}"`;
  const { rope_type, type, rope_theta, partial_rotary_factor } = checkJson(where, common, fields);
  const partial = partial_rotary_factor ?? config.partial_rotary_factor ?? 1;
  if (partial !== 1) {
    throw new RoseError('unsupported', `${path}: "partial_rotary_factor" other than 1 is not supported (${partial})`);
  }
  if (headDim % 2 !== 0) {
    throw new RoseError('invalid', `${path}: a rotary embedding needs an even head size, this one is ${headDim}`);
  }
  return {
    theta: rope_theta ?? config.rope_theta ?? 10_000,
    dim: headDim,
    scaling: scalingOf(rope_type ?? type ?? 'default', fields, config, where),
  };
}

function scalingOf(kind: string, fields: unknown, config: Config, where: string): RopeScaling {
  // A value outside the object comes first, the context length last (`standardize_rope_params`).
  const originalOf = (inside: number | null | undefined): number =>
    config.original_max_position_embeddings ?? inside ?? config.max_position_embeddings;
  switch (kind) {
    case 'default':
      return { kind: 'none' };
    case 'linear':
      return { kind: 'linear', factor: checkJson(where, linear, fields).factor };
    case 'llama3': {
      const given = checkJson(where, llama3, fields);
      if (given.high_freq_factor <= given.low_freq_factor) {
        throw new RoseError('invalid', `${where}: "high_freq_factor" must be greater than "low_freq_factor"`);
      }
      return {
        kind: 'llama3',
        factor: given.factor,
        lowFrequencyFactor: given.low_freq_factor,
        highFrequencyFactor: given.high_freq_factor,
        originalContext: originalOf(given.original_max_position_embeddings),
      };
    }
    case 'yarn': {
      const given = checkJson(where, yarn, fields);
      const originalContext = originalOf(given.original_max_position_embeddings);
      const factor = given.factor ?? config.max_position_embeddings / originalContext;
      return {
        kind: 'yarn',
        factor,
        originalContext,
        // `||`: transformers takes its defaults for zero too.
        betaFast: given.beta_fast || 32,
        betaSlow: given.beta_slow || 1,
        attentionFactor: given.attention_factor ?? yarnAttentionFactor(factor, given.mscale, given.mscale_all_dim),
        truncate: given.truncate ?? true,
      };
    }
    default:
      throw new RoseError(
        'unsupported',
        `${where}: Rose has no rotary scaling "${kind}" (it has default, linear, llama3 and yarn)`,
      );
  }
}

/**
 * sqrt(1/t) of YaRN (arXiv:2309.00071, equation 22); with both mscale fields the quotient that DeepSeek uses, as in
 * transformers' `_compute_yarn_parameters`.
 */
function yarnAttentionFactor(factor: number, mscale: number | null | undefined, allDim: number | null | undefined) {
  const scale = (weight: number): number => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);
  return mscale && allDim ? scale(mscale) / scale(allDim) : scale(1);
}

function nonEmpty<T extends object>(value: T | null | undefined): T | undefined {
  return value && Object.keys(value).length > 0 ? value : undefined;
}
