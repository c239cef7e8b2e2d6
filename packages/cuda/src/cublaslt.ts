import type { Context } from './context.ts';
import {
  COMPUTE_32F,
  CUBLASLT_TABLE,
  cublasLtWords,
  cublasStatus,
  DATA_TYPE,
  DESCRIPTION,
  HEURISTIC,
  PREFERENCE,
  SCALE_MODE,
  TRANSPOSE,
  type CublasLtCalls,
  type CublasLtName,
} from './cublaslt-table.ts';
import { CudaUnavailableError, CudaUsageError } from './errors.ts';
import type { Ffi, HostData } from './ffi.ts';
import { openLibrary } from './koffi.ts';
import type { DeviceRange } from './memory.ts';
import { Out } from './out.ts';
import { Resource } from './resource.ts';
import type { Stream } from './stream.ts';
import { getWord, setWord } from './structs.ts';

/** Newest first. The driver does not bring the library: it comes with CUDA's toolkit or with PyTorch. */
const LIBRARIES: Readonly<Partial<Record<NodeJS.Platform, readonly string[]>>> = {
  linux: ['libcublasLt.so.13', 'libcublasLt.so.12'],
  win32: ['cublasLt64_13.dll', 'cublasLt64_12.dll'],
};

/** A failed call of cuBLASLt. The message names the call and the meaning. */
export class CublasLtError extends Error {
  /** cublasStatus_t. */
  readonly code: number;
  readonly call: string;

  constructor(call: string, code: number, detail = '') {
    const { name, meaning } = cublasStatus(code);
    super(`${call} failed with ${name}: ${meaning}${detail}`);
    this.name = 'CublasLtError';
    this.code = code;
    this.call = call;
  }
}

/**
 * Opens the machine's cuBLASLt: the file that ROSE_CUBLASLT names, else what the loader finds. Throws
 * CudaUnavailableError, whose message is one sentence: the library is optional, and nothing of Rose needs it.
 */
export function openCublasLt(): Ffi {
  const named = process.env.ROSE_CUBLASLT;
  const paths = named ? [named] : (LIBRARIES[process.platform] ?? []);
  try {
    if (paths.length === 0) throw new Error(`NVIDIA has none for ${process.platform}`);
    return openLibrary(paths);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new CudaUnavailableError(
      `cuBLASLt was not found (${why}): install CUDA's libraries, or name the file in ROSE_CUBLASLT.`,
      { cause },
    );
  }
}

/** A product y[m, n] = scale · x[m, k] · w[n, k]^T of row-major matrices, accumulated in float32. */
export interface LibraryProductShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Of x and w. `e4m3` takes float32 scales for each of them on the device, and n and k that are multiples of 16. */
  readonly input: 'bf16' | 'f16' | 'f32' | 'e4m3';
  /**
   * What the scales of `e4m3` are of: whole tensors (default), rows of x and w, or blocks: x has one for 128 elements of a
   * row, [k / 128, m], and w one for 128 x 128, [n / 128, k / 128 rounded up to 4]. Rows and blocks from version 12.9 on.
   */
  readonly scales?: LibraryScales;
  readonly output: 'bf16' | 'f16' | 'f32';
  /** The most workspace an algorithm may want, in bytes (default 32 MiB, NVIDIA's own advice for Hopper). */
  readonly workspaceBytes?: number;
  /** `e4m3`: sum with the tensor cores' narrower accumulator; faster, less exact. */
  readonly fastAccumulation?: boolean;
}

export interface LibraryProductOperands {
  readonly x: DeviceRange;
  readonly w: DeviceRange;
  readonly y: DeviceRange;
  /** `workspaceBytes` of the product; left out where that is 0. */
  readonly workspace?: DeviceRange;
  /** `e4m3`: as many float32 as `scales` says. */
  readonly xScale?: DeviceRange;
  readonly wScale?: DeviceRange;
}

type LibraryScales = 'tensor' | 'row' | 'block';

/** How the library names the scales of w and of x, and how many there are. */
const SCALES: Readonly<
  Record<
    LibraryScales,
    { readonly w: number; readonly x: number; readonly count: (rows: number, k: number, blockRows: number) => number }
  >
