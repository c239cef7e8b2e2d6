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
    const known = this.kept(module, specialisation, arch);
    if (known !== undefined) return known;
    const program = compileKernel(module.trace(specialisation), { arch }).program;
    if (isLibrarys(module)) this.#cache.put(this.#facts(module, specialisation, arch), program);
    return program;
  }

  /** The program, if it was made before. */
  kept(module: KernelModule, specialisation: Specialisation, arch: string): Program | undefined {
    return isLibrarys(module) ? this.#cache.get(this.#facts(module, specialisation, arch)) : undefined;
  }

  #facts(module: KernelModule, specialisation: Specialisation, arch: string): string[] {
    return [this.#version, module.name, JSON.stringify(specialisation), arch];
  }
}

/** Only the library's own kernels are known by their names. */
function isLibrarys(module: KernelModule): boolean {
  return KERNELS.includes(module);
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
