import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { AssembleOptions, Compiled } from './assembler.ts';

/** First bytes of an entry; the last digit is the format's version. */
const MAGIC = 'ROSECUB1';
/** Magic, length of the facts, SHA-256 of everything behind. */
const HEADER = MAGIC.length + 4 + 32;
const SUFFIX = '.cubin';
/** What a process left that died between writing and renaming is removed after this time. */
const STALE_MS = 60 * 60 * 1000;
const DEFAULT_BYTES = 2 ** 30;

export interface CubinCacheOptions {
  /** Default: `cacheDirectory('cubin')`. */
  readonly directory?: string;
  /** Entries beyond this many bytes are removed, those used longest ago first. Default 1 GiB. */
  readonly maxBytes?: number;
  /** Told once, where the directory cannot be used. Default: process.emitWarning. */
  readonly onWarning?: (message: string) => void;
}

/**
 * Compiled images on disk. Any number of processes use one directory: an entry is written beside and renamed, so a
 * reader sees all of it or none. An entry that is damaged counts as absent and is replaced. Where the directory cannot
 * be written, everything works and nothing is kept.
 */
export class CubinCache {
  readonly directory: string;
  readonly maxBytes: number;
  readonly #onWarning: (message: string) => void;
  #broken = false;

  constructor(options: CubinCacheOptions = {}) {
    this.directory = options.directory ?? cacheDirectory('cubin');
    this.maxBytes = options.maxBytes ?? DEFAULT_BYTES;
    this.#onWarning = options.onWarning ?? ((message) => process.emitWarning(message));
  }

  /** The entry of `key`, or undefined where there is none that is whole. */
  get(key: string): Compiled | undefined {
    const path = this.#path(key);
    let entry: Buffer;
    try {
      entry = readFileSync(path);
    } catch {
      return undefined;
    }
    const compiled = decode(entry);
    if (!compiled) {
      rmSync(path, { force: true });
      return undefined;
    }
    try {
      const now = new Date();
      utimesSync(path, now, now);
    } catch {
      // Another process may have removed it, or the directory is read-only: the entry is good all the same.
    }
    return compiled;
  }

  /** Keeps an entry. */
  put(key: string, compiled: Compiled): void {
    if (this.#broken) return;
    const path = this.#path(key);
    const temporary = `${path}.${process.pid}.${randomBytes(6).toString('hex')}.tmp`;
    try {
      mkdirSync(this.directory, { recursive: true });
      writeFileSync(temporary, encode(compiled));
      renameSync(temporary, path);
      this.#trim();
    } catch (error) {
      removeQuietly(temporary);
      // Windows refuses to replace a file that somebody reads; then the entry is there already.
      if (this.get(key)) return;
      this.#broken = true;
      this.#onWarning(
        `compiled kernels cannot be kept in ${this.directory} (${error instanceof Error ? error.message : String(error)}): ` +
          'every start compiles them again; set ROSE_CACHE_DIR to a directory that can be written',
      );
    }
  }

  /** Removes the entries used longest ago until the rest fits, and what dead processes left. */
  #trim(): void {
    const entries: { path: string; bytes: number; used: number }[] = [];
    for (const name of readdirSync(this.directory)) {
      const path = join(this.directory, name);
      const stat = statSync(path, { throwIfNoEntry: false });
      if (!stat) continue;
      if (name.endsWith('.tmp') && Date.now() - stat.mtimeMs > STALE_MS) removeQuietly(path);
      if (name.endsWith(SUFFIX)) entries.push({ path, bytes: stat.size, used: stat.mtimeMs });
    }
    let total = entries.reduce((sum, { bytes }) => sum + bytes, 0);
    entries.sort((a, b) => a.used - b.used);
    for (const { path, bytes } of entries) {
      if (total <= this.maxBytes) break;
      removeQuietly(path);
      total -= bytes;
    }
  }

  #path(key: string): string {
    return join(this.directory, key + SUFFIX);
  }
}

/** Everything a compiled image depends on, as one name: SHA-256 in hexadecimal. */
export function cubinKey(ptx: string, architecture: string, assembler: string, options: AssembleOptions = {}): string {
  const { maxRegisters = null, optimization = null, lineInfo = null } = options;
  const facts = JSON.stringify([MAGIC, architecture, assembler, maxRegisters, optimization, lineInfo]);
  return createHash('sha256').update(facts).update('\0').update(ptx).digest('hex');
}

/** `$ROSE_CACHE_DIR/WHAT`, or `rose/WHAT` in the platform's directory for caches. */
export function cacheDirectory(
  what: 'cubin' | 'tuning',
  environment: NodeJS.ProcessEnv = process.env,
  platform: string = process.platform,
): string {
  const { ROSE_CACHE_DIR: own, XDG_CACHE_HOME: xdg, LOCALAPPDATA: local } = environment;
  if (own) return join(own, what);
  if (platform === 'win32') return join(local || join(homedir(), 'AppData', 'Local'), 'rose', what);
  if (platform === 'darwin') return join(homedir(), 'Library', 'Caches', 'rose', what);
  return join(xdg || join(homedir(), '.cache'), 'rose', what);
}

function encode({ cubin, kernels, log }: Compiled): Buffer {
  const facts = Buffer.from(JSON.stringify({ kernels, log }));
  const body = Buffer.concat([facts, cubin]);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(facts.length);
  return Buffer.concat([Buffer.from(MAGIC), length, checksum(length, body), body]);
}

function decode(entry: Buffer): Compiled | undefined {
  if (entry.length < HEADER || entry.toString('latin1', 0, MAGIC.length) !== MAGIC) return undefined;
  const body = entry.subarray(HEADER);
  const sum = checksum(entry.subarray(MAGIC.length, MAGIC.length + 4), body);
  if (!sum.equals(entry.subarray(HEADER - 32, HEADER))) return undefined;
  const length = entry.readUInt32LE(MAGIC.length);
  const { kernels, log } = JSON.parse(body.toString('utf8', 0, length)) as Omit<Compiled, 'cubin'>;
  return { cubin: new Uint8Array(body.subarray(length)), kernels, log };
}

function checksum(length: Uint8Array, body: Uint8Array): Buffer {
  return createHash('sha256').update(length).update(body).digest();
}

function removeQuietly(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // It is in use, or not ours: it is tried again at the next trim.
  }
}
