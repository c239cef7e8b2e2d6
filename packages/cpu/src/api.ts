/**
 * The CPU as a device: shared WebAssembly memories (arenas) of at most 4 GiB, kernels generated at start, and a team of
 * threads that executes lists of commands together. Pointers are byte offsets into an arena.
 *
 * Exactness: every kernel computes each output element by one thread in one fixed order of operations that depends on
 * the element's own row and the operand shapes alone. Row count, tile, family and thread count never change a bit.
 */

/** Number format of a packed weight matrix. int8 and int4 carry one float32 scale for each group of 32 inputs. */
export type MatrixFormat = 'f32' | 'bf16' | 'int8' | 'int4';
/** Number format of tensors as files hold them; little-endian. */
export type SourceDtype = 'F32' | 'F16' | 'BF16';
/** Number format of the keys and values in pages. */
export type CacheDtype = 'f32' | 'bf16';
export type Activation = 'silu' | 'gelu' | 'gelu_tanh' | 'relu' | 'tanh';
/** `plain`: 128-bit tiles. `wide`: tiles shaped for V8's revectorizer (256-bit on x86-64 with AVX2). */
export type TileFamily = 'plain' | 'wide';

/** Tokens in one KV page; also the width of a K panel. */
export const PAGE_TOKENS = 16;

export interface CpuOptions {
  /** Threads that compute, the caller's own among them. */
  readonly threads: number;
  /** Force a family; by default both are checked against the scalar reference and the faster one is taken. */
  readonly family?: TileFamily;
  /** Ask the kernel for huge pages under the arenas (Linux, best effort). Default true. */
  readonly hugePages?: boolean;
}

export interface Cpu {
  readonly threads: number;
  readonly family: TileFamily;
  /** For people: threads, family, why it was chosen, huge pages or not. */
  readonly description: string;
  /** A shared memory of `bytes` (at most 4 GiB) with every kernel instantiated over it in every thread. */
  createArena(bytes: number): Promise<Arena>;
  /** What `Arena.matrix` will allocate, to the byte. */
  matrixBytes(outputs: number, inputs: number, format: MatrixFormat): number;
  /** What `Arena.reserve` will allocate, to the byte. */
  scratchBytes(need: ScratchNeed): number;
  /** End the threads. Arenas become unusable. */
  close(): Promise<void>;
}

/** A weight matrix [outputs, inputs] packed in panels for the chosen family. Made by `Arena.matrix`. */
export interface PackedMatrix {
  readonly format: MatrixFormat;
  readonly outputs: number;
  readonly inputs: number;
  readonly pointer: number;
  readonly bytes: number;
}

export interface Arena {
  readonly memory: WebAssembly.Memory;
  readonly capacity: number;
  readonly used: number;
  /** Zero-filled bytes at a multiple of `align` (default 64). Throws a RangeError with both figures when full. */
  alloc(bytes: number, align?: number): number;
  /** Give everything allocated after `mark` back; `mark` is an earlier value of `used`. For staging buffers. */
  release(mark: number): void;
  f32(pointer: number, length: number): Float32Array;
  i32(pointer: number, length: number): Int32Array;
  u8(pointer: number, length: number): Uint8Array;

  /** Room for a packed matrix. Its contents come by `pack`. */
  matrix(outputs: number, inputs: number, format: MatrixFormat): PackedMatrix;
  /**
   * Pack rows [firstRow, firstRow + rows) from row-major source bytes at `source` in this arena; the team shares the
   * work. Conversions: BF16 to bf16 and F32, F16, BF16 to f32 are exact; others round to nearest even; int8 and int4
   * quantize symmetrically in groups of 32 inputs.
   */
  pack(matrix: PackedMatrix, firstRow: number, rows: number, source: number, dtype: SourceDtype): void;
  /** Convert `count` elements from source bytes to float32 at `target` (exact for all source types). */
  widen(source: number, dtype: SourceDtype, count: number, target: number): void;

  /** Set aside the scratch that running within these bounds needs. Called once, before the first run. */
  reserve(need: ScratchNeed): void;

  /**
   * Collect the elements of a float32 row that are >= threshold, in ascending order of index, on the calling thread.
   * Returns how many there are; at most `capacity` are written to `indices` (int32) and `values` (float32).
   */
  candidates(
    input: number,
    width: number,
    threshold: number,
    indices: number,
    values: number,
    capacity: number,
  ): number;

  /** An empty command list. Lists are reused: `reset` it and append again; appending allocates nothing. */
  program(): Program;
  close(): void;
}

export interface LinearCommand {
  /** float32 [rows, inputs], row-major, rows `inputStride` elements apart (default: inputs). */
  readonly input: number;
  readonly inputStride?: number;
  readonly weight: PackedMatrix;
  /** float32 [outputs] or 0. */
  readonly bias?: number;
  /** float32 [rows, outputs]. */
  readonly output: number;
  readonly rows: number;
  /** Applied last. */
  readonly activation?: Activation;
}

export interface NormCommand {
  readonly kind: 'rms' | 'layer';
  readonly epsilon: number;
  /** float32 [rows, width]. */
  readonly input: number;
  /** float32 [rows, width] or 0: added to the input first. */
  readonly add?: number;
  /** Where input + add is kept, or 0; may be `input`. */
  readonly sum?: number;
  readonly weight: number;
  /** Layer norm only. */
  readonly bias?: number;
  readonly output: number;
  readonly rows: number;
  readonly width: number;
}

