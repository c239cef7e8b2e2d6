import { bitsOf, type TypeName } from '../types/dtype.ts';
import { describe } from './convert.ts';

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
  /** Bytes that divide the address of the first element, a power of two; checked at launch. Default 16. */
  readonly align?: number;
}

/** A parameter that is a tensor in global memory. */
export interface TensorSpec<K extends TypeName = TypeName> extends TensorOptions {
  readonly kind: 'tensor';
  readonly type: K;
  readonly shape: readonly Dim[];
}

/** @throws RangeError for extents, strides or an alignment that no tensor has. */
export function tensorSpec<K extends TypeName>(
  type: K,
  shape: readonly Dim[],
  options: TensorOptions = {},
): TensorSpec<K> {
  const { stride, align, ...others } = options;
  const fail = (what: string): never => {
    throw new RangeError(`${type}.tensor: ${what}`);
  };
  const [other] = Object.keys(others);
  if (other !== undefined) fail(`there is no option ${other}; there are stride and align`);
  if (shape.length === 0) fail(`a tensor has at least one extent, e.g. ${type}.tensor('n')`);
  for (const extent of shape) {
    if (isDim(extent, 1)) continue;
    fail(
      `an extent is a whole number from 1, a name, or divisible(name, by), not ${text(extent)}; ` +
        `options stand behind a list of the extents: ${type}.tensor(['n'], { align: 4 })`,
    );
  }
  if (stride && stride.length !== shape.length) {
    fail(`a tensor of ${shape.length} modes has as many strides, not ${stride.length}`);
  }
  for (const step of stride ?? []) {
    if (!isDim(step, Number.MIN_SAFE_INTEGER)) {
      fail(`a stride is a whole number, a name, or divisible(name, by), not ${text(step)}`);
    }
  }
  const bytes = Math.max(1, bitsOf(type) / 8);
  if (align !== undefined && !(align >= bytes && Number.isInteger(Math.log2(align)))) {
    fail(`align is a power of two of at least ${bytes}, the bytes of an element, not ${text(align)}`);
  }
  return { kind: 'tensor', type, shape, ...options };
}

function isDim(dim: unknown, least: number): boolean {
  if (typeof dim === 'number') return Number.isSafeInteger(dim) && dim >= least;
  if (typeof dim === 'string') return dim !== '';
  return typeof dim === 'object' && dim !== null && 'name' in dim && 'by' in dim && isDim(dim.by, 1);
}

function text(value: unknown): string {
  return typeof value === 'object' || typeof value === 'string' ? JSON.stringify(value) : describe(value);
}
