import { access, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

/** Where generated checkpoints live: ignored by git, safe to delete. */
export function cachePath(name: string): string {
  return fileURLToPath(new URL(`../../.cache/bench/${name}`, import.meta.url));
}

/**
 * Make a directory of the cache unless it is there. `make` writes into a directory of another name, which gets its own
 * name when it is whole.
 * @returns its path
 */
export async function makeOnce(name: string, make: (directory: string) => Promise<void>): Promise<string> {
  const directory = cachePath(name);
  if (await exists(directory)) return directory;
  const unfinished = `${directory}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(unfinished, { recursive: true });
  await make(unfinished);
  await rename(unfinished, directory);
  return directory;
}

export async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}

export async function writeJson(path: string, content: object): Promise<void> {
  await writeFile(path, `${JSON.stringify(content, undefined, 2)}\n`);
}
