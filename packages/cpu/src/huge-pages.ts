import { readFileSync } from 'node:fs';

/** Linux' number for "use huge pages here". */
const MADV_HUGEPAGE = 14;
const MODE_FILE = '/sys/kernel/mm/transparent_hugepage/enabled';

export interface HugePages {
  /** Whether memory that is advised can be expected to lie on huge pages. */
  readonly available: boolean;
  /** Ask for huge pages under a memory in which nothing has been written yet. Best effort. */
  advise(memory: WebAssembly.Memory): void;
}

const none: HugePages = { available: false, advise: () => undefined };

/**
 * Weights are read from front to back at the speed of DRAM, where the misses of 4 KiB pages cost up to a fifth. Most
 * distributions set transparent huge pages to `madvise`: nobody gets them unasked. Shared WebAssembly memories are
 * private anonymous mappings, so asking works. Without Linux or koffi everything works on small pages.
 */
export async function openHugePages(): Promise<HugePages> {
  if (process.platform !== 'linux') return none;
  try {
    if (readFileSync(MODE_FILE, 'utf8').includes('[never]')) return none;
    const { default: koffi } = await import('koffi');
    const madvise = koffi.load(null).func('int madvise(uintptr_t address, size_t length, int advice)');
    return {
      available: true,
      advise: ({ buffer }) => void madvise(koffi.address(new Uint8Array(buffer)), buffer.byteLength, MADV_HUGEPAGE),
    };
  } catch {
    return none;
  }
}
