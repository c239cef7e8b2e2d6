import { createHash } from 'node:crypto';
import type { AssembleOptions, Compiled } from './assembler.ts';
import { FileCache, type FileCacheOptions } from './file-cache.ts';

const KIND = { what: 'cubin', magic: 'ROSECUB2', noun: 'compiled kernels', again: 'compiles them' } as const;

/** Compiled images on disk, by `cubinKey`. */
export class CubinCache {
  readonly directory: string;
  readonly #files: FileCache;

  constructor(options: FileCacheOptions = {}) {
    this.#files = new FileCache(KIND, options);
    this.directory = this.#files.directory;
  }

  /** The entry of `key`, or undefined where there is none that is whole. */
  get(key: string): Compiled | undefined {
    const entry = this.#files.get(key);
    if (!entry) return undefined;
    const end = 4 + entry.readUInt32LE(0);
    const { kernels, log } = JSON.parse(entry.toString('utf8', 4, end)) as Omit<Compiled, 'cubin'>;
    return { cubin: new Uint8Array(entry.subarray(end)), kernels, log };
  }

  /** Keeps an entry. */
  put(key: string, { cubin, kernels, log }: Compiled): void {
    const facts = Buffer.from(JSON.stringify({ kernels, log }));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(facts.length);
    this.#files.put(key, Buffer.concat([length, facts, cubin]));
  }
}

/** Everything a compiled image depends on, as one name: SHA-256 in hexadecimal. */
export function cubinKey(ptx: string, architecture: string, assembler: string, options: AssembleOptions = {}): string {
  const { maxRegisters = null, optimization = null, lineInfo = null } = options;
  const facts = JSON.stringify([KIND.magic, architecture, assembler, maxRegisters, optimization, lineInfo]);
  return createHash('sha256').update(facts).update('\0').update(ptx).digest('hex');
}
