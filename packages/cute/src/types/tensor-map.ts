import type { TypeName } from './dtype.ts';

/** Element types of a tensor that the tensor copy engine moves. */
export type TensorMapElement = Extract<
  TypeName,
  'u8' | 'u16' | 'u32' | 'i32' | 'u64' | 'i64' | 'f16' | 'bf16' | 'f32' | 'tf32' | 'f64' | 'e4m3' | 'e5m2'
>;

/**
 * What a CUtensorMap says, but where the tensor lies. The simulator computes with it, the driver's
 * `cuTensorMapEncodeTiled` encodes it (maps for im2col are only simulated). Interleave is always none.
 */
export interface TensorMapDescription {
  readonly element: TensorMapElement;
  /** Elements in each of the 1 to 5 dimensions, the contiguous one first. */
  readonly shape: readonly number[];
  /** Bytes from one element to the next in dimension 1, 2, ...; one fewer than dimensions. Default: no gaps. */
  readonly strides?: readonly number[];
  /** Elements that one copy moves in each dimension, 1 to 256. im2col: channels (to 256) and pixels (to 1024). */
  readonly box: readonly number[];
  /** Steps between the elements that are copied; default 1 in each dimension. */
  readonly elementStrides?: readonly number[];
  /** Span in bytes within which 16-byte pieces of the box's rows are exchanged in shared memory. Default none. */
  readonly swizzle?: 'none' | '32' | '64' | '128';
  /** What elements outside of the tensor read as. Default zero. */
  readonly outside?: 'zero' | 'nan';
  /** Copies of pixels for convolutions, from tensors of 3 to 5 dimensions: channels, width, (height, depth,) images. */
  readonly im2col?: Im2col;
}

/** Where im2col copies take their pixels from. Width first; one number for each dimension but channels and images. */
export interface Im2col {
  /** The first pixel of a row (column, ...) that a filter's corner takes, from the tensor's first. */
  readonly lower: readonly number[];
  /** The last one, from the tensor's last. */
  readonly upper: readonly number[];
}
