import { makeNode } from '../ir/builder.ts';
import type { Attribute, Value } from '../ir/ir.ts';
import { coalesce, composition } from '../layout/algebra.ts';
import { ComposedLayout, isLayout, type AnyLayout } from '../layout/composed.ts';
import { gcdNumber } from '../layout/arithmetic.ts';
import { isDynamic, type Leaf } from '../layout/leaf.ts';
import { Layout, makeLayout } from '../layout/layout.ts';
import { localPartition, localTile, type Part, type Projection } from '../layout/local.ts';
import { recast } from '../layout/recast.ts';
import { hasUnderscore } from '../layout/coord.ts';
import { dice, sliceAndOffset } from '../layout/slice.ts';
import { Swizzle } from '../layout/swizzle.ts';
import type { Tiler } from '../layout/tiler.ts';
import { isTuple, leavesOf, product, type Coord, type IntTuple } from '../layout/tuple.ts';
import { bitsOf, type TypeName } from '../types/dtype.ts';
import { binary, wide } from './arithmetic.ts';
import { condition, isDevice, operand } from './convert.ts';
import { checkCoordinate } from './coordinate.ts';
import { Fragment } from './fragment.ts';
import { need, type Trace } from './state.ts';
import { typeNameOf, type Scalar, type ScalarType, type u64 } from './types.ts';

/** A coordinate of a tensor: numbers and device values, `_` for a mode that stays open, nested as the shape is. */
export type TensorCoord = number | typeof import('../layout/tuple.ts')._ | readonly TensorCoord[];

/** How memory is read and written. Everything is optional. */
export interface AccessOptions {
  /**
   * Only where this holds; a load gives `otherwise` elsewhere. A fragment of conditions speaks for the elements one by
   * one, or each for as many neighbours as there are elements to a condition.
   */
  readonly where?: boolean | Fragment<unknown>;
  /** What a load gives where `where` does not hold. Default 0. */
  readonly otherwise?: number;
  /** Elements of one instruction; by default the most that layout and alignment prove. */
  readonly vector?: number;
  readonly order?: 'weak' | 'relaxed' | 'acquire' | 'release' | 'volatile' | 'nc';
  readonly scope?: 'cta' | 'cluster' | 'gpu' | 'sys';
  readonly l1?: 'evict_normal' | 'evict_unchanged' | 'evict_first' | 'evict_last' | 'no_allocate';
  readonly l2?: 'evict_normal' | 'evict_first' | 'evict_last';
  /** A cache policy of `cachePolicy`, instead of `l2`. */
  readonly policy?: u64;
  /**
   * PTX's cache operator, for weak accesses without `l1`: `cs` streams (used once), `cg` passes by the first level; loads
   * also `ca`, `lu` (last use) and `cv`, stores `wb` and `wt`.
   */
  readonly cache?: 'ca' | 'cg' | 'cs' | 'lu' | 'cv' | 'wb' | 'wt';
  /** Bytes to prefetch into L2: 64, 128 or 256. */
  readonly prefetch?: 64 | 128 | 256;
}

export type Space = 'global' | 'shared' | 'cluster' | 'generic';

/** Memory seen through a layout. */
export interface Tensor<T = number> {
  /** Fixes coordinates; with `_` in it the rest stays open. Several arguments are the modes of one coordinate. */
  (...coord: TensorCoord[]): Tensor<T>;
  /** An element, by its colexicographic number for tensors of several modes. */
  [index: number]: T;
  readonly layout: AnyLayout;
  readonly shape: readonly number[];
  /** Number of elements. */
  readonly size: number;
  readonly type: TypeName;
  readonly space: Space;
  /** Address of the first element. */
  readonly address: Value;
  /** The same memory through the layout composed with another one, or tiled. */
  compose(tiler: Tiler): Tensor<T>;
  /** The same memory through a layout made from its own. */
  view(change: (layout: Layout) => AnyLayout): Tensor<T>;
  /** The tile at a coordinate (`local_tile`). */
  tile(tiler: Tiler, coord: TensorCoord, projection?: Projection): Tensor<T>;
  /** The elements of one thread (`local_partition`). */
  partition(threads: Layout, index: number, projection?: Projection): Tensor<T>;
  /** All elements, as few wide loads as layout and alignment prove. */
  load(options?: AccessOptions): Fragment<T>;
  store(values: Fragment<unknown>, options?: AccessOptions): void;
}

