import { Value } from '../ir/ir.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import { Cell, Registers } from './cell.ts';
import { convert, isDevice, operand } from './convert.ts';
import { need, tracing } from './state.ts';
import { typeNameOf, type Scalar, type ScalarType } from './types.ts';

/** Formats that two float32 become at once. */
const PAIRED: Readonly<Partial<Record<TypeName, TypeName>>> = {
  f16: 'f16x2',
  bf16: 'bf16x2',
  e4m3: 'e4m3x2',
  e5m2: 'e5m2x2',
};

/**
 * Registers of a thread with indices known at compile time. A fragment is a value: a variable that is assigned one gets
 * a copy. `fragment[i]` reads and, in a kernel, writes an element.
 */
export class Fragment<T = number> extends Registers implements Iterable<T> {
  [index: number]: T;
  readonly type: TypeName;
  readonly length: number;
  private readonly cells: Cell[];

  constructor(values: readonly unknown[], type: TypeName, name = 'fragment') {
    super();
    this.type = type;
    this.length = values.length;
    this.cells = values.map((value) => new Cell(value, name));
  }

  *[Symbol.iterator](): Iterator<T> {
    for (const cell of this.cells) yield cell.v as T;
  }

  at(index: number): T {
    return this.cell(index).v as T;
  }

  /** The elements as a JavaScript array. */
  values(): T[] {
    return this.cells.map((cell) => cell.v as T);
  }

  /** `change(element, index)` for each; the type is that of the results. */
  map(change: (element: T, index: number) => number | boolean): Fragment {
    const values = this.cells.map((cell, i) => change(cell.v as T, i));
    const first = values.find((value): boolean => isDevice(value)) as Value | undefined;
    const type = first?.type ?? this.type;
    const trace = tracing();
    return new Fragment(trace ? values.map((value) => operand(trace, value, type)) : values, type);
  }

  /** From the first element on: `combine(combine(e0, e1), e2)`...; with `initial` before it, if given. */
  reduce(combine: (sum: T, element: T, index: number) => number, initial?: number): T {
    const values = this.values();
    if (initial === undefined)
      return values.slice(1).reduce((sum, value, i) => combine(sum, value, i + 1) as T, values[0]);
    return values.reduce((sum, value, i) => combine(sum, value, i) as T, initial as T);
  }

  /** Elements of another type, rounded to nearest even; pairs of float32 convert at once. */
  to<K extends TypeName>(type: ScalarType<K>): Fragment<Scalar<K>>;
  to(type: TypeName): Fragment;
  to(type: ScalarType<TypeName> | TypeName): Fragment {
    const name = typeNameOf(type);
    if (name === this.type) return this as unknown as Fragment;
    const values = this.values();
    const pair = this.type === 'f32' ? PAIRED[name] : undefined;
    const trace = need('a fragment');
    const converted: unknown[] = [];
    for (let i = 0; i < values.length;) {
      if (pair && i + 1 < values.length) {
        const args = [operand(trace, values[i], 'f32'), operand(trace, values[i + 1], 'f32')];
        const packed = trace.builder.value('convert', pair, { args });
        converted.push(...trace.builder.emit('unpack', { args: [packed], types: [name, name] }).results);
        i += 2;
      } else converted.push(convert(values[i++], name));
    }
    return new Fragment(converted, name);
  }

  /** This fragment `times` times one after the other; a fragment of one element becomes one of `times`. */
  broadcast(times: number): Fragment<T> {
    const values = this.values();
    return new Fragment<T>(Array.from({ length: times }, () => values).flat(), this.type);
  }

  fill(value: number): void {
    for (const cell of this.cells) cell.set(this.element(value));
  }

  copy(name = 'fragment'): Fragment<T> {
    return new Fragment<T>(this.values(), this.type, name);
  }

  /** Takes the elements of another fragment of this length. */
  assign(other: Registers): void {
    for (const [i, value] of (other as Fragment<unknown>).values().entries()) this.cells[i].set(this.element(value));
  }

  getElement(index: unknown): unknown {
    return this.cell(index).v;
  }

  putElement(index: unknown, value: unknown): void {
    this.cell(index).set(this.element(value));
  }

  private element(value: unknown): unknown {
    const trace = tracing();
    return trace ? operand(trace, value, this.type, 'element') : value;
  }

  private cell(index: unknown): Cell {
    if (isDevice(index)) {
      return need('a fragment').fail(
        'registers have no addresses: index a fragment by a number known at compile time (unroll the loop), or use shared memory',
      );
    }
    const cell = typeof index === 'number' ? this.cells[index] : undefined;
    if (cell) return cell;
    const message = `a fragment of ${this.length} elements has no element ${String(index)}`;
    return tracing()?.fail(message) ?? raise(message);
  }
}

function raise(message: string): never {
  throw new RangeError(message);
}

/** A fragment of a type with one value everywhere. */
export function fragment<K extends TypeName>(type: ScalarType<K> | K, length: number, value = 0): Fragment<Scalar<K>> {
  const trace = tracing();
  const name = typeNameOf(type);
  const given = TYPES[name].kind === 'p' ? Boolean(value) : value;
  const one = trace ? operand(trace, given, name) : given;
  return new Fragment<Scalar<K>>(new Array<unknown>(length).fill(one), name);
}