export interface EmbedCommand {
  /** A row-major table (float32 or bfloat16 [*, width]) or a packed f32 or bf16 matrix (a tied output matrix). */
  readonly table: { readonly pointer: number; readonly dtype: 'f32' | 'bf16' } | PackedMatrix;
  /** int32 [rows]. */
  readonly index: number;
  /** float32 [rows, width]. */
  readonly output: number;
  readonly rows: number;
  readonly width: number;
  /** Add to what `output` holds. */
  readonly accumulate?: boolean;
}

/**
 * The flat description of a step's sequences, shared by the cache and attention commands: sequence s has rows
 * [rowStart[s], rowStart[s + 1]) of the step; its first row stands at absolute position `start[s]`; its pages are
 * pageTable[pageStart[s] ..], page p holding positions [16 p, 16 p + 16).
 */
export interface SequenceLayout {
  readonly sequences: number;
  /** int32 [sequences + 1]. */
  readonly rowStart: number;
  /** int32 [sequences]. */
  readonly start: number;
  /** int32 [sequences]. */
  readonly pageStart: number;
  /** int32: numbers of pages in the cache. */
  readonly pageTable: number;
}

/**
 * One layer's pages: page p of K head h lies at `pointer + ((p * kvHeads + h) * 2) * pageBytes`, its V right behind;
 * pageBytes = 16 * headDim * size of dtype. K is held [headDim][16 tokens], V [16 tokens][headDim].
 */
export interface CacheLayer {
  readonly pointer: number;
  readonly dtype: CacheDtype;
  readonly kvHeads: number;
  readonly headDim: number;
}

export interface CacheCommand {
  /** float32 [rows, (heads + 2 kvHeads) * headDim]: q, k, v of each row; q is normed and turned in place. */
  readonly qkv: number;
  readonly rows: number;
  readonly heads: number;
  readonly cache: CacheLayer;
  readonly layout: SequenceLayout;
  /** RMS norm over each head before RoPE; weights float32 [headDim]. */
  readonly qkNorm?: { readonly qWeight: number; readonly kWeight: number; readonly epsilon: number };
  /** RoPE, half-split over the first `dim` elements: float32 [positions, dim / 2] each. */
  readonly rope?: { readonly cos: number; readonly sin: number; readonly dim: number };
}

export interface AttentionCommand {
  /** float32 [rows, qStride]: the first heads * headDim elements of a row are q. */
  readonly q: number;
  readonly qStride: number;
  /** float32 [rows, heads * headDim]. */
  readonly output: number;
  readonly heads: number;
  readonly cache: CacheLayer;
  readonly layout: SequenceLayout;
  /** `bidirectional`: every row of a sequence sees all positions up to its last row's. */
  readonly mask: 'causal' | 'bidirectional';
  /** A token sees itself and window - 1 tokens before; 0: all. */
  readonly window: number;
  readonly scale: number;
  /** Longest context (start + rows) among the sequences: sizes the score scratch. */
  readonly maxContext: number;
}

export interface Program {
  reset(): void;
  embed(command: EmbedCommand): void;
  norm(command: NormCommand): void;
  linear(command: LinearCommand): void;
  cache(command: CacheCommand): void;
  attention(command: AttentionCommand): void;
  /** output[r, j] = act(input[r, j]) * input[r, size + j]; input is [rows, 2 size] (gate, then up). */
  gate(command: { input: number; output: number; rows: number; size: number; activation: Activation }): void;
  /** In place over [rows, width]. */
  activate(command: { input: number; rows: number; width: number; activation: Activation }): void;
  /** output[i] = input[index[i]], rows of `width` float32. */
  gather(command: { input: number; index: number; output: number; rows: number; width: number }): void;
  /** One row for each sequence from its rows of [rows, width], by `rowStart`. */
  pool(command: {
    kind: 'cls' | 'mean' | 'max' | 'mean_sqrt' | 'last';
    input: number;
    rowStart: number;
    output: number;
    sequences: number;
    width: number;
  }): void;
  /** Divide each row by max(its Euclidean length, 1e-12). */
  normalize(command: { input: number; rows: number; width: number }): void;
  /**
   * Per row of logits [rows, width]: output float32 [rows, 4] = maximum, index of the first maximum (as int32 bits), sum
   * of exp(x - maximum) as float32, 0.
   */
  summarize(command: { input: number; rows: number; width: number; output: number }): void;
  /** Execute the commands in order, with all threads; returns when all are done. */
  run(): void;
}

/** Bounds within which commands will stay, so that running allocates nothing. */
export interface ScratchNeed {
  /** Rows of any linear command. */
  readonly maxRows: number;
  /** Inputs of any linear command with an int8 or int4 weight; 0 if there is none. */
  readonly maxInputs: number;
  /** Longest context of any attention command. */
  readonly maxContext: number;
  /** Largest headDim of any attention command. */
  readonly maxHeadDim: number;
  /** Widest row that is embedded or normed. */
  readonly maxWidth: number;
}
