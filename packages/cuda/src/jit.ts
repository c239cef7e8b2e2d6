import type { AssembleOptions } from './assembler.ts';
import type { Ffi } from './ffi.ts';
import { textOf } from './out.ts';
import { setWord } from './structs.ts';

const KEYS = {
  maxRegisters: 0,
  infoLog: 3,
  infoLogBytes: 4,
  errorLog: 5,
  errorLogBytes: 6,
  optimization: 7,
  logVerbose: 12,
  lineInfo: 13,
} as const;
const LOG_BYTES = 64 * 1024;

/** CUjit_option lists for the driver's compiler, with room for what it says. */
export class JitOptions {
  readonly count: number;
  readonly keys: Int32Array;
  readonly values: DataView;
  readonly #info = new Uint8Array(LOG_BYTES);
  readonly #error = new Uint8Array(LOG_BYTES);

  constructor(ffi: Ffi, { maxRegisters, lineInfo = true, optimization = 4 }: AssembleOptions) {
    const options: (readonly [key: number, value: number])[] = [
      [KEYS.infoLog, ffi.address(this.#info)],
      [KEYS.infoLogBytes, LOG_BYTES],
      [KEYS.errorLog, ffi.address(this.#error)],
      [KEYS.errorLogBytes, LOG_BYTES],
      [KEYS.logVerbose, 1],
      [KEYS.lineInfo, lineInfo ? 1 : 0],
      [KEYS.optimization, optimization],
      ...(maxRegisters === undefined ? [] : [[KEYS.maxRegisters, maxRegisters] as const]),
    ];
    this.count = options.length;
    this.keys = new Int32Array(options.map(([key]) => key));
    this.values = new DataView(new ArrayBuffer(8 * options.length));
    for (const [at, [, value]] of options.entries()) setWord(this.values, 8 * at, value);
  }

  /** What the compiler said, after the call. */
  get log(): string {
    return textOf(this.#info);
  }

  get errors(): string {
    return textOf(this.#error);
  }
}