> = {
  tensor: { w: SCALE_MODE.scalar, x: SCALE_MODE.scalar, count: () => 1 },
  row: { w: SCALE_MODE.outerVector, x: SCALE_MODE.outerVector, count: (rows) => rows },
  block: {
    w: SCALE_MODE.block128x128,
    x: SCALE_MODE.vector128,
    count: (rows, k, blockRows) => Math.ceil(rows / blockRows) * Math.ceil(k / 128),
  },
};
const BYTES = { f32: 4, f16: 2, bf16: 2, e4m3: 1 } as const;
const WORKSPACE = 32 * 2 ** 20;
/** As aligned as scales are. */
const ANY_ADDRESS = 4096;

/**
 * NVIDIA's cuBLASLt. It is fast, and it picks its algorithm by the number of rows, so that a row's bits depend on the
 * batch: Rose uses it as a yardstick, and to serve only where `math: 'fast'` is asked for.
 */
export class CublasLt extends Resource {
  readonly calls: CublasLtCalls;
  /** 130100 for 13.1.0. */
  readonly version: number;

  /** Throws CudaUnavailableError where the machine has no cuBLASLt, CublasLtError where it does not start. */
  constructor(context: Context, library: Ffi = openCublasLt()) {
    const calls = bind(library);
    // The library works in the thread's current context.
    context.enter('cuCtxSetCurrent');
    const out = new Out();
    check('cublasLtCreate', calls.cublasLtCreate(out.data));
    super(context, 'cuBLASLt handle', out.word);
    this.calls = calls;
    this.version = calls.cublasLtGetVersion();
  }

  /** Throws CublasLtError. */
  run(name: CublasLtName, ...values: HostData[]): void {
    this.context.enter('cuCtxSetCurrent');
    check(name, this.calls[name](...values));
  }

  /** The product with the library's first choice of algorithm. Throws CublasLtError where it has none. */
  product(shape: LibraryProductShape): LibraryProduct {
    return new LibraryProduct(this, shape);
  }

  protected override release(handle: number): void {
    this.run('cublasLtDestroy', handle);
  }
}

/** A product whose algorithm is chosen. `run` puts it into a stream (captured, too) and allocates nothing. */
export class LibraryProduct extends Resource {
  readonly shape: LibraryProductShape;
  /** What the chosen algorithm needs as `workspace`. */
  readonly workspaceBytes: number;
  readonly #library: CublasLt;
  readonly #layouts: number[] = [];
  readonly #algorithm: Uint8Array;
  readonly #one = new Float32Array([1]);
  readonly #zero = new Float32Array([0]);
  readonly #pointer = new DataView(new ArrayBuffer(8));

  constructor(library: CublasLt, shape: LibraryProductShape) {
    for (const name of ['m', 'n', 'k'] as const) {
      if (Number.isSafeInteger(shape[name]) && shape[name] > 0) continue;
      throw new CudaUsageError(`a matrix product has a positive number of elements in ${name}, not ${shape[name]}`);
    }
    const out = new Out();
    library.run('cublasLtMatmulDescCreate', out.data, COMPUTE_32F, DATA_TYPE.f32);
    super(library.context, 'cuBLASLt product', out.word);
    this.shape = shape;
    this.#library = library;
    const { algorithm, workspaceBytes } = this.orDispose(() => this.#choose());
    this.#algorithm = algorithm;
    this.workspaceBytes = workspaceBytes;
  }

  /** Throws CudaUsageError where an operand is missing or too small. */
  run(stream: Stream, operands: LibraryProductOperands): void {
    const { m, n, k, input, output } = this.shape;
    const { x, w, y, workspace, xScale, wScale } = operands;
    needs('x', x, m * k * BYTES[input]);
    needs('w', w, n * k * BYTES[input]);
    needs('y', y, m * n * BYTES[output]);
    if (this.workspaceBytes > 0) needs('workspace', workspace, this.workspaceBytes);
    if (input === 'e4m3') {
      const { count } = SCALES[this.shape.scales ?? 'tensor'];
      needs('wScale', wScale, 4 * count(n, k, 128));
      needs('xScale', xScale, 4 * count(m, k, 1));
      this.#setScale(DESCRIPTION.scaleA, wScale);
      this.#setScale(DESCRIPTION.scaleB, xScale);
    }
    const [layoutW, layoutX, layoutY] = this.#layouts;
    this.#library.run(
      'cublasLtMatmul',
      this.#library.handle,
      this.handle,
      this.#one,
      w.address,
      layoutW,
      x.address,
      layoutX,
      this.#zero,
      y.address,
      layoutY,
      y.address,
      layoutY,
      this.#algorithm,
      workspace?.address ?? 0,
      this.workspaceBytes,
      stream.handle,
    );
  }

