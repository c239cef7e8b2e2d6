import { createRequire } from 'node:module';
import type { Ffi, ForeignFunction, HostData, Word } from './ffi.ts';

const PLAIN: Readonly<Record<Exclude<Word, 'handle64'>, string>> = {
  i32: 'int',
  u32: 'unsigned int',
  size: 'size_t',
  word: 'uintptr_t',
  data: 'void *',
  text: 'const char *',
};

/**
 * Opens a shared library by the first of `paths` that loads. Throws an Error with the loader's own words where none
 * does.
 */
export function openLibrary(paths: readonly string[]): Ffi {
  // Loaded here and not at import: whoever never asks for a GPU does not load a native module.
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  const library = firstThatLoads(paths, (path) => koffi.load(path));
  const handle64 = koffi.struct({ reserved: koffi.array('uint8', 64) });
  return {
    find(name, words): ForeignFunction | undefined {
      const types = words.map((word) => (word === 'handle64' ? handle64 : PLAIN[word]));
      let bound: (...values: unknown[]) => number;
      try {
        bound = library.func(name, 'int', types) as (...values: unknown[]) => number;
      } catch {
        return undefined;
      }
      const struct = words.indexOf('handle64');
      if (struct < 0) return bound;
      return (...values: HostData[]) =>
        bound(...values.map((value, at) => (at === struct ? { reserved: value } : value)));
    },
    address: (view) => Number(koffi.address(view)),
    view: (address, bytes) => koffi.view(address, bytes),
  };
}

function firstThatLoads<T>(paths: readonly string[], load: (path: string) => T): T {
  const failures = new Map<string, string[]>();
  for (const path of paths) {
    try {
      return load(path);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      failures.set(reason, [...(failures.get(reason) ?? []), path]);
    }
  }
  throw new Error([...failures].map(([reason, failed]) => `${failed.join(', ')}: ${reason}`).join('; '));
}
