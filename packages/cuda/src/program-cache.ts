import { createHash } from 'node:crypto';
import { FileCache, type FileCacheOptions } from './file-cache.ts';
import type { Program } from './program.ts';

const KIND = { what: 'ptx', magic: 'ROSEPTX1', noun: 'kernels', again: 'traces them' } as const;

/**
 * Programs on disk, so that a start need not make them again: by whatever they depend on, which is whoever's who makes
 * them to say, to the last file of source.
 */
export class ProgramCache {
  readonly #files: FileCache;

  constructor(options: FileCacheOptions = {}) {
    this.#files = new FileCache(KIND, options);
  }

  /** The program of these facts, or undefined where none was kept. */
  get(facts: readonly string[]): Program | undefined {
    const entry = this.#files.get(keyOf(facts));
    return entry && (JSON.parse(entry.toString('utf8')) as Program);
  }

  put(facts: readonly string[], program: Program): void {
    this.#files.put(keyOf(facts), Buffer.from(JSON.stringify(program)));
  }
}

function keyOf(facts: readonly string[]): string {
  return createHash('sha256')
    .update(JSON.stringify([KIND.magic, ...facts]))
    .digest('hex');
}
