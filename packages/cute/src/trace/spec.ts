import type { TypeName } from '../types/dtype.ts';

/** An extent or stride of a tensor: a number, the name of one that a launch tells, or such a name with a known divisor. */
export type Dim = number | string | Divisible;

/** A number that a launch tells, known to be a multiple of `by`. */
export interface Divisible {
  readonly name: string;
  readonly by: number;
}

/** `divisible('N', 8)`: the extent N is a multiple of 8, which wide loads need to know. */
export function divisible(name: string, by: number): Divisible {
  if (!Number.isInteger(by) || by < 1) throw new RangeError(`a divisor is a whole number of at least 1, not ${by}`);
  return { name, by };
}

export interface TensorOptions {
  /** Elements from one to the next, mode by mode; by default compact, last mode fastest. */
  readonly stride?: readonly Dim[];
  /** Bytes that divide the address of the first element; checked at launch. Default 16. */
  readonly align?: number;
}

/** A parameter that is a tensor in global memory. */
export interface TensorSpec<K extends TypeName = TypeName> extends TensorOptions {
  readonly kind: 'tensor';
  readonly type: K;
  readonly shape: readonly Dim[];
}

export function tensorSpec<K extends TypeName>(type: K, shape: readonly Dim[], options: TensorOptions): TensorSpec<K> {
  if (options.stride && options.stride.length !== shape.length) {
    throw new RangeError(`a tensor of ${shape.length} modes has as many strides, not ${options.stride.length}`);
  }
  return { kind: 'tensor', type, shape, ...options };
}
