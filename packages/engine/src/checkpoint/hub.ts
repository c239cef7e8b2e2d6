import { mkdir, stat, statfs } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { getHFHubCachePath, getRepoFolderName } from '@huggingface/hub';
import { RoseError } from '../errors.ts';
import { cachedRepo, exists, type CachedRepo } from './hub/cache.ts';
import { hubClient, isOffline, type HubClient } from './hub/client.ts';
import { diskError, downloadBlob, type DownloadOptions, type DownloadProgress } from './hub/download.ts';
import { INDEX, smallFiles, weightFiles, type HubFile } from './hub/files.ts';
import { parseHubName, type HubName } from './hub/name.ts';
import { readModel } from './open.ts';
import { shardsOf } from './weights.ts';

export type { DownloadProgress };

export interface ResolveOptions extends DownloadOptions {
  /** Ask the hub whether the revision has moved on even if the model is in the cache. Default false. */
  readonly update?: boolean;
}

/**
 * The directory of a model: `nameOrPath` itself if it is a directory, else the model `ORG/NAME` or `ORG/NAME@REVISION`
 * from the Hugging Face cache, downloaded if it is not there. A model that is in the cache is used without the network.
 *
 * Honours HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN. Only what Rose reads is fetched; a model that
 * Rose cannot run is refused before its weights are. Throws a RoseError: `invalid` (the name, or content that differs
 * from what the hub lists), `not_found` (no such model or no access), `unsupported`, `unavailable` (network or disk) or
 * `cancelled`.
 */
export async function resolveModel(nameOrPath: string, options: ResolveOptions = {}): Promise<string> {
  const found = await stat(nameOrPath).catch(() => undefined);
  if (found?.isDirectory()) return nameOrPath;
  if (found !== undefined || /^[./~]|\\/.test(nameOrPath)) {
    throw new RoseError('not_found', `${nameOrPath}: ${found === undefined ? 'no such directory' : 'not a directory'}`);
  }
  const name = parseHubName(nameOrPath);
  const repo = cachedRepo(join(getHFHubCachePath(), getRepoFolderName({ type: 'model', name: name.repo })));
  const cached = await repo.commitOf(name.revision);
  if (cached !== undefined && options.update !== true && (await repo.complete(cached))) return repo.snapshot(cached);
  if (isOffline()) {
    if (cached !== undefined && (await isUsable(repo.snapshot(cached)))) return repo.snapshot(cached);
    throw new RoseError('unavailable', `${nameOrPath} is not in the cache (${repo.folder}), and HF_HUB_OFFLINE is set`);
  }
  try {
    return await fetchModel(await hubClient(options.signal), name, repo, options);
  } catch (error) {
    // A cache that another tool filled will do while the hub cannot be asked what it lacks.
    const unreachable = error instanceof RoseError && error.code === 'unavailable' && options.update !== true;
    if (unreachable && cached !== undefined && (await isUsable(repo.snapshot(cached)))) return repo.snapshot(cached);
    throw error;
  }
}

/** Fetch what is missing of a model's current commit; returns its snapshot. */
async function fetchModel(
  client: HubClient,
  name: HubName,
  repo: CachedRepo,
  options: DownloadOptions,
): Promise<string> {
  const commit = await client.commitOf(name);
  const snapshot = repo.snapshot(commit);
  const files = await client.files(name, commit);
  const fetchAll = async (wanted: readonly HubFile[]): Promise<void> => {
    await checkSpace(repo, wanted);
    for (const file of wanted) {
      const blob = repo.blob(file.etag);
      if (!(await exists(blob))) await downloadBlob(client, name, commit, file, blob, options);
      await repo.link(commit, file.path, file.etag).catch((error) => {
        throw diskError(error, snapshot);
      });
    }
  };
  const small = smallFiles(files);
  const sharded = small.some(({ path }) => path === INDEX);
  // Before config.json is asked for: a repository without safetensors often has none.
  weightFiles(name.repo, files, sharded ? [] : undefined);
  await fetchAll(small);
  // Before gigabytes come for nothing.
  await readModel(snapshot);
  const weights = weightFiles(name.repo, files, sharded ? (await shardsOf(snapshot)).files : undefined);
  await fetchAll(weights);
  await repo.finish(
    name,
    commit,
    [...small, ...weights].map(({ path }) => path),
  );
  return snapshot;
}

/** Fail before the first byte where the disk is known to be too small. */
async function checkSpace(repo: CachedRepo, files: readonly HubFile[]): Promise<void> {
  await mkdir(repo.folder, { recursive: true }).catch((error) => {
    throw diskError(error, repo.folder);
  });
  let needed = 0;
  for (const file of files) {
    const blob = repo.blob(file.etag);
    if (await exists(blob)) continue;
    needed +=
      file.size -
      (await stat(`${blob}.incomplete`).then(
        ({ size }) => size,
        () => 0,
      ));
  }
  const { bavail, bsize } = await statfs(repo.folder);
  const free = bavail * bsize;
  if (needed > free) {
    const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;
    throw new RoseError(
      'unavailable',
      `${resolve(repo.folder)}: the disk is too full: ${gigabytes(needed)} are to come, ${gigabytes(free)} are free. Free some space, or set HF_HUB_CACHE to a directory on another disk.`,
    );
  }
}

/** Whether a snapshot of which nobody recorded what it should have can be opened at all. */
async function isUsable(snapshot: string): Promise<boolean> {
  if (!(await exists(join(snapshot, 'config.json')))) return false;
  if (await exists(join(snapshot, 'model.safetensors'))) return true;
  if (!(await exists(join(snapshot, INDEX)))) return false;
  const { files } = await shardsOf(snapshot);
  return (await Promise.all(files.map((file) => exists(join(snapshot, file))))).every(Boolean);
}