/** What a tensor is made of. */
export interface TensorParts {
  readonly address: Value;
  /** Elements from the address to the first one. */
  readonly offset: number;
  readonly layout: AnyLayout;
  readonly type: TypeName;
  readonly space: Space;
  /** Number of the kernel's parameter that it comes from. */
  readonly param: number | undefined;
}

/** Bytes that one load or store moves at most. */
const WIDEST = 16;

abstract class TensorBase {
  declare readonly parts: TensorParts;

  get layout(): AnyLayout {
    return this.parts.layout;
  }
  get shape(): readonly unknown[] {
    const { shape } = this.parts.layout;
    return isTuple(shape) ? shape : [shape];
  }
  get size(): Leaf {
    return this.parts.layout.size;
  }
  get type(): TypeName {
    return this.parts.type;
  }
  get space(): Space {
    return this.parts.space;
  }
  get address(): Value {
    const { parts } = this;
    const trace = need('the address of a tensor');
    touch(trace, parts, 'read');
    touch(trace, parts, 'write');
    return moved(trace, parts.address, 0, parts.offset * bytesOf(parts.type));
  }

  compose(tiler: Tiler): unknown {
    return makeTensor({ ...this.parts, layout: composition(this.parts.layout as Layout, tiler as Layout) });
  }

  view(change: (layout: Layout) => AnyLayout): unknown {
    return makeTensor({ ...this.parts, layout: change(this.parts.layout as Layout) });
  }

  tile(tiler: Tiler, coord: Coord, projection?: Projection): unknown {
    checkCoordinate(need('a tensor'), coord);
    return this.part(localTile(this.parts.layout, tiler, coord, projection));
  }

  partition(threads: Layout, index: Leaf, projection?: Projection): unknown {
    checkCoordinate(need('a tensor'), index);
    return this.part(localPartition(this.parts.layout, threads, index, projection));
  }

  private part([layout, offset]: Part): unknown {
    return makeTensor(shifted(need('a tensor'), { ...this.parts, layout }, offset as Leaf));
  }

  load(options: AccessOptions = {}): Fragment<unknown> {
    const trace = need('a load');
    const { type } = this.parts;
    touch(trace, this.parts, 'read');
    const { count, width, index, where } = pieces(trace, this.parts, options);
    const values: unknown[] = [];
    for (let i = 0; i < count; i += width) {
      values.push(...loadPiece(trace, this.parts, index(i), width, options, where(i)));
    }
    return new Fragment<unknown>(values, type);
  }

  store(fragment: Fragment<unknown>, options: AccessOptions = {}): void {
    const trace = need('a store');
    touch(trace, this.parts, 'write');
    const { count, width, index, where } = pieces(trace, this.parts, options);
    if (fragment.length !== count) {
      trace.fail(
        `a fragment of ${fragment.length} elements does not fit a tensor of ${count} (${String(this.parts.layout)})`,
      );
    }
    const values = fragment.values().map((value) => operand(trace, value, this.parts.type, 'element to store'));
    for (let i = 0; i < count; i += width) {
      storePiece(trace, this.parts, index(i), values.slice(i, i + width), options, where(i));
    }
  }

  getElement(coord: unknown): unknown {
    const trace = need('a load');
    touch(trace, this.parts, 'read');
    checkCoordinate(trace, coord);
    const at = locate(trace, this.parts, coord as Coord);
    return loadPiece(trace, at, 0, 1, {}, true)[0];
  }

  putElement(coord: unknown, value: unknown): void {
    const trace = need('a store');
    touch(trace, this.parts, 'write');
    checkCoordinate(trace, coord);
    const at = locate(trace, this.parts, coord as Coord);
    storePiece(trace, at, 0, [operand(trace, value, this.parts.type, 'element to store')], {}, true);
  }
}

export function makeTensor<T>(parts: TensorParts): Tensor<T> {
  const tensor = (...coord: Coord[]): unknown =>
    slice(tensor as unknown as TensorBase, coord.length === 1 ? coord[0] : coord);
  Object.setPrototypeOf(tensor, TensorBase.prototype);
  Object.defineProperty(tensor, 'parts', { value: parts });
  return tensor as unknown as Tensor<T>;
}

export function isTensor(value: unknown): value is Tensor<unknown> {
  return value instanceof TensorBase;
}

