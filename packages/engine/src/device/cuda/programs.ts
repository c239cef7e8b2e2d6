import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compileKernel } from '@rose/cute';
import { ProgramCache, type Program } from '@rose/cuda';
import { KERNELS, type KernelModule, type Specialisation } from '@rose/kernels';

/** What makes a kernel's program of its specialisation. */
const MAKERS = ['@rose/cute', '@rose/kernels'] as const;
const CODE = /\.([cm]?[jt]s|json)$/;

/**
 * Programs of the library's kernels, made once for each version of the sources: to trace a large kernel and write its PTX
 * takes up to a fifth of a second, and a model has a hundred.
 */
export class Programs {
  readonly #cache: ProgramCache;
  readonly #version: string;

  constructor(cache: ProgramCache = new ProgramCache(), version: string = sourceVersion()) {
    this.#cache = cache;
    this.#version = version;
  }

  /** The program of a kernel for an architecture such as `sm_90a`. */
  programOf(module: KernelModule, specialisation: Specialisation, arch: string): Program {
    // Only the library's own kernels are known by their names.
    if (!KERNELS.includes(module)) return make(module, specialisation, arch);
    const facts = [this.#version, module.name, JSON.stringify(specialisation), arch];
    let program = this.#cache.get(facts);
    if (program === undefined) {
      program = make(module, specialisation, arch);
      this.#cache.put(facts, program);
    }
    return program;
  }
}

function make(module: KernelModule, specialisation: Specialisation, arch: string): Program {
  return compileKernel(module.trace(specialisation), { arch }).program;
}

/** Of every file of the kernel language and the kernel library, and where they lie, since programs name their lines. */
export function sourceVersion(): string {
  const hash = createHash('sha256');
  for (const name of MAKERS) {
    const home = dirname(fileURLToPath(import.meta.resolve(name)));
    const files = readdirSync(home, { recursive: true, encoding: 'utf8' }).filter((file) => CODE.test(file));
    for (const file of files.toSorted()) {
      const path = join(home, file);
      hash.update(`${path}\0`).update(readFileSync(path)).update('\0');
    }
  }
  return hash.digest('hex');
}
