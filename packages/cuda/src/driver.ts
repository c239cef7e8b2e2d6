import { CudaError, CudaUnavailableError } from './errors.ts';
import type { Ffi } from './ffi.ts';
import { openLibrary } from './koffi.ts';
import { Out } from './out.ts';
import { resultOf } from './results.ts';
import { TABLE, wordsOf, type CallArguments, type CallName, type Calls } from './table.ts';

/** CUDA 12.0: the first driver with tensor maps and every other function of the table. */
const OLDEST = 12_000;
const OLDEST_DRIVER = '525';

const LIBRARIES: Readonly<Partial<Record<NodeJS.Platform, readonly string[]>>> = {
  // The second is where Windows keeps it for Linux programs (WSL).
  linux: ['libcuda.so.1', '/usr/lib/wsl/lib/libcuda.so.1'],
  win32: ['nvcuda.dll'],
};

/** NVIDIA's driver in this thread. Worker threads load their own; the contexts behind are the process's. */
export class Driver {
  readonly ffi: Ffi;
  readonly calls: Calls;
  /** The newest CUDA the driver knows: 13000 for 13.0. */
  readonly version: number;
  /** The context that is current on this thread, as its handle; 0 for none. */
  current: number = 0;

  /** Binds and initialises. Throws CudaUnavailableError. */
  constructor(ffi: Ffi) {
    this.ffi = ffi;
    const { calls, missing } = bind(ffi);
    this.calls = calls;
    this.version = versionOf(calls);
    if (this.version < OLDEST) throw tooOld(`supports CUDA ${versionText(this.version)} only`);
    if (missing.length > 0) throw tooOld(`lacks ${missing.join(', ')}`);
    const code = calls.cuInit(0);
    if (code !== 0) {
      const { name, meaning, hint } = resultOf(code);
      throw new CudaUnavailableError(`NVIDIA's driver is installed but does not start (${name}: ${meaning}); ${hint}.`);
    }
  }

  /** Calls a function that needs no context. Throws CudaError. */
  run<Name extends CallName>(name: Name, ...values: CallArguments<Name>): void {
    const code = call(this.calls, name, values);
    if (code !== 0) throw new CudaError(name, code);
  }
}

let loaded: Driver | undefined;

/** The machine's driver, loaded on first use. Throws CudaUnavailableError, whose message is one sentence. */
export function loadDriver(): Driver {
  loaded ??= openDriver(LIBRARIES[process.platform] ?? []);
  return loaded;
}

/** The driver in the first of these libraries that loads. Throws CudaUnavailableError. */
export function openDriver(paths: readonly string[]): Driver {
  if (paths.length === 0) {
    throw new CudaUnavailableError(`There is no NVIDIA driver for ${process.platform}: use the CPU device.`);
  }
  let ffi: Ffi;
  try {
    ffi = openLibrary(paths);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new CudaUnavailableError(
      `No NVIDIA driver was found (${message}): install driver ${OLDEST_DRIVER} or newer, or use the CPU device.`,
      { cause },
    );
  }
  return new Driver(ffi);
}

/** `13.0` of 13000. */
export function versionText(version: number): string {
  return `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;
}

/** Calls a function by its name. One place where the compiler cannot follow that name and arguments belong together. */
export function call<Name extends CallName>(calls: Calls, name: Name, values: CallArguments<Name>): number {
  return (calls[name] as (...values: unknown[]) => number)(...values);
}

function bind(ffi: Ffi): { calls: Calls; missing: string[] } {
  const missing: string[] = [];
  const calls: Record<string, unknown> = {};
  for (const [name, row] of Object.entries(TABLE)) {
    const bound = ffi.find(name, wordsOf(row));
    if (bound) calls[name] = bound;
    else missing.push(name);
  }
  return { calls: calls as unknown as Calls, missing };
}

function versionOf(calls: Partial<Calls>): number {
  const out = new Out();
  return calls.cuDriverGetVersion?.(out.data) === 0 ? out.i32 : 0;
}

function tooOld(why: string): CudaUnavailableError {
  return new CudaUnavailableError(
    `The NVIDIA driver ${why}, and Rose needs CUDA ${versionText(OLDEST)}: update to driver ${OLDEST_DRIVER} or newer, or use the CPU device.`,
  );
}
