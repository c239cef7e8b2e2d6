import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, normalize, sep } from 'node:path';
import { invalid } from '../triton/errors.ts';

/** What a load request brings in place of what the repository has. */
export interface LoadOverride {
  /** A configuration in protobuf's JSON. */
  readonly config: string | undefined;
  /** Files by their path in the model's directory, not yet checked. With any, nothing of the repository's directory is used. */
  readonly files: ReadonlyMap<string, Uint8Array>;
}

export const NO_OVERRIDE: LoadOverride = { config: undefined, files: new Map() };

const FILE_PREFIX = 'file:';

/**
 * Read a load request's parameters.
 * @param parameters `config`: a text; `file:PATH`: bytes
 */
export function readOverride(parameters: Iterable<readonly [name: string, value: unknown]>): LoadOverride {
  let config: string | undefined;
  const files = new Map<string, Uint8Array>();
  for (const [name, value] of parameters) {
    if (name === 'config') {
      if (typeof value !== 'string') throw invalid("Config parameter 'config' must have string type for its value");
      config = value;
    } else if (name.startsWith(FILE_PREFIX)) {
      if (!(value instanceof Uint8Array)) {
        throw invalid(`File parameter '${name}' must have bytes type for its value`);
      }
      files.set(name.slice(FILE_PREFIX.length), value);
    } else {
      throw invalid(`unrecognized load parameter '${name}'.`);
    }
  }
  return { config, files };
}

/** Read an unload request's parameters: whether `unload_dependents` is set. */
export function readUnload(parameters: Iterable<readonly [name: string, value: unknown]>): boolean {
  let dependents = false;
  for (const [name, value] of parameters) {
    if (name !== 'unload_dependents') throw invalid(`unrecognized unload parameter '${name}'.`);
    if (typeof value !== 'boolean') throw invalid(`Invalid value for '${name}': expected a boolean`);
    dependents = value;
  }
  return dependents;
}

/**
 * Write an override's files to a new directory that stands for the model's.
 * @throws TritonError where a path leads out of it
 */
export async function writeFiles({ config, files }: LoadOverride): Promise<string> {
  if (config === undefined) throw invalid("Load parameter 'config' must be specified for model file override");
  const paths = new Map([...files].map(([path, bytes]) => [pathInModel(path), bytes]));
  const directory = await mkdtemp(join(tmpdir(), 'rose-model-'));
  try {
    for (const [path, bytes] of paths) {
      const file = join(directory, path);
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, bytes);
    }
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw invalid(`Invalid file parameter: ${(error as Error).message}`);
  }
  return directory;
}

function pathInModel(given: string): string {
  const path = normalize(given);
  const leaves = path.startsWith('..') || path.startsWith(sep) || /^[A-Za-z]:|[\0\\]/.test(given);
  if (given === '' || path.endsWith(sep) || path === '.' || leaves) {
    const where = `'${FILE_PREFIX}${given}' with normalized path '${path}'`;
    throw invalid(`Invalid file parameter ${where} must stay within model directory.`);
  }
  return path;
}