function slice(tensor: TensorBase, coord: Coord): Tensor<unknown> {
  const trace = need('slicing a tensor');
  checkCoordinate(trace, coord);
  const { parts } = tensor;
  if (!hasUnderscore(coord)) return makeTensor({ ...locate(trace, parts, coord), layout: new Layout(1, 0) });
  if (parts.layout instanceof ComposedLayout || parts.space !== 'global') {
    const [layout, offset] = sliceAndOffset(coord, parts.layout);
    return makeTensor(shifted(trace, { ...parts, layout }, offset as Leaf));
  }
  const fixed = dice(coord, parts.layout);
  const [layout] = sliceAndOffset(zeroed(coord), parts.layout);
  return makeTensor({ ...along(trace, parts, fixedOf(coord), fixed.shape, fixed.stride as IntTuple), layout });
}

/** The coordinate with 0 for what it fixes: only the layout of the rest is asked for. */
function zeroed(coord: Coord): Coord {
  if (isTuple(coord)) return coord.map(zeroed);
  return typeof coord === 'symbol' ? coord : 0;
}

function fixedOf(coord: Coord): Coord {
  if (!isTuple(coord)) return typeof coord === 'symbol' ? [] : coord;
  return coord.flatMap((part) => {
    if (isTuple(part)) return [fixedOf(part)].flat() as Coord[];
    return typeof part === 'symbol' ? [] : [part];
  });
}

/** The tensor's memory from a coordinate without `_` on. */
function locate(trace: Trace, parts: TensorParts, coord: Coord): TensorParts {
  if (parts.layout instanceof Layout && parts.space === 'global') {
    return along(trace, parts, coord, parts.layout.shape, parts.layout.stride as IntTuple);
  }
  return shifted(trace, parts, parts.layout.at(coord));
}

/** Moves by coordinate times stride, mode by mode: the products have 64 bits, so that no offset overflows. */
function along(trace: Trace, parts: TensorParts, coord: Coord, shape: IntTuple, stride: IntTuple): TensorParts {
  if (isTuple(coord)) {
    if (!isTuple(shape) || !isTuple(stride) || shape.length !== coord.length) {
      // Coordinates that the slice flattened, or modes of one.
      if (coord.length === 1) return along(trace, parts, coord[0], shape, stride);
      return trace.fail(`the coordinate has ${coord.length} modes, the tensor ${isTuple(shape) ? shape.length : 1}`);
    }
    return coord.reduce<TensorParts>((moved, part, i) => along(trace, moved, part, shape[i], stride[i]), parts);
  }
  if (!isTuple(shape) || !isTuple(stride)) return step(trace, parts, coord as Leaf, stride as Leaf);
  let rest = coord as Leaf;
  let result = parts;
  for (let i = 0; i < shape.length; i++) {
    const last = i === shape.length - 1;
    const extent = product(shape[i]);
    const part = last ? rest : modulo(rest, extent);
    result = along(trace, result, part, shape[i], stride[i]);
    if (!last) rest = over(rest, extent);
  }
  return result;
}

function modulo(a: Leaf, b: Leaf): Leaf {
  if (b === 1) return 0;
  return typeof a === 'number' && typeof b === 'number' ? a % b : isDynamic(a) ? a.rem(b) : (b as Value).remInto(a);
}

function over(a: Leaf, b: Leaf): Leaf {
  if (b === 1) return a;
  return typeof a === 'number' && typeof b === 'number'
    ? Math.trunc(a / b)
    : isDynamic(a)
      ? a.div(b)
      : (b as Value).divInto(a);
}

function step(trace: Trace, parts: TensorParts, coord: Leaf, stride: Leaf): TensorParts {
  if (coord === 0 || stride === 0) return parts;
  if (typeof coord === 'number' && typeof stride === 'number')
    return { ...parts, offset: parts.offset + coord * stride };
  const bytes = bytesOf(parts.type);
  if (typeof stride === 'number') {
    return { ...parts, address: moved(trace, parts.address, coord as unknown as Value, 0, stride * bytes) };
  }
  const elements = binary('mul', wide(trace, coord), wide(trace, stride));
  return { ...parts, address: moved(trace, parts.address, elements, 0, bytes) };
}

/** Moves by so many elements. */
function shifted(trace: Trace, parts: TensorParts, offset: Leaf): TensorParts {
  if (typeof offset === 'number') return { ...parts, offset: parts.offset + offset };
  const address = moved(trace, parts.address, offset as unknown as Value, 0, bytesOf(parts.type));
  return { ...parts, address };
}

