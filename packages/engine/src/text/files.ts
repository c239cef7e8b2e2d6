import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { readJson } from '../checkpoint/json.ts';
import { RoseError } from '../errors.ts';

const part = z.looseObject({ type: z.string().nullish() });

const addedTokenSchema = z.looseObject({
  id: z.int().min(0),
  content: z.string().min(1),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
  special: z.boolean().default(false),
  normalized: z.boolean().optional(),
});

const tokenizerSchema = z.looseObject({
  added_tokens: z.array(addedTokenSchema).default([]),
  normalizer: part.nullish(),
  pre_tokenizer: part.nullish(),
  post_processor: part.nullish(),
  decoder: part.nullish(),
  // Vocabularies have 100,000 entries and more: what they are made of is checked where they are read.
  model: z.looseObject({
    type: z.string().nullish(),
    vocab: z.unknown().refine((vocab) => vocab !== undefined && vocab !== null, 'is missing'),
  }),
});

const namedToken = z.union([z.string(), z.looseObject({ content: z.string() })]);
const configSchema = z.looseObject({
  chat_template: z.union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))]).nullish(),
});
const templateFileSchema = z.looseObject({ chat_template: z.string() });

/** A part of tokenizer.json; `type` tells its kind. */
export interface TokenizerPart {
  readonly type?: string | null | undefined;
  readonly [field: string]: unknown;
}

/** A token that stands for itself wherever its text is found, before the model sees the rest. */
export interface AddedTokenJson {
  readonly id: number;
  readonly content: string;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly special: boolean;
  readonly normalized?: boolean | undefined;
}

export interface TokenizerJson {
  readonly added_tokens: readonly AddedTokenJson[];
  readonly normalizer?: TokenizerPart | null | undefined;
  readonly pre_tokenizer?: TokenizerPart | null | undefined;
  readonly post_processor?: TokenizerPart | null | undefined;
  readonly decoder?: TokenizerPart | null | undefined;
  readonly model: TokenizerPart;
}

export interface TokenizerConfig {
  readonly chat_template?: string | readonly { readonly name: string; readonly template: string }[] | null | undefined;
  readonly [field: string]: unknown;
}

export interface TokenizerFiles {
  readonly directory: string;
  readonly tokenizer: TokenizerJson;
  readonly config: TokenizerConfig;
  /** Source of the chat template, if the model has one. */
  readonly template: string | undefined;
}

/** Reads and checks a model directory's tokenizer files. Throws a RoseError that names the file and the fields. */
export async function readTokenizerFiles(directory: string): Promise<TokenizerFiles> {
  const tokenizer = await readJson(directory, 'tokenizer.json', tokenizerSchema);
  if (tokenizer === undefined) {
    const path = join(directory, 'tokenizer.json');
    const hint = 'Rose reads fast tokenizers only; transformers writes the file with save_pretrained';
    throw new RoseError('not_found', `${path}: no such file. ${hint}`);
  }
  const config = await readJson(directory, 'tokenizer_config.json', configSchema);
  if (config === undefined) {
    throw new RoseError('not_found', `${join(directory, 'tokenizer_config.json')}: no such file`);
  }
  return { directory, tokenizer, config, template: await readTemplate(directory, config) };
}

/** A file of its own wins over the configuration's field, as in transformers. */
async function readTemplate(directory: string, config: TokenizerConfig): Promise<string | undefined> {
  const path = join(directory, 'chat_template.jinja');
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code !== 'ENOENT') throw new RoseError('invalid', `${path}: cannot be read (${code})`, { cause });
  }
  const file = await readJson(directory, 'chat_template.json', templateFileSchema);
  if (file !== undefined) return file.chat_template;
  const field = config.chat_template ?? undefined;
  if (typeof field !== 'object') return field;
  return field.find(({ name }) => name === 'default')?.template;
}

/** Roles a token may have by name in tokenizer_config.json. */
const TOKEN_NAMES = ['bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token', 'mask_token'];

/** Tokens with a name (`bos_token`, ...), as templates see them. */
export function namedTokens(config: TokenizerConfig): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const name of TOKEN_NAMES) {
    const token = namedToken.safeParse(config[name]);
    if (token.success) tokens[name] = contentOf(token.data);
  }
  return tokens;
}

/**
 * Texts that are control tokens by the configuration: those with a name (but for the unknown token, which ordinary text
 * may need) and the additional ones. transformers makes them special whatever tokenizer.json says.
 */
export function configuredSpecials(config: TokenizerConfig): Set<string> {
  const { unk_token: _, ...named } = namedTokens(config);
  const texts = new Set(Object.values(named));
  for (const field of ['additional_special_tokens', 'extra_special_tokens']) {
    const value = config[field];
    if (typeof value !== 'object' || value === null) continue;
    for (const item of Object.values(value)) {
      const token = namedToken.safeParse(item);
      if (token.success) texts.add(contentOf(token.data));
    }
  }
  return texts;
}

function contentOf(token: z.output<typeof namedToken>): string {
  return typeof token === 'string' ? token : token.content;
}
