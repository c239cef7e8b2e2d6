import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** What a process left that died between writing and renaming is removed after this time. */
const STALE_MS = 60 * 60 * 1000;
const DEFAULT_BYTES = 2 ** 30;
const CHECKSUM_BYTES = 32;

export interface FileCacheOptions {
  /** Default: the kind's own under `cacheDirectory`. */
  readonly directory?: string;
  /** Entries beyond this many bytes are removed, those used longest ago first. Default 1 GiB. */
  readonly maxBytes?: number;
  /** Told once, where the directory cannot be used. Default: process.emitWarning. */
  readonly onWarning?: (message: string) => void;
}

/** What is kept, and how its entries look. */
export interface FileCacheKind {
  readonly what: 'cubin' | 'ptx';
  /** First bytes of an entry; the last digit is the format's version. */
  readonly magic: string;
  /** For the warning where nothing can be kept: `compiled kernels`, and `compiles them`. */
  readonly noun: string;
  readonly again: string;
}

/**
 * Entries on disk. Any number of processes use one directory: an entry is written beside and renamed, so a reader sees
 * all of it or none. An entry that is damaged counts as absent and is replaced. Where the directory cannot be written,
 * everything works and nothing is kept.
 */
export class FileCache {
  readonly directory: string;
  readonly maxBytes: number;
  readonly #kind: FileCacheKind;
  readonly #onWarning: (message: string) => void;
  #broken = false;
  /** Bytes of all entries, about: others may write beside. Undefined: not yet looked. */
  #bytes: number | undefined;

  constructor(kind: FileCacheKind, options: FileCacheOptions = {}) {
    this.directory = options.directory ?? cacheDirectory(kind.what);
    this.maxBytes = options.maxBytes ?? DEFAULT_BYTES;
    this.#kind = kind;
    this.#onWarning = options.onWarning ?? ((message) => process.emitWarning(message));
  }

  /** The entry of `key`, or undefined where there is none that is whole. */
  get(key: string): Buffer | undefined {
    const path = this.#path(key);
    let entry: Buffer;
    try {
      entry = readFileSync(path);
    } catch {
      return undefined;
    }
    const body = this.#open(entry);
    if (!body) {
      removeQuietly(path);
      return undefined;
    }
    try {
      const now = new Date();
      utimesSync(path, now, now);
    } catch {
      // Another process may have removed it, or the directory is read-only: the entry is good all the same.
    }
    return body;
  }

  /** Keeps an entry. */
  put(key: string, body: Uint8Array): void {
    if (this.#broken) return;
    const path = this.#path(key);
    const temporary = `${path}.${process.pid}.${randomBytes(6).toString('hex')}.tmp`;
    try {
      mkdirSync(this.directory, { recursive: true });
      const { magic } = this.#kind;
      writeFileSync(temporary, Buffer.concat([Buffer.from(magic), checksum(body), body]));
      renameSync(temporary, path);
      if (this.#bytes !== undefined) this.#bytes += magic.length + CHECKSUM_BYTES + body.length;
      if (this.#bytes === undefined || this.#bytes > this.maxBytes) this.#trim();
    } catch (error) {
      removeQuietly(temporary);
      // Windows refuses to replace a file that somebody reads; then the entry is there already.
      if (this.get(key)) return;
      this.#broken = true;
      const { noun, again } = this.#kind;
      this.#onWarning(
        `${noun} cannot be kept in ${this.directory} (${error instanceof Error ? error.message : String(error)}): ` +
          `every start ${again} again; set ROSE_CACHE_DIR to a directory that can be written`,
      );
    }
  }

  /** The body of an entry that is whole. */
  #open(entry: Buffer): Buffer | undefined {
    const { magic } = this.#kind;
    const at = magic.length + CHECKSUM_BYTES;
    if (entry.length < at || entry.toString('latin1', 0, magic.length) !== magic) return undefined;
    const body = entry.subarray(at);
    return checksum(body).equals(entry.subarray(magic.length, at)) ? body : undefined;
  }

  /** Removes the entries used longest ago until the rest fits, and what dead processes left. */
  #trim(): void {
    const entries: { path: string; bytes: number; used: number }[] = [];
    for (const name of readdirSync(this.directory)) {
      const path = join(this.directory, name);
      const stat = statSync(path, { throwIfNoEntry: false });
      if (!stat) continue;
      if (name.endsWith('.tmp') && Date.now() - stat.mtimeMs > STALE_MS) removeQuietly(path);
      if (name.endsWith(this.#suffix)) entries.push({ path, bytes: stat.size, used: stat.mtimeMs });
    }
    let total = entries.reduce((sum, { bytes }) => sum + bytes, 0);
    entries.sort((a, b) => a.used - b.used);
    for (const { path, bytes } of entries) {
      if (total <= this.maxBytes) break;
      removeQuietly(path);
      total -= bytes;
    }
    this.#bytes = total;
  }

  get #suffix(): string {
    return `.${this.#kind.what}`;
  }

  #path(key: string): string {
    return join(this.directory, key + this.#suffix);
  }
}

/** `$ROSE_CACHE_DIR/WHAT`, or `rose/WHAT` in the platform's directory for caches. */
export function cacheDirectory(
  what: 'cubin' | 'ptx' | 'tuning',
  environment: NodeJS.ProcessEnv = process.env,
  platform: string = process.platform,
): string {
  const { ROSE_CACHE_DIR: own, XDG_CACHE_HOME: xdg, LOCALAPPDATA: local } = environment;
  if (own) return join(own, what);
  if (platform === 'win32') return join(local || join(homedir(), 'AppData', 'Local'), 'rose', what);
  if (platform === 'darwin') return join(homedir(), 'Library', 'Caches', 'rose', what);
  return join(xdg || join(homedir(), '.cache'), 'rose', what);
}

function checksum(body: Uint8Array): Buffer {
  return createHash('sha256').update(body).digest();
}

function removeQuietly(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // It is in use, or not ours: it is tried again at the next trim.
  }
}
