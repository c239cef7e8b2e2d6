import { createHash, type Hash } from 'node:crypto';
import { mkdir, open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { RoseError } from '../../errors.ts';
import { exists } from './cache.ts';
import { connectionError, type HubClient } from './client.ts';
import type { HubFile } from './files.ts';
import type { HubName } from './name.ts';

/** How far one file is; `bytes` equals `total` when it is there. */
export interface DownloadProgress {
  readonly file: string;
  readonly bytes: number;
  readonly total: number;
}

export interface DownloadOptions {
  /** Called for each file that is fetched: once before its first byte, about every MiB, and when it is there. */
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined;
  /** Abort to stop a download; what was fetched is kept for the next time. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds before a lost connection is tried again; each further try waits twice as long. Default 500. */
  readonly retryMs?: number | undefined;
}

/** Connections lost without a byte having come, after which a download gives up. */
const MAX_FAILURES = 5;
/** How often a file's progress is told, in bytes. */
const PROGRESS_BYTES = 1 << 20;

/**
 * Fetch a file to `blob`. It grows as `blob.incomplete`; what an earlier attempt left there is kept and continued by a
 * ranged read, and a lost connection likewise. The content's hash is checked before the file takes its name. The
 * library's own download starts anew each time and checks nothing, hence this one.
 *
 * Bytes are written at their place, never appended: two processes that fetch the same file write the same bytes.
 */
export async function downloadBlob(
  client: HubClient,
  name: HubName,
  commit: string,
  file: HubFile,
  blob: string,
  options: DownloadOptions,
): Promise<void> {
  const incomplete = `${blob}.incomplete`;
  await mkdir(dirname(blob), { recursive: true });
  const kept = await stat(incomplete).then(
    ({ size }) => size,
    () => 0,
  );
  const found = await fetchTo(incomplete, client, name, commit, file, options);
  if (found !== file.etag) {
    await rm(incomplete, { force: true });
    // What was kept may have been damaged: the whole file deserves one try.
    if (kept > 0) return downloadBlob(client, name, commit, file, blob, options);
    throw new RoseError(
      'invalid',
      `${file.path} of ${name.repo} is not what the hub says it is (${file.hash} ${found}, expected ${file.etag}); it was removed. Try again.`,
    );
  }
  await rename(incomplete, blob).catch(async (error) => {
    // Another process was first.
    if (!(await exists(blob))) throw error;
  });
}

/** Bring the file at `path` to its full size; returns its hash. */
async function fetchTo(
  path: string,
  client: HubClient,
  name: HubName,
  commit: string,
  file: HubFile,
  { onProgress, signal, retryMs = 500 }: DownloadOptions,
): Promise<string> {
  const handle = await openForUpdate(path);
  try {
    let hash = hashOf(file);
    let at = await hashKept(handle, file, hash);
    let told = -1;
    const tell = (): void => {
      if (at === told || (at < file.size && told >= 0 && at - told < PROGRESS_BYTES)) return;
      told = at;
      onProgress?.({ file: file.path, bytes: at, total: file.size });
    };
    tell();
    for (let failures = 0; at < file.size;) {
      const before = at;
      try {
        const response = await client.open(name, commit, file, at);
        if (at > 0 && response.status !== 206) {
          // A server without ranges sends all of it again.
          hash = hashOf(file);
          at = 0;
        }
        checkSize(response, at, file, name);
        for await (const chunk of bodyOf(response, client.endpoint, signal)) {
          if (at + chunk.byteLength > file.size) throw wrongSize(file, name);
          await writeFully(handle, chunk, at);
          hash.update(chunk);
          at += chunk.byteLength;
          tell();
        }
        if (at < file.size) throw new RoseError('unavailable', `${client.endpoint} ended the connection early`);
      } catch (error) {
        if (!(error instanceof RoseError) || error.code !== 'unavailable') throw error;
        failures = at > before ? 1 : failures + 1;
        if (failures >= MAX_FAILURES) {
          throw new RoseError(
            'unavailable',
            `${file.path} of ${name.repo}: ${error.message}. ${at} of ${file.size} bytes are kept; try again to go on from there.`,
            { cause: error },
          );
        }
        await sleep(retryMs * 2 ** (failures - 1), undefined, { signal }).catch((cause: unknown) => {
          throw connectionError(client.endpoint, signal, cause);
        });
      }
    }
    tell();
    return hash.digest('hex');
  } catch (error) {
    throw diskError(error, path);
  } finally {
    await handle.close();
  }
}

/** Chunks of a response; a connection that ends early throws what `connectionError` gives. */
async function* bodyOf(
  response: Response,
  endpoint: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const reader = response.body!.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((cause: unknown) => {
        throw connectionError(endpoint, signal, cause);
      });
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

async function openForUpdate(path: string): Promise<FileHandle> {
  // 'r+' keeps what is there but wants a file; 'a' would ignore positions.
  return open(path, 'r+').catch(() => open(path, 'w+'));
}

/** Hash what an earlier attempt left; returns how much that is. More than the whole file cannot be part of it. */
async function hashKept(handle: FileHandle, file: HubFile, hash: Hash): Promise<number> {
  const { size } = await handle.stat();
  if (size > file.size) {
    await handle.truncate(0);
    return 0;
  }
  const buffer = new Uint8Array(1 << 20);
  let at = 0;
  while (at < size) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.byteLength, size - at), at);
    if (bytesRead === 0) break;
    hash.update(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
  return at;
}

/** Git hashes a header before the content (`git hash-object`). */
function hashOf(file: HubFile): Hash {
  return file.hash === 'sha256' ? createHash('sha256') : createHash('sha1').update(`blob ${file.size}\0`);
}

function checkSize(response: Response, start: number, file: HubFile, name: HubName): void {
  const length = response.headers.get('content-length');
  if (length !== null && start + Number(length) !== file.size) throw wrongSize(file, name);
}

function wrongSize(file: HubFile, name: HubName): RoseError {
  return new RoseError(
    'invalid',
    `${file.path} of ${name.repo} has not the ${file.size} bytes that the hub lists for it`,
  );
}

async function writeFully(handle: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < chunk.byteLength;) {
    const { bytesWritten } = await handle.write(chunk, done, chunk.byteLength - done, position + done);
    done += bytesWritten;
  }
}

/** Errors of the file system in words; others as they are. */
export function diskError(error: unknown, path: string): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (error instanceof RoseError || code === undefined) return error;
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  const what = full
    ? 'the disk is full; free some space and try again, what was fetched is kept'
    : `cannot be written (${code})`;
  return new RoseError('unavailable', `${path}: ${what}`, { cause: error });
}
