import { RoseError } from '../../errors.ts';

/** A file of a repository at one commit. */
export interface HubFile {
  readonly path: string;
  readonly size: number;
  /** Name of its blob in the cache: what `hash` gives. */
  readonly etag: string;
  /** `sha256` of the content (large files) or the `git` blob id. */
  readonly hash: 'sha256' | 'git';
}

/** Files beside the weights that Rose reads, in the repository's root. */
const ROOT_FILES =
  /^(config|generation_config|special_tokens_map|added_tokens|modules|chat_template|config_sentence_transformers|sentence_[a-z]+_config|vocab)\.json$|^tokenizer[\w.-]*\.(json|model)$|^(vocab|merges)\.txt$|^chat_template\.jinja$/;
/** Modules of sentence-transformers: `1_Pooling/config.json`. */
const MODULE_FILES = /^\d+_\w+\/config\.json$/;
const TEMPLATE_FILES = /^additional_chat_templates\/[\w.-]+\.jinja$/;

const SINGLE = 'model.safetensors';
export const INDEX = 'model.safetensors.index.json';

/** The small files: configuration, tokenizer, templates, and the index of the shards where weights are sharded. */
export function smallFiles(files: readonly HubFile[]): HubFile[] {
  const wanted = [ROOT_FILES, MODULE_FILES, TEMPLATE_FILES];
  const sharded = !files.some(({ path }) => path === SINGLE);
  return files.filter(({ path }) => wanted.some((pattern) => pattern.test(path)) || (sharded && path === INDEX));
}

/**
 * The weights: `model.safetensors`, or else the shards of the index (`shards`). Throws a RoseError if the repository
 * has no weights Rose reads, or lacks a shard.
 */
export function weightFiles(repo: string, files: readonly HubFile[], shards: readonly string[] | undefined): HubFile[] {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const single = byPath.get(SINGLE);
  if (single !== undefined) return [single];
  if (shards === undefined) throw noWeights(repo, files);
  return shards.map((shard) => {
    const file = byPath.get(shard);
    if (file !== undefined) return file;
    throw new RoseError('invalid', `${repo}: ${INDEX} names "${shard}", which is not in the repository`);
  });
}

function noWeights(repo: string, files: readonly HubFile[]): RoseError {
  const other = files.find(({ path }) => /\.(gguf|bin|pth?|safetensors)$/.test(path))?.path;
  const hint = other === undefined ? '' : ` It has ${other}, which Rose does not read.`;
  return new RoseError('unsupported', `${repo} has neither ${SINGLE} nor ${INDEX}.${hint}`);
}