/** `address + index * scale + bytes`; what is known to divide the result is kept. */
function moved(trace: Trace, address: Value, index: Value | 0, bytes: number, scale = 1): Value {
  if (index === 0 && bytes === 0) return address;
  const args = index === 0 ? [address] : [address, index];
  const attributes: Record<string, Attribute> = index === 0 ? { bytes } : { scale, bytes };
  const result = trace.builder.value('ptr_add', address.type, { args, attributes });
  let divisor = gcdNumber(address.divisor, bytes);
  if (index !== 0) divisor = gcdNumber(divisor, index.divisor * Math.abs(scale));
  result.divisor = Math.max(1, divisor);
  return result;
}

function bytesOf(type: TypeName): number {
  return bitsOf(type) / 8;
}

function touch(trace: Trace, parts: TensorParts, how: 'read' | 'write'): void {
  if (parts.param === undefined) return;
  const accessed = trace.accessed.get(parts.param) ?? new Set();
  trace.accessed.set(parts.param, accessed.add(how));
}

interface Pieces {
  /** Elements of the whole, and of one access. */
  readonly count: number;
  readonly width: number;
  /** Where the access of element `i` begins, in elements. */
  readonly index: (i: number) => Leaf;
  /** The condition of the access of element `i`. */
  readonly where: (i: number) => unknown;
}

/** Cuts a tensor into accesses as wide as its layout's contiguous run and its alignment allow. */
function pieces(trace: Trace, parts: TensorParts, options: AccessOptions): Pieces {
  const { layout } = parts;
  const count = layout.size;
  if (typeof count !== 'number') {
    return trace.fail(
      `${String(layout)} has a size that only the device knows: slice or tile it until the rest has a known size`,
    );
  }
  const inner = layout instanceof Layout ? layout : layout.inner;
  const { where } = options;
  const conditions = where instanceof Fragment ? where.values() : [where ?? true];
  const each = count / conditions.length;
  if (!Number.isInteger(each)) {
    return trace.fail(`${conditions.length} conditions do not stand for ${count} elements, equally many each`);
  }
  const width = gcdNumber(widest(parts, layout, inner, count), each);
  const { vector } = options;
  if (vector !== undefined && (vector > width || width % vector !== 0)) {
    trace.fail(
      `accesses of ${vector} elements are not proved for ${String(layout)} at an address known to be a multiple of ` +
        `${parts.address.divisor} bytes: ${width} are; say divisible('N', ...) or align the tensor`,
    );
  }
  return { count, width: vector ?? width, index: (i) => layout.at(i), where: (i) => conditions[Math.floor(i / each)] };
}

function widest(parts: TensorParts, layout: AnyLayout, inner: Layout, count: number): number {
  const bytes = bytesOf(parts.type);
  const flat = coalesce(inner);
  const [extents, strides] = [leavesOf(flat.shape), leavesOf(flat.stride) as Leaf[]];
  let width = strides[0] === 1 && typeof extents[0] === 'number' ? extents[0] : 1;
  width = gcdNumber(width, Math.max(1, WIDEST / bytes));
  let unit = parts.address.divisor / bytes;
  const others = strides.slice(1).map((stride) => (typeof stride === 'number' ? Math.abs(stride) : stride.divisor));
  for (const known of [parts.offset, ...others]) unit = gcdNumber(unit, known);
  if (layout instanceof ComposedLayout) {
    if (!(layout.outer instanceof Swizzle) || isTuple(layout.offset)) return 1;
    unit = gcdNumber(unit, 2 ** layout.outer.base);
    unit = gcdNumber(unit, typeof layout.offset === 'number' ? layout.offset : layout.offset.divisor);
  }
  while (width > 1 && (unit % width !== 0 || count % width !== 0)) width /= 2;
  return Math.max(1, Math.floor(width));
}

function attributesOf(
  parts: TensorParts,
  address: Value,
  bytes: number,
  count: number,
  options: AccessOptions,
): Record<string, Attribute> {
  const attributes: Record<string, Attribute> = {
    count,
    align: alignment(address, bytes, count * bytesOf(parts.type)),
  };
  if (bytes !== 0) attributes.bytes = bytes;
  for (const name of ['order', 'scope', 'l1', 'l2', 'cache', 'prefetch'] as const) {
    const value = options[name];
    if (value !== undefined) attributes[name] = value;
  }
  return attributes;
}

/** Bytes known to divide an address, up to the width of the access. */
function alignment(address: Value, bytes: number, width: number): number {
  const known = gcdNumber(address.divisor, bytes);
  return Math.max(1, gcdNumber(known, width));
}

