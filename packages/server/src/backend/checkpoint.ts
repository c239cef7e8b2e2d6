import { existsSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { DialectOptions, OpenOptions } from '@rose/engine';
import { z } from 'zod';
import { checkReadable } from '../repository/unreadable.ts';
import { invalid } from '../triton/errors.ts';

/** The file that names a version's checkpoint, as the vLLM backend has it. */
export const MODEL_FILE = 'model.json';
/** What a version's directory holds that is a checkpoint itself. */
export const CHECKPOINT_FILE = 'config.json';

/** What an engine is asked besides what the server's own options say. */
export type EngineSettings = Partial<
  Pick<
    OpenOptions,
    | 'threads'
    | 'quantize'
    | 'dtype'
    | 'cacheDtype'
    | 'memoryShare'
    | 'kvCacheMib'
    | 'maxSequences'
    | 'maxRows'
    | 'queueLimit'
    | 'queueTimeoutMs'
    | 'stepMs'
    | 'loop'
  >
>;

/** The checkpoint of a version and how it is run. */
export interface VersionCheckpoint {
  readonly directory: string;
  readonly settings: EngineSettings;
  readonly dialect: DialectOptions;
  /** Fields of `model.json` that say how vLLM runs, and have no effect here. */
  readonly unused: readonly string[];
}

/** Find the directory of a checkpoint by a name that is no path. */
export type Locate = (name: string) => Promise<string>;

/** Arguments of vLLM that concern its own machinery and no answer. */
const WITHOUT_EFFECT = new Set([
  'disable_log_requests',
  'disable_log_stats',
  'distributed_executor_backend',
  'enable_chunked_prefill',
  'enable_log_requests',
  'enable_prefix_caching',
  'enforce_eager',
  'gpu_memory_utilization',
  'max_num_batched_tokens',
  'max_num_seqs',
  'swap_space',
  'trust_remote_code',
]);

const count = z.int().min(1).optional();
const schema = z.strictObject({
  model: z.string().min(1).optional(),
  threads: count,
  quantize: z.enum(['int8', 'int4', 'fp8']).optional(),
  dtype: z.enum(['auto', 'bf16', 'f16', 'f32']).optional(),
  cache_dtype: z.enum(['f32', 'bf16', 'f16', 'fp8']).optional(),
  memory_share: z.number().gt(0).max(1).optional(),
  kv_cache_mib: z.number().gt(0).optional(),
  max_sequences: count,
  max_rows: count,
  queue_limit: count,
  queue_timeout_ms: count,
  step_ms: count,
  loop: z.enum(['plain', 'overlapped']).optional(),
  tool_format: z.enum(['hermes', 'llama3', 'mistral', 'none']).optional(),
  reasoning_format: z.enum(['think', 'mistral', 'none']).optional(),
});

/**
 * What a version's directory says of its checkpoint: that it is one, or in `model.json` which one to run and how.
 * @throws TritonError that names the field of the file that is wrong, or the directory that is no checkpoint
 */
export async function versionCheckpoint(version: string, locate: Locate): Promise<VersionCheckpoint> {
  const file = join(version, MODEL_FILE);
  const { model, tool_format, reasoning_format, ...rest } = existsSync(file)
    ? await readModelFile(file)
    : { unused: [] };
  const directory = await directoryOf(model, version, locate);
  if (!existsSync(join(directory, CHECKPOINT_FILE))) {
    throw invalid(`${directory} is no checkpoint: it has no ${CHECKPOINT_FILE}`);
  }
  return {
    directory,
    unused: rest.unused,
    settings: given({
      threads: rest.threads,
      quantize: rest.quantize,
      dtype: rest.dtype,
      cacheDtype: rest.cache_dtype,
      memoryShare: rest.memory_share,
      kvCacheMib: rest.kv_cache_mib,
      maxSequences: rest.max_sequences,
      maxRows: rest.max_rows,
      queueLimit: rest.queue_limit,
      queueTimeoutMs: rest.queue_timeout_ms,
      stepMs: rest.step_ms,
      loop: rest.loop,
    }),
    dialect: given({ toolFormat: tool_format, reasoningFormat: reasoning_format }),
  };
}

async function readModelFile(file: string): Promise<z.infer<typeof schema> & { unused: string[] }> {
  checkReadable(file);
  let json: unknown;
  try {
    json = JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    throw invalid(`${file} is not JSON: ${(error as Error).message}`);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw invalid(`${file} must hold an object`);
  const unused = Object.keys(json).filter((name) => WITHOUT_EFFECT.has(name));
  const parsed = schema.safeParse(Object.fromEntries(Object.entries(json).filter(([name]) => !unused.includes(name))));
  if (parsed.success) return { ...parsed.data, unused };
  const [{ path, message }] = parsed.error.issues;
  throw invalid(`${file}: ${path.length > 0 ? `${path.join('.')}: ` : ''}${message}`);
}

/** A path is one from the version's directory on; anything else is a name. */
async function directoryOf(model: string | undefined, version: string, locate: Locate): Promise<string> {
  if (model === undefined) return version;
  if (!/^(\.{1,2}$|\.{1,2}[/\\]|[/\\]|[A-Za-z]:[/\\])/.test(model)) return locate(model);
  const directory = resolve(version, model);
  if (existsSync(directory) && statSync(directory).isDirectory()) return directory;
  throw invalid(`there is no directory ${directory}, which ${MODEL_FILE} names`);
}

/** The fields that have a value. */
function given<T extends object>(fields: T): { [K in keyof T]?: NonNullable<T[K]> } {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: NonNullable<T[K]> };
}
