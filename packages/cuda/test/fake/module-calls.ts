import type { FakeCalls, FakeDriver } from './driver.ts';
import { FakeFault } from './memory.ts';

/** A kernel for the fake: runs once for a launch. It may throw KernelFailure. */
export type FakeKernel = (launch: FakeLaunch) => void;

export interface FakeLaunch {
  readonly grid: readonly [number, number, number];
  readonly block: readonly [number, number, number];
  readonly sharedBytes: number;
  readonly cluster: readonly number[] | undefined;
  readonly overlapsPrevious: boolean;
  readonly cooperative: boolean;
  readonly params: DataView;
  /** Memory at an address that a parameter holds. */
  readonly memory: (address: number, bytes: number) => Uint8Array;
}

/** What a kernel throws to fail as on a device; `code` is the CUresult. */
export class KernelFailure extends Error {
  readonly code: number;
  constructor(code: number) {
    super(`kernel failed with ${code}`);
    this.code = code;
  }
}

export interface FakeFunction {
  readonly name: string;
  readonly module: number;
  maxDynamicShared: number;
}

interface FakeLinker {
  text: string;
  info: number;
  error: number;
  image: Uint8Array;
}

const MAGIC = 'FAKE CUBIN\n';
const JIT = { info: 3, infoSize: 4, error: 5, errorSize: 6 } as const;

/**
 * The linker and modules. A "cubin" is a magic line and the entries' names; a line of PTX with the word `bogus` does
 * not compile.
 */
export function moduleCalls(fake: FakeDriver): FakeCalls {
  const { memory } = fake;
  /** The addresses of a list of CUjit_option by their key. */
  const optionsOf = (count: number, keys: never, values: never): ((wanted: number) => number) => {
    const key = memory.hostView(keys, 4 * count);
    const value = memory.hostView(values, 8 * count);
    const option = (wanted: number): number => {
      for (let at = 0; at < count; at++) {
        if (key.getInt32(4 * at, true) === wanted) return Number(value.getBigUint64(8 * at, true));
      }
      return 0;
    };
    if (option(JIT.infoSize) === 0 || option(JIT.errorSize) === 0) throw new FakeFault('log buffers without a size');
    return option;
  };
  /** Whether PTX compiles; if not, the log says so. */
  const check = (text: string, error: number): boolean => {
    const wrong = text.split('\n').findIndex((line) => line.includes('bogus'));
    if (wrong < 0) return true;
    const log = `ptxas application ptx input, line ${wrong + 1}; error   : Not a name of any known instruction: 'bogus'\nptxas fatal   : Ptx assembly aborted due to errors\n\0`;
    memory.at(error, log.length).set(Buffer.from(log));
    return false;
  };
  /** Names of the entries; the log tells what each takes. */
  const entriesOf = (text: string, info: number): string[] => {
    const names = [...text.matchAll(/\.entry\s+(\w+)/g)].map((match) => match[1]);
    const spills = fake.options.spills?.(text) ?? 16;
    const log = names
      .map(
        (name) =>
          `ptxas info    : Compiling entry function '${name}' for 'sm_90a'\nptxas info    : Function properties for ${name}\n    8 bytes stack frame, ${spills / 4} bytes spill stores, ${(3 * spills) / 4} bytes spill loads\nptxas info    : Used 24 registers, used 1 barriers\n`,
      )
      .join('');
    memory.at(info, log.length + 1).set(Buffer.from(`${log}\0`));
    return names;
  };
  /** PTX without the zero byte that ends it. */
  const ptxIn = (bytes: Uint8Array): string => {
    if (bytes.at(-1) !== 0) throw new FakeFault('PTX must end with a zero byte');
    return Buffer.from(bytes.subarray(0, -1)).toString();
  };
  return {
    cuLinkCreate_v2: (count, keys, values, out) => {
      const option = optionsOf(count, keys as never, values as never);
      const linker = { text: '', info: option(JIT.info), error: option(JIT.error), image: new Uint8Array() };
      fake.putWord(out, fake.create<FakeLinker>('linker', linker));
      return undefined;
    },
    cuLinkAddData_v2: (handle, type, data, size) => {
      const linker = fake.get<FakeLinker>('linker', handle);
      if (type !== 1) throw new FakeFault('PTX is input of kind 1');
      linker.text += ptxIn(memory.host(data, size));
      return check(linker.text, linker.error) ? undefined : 218;
    },
    cuLinkComplete: (handle, image, size) => {
      const linker = fake.get<FakeLinker>('linker', handle);
      linker.image = Buffer.from(MAGIC + entriesOf(linker.text, linker.info).join('\n'));
      fake.putWord(image, fake.address(linker.image));
      fake.putWord(size, linker.image.length);
      return undefined;
    },
    cuLinkDestroy: (linker) => void fake.destroy('linker', linker),

    cuModuleLoadDataEx: (out, image, count, keys, values) => {
      if (!ArrayBuffer.isView(image)) throw new FakeFault('an image must be given as bytes');
      const bytes = memory.host(image, image.byteLength);
      const text = Buffer.from(bytes).toString();
      let names = text.slice(MAGIC.length).split('\n');
      if (text.includes('.entry')) {
        const option = optionsOf(count, keys as never, values as never);
        const ptx = ptxIn(bytes);
        if (!check(ptx, option(JIT.error))) return 218;
        names = entriesOf(ptx, option(JIT.info));
      } else if (!text.startsWith(MAGIC)) return 200;
      fake.putWord(out, fake.create('module', new Set(names)));
      return undefined;
    },
    cuModuleUnload: (module) => void fake.destroy('module', module),
    cuModuleGetFunction: (out, module, name) => {
      if (!fake.get<Set<string>>('module', module).has(name)) return 500;
      fake.putWord(out, fake.name<FakeFunction>('function', { name, module, maxDynamicShared: 48 * 1024 }));
      return undefined;
    },
    cuModuleGetGlobal_v2: (address, bytes, module, name) => {
      fake.get('module', module);
      if (name !== 'table') return 500;
      fake.putWord(address, memory.allocate(64, 'global'));
      fake.putWord(bytes, 64);
      return undefined;
    },
    cuFuncGetAttribute: (out, attribute, handle) => {
      fake.get<FakeFunction>('function', handle);
      fake.putI32(out, { 0: 1024, 1: 1024, 3: 8, 4: 24, 6: 90 }[attribute] ?? 0);
      return undefined;
    },
    cuFuncSetAttribute: (handle, attribute, value) => {
      const found = fake.get<FakeFunction>('function', handle);
      if (attribute === 8) found.maxDynamicShared = value;
      return undefined;
    },
    cuOccupancyMaxActiveBlocksPerMultiprocessor: (out, handle, threads) => {
      fake.get<FakeFunction>('function', handle);
      fake.putI32(out, Math.floor(2048 / threads));
      return undefined;
    },
    cuOccupancyMaxActiveClusters: (out, handle, config) => {
      fake.get<FakeFunction>('function', handle);
      memory.at(config, 56);
      fake.putI32(out, 16);
      return undefined;
    },
  };
}
