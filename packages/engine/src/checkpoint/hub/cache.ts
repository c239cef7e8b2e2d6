import { link, mkdir, readFile, rename, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import type { HubName } from './name.ts';

/**
 * One repository in the Hugging Face cache, in the layout that all tools share
 * (https://huggingface.co/docs/huggingface_hub/guides/manage-cache): `blobs/ETAG`, `snapshots/COMMIT/PATH` linking to
 * blobs, `refs/REVISION` naming a commit. Rose adds `.rose/COMMIT.json`, the list of the files it needs of a commit:
 * another tool may have fetched only some of them, and a missing pooling file would change a model's vectors unnoticed.
 */
export interface CachedRepo {
  readonly folder: string;
  /** The commit that a revision named when it was last looked up. */
  commitOf(revision: string): Promise<string | undefined>;
  snapshot(commit: string): string;
  /** Whether every file Rose needs of a commit is there. */
  complete(commit: string): Promise<boolean>;
  blob(etag: string): string;
  /** Make `path` of a commit's snapshot point to a blob that is there. */
  link(commit: string, path: string, etag: string): Promise<void>;
  /** Record that all of `paths` are there, and which commit the revision names. */
  finish(name: HubName, commit: string, paths: readonly string[]): Promise<void>;
}

export const COMMIT: RegExp = /^[0-9a-f]{40}$/;

export function cachedRepo(folder: string): CachedRepo {
  const snapshot = (commit: string): string => join(folder, 'snapshots', commit);
  const record = (commit: string): string => join(folder, '.rose', `${commit}.json`);
  const ref = (revision: string): string => join(folder, 'refs', revision);
  return {
    folder,
    snapshot,
    blob: (etag) => join(folder, 'blobs', etag),

    async commitOf(revision) {
      if (COMMIT.test(revision)) return (await exists(snapshot(revision))) ? revision : undefined;
      const commit = (await readText(ref(revision)))?.trim();
      return commit !== undefined && COMMIT.test(commit) && (await exists(snapshot(commit))) ? commit : undefined;
    },

    async complete(commit) {
      const paths = await readPaths(record(commit));
      if (paths === undefined) return false;
      return (await Promise.all(paths.map((path) => exists(join(snapshot(commit), path))))).every(Boolean);
    },

    async link(commit, path, etag) {
      const pointer = join(snapshot(commit), path);
      // A link that leads nowhere counts as absent and is replaced.
      if (await exists(pointer)) return;
      await mkdir(dirname(pointer), { recursive: true });
      const blob = join(folder, 'blobs', etag);
      const temporary = `${pointer}.${process.pid}`;
      try {
        await symlink(relative(dirname(pointer), blob), temporary);
      } catch (error) {
        // Windows lets only some users make symbolic links.
        if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error;
        await link(blob, temporary);
      }
      await rename(temporary, pointer);
    },

    async finish({ revision }, commit, paths) {
      await write(record(commit), JSON.stringify(paths));
      if (!COMMIT.test(revision)) await write(ref(revision), commit);
    },
  };
}

async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}`;
  await writeFile(temporary, text);
  await rename(temporary, path);
}

/** A record that is not whole counts as none. */
async function readPaths(path: string): Promise<string[] | undefined> {
  try {
    const paths: unknown = JSON.parse(await readFile(path, 'utf8'));
    return Array.isArray(paths) && paths.every((entry) => typeof entry === 'string') ? paths : undefined;
  } catch {
    return undefined;
  }
}

async function readText(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(() => undefined);
}

/** Follows links: a link to a blob that was removed does not count. */
export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