/** The cache policy as a further operand, if there is one. */
function policyOf(trace: Trace, { policy }: AccessOptions): Value[] {
  return policy === undefined ? [] : [operand(trace, policy, 'u64', 'cache policy')];
}

function loadPiece(
  trace: Trace,
  parts: TensorParts,
  index: Leaf,
  width: number,
  options: AccessOptions,
  where: unknown,
): unknown[] {
  const [address, bytes] = place(trace, parts, index);
  const attributes = attributesOf(parts, address, bytes, width, options);
  const types = new Array<TypeName>(width).fill(parts.type);
  const args = [address, ...policyOf(trace, options)];
  const load = (): readonly Value[] => trace.builder.emit('load', { args, types, attributes }).results;
  if (where === true) return [...load()];
  const otherwise = operand(trace, options.otherwise ?? 0, parts.type);
  if (!isDevice(where)) return types.map(() => otherwise);
  const slots = types.map((type) => trace.builder.slot(type, 'loaded'));
  for (const slot of slots) trace.builder.emit('set', { args: [otherwise], slots: [slot] });
  under(trace, where, () => {
    for (const [i, value] of load().entries()) trace.builder.emit('set', { args: [value], slots: [slots[i]] });
  });
  return slots.map((slot) => trace.builder.value('get', slot.type, { slots: [slot] }));
}

function storePiece(
  trace: Trace,
  parts: TensorParts,
  index: Leaf,
  values: readonly Value[],
  options: AccessOptions,
  where: unknown,
): void {
  if (where === false) return;
  const store = (): void => {
    const [address, bytes] = place(trace, parts, index);
    const attributes = attributesOf(parts, address, bytes, values.length, options);
    trace.builder.emit('store', { args: [address, ...values, ...policyOf(trace, options)], attributes });
  };
  if (isDevice(where)) under(trace, where, store);
  else store();
}

function under(trace: Trace, where: Value, run: () => void): void {
  const node = makeNode(trace.kernel, 'if', trace.builder.position, {
    args: [condition(trace, where)],
    regions: [[], []],
  });
  trace.builder.region.push(node);
  trace.builder.enter(node.regions[0]);
  run();
  trace.builder.close();
}

/** Address and further bytes of the element at `index`. */
function place(trace: Trace, parts: TensorParts, index: Leaf): [Value, number] {
  const bytes = bytesOf(parts.type);
  if (typeof index === 'number') return [parts.address, (parts.offset + index) * bytes];
  return [moved(trace, parts.address, index as unknown as Value, 0, bytes), parts.offset * bytes];
}

/** The same memory through the layout composed with another one, or with tilers mode by mode. */
export function compose<T>(tensor: Tensor<T>, tiler: Tiler): Tensor<T>;
export function compose(layout: Layout, tiler: Tiler): Layout;
export function compose(of: Tensor<unknown> | Layout, tiler: Tiler): unknown {
  return isLayout(of) ? composition(of, tiler) : of.compose(tiler);
}

/** The memory as elements of another type; the layout's contiguous mode shrinks or grows by the ratio of the widths. */
export function reinterpret<K extends TypeName>(tensor: Tensor<unknown>, type: ScalarType<K> | K): Tensor<Scalar<K>> {
  const { parts } = tensor as unknown as TensorBase;
  const to = typeNameOf(type);
  const [from, into] = [bitsOf(parts.type), bitsOf(to)];
  if ((parts.offset * from) % into !== 0) {
    need('a view').fail(
      `the tensor begins ${(parts.offset * from) / 8} bytes into its memory, which is no whole ${to}`,
    );
  }
  const layout = recast(parts.layout, from, into);
  return makeTensor<Scalar<K>>({ ...parts, type: to, layout, offset: (parts.offset * from) / into });
}

/** A tensor at an address, row-major unless a layout says otherwise. */
export function tensorAt<K extends TypeName>(
  address: Value,
  type: ScalarType<K> | K,
  layout: AnyLayout | IntTuple,
): Tensor<Scalar<K>> {
  const space = SPACES[address.type] ?? need('a tensor').fail(`a tensor begins at an address, not at ${address.type}`);
  const parts = { address, offset: 0, space, type: typeNameOf(type), param: undefined };
  return makeTensor<Scalar<K>>({ ...parts, layout: isLayout(layout) ? layout : makeLayout(layout, 'right') });
}

const SPACES: Readonly<Partial<Record<TypeName, Space>>> = {
  'ptr.global': 'global',
  'ptr.shared': 'shared',
  'ptr.cluster': 'cluster',
  'ptr.generic': 'generic',
};
