import type { ModelSpec } from '../model/spec.ts';
import type { Parameter } from '../model/parameters.ts';

/** Number formats of a checkpoint's tensors that Rose reads. */
export type TensorDtype = 'F32' | 'F16' | 'BF16';

/** Defaults a checkpoint gives for sampling (`generation_config.json`); undefined where it says nothing. */
export interface GenerationDefaults {
  readonly temperature: number | undefined;
  readonly topK: number | undefined;
  readonly topP: number | undefined;
  readonly minP: number | undefined;
  readonly repetitionPenalty: number | undefined;
  readonly maxNewTokens: number | undefined;
  /** Whether the checkpoint wants sampling (`do_sample`); false means greedy unless the request says otherwise. */
  readonly sample: boolean;
  /** Tokens that end a sequence. */
  readonly endTokens: readonly number[];
}

/** A tensor of the checkpoint that holds a parameter. Its bytes are little-endian, row-major. */
export interface CheckpointTensor {
  readonly parameter: Parameter;
  /** Its name in the file. */
  readonly tensorName: string;
  readonly dtype: TensorDtype;
  readonly byteLength: number;
  /**
   * Read bytes [offset, offset + target.byteLength) of the tensor straight into `target`, which may view shared memory.
   * Throws a RoseError naming the tensor if the file ends early.
   */
  read(target: Uint8Array, offset: number): Promise<void>;
  /** The same for bytes that go to several places, one after the other. */
  scatter(targets: readonly Uint8Array[], offset: number): Promise<void>;
  /** Of a matrix of e4m3: what lies in the file. All else says what it is as float32. */
  readonly fp8?: Fp8Matrix;
}

/** A matrix of e4m3 as it is stored, a byte an element. */
export interface Fp8Matrix {
  /** What has a scale: all of the matrix, each row, or each 128 x 128 elements. */
  readonly kind: 'tensor' | 'row' | 'block';
  /** What elements are multiplied by: [1], [rows], or [ceil(rows / 128), ceil(columns / 128)]. */
  readonly scales: ScaleTensor;
  /** What activations are divided by before they are rounded to e4m3; undefined: their scales follow from their values. */
  readonly input: ScaleTensor | undefined;
  readonly byteLength: number;
  read(target: Uint8Array, offset: number): Promise<void>;
  scatter(targets: readonly Uint8Array[], offset: number): Promise<void>;
}

/** A few numbers of a checkpoint, as float32. */
export interface ScaleTensor {
  readonly count: number;
  read(): Promise<Float32Array>;
}

/** What a layer's keys and values are divided by where they are kept as e4m3. */
export interface StoredCacheScales {
  readonly keys: ScaleTensor;
  readonly values: ScaleTensor;
}

/**
 * An opened model directory: everything is checked (config, header, offsets, names, shapes, dtypes) before it is
 * returned, and no weight has been read.
 */
export interface Checkpoint {
  readonly directory: string;
  readonly spec: ModelSpec;
  readonly defaults: GenerationDefaults;
  /** What a user should know about how the files were understood; sentences, often none. */
  readonly notes: readonly string[];
  /** One for each of `parametersOf(spec)`, in that order. */
  readonly tensors: readonly CheckpointTensor[];
  /** By layer; of layers for which the checkpoint has none, there are none. */
  readonly cacheScales: ReadonlyMap<number, StoredCacheScales>;
  /** Close the files. */
  close(): Promise<void>;
}
