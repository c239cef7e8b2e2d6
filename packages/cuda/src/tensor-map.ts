import type { Context } from './context.ts';
import { CudaUsageError } from './errors.ts';
import type { DeviceRange } from './memory.ts';
import { setWord, TENSOR_MAP } from './structs.ts';

const ELEMENTS = {
  u8: { code: 0, bytes: 1, float: false },
  u16: { code: 1, bytes: 2, float: false },
  u32: { code: 2, bytes: 4, float: false },
  i32: { code: 3, bytes: 4, float: false },
  u64: { code: 4, bytes: 8, float: false },
  i64: { code: 5, bytes: 8, float: false },
  f16: { code: 6, bytes: 2, float: true },
  f32: { code: 7, bytes: 4, float: true },
  f64: { code: 8, bytes: 8, float: true },
  bf16: { code: 9, bytes: 2, float: true },
  tf32: { code: 11, bytes: 4, float: true },
  // The copy engine moves 8-bit floats as bytes.
  e4m3: { code: 0, bytes: 1, float: false },
  e5m2: { code: 0, bytes: 1, float: false },
} as const;

const SWIZZLES = { none: 0, '32': 1, '64': 2, '128': 3 } as const;
const SPANS = { none: Infinity, '32': 32, '64': 64, '128': 128 } as const;
const PROMOTIONS = { none: 0, '64': 1, '128': 2, '256': 3 } as const;

/** A tensor map as the kernel language describes it, where its tensor lies, and what only the hardware cares about. */
export interface TensorMapOptions {
  readonly element: keyof typeof ELEMENTS;
  /** Where element 0 lies. */
  readonly memory: DeviceRange;
  /** Elements in each dimension, the contiguous one first. */
  readonly shape: readonly number[];
  /** Bytes from one element to the next in dimension 1, 2, ...: one fewer than dimensions. Default: no gaps. */
  readonly strides?: readonly number[];
  /** Elements that one copy moves in each dimension. */
  readonly box: readonly number[];
  /** Steps between the elements that are copied; default 1 in each dimension. */
  readonly elementStrides?: readonly number[];
  /** How 16-byte pieces of a box's rows are mixed in shared memory against bank conflicts. Default none. */
  readonly swizzle?: keyof typeof SWIZZLES;
  /** Bytes that a miss in the level-2 cache fetches. Default 128. */
  readonly promotion?: keyof typeof PROMOTIONS;
  /** What elements outside of the tensor read as. Default zero. */
  readonly outside?: 'zero' | 'nan';
}

/** A CUtensorMap: what the tensor copy engine (TMA) needs to know of a tensor. Passed to kernels by value. */
export class TensorMap {
  /** The 128 opaque bytes. */
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

/**
 * Encodes a tensor map for tiled copies. Throws CudaUsageError which says in words what rule of
 * cuTensorMapEncodeTiled a value breaks; the driver itself answers "invalid value" to all of them.
 */
export function encodeTensorMap(context: Context, options: TensorMapOptions): TensorMap {
  const type = ELEMENTS[options.element];
  const { shape, box, swizzle = 'none', promotion = '128', outside = 'zero' } = options;
  const rank = shape.length;
  const strides = options.strides ?? packedStrides(shape, type.bytes);
  const elementStrides = options.elementStrides ?? shape.map(() => 1);
  const problem = checkTensorMap({ ...options, strides, elementStrides });
  if (problem !== undefined) throw new CudaUsageError(`this tensor map is not possible: ${problem}`);
  if (context.device.attribute('tensorMaps') === 0) {
    throw new CudaUsageError(`${context.device.toString()} has no tensor copy engine: it came with Hopper (sm_90)`);
  }

  const room = new Uint8Array(TENSOR_MAP.bytes + TENSOR_MAP.align);
  const base = context.driver.ffi.address(room);
  const skip = -base & (TENSOR_MAP.align - 1);
  context.run(
    'cuTensorMapEncodeTiled',
    base + skip,
    type.code,
    rank,
    options.memory.address,
    words(shape),
    words(strides),
    new Uint32Array(box),
    new Uint32Array(elementStrides),
    0,
    SWIZZLES[swizzle],
    PROMOTIONS[promotion],
    outside === 'nan' ? 1 : 0,
  );
  return new TensorMap(room.slice(skip, skip + TENSOR_MAP.bytes));
}

/**
 * What rule of `cuTensorMapEncodeTiled` (CUDA 13) the options break, or undefined. Needs no GPU, so that a kernel's
 * plan can be checked anywhere.
 */
export function checkTensorMap(
  options: Omit<TensorMapOptions, 'memory'> & { readonly memory: { readonly address: number; readonly bytes: number } },
): string | undefined {
  const { shape, box, swizzle = 'none', outside = 'zero', memory } = options;
  const { bytes, float } = ELEMENTS[options.element];
  const rank = shape.length;
  const strides = options.strides ?? packedStrides(shape, bytes);
  const elementStrides = options.elementStrides ?? shape.map(() => 1);
  if (rank < 1 || rank > 5) return `a tensor has 1 to 5 dimensions, and this one ${rank}`;
  if (box.length !== rank) return `the box has ${box.length} dimensions and the tensor ${rank}`;
  if (strides.length !== rank - 1)
    return `${rank} dimensions need ${rank - 1} strides (bytes), and there are ${strides.length}`;
  if (elementStrides.length !== rank)
    return `${rank} dimensions need ${rank} element strides, and there are ${elementStrides.length}`;
  if (memory.address % 16 !== 0) return `its address (0x${memory.address.toString(16)}) must be a multiple of 16`;

  const each = (values: readonly number[], most: number, what: string): string | undefined => {
    const at = values.findIndex((value) => !Number.isInteger(value) || value < 1 || value > most);
    return at < 0 ? undefined : `${what} ${at} is ${values[at]} and must be an integer from 1 to ${most}`;
  };
  const outOfRange =
    each(shape, 2 ** 31, 'the size of dimension') ??
    each(box, 256, 'the box in dimension') ??
    each(elementStrides, 8, 'the element stride of dimension');
  if (outOfRange !== undefined) return outOfRange;

  for (const [at, stride] of strides.entries()) {
    if (!Number.isInteger(stride) || stride < 1 || stride % 16 !== 0 || stride >= 2 ** 40) {
      return `the stride of dimension ${at + 1} is ${stride} bytes and must be a multiple of 16 below 2^40`;
    }
  }
  const row = box[0] * bytes;
  if (row % 16 !== 0)
    return `a row of the box has ${row} bytes (${box[0]} ${options.element}) and must be a multiple of 16`;
  if (row > SPANS[swizzle]) {
    return `a row of the box has ${row} bytes and swizzle ${swizzle} spans ${SPANS[swizzle]}: use a box of at most ${SPANS[swizzle] / bytes} in dimension 0`;
  }
  if (outside === 'nan' && !float)
    return `only floats can read as NaN outside of the tensor, and ${options.element} are not`;

  const last = strides.reduce((sum, stride, at) => sum + stride * (shape[at + 1] - 1), shape[0] * bytes);
  if (last > memory.bytes) return `the tensor ends after ${last} bytes and its memory has ${memory.bytes}`;
  return undefined;
}

function packedStrides(shape: readonly number[], bytes: number): number[] {
  const strides: number[] = [];
  let stride = bytes;
  for (const size of shape.slice(0, -1)) strides.push((stride *= size));
  return strides;
}

function words(values: readonly number[]): DataView {
  const view = new DataView(new ArrayBuffer(8 * Math.max(1, values.length)));
  for (const [at, value] of values.entries()) setWord(view, 8 * at, value);
  return view;
}
