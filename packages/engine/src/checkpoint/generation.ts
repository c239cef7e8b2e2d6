import { z } from 'zod';
import type { GenerationDefaults } from './checkpoint.ts';
import { checkJson, readJson } from './json.ts';

const token = z.int().nonnegative();
const tokens = z.union([token, z.array(token)]).nullish();

const generationSchema = z.looseObject({
  temperature: z.number().nonnegative().nullish(),
  top_k: z.int().nonnegative().nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  repetition_penalty: z.number().positive().nullish(),
  max_new_tokens: z.int().positive().nullish(),
  do_sample: z.boolean().nullish(),
  eos_token_id: tokens,
});

const configSchema = z.looseObject({ eos_token_id: tokens });

/**
 * Sampling defaults from `generation_config.json`; the end tokens from config.json where that file is absent or has
 * none. Throws a RoseError naming the field.
 */
export async function readGenerationDefaults(
  directory: string,
  config: unknown,
  configPath: string,
): Promise<GenerationDefaults> {
  const given = (await readJson(directory, 'generation_config.json', generationSchema)) ?? {};
  const end = given.eos_token_id ?? checkJson(configPath, configSchema, config).eos_token_id ?? [];
  return {
    temperature: given.temperature ?? undefined,
    topK: given.top_k ?? undefined,
    topP: given.top_p ?? undefined,
    minP: given.min_p ?? undefined,
    repetitionPenalty: given.repetition_penalty ?? undefined,
    maxNewTokens: given.max_new_tokens ?? undefined,
    sample: given.do_sample ?? false,
    endTokens: [...new Set([end].flat())],
  };
}
