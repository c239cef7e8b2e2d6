import { join } from 'node:path';
import { z } from 'zod';
import { RoseError } from '../../errors.ts';
import type { Pooling } from '../../model/spec.ts';
import { readJson } from '../json.ts';

/** What the files of sentence-transformers beside an encoder say about its vectors. */
export interface SentenceFiles {
  readonly pooling: Pooling;
  readonly normalize: boolean;
  /** Tokens after which inputs are cut; undefined where the files say nothing. */
  readonly maxLength: number | undefined;
  readonly notes: readonly string[];
}

const modulesSchema = z.array(z.looseObject({ path: z.string(), type: z.string() })).min(1);
const lengthSchema = z.looseObject({
  max_seq_length: z.int().positive().nullish(),
  do_lower_case: z.boolean().nullish(),
});
const promptsSchema = z.looseObject({ default_prompt_name: z.string().nullish() });
const poolingMode = z.string();
const poolingSchema = z.looseObject({
  word_embedding_dimension: z.int().nullish(),
  embedding_dimension: z.int().nullish(),
  pooling_mode: z.union([poolingMode, z.array(poolingMode)]).nullish(),
  pooling_mode_cls_token: z.boolean().nullish(),
  pooling_mode_max_tokens: z.boolean().nullish(),
  pooling_mode_mean_tokens: z.boolean().nullish(),
  pooling_mode_mean_sqrt_len_tokens: z.boolean().nullish(),
  pooling_mode_weightedmean_tokens: z.boolean().nullish(),
  pooling_mode_lasttoken: z.boolean().nullish(),
});

const POOLINGS: Readonly<Record<string, Pooling>> = {
  cls: 'cls',
  mean: 'mean',
  max: 'max',
  mean_sqrt_len_tokens: 'mean_sqrt',
  lasttoken: 'last',
};

/**
 * Read `modules.json` and what it points to: one Transformer, one Pooling, at most one Normalize. Without
 * `modules.json` a plain encoder is understood as sentence-transformers understands it: mean pooling, no
 * normalisation; a note says so. Throws a RoseError for modules that Rose does not have.
 */
export async function readSentenceFiles(directory: string, hiddenSize: number): Promise<SentenceFiles> {
  const modules = await readJson(directory, 'modules.json', modulesSchema);
  const limits = await readJson(directory, 'sentence_bert_config.json', lengthSchema);
  const maxLength = limits?.max_seq_length ?? undefined;
  const notes = await notesOf(directory, limits?.do_lower_case ?? false);
  if (modules === undefined) {
    const note = 'There is no modules.json: embeddings are the mean over all tokens, not normalised.';
    return { pooling: 'mean', normalize: false, maxLength, notes: [note, ...notes] };
  }
  const path = join(directory, 'modules.json');
  // Packages moved between versions of sentence-transformers; the class kept its name.
  const kinds = modules.map(({ type }) => type.split('.').at(-1) ?? type);
  const order = kinds.join(', ');
  if (order !== 'Transformer, Pooling' && order !== 'Transformer, Pooling, Normalize') {
    throw new RoseError(
      'unsupported',
      `${path}: Rose runs the modules "Transformer, Pooling" with or without "Normalize" after them, not "${order}"`,
    );
  }
  if (modules[0].path !== '' && modules[0].path !== '.') {
    throw new RoseError(
      'unsupported',
      `${path}: the encoder should lie beside modules.json, not in "${modules[0].path}"`,
    );
  }
  const pooling = await poolingOf(directory, modules[1].path, path, hiddenSize);
  return { pooling, normalize: kinds.includes('Normalize'), maxLength, notes };
}

async function poolingOf(directory: string, folder: string, modulesPath: string, hiddenSize: number): Promise<Pooling> {
  if (!/^[\w-]+$/.test(folder)) {
    throw new RoseError(
      'invalid',
      `${modulesPath}: the Pooling module's path "${folder}" is not a folder of this model`,
    );
  }
  const path = join(directory, folder, 'config.json');
  const config = await readJson(directory, join(folder, 'config.json'), poolingSchema);
  if (config === undefined) throw new RoseError('invalid', `${path}: missing; modules.json points to it`);
  const width = config.embedding_dimension ?? config.word_embedding_dimension ?? hiddenSize;
  if (width !== hiddenSize) {
    throw new RoseError('invalid', `${path}: pools vectors of ${width} numbers, the encoder's have ${hiddenSize}`);
  }
  const modes = modesOf(config);
  if (modes.length !== 1) {
    throw new RoseError('unsupported', `${path}: joining several poolings (${modes.join(', ')}) is not supported`);
  }
  const [mode] = modes;
  if (!Object.hasOwn(POOLINGS, mode)) {
    throw new RoseError(
      'unsupported',
      `${path}: Rose has no pooling "${mode}" (it has ${Object.keys(POOLINGS).join(', ')})`,
    );
  }
  return POOLINGS[mode];
}

/** The new spelling, or else the flags of the old one; none at all means the mean. */
function modesOf(config: z.output<typeof poolingSchema>): string[] {
  if (config.pooling_mode) return [config.pooling_mode].flat();
  const flags: Record<string, boolean | null | undefined> = {
    cls: config.pooling_mode_cls_token,
    max: config.pooling_mode_max_tokens,
    mean: config.pooling_mode_mean_tokens,
    mean_sqrt_len_tokens: config.pooling_mode_mean_sqrt_len_tokens,
    weightedmean: config.pooling_mode_weightedmean_tokens,
    lasttoken: config.pooling_mode_lasttoken,
  };
  const active = Object.keys(flags).filter((mode) => flags[mode]);
  return active.length > 0 ? active : ['mean'];
}

/** Things sentence-transformers would do to the text, which a client of Rose must do itself. */
async function notesOf(directory: string, lowerCase: boolean): Promise<string[]> {
  const notes: string[] = [];
  const prompts = await readJson(directory, 'config_sentence_transformers.json', promptsSchema);
  if (prompts?.default_prompt_name) {
    notes.push(
      `config_sentence_transformers.json puts the prompt "${prompts.default_prompt_name}" before every text; Rose adds none.`,
    );
  }
  if (lowerCase) {
    notes.push('sentence_bert_config.json asks for lower case; Rose leaves that to the tokenizer.');
  }
  return notes;
}
