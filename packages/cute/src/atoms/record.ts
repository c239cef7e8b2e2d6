import type { Builder, NodeParts } from '../ir/builder.ts';
import { gcdNumber } from '../layout/arithmetic.ts';
import { Value, type Attributes, type Node, type Slot } from '../ir/ir.ts';
import { constant, convert, describe, isConstant, isDevice, widens } from '../trace/convert.ts';
import { need } from '../trace/state.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';

/** How atoms and kit record IR: operations by name, with operands that are numbers or values of the device. */

/** A number of the kernel: known while tracing, or a value of the device. */
export type Int = number;
/** The same with 64 bits. */
export type Long = number | bigint;
/** A place in memory: an address, or a tensor's first element. */
export type Place = Value | { readonly address: Value };
/** A tensor map: a parameter of the kernel, or its copy in global memory. */
export type TensorMap = Place;

function builder(): Builder {
  return need('a device operation').builder;
}

/** A new node of an operation of ir/ops*.ts at the current source line. */
export function emit(op: string, parts: NodeParts = {}): Node {
  return builder().emit(op, parts);
}

/** The one result of a new node, as whatever the author's types call it. */
export function result<T = Int>(op: string, type: TypeName, parts: Omit<NodeParts, 'types'> = {}): T {
  return builder().value(op, type, parts) as unknown as T;
}

/** The results of a new node, one of each type. */
export function results(op: string, types: readonly TypeName[], parts: Omit<NodeParts, 'types'> = {}): Int[] {
  return emit(op, { ...parts, types }).results as unknown as Int[];
}

/** The number, where it is known while tracing. */
export function constantOr(value: unknown): number | undefined {
  return typeof value === 'number' ? value : undefined;
}

/** An operand of a type: a constant, a value that every value of its type fits, or bits of the same width. */
export function typed(value: unknown, type: TypeName): Value {
  const trace = need('a device operation');
  if (isConstant(value)) return constant(trace, value, type);
  if (!isDevice(value)) return trace.fail(`a number or a device value of type ${type} is needed, not ${typeof value}`);
  if (value.type === type) return value;
  if (widens(value.type, type)) return convert(value, type);
  const bits = TYPES[value.type].bits === TYPES[type].bits;
  if (bits && isRaw(value.type) !== isRaw(type)) return result('bitcast', type, { args: [value] });
  return trace.fail(`a value of type ${type} is needed, not ${value.type}: convert it, e.g. ${type}(...)`);
}

/** Types that only say how many bits: what the tensor cores take, and pairs. */
function isRaw(type: TypeName): boolean {
  return TYPES[type].kind === 'b' || TYPES[type].kind === 'v';
}

/** As `typed`, and integers of other types convert. */
export function integer(value: unknown, type: TypeName): Value {
  return isDevice(value) ? convert(value, type) : typed(value, type);
}

/** An operand that is a condition. */
export function predicate(value: unknown): Value {
  return typed(value, 'pred');
}

/** The address of a place, which must lie in one of these spaces (`ptr.shared` ...). */
export function addressIn(place: Place, spaces: readonly TypeName[]): Value {
  const address: unknown = place instanceof Value ? place : (place as Partial<{ address: Value }> | undefined)?.address;
  if (!(address instanceof Value)) {
    return need('an address').fail(`a place is a tensor or an address, not ${describe(place)}`);
  }
  if (spaces.includes(address.type)) return address;
  return need('an address').fail(`a place in ${spaces.join(' or ')} is needed, not in ${address.type}`);
}

/** Where a tensor map lies: a parameter, or a place in global memory. */
export function mapAddress(map: TensorMap): Value {
  const address = addressIn(map, ['ptr.generic', 'ptr.global']);
  return address.type === 'ptr.generic' ? address : result('ptr_cast', 'ptr.generic', { args: [address] });
}

/** The address of element `index` of so many bytes each. What is known to divide it is kept. */
export function moved(address: Value, index: Int, scale: number): Value {
  const known = constantOr(index);
  if (known === 0) return address;
  if (known !== undefined) {
    const bytes = known * scale;
    const fixed: Value = result('ptr_add', address.type, { args: [address], attributes: { bytes } });
    fixed.divisor = gcdNumber(address.divisor, bytes);
    return fixed;
  }
  const by = integer(index, 'i32');
  const place: Value = result('ptr_add', address.type, { args: [address, by], attributes: { scale } });
  place.divisor = gcdNumber(address.divisor, by.divisor * scale);
  return place;
}

