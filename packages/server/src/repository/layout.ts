import { lstat, readdir, readFile, realpath, stat } from 'node:fs/promises';
import { basename, join, sep } from 'node:path';
import { invalid, TritonError } from '../triton/errors.ts';
import { whyUnreadable } from './unreadable.ts';
import { versionOfDirectory } from './versions.ts';

export const CONFIG_FILE = 'config.pbtxt';

/**
 * Models by name, each with the directories that hold one of that name.
 * @throws TritonError that names the repository that cannot be read
 */
export async function scanRepositories(repositories: readonly string[]): Promise<Map<string, string[]>> {
  const models = new Map<string, string[]>();
  for (const repository of repositories) {
    for (const name of await directoriesIn(repository, 'the model repository ')) {
      if (name.startsWith('.')) continue;
      const others = models.get(name) ?? [];
      models.set(name, [...others, join(repository, name)]);
    }
  }
  return models;
}

/** Numbers of the versions that a model's directory holds. */
export async function versionsIn(directory: string): Promise<number[]> {
  const names = await directoriesIn(directory);
  return names.flatMap((name) => versionOfDirectory(name) ?? []).sort((a, b) => a - b);
}

/** @throws TritonError that names the directory where what is in it cannot be read */
export async function checkDirectory(directory: string): Promise<void> {
  await directoriesIn(directory);
}

/** The text of the model's configuration; undefined: it has none. */
export async function readConfigFile(directory: string): Promise<string | undefined> {
  const file = join(directory, CONFIG_FILE);
  try {
    return await readFile(await onlyFile(file), 'utf8');
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT';
    if (absent && !(await isLink(file))) return undefined;
    const why = absent ? 'it is a link to what is not there' : whyUnreadable(error);
    throw invalid(`failed to read ${file}: ${why}`);
  }
}

/** The path of what must be a file: reading a pipe could take for ever. */
export async function onlyFile(path: string): Promise<string> {
  if ((await stat(path)).isFile()) return path;
  throw invalid(`${path} is no file`);
}

/**
 * The path of a file that a model's configuration names, with links followed.
 * @throws TritonError where it lies outside the directory, the system's error where there is none
 */
export async function fileWithin(directory: string, name: string): Promise<string> {
  const [root, file] = await Promise.all([realpath(directory), realpath(join(directory, name))]);
  if (file.startsWith(root + sep)) return onlyFile(file);
  throw invalid('it must stay within the model directory');
}

/**
 * A file that a model's configuration names in one of the model's directories.
 * @param what it is for, in messages
 */
export async function readWithin(directory: string, name: string, what: string): Promise<Uint8Array> {
  try {
    return new Uint8Array(await readFile(await fileWithin(directory, name)));
  } catch (error) {
    throw invalid(`cannot read '${basename(directory)}/${name}' for ${what}: ${whyUnreadable(error)}`);
  }
}

/** Changes whenever a file below the directory does; a directory that is not there is an empty one. */
export async function fingerprint(directory: string): Promise<string> {
  const names = await readdir(directory, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [] as string[];
    throw invalid(`cannot read ${error.path ?? directory}: ${whyUnreadable(error)}`);
  });
  const lines = await Promise.all(
    names.sort().map(async (name) => {
      // A file may go while it is looked at: that is a change too.
      const facts = await stat(join(directory, name)).catch(() => undefined);
      return facts?.isDirectory() ? name : `${name} ${facts?.size} ${facts?.mtimeMs} ${facts?.ino}`;
    }),
  );
  return lines.join('\n');
}

/** @throws TritonError when a client's name could lead out of the repository */
export function checkModelName(name: string): void {
  if (name.trim() === '') throw invalid('Model name cannot be empty. Please enter a valid name to deploy.');
  if (/[/\\\0]/.test(name) || name === '.' || name === '..') {
    throw invalid(`invalid model name '${name}', model name must not contain path traversal characters`);
  }
}

/** Whether a link of that path is there, wherever it leads. */
async function isLink(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined))?.isSymbolicLink() === true;
}

/**
 * Names of the directories in one; a link to a directory counts.
 * @param what the directory is, in messages
 */
async function directoriesIn(directory: string, what = ''): Promise<string[]> {
  let entries;
  try {
    entries = await readdir(directory, { withFileTypes: true });
  } catch (error) {
    throw new TritonError(500, `cannot read ${what}${directory}: ${whyUnreadable(error)}`);
  }
  const names = await Promise.all(
    entries.map(async (entry) => {
      if (entry.isDirectory()) return entry.name;
      if (!entry.isSymbolicLink()) return undefined;
      const facts = await stat(join(directory, entry.name)).catch(() => undefined);
      return facts?.isDirectory() ? entry.name : undefined;
    }),
  );
  return names.filter((name) => name !== undefined).sort();
}