  /** The library's matrices are column-major: it computes y^T[n, m] = (w^T)^T · x^T, of the same bytes. */
  #choose(): { algorithm: Uint8Array; workspaceBytes: number } {
    const { m, n, k, input, output, fastAccumulation } = this.shape;
    this.#describe(DESCRIPTION.transposeA, new Int32Array([TRANSPOSE]));
    if (fastAccumulation) this.#describe(DESCRIPTION.fastAccumulation, new Int8Array([1]));
    const modes = SCALES[this.shape.scales ?? 'tensor'];
    if (modes !== SCALES.tensor) {
      this.#describe(DESCRIPTION.scaleModeA, new Int32Array([modes.w]));
      this.#describe(DESCRIPTION.scaleModeB, new Int32Array([modes.x]));
      // The library only finds algorithms where there are scales; `run` says where they are.
      setWord(this.#pointer, 0, ANY_ADDRESS);
      this.#describe(DESCRIPTION.scaleA, this.#pointer);
      this.#describe(DESCRIPTION.scaleB, this.#pointer);
    }
    const layouts = [this.#layout(input, k, n), this.#layout(input, k, m), this.#layout(output, n, m)];
    const library = this.#library;
    const out = new Out();
    library.run('cublasLtMatmulPreferenceCreate', out.data);
    const preference = out.word;
    try {
      setWord(this.#pointer, 0, this.shape.workspaceBytes ?? WORKSPACE);
      library.run('cublasLtMatmulPreferenceSetAttribute', preference, PREFERENCE.maxWorkspaceBytes, this.#pointer, 8);
      const result = new DataView(new ArrayBuffer(HEURISTIC.bytes));
      const [w, x, y] = layouts;
      const { handle } = library;
      library.run('cublasLtMatmulAlgoGetHeuristic', handle, this.handle, w, x, y, y, preference, 1, result, out.data);
      const status = result.getInt32(HEURISTIC.status, true);
      if (out.i32 < 1 || status !== 0) {
        const what = ` (y[${m}, ${n}] = x[${m}, ${k}] · w[${n}, ${k}]^T, ${input} to ${output})`;
        throw new CublasLtError('cublasLtMatmulAlgoGetHeuristic', status || 15, what);
      }
      return {
        algorithm: new Uint8Array(result.buffer, 0, 64),
        workspaceBytes: getWord(result, HEURISTIC.workspaceBytes),
      };
    } finally {
      library.run('cublasLtMatmulPreferenceDestroy', preference);
    }
  }

  #layout(type: keyof typeof DATA_TYPE, rows: number, columns: number): number {
    const out = new Out();
    this.#library.run('cublasLtMatrixLayoutCreate', out.data, DATA_TYPE[type], rows, columns, rows);
    this.#layouts.push(out.word);
    return out.word;
  }

  #describe(attribute: number, value: NodeJS.TypedArray | DataView): void {
    this.#library.run('cublasLtMatmulDescSetAttribute', this.handle, attribute, value, value.byteLength);
  }

  #setScale(attribute: number, scale: DeviceRange): void {
    setWord(this.#pointer, 0, scale.address);
    this.#describe(attribute, this.#pointer);
  }

  protected override release(handle: number): void {
    // The first layouts may be all there is where the construction failed.
    for (const layout of this.#layouts) this.#library.run('cublasLtMatrixLayoutDestroy', layout);
    this.#library.run('cublasLtMatmulDescDestroy', handle);
  }
}

function bind(library: Ffi): CublasLtCalls {
  const calls: Partial<Record<CublasLtName, unknown>> = {};
  for (const name of Object.keys(CUBLASLT_TABLE) as CublasLtName[]) {
    calls[name] = library.find(name, cublasLtWords(name));
    if (!calls[name]) throw new CudaUnavailableError(`The cuBLASLt that was found lacks ${name}: it is too old.`);
  }
  return calls as CublasLtCalls;
}

function check(call: CublasLtName, code: number): void {
  if (code !== 0) throw new CublasLtError(call, code);
}

function needs(name: string, range: DeviceRange | undefined, bytes: number): asserts range is DeviceRange {
  if (range && range.bytes >= bytes) return;
  throw new CudaUsageError(`${name} of a matrix product takes ${bytes} bytes, and ${range?.bytes ?? 0} are given`);
}