/** The address of a new piece of shared memory; `align` in bytes. */
export function sharedBytes(name: string, bytes: number, align: number, element: TypeName = 'b8'): Value {
  const { kernel } = builder();
  const id = kernel.shared.length;
  kernel.shared.push({ id, name, bytes, align, element });
  const address: Value = result('shared_address', 'ptr.shared', { attributes: { id } });
  address.divisor = align;
  return address;
}

/** A variable of the kernel, which loops and branches may change. */
export function newSlot(type: TypeName, name: string): Slot {
  return builder().slot(type, name);
}

/** The value that a slot has here. */
export function readSlot(slot: Slot): Int {
  return result('get', slot.type, { slots: [slot] });
}

/** From here on the slot has this value. */
export function writeSlot(slot: Slot, value: Int): void {
  emit('set', { args: [typed(value, slot.type)], slots: [slot] });
}

/** The type of a value of the device. */
function deviceType(value: unknown): TypeName | undefined {
  return value instanceof Value ? value.type : undefined;
}

/** The type of a value of the device; anything else is an error. */
export function typeOf(value: unknown): TypeName {
  if (value instanceof Value) return value.type;
  return need('a device operation').fail(`a value of the device is needed, not ${String(value)}`);
}

/** What is known on both sides is computed while tracing. */
const KNOWN: Readonly<Record<string, (left: number, right: number) => number>> = {
  add: (left, right) => left + right,
  sub: (left, right) => left - right,
  mul: (left, right) => left * right,
  div: (left, right) => Math.trunc(left / right),
  rem: (left, right) => left % right,
  min: Math.min,
  max: Math.max,
};

/** A pure operation on two values of one type; a constant becomes the other's type. */
export function combine(op: string, left: Int, right: Int, attributes: Attributes = {}): Int {
  const both = KNOWN[op];
  if (both && !isDevice(left) && !isDevice(right)) return both(left, right);
  const type = deviceType(left) ?? typeOf(right);
  return result(op, type, { args: [typed(left, type), typed(right, type)], attributes });
}

/** A comparison (`eq ne lt le gt ge`) of two values of one type, at least one of them of the device. */
export function compare(test: string, left: Int, right: Int): boolean {
  const type = deviceType(left) ?? typeOf(right);
  return result('compare', 'pred', { args: [typed(left, type), typed(right, type)], attributes: { test } });
}

/** One of two values, without a branch. */
export function select(condition: boolean, yes: Int, no: Int): Int {
  const type = deviceType(yes) ?? typeOf(no);
  return result('select', type, { args: [predicate(condition), typed(yes, type), typed(no, type)] });
}

/** A special register, such as `tid.x` or `laneid`. */
export function special(name: string): Int {
  return result('special', 'i32', { attributes: { name } });
}

/** Records `then` under a condition of the device. */
export function when(condition: boolean, then: () => void): void {
  const parts = [[], []] as Node[][];
  const node = emit('if', { args: [predicate(condition)], regions: parts });
  builder().enter(node.regions[0]);
  then();
  builder().close();
}

/** Whether what is recorded now may run several times. */
export function inLoop(): boolean {
  const trace = need('a device operation');
  return trace.current.loop || trace.regions.some((region) => region.loop);
}

/** `barrier.sync` and its variants: attributes as ir/ops*.ts lists them for `barrier`. */
export function barrier(attributes: Attributes = {}): void {
  emit('barrier', { attributes });
}

/** One element at an address. */
export function loadFrom(address: Value, type: TypeName, attributes: Attributes = {}): Int {
  return result('load', type, { args: [address], attributes: { count: 1, ...attributes } });
}

/** Writes one element to an address. */
export function storeTo(address: Value, value: Int, type: TypeName, attributes: Attributes = {}): void {
  emit('store', { args: [address, typed(value, type)], attributes: { count: 1, ...attributes } });
}

/** Records a loop that runs until `body` breaks it; `latch` runs before every further round. */
export function loop(label: string, body: (leave: () => void) => void, latch: () => void = () => {}): void {
  const regions: Node[][] = [[], []];
  const node = emit('loop', { attributes: { label, unroll: 1 }, regions });
  builder().enter(node.regions[0]);
  body(() => emit('break', { attributes: { label } }));
  builder().close();
  builder().enter(node.regions[1]);
  latch();
  builder().close();
}

/** Stores neighbouring values at once. */
export function storeVector(address: Value, values: readonly Int[], type: TypeName, attributes: Attributes = {}): void {
  const args = [address, ...values.map((value) => typed(value, type))];
  emit('store', { args, attributes: { count: values.length, ...attributes } });
}
