import { closeSync, constants, fstatSync, openSync, readSync, writeSync, type Stats } from 'node:fs';
import { invalid, malformed, TritonError } from '../triton/errors.ts';
import type { ClientMemory } from './memory.ts';

/** Where Linux keeps POSIX shared memory: what shm_open of glibc and musl opens is this file. */
const DIRECTORY = '/dev/shm/';
/** Of Triton's Python backend, whose regions are not for clients. */
const RESERVED = 'triton_python_backend_shm_region_';
const MOST_KEY_CHARACTERS = 255;

/**
 * A region of POSIX shared memory. It is read and written as the file that it is, not mapped: a client that makes its
 * memory smaller would end a server that maps it (SIGBUS), and the copy that a mapping saves is made anyway, to where a
 * model's thread can keep it.
 */
export class SystemMemory implements ClientMemory {
  readonly #name: string;
  readonly #file: number;
  readonly #start: number;

  /**
   * @param name of the region, for messages
   * @param key as the client gave it to shm_open
   * @param start offset of the region in the shared memory, in bytes
   * @throws TritonError with Triton's texts
   */
  constructor(name: string, key: string, start: bigint, bytes: bigint) {
    if (process.platform !== 'linux') {
      throw new TritonError(501, `Shared memory feature is currently not supported on ${process.platform}`);
    }
    this.#name = name;
    const file = open(name, key);
    try {
      const stats = statsOf(file, key);
      const failed = `failed to register shared memory region '${name}'`;
      if (start + bytes > BigInt(stats.size)) throw invalid(`${failed}: invalid args`);
      if (bytes === 0n) throw invalid(`${failed}: a region must have at least one byte`);
    } catch (error) {
      closeSync(file);
      throw error;
    }
    this.#file = file;
    this.#start = Number(start);
  }

  read(offset: number, target: Uint8Array): void {
    for (let done = 0; done < target.length;) {
      const read = readSync(this.#file, target, done, target.length - done, this.#start + offset + done);
      if (read === 0) throw this.#gone();
      done += read;
    }
  }

  write(offset: number, source: Uint8Array): void {
    const start = this.#start + offset;
    // Writing beyond its end would make it larger.
    if (start + source.length > statsOf(this.#file, '').size) throw this.#gone();
    for (let done = 0; done < source.length;) {
      done += writeSync(this.#file, source, done, source.length - done, start + done);
    }
  }

  close(): void {
    closeSync(this.#file);
  }

  #gone(): TritonError {
    return invalid(`Invalid offset + byte size for shared memory region: '${this.#name}'`);
  }
}

function open(name: string, key: string): number {
  const file = key.replace(/^\/+/, '');
  if (file === '') throw invalid(`cannot register shared memory region '${name}' - invalid shm key '${key}'`);
  if (file.startsWith(RESERVED)) {
    const why = `with key '${key}' as the key contains the reserved prefix '${RESERVED}'`;
    throw invalid(`cannot register shared memory region '${name}' ${why}`);
  }
  const unable = malformed(`Unable to open shared memory region: '${key}'`);
  // As shm_open has it: one name without directories.
  if (/[/\0]/.test(file) || file === '.' || file === '..' || file.length > MOST_KEY_CHARACTERS) throw unable;
  const { O_RDWR, O_NOFOLLOW, O_NONBLOCK } = constants;
  try {
    return openSync(DIRECTORY + file, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
  } catch {
    throw unable;
  }
}

function statsOf(file: number, key: string): Stats {
  const stats = fstatSync(file);
  if (stats.isFile()) return stats;
  throw malformed(`Invalid shared memory region: '${key}'`);
}
