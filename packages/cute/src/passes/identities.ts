import type { Attributes, Node, Value } from '../ir/ir.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import { knownOf } from './fold.ts';
import type { Ranges } from './range.ts';

/** What rewriting needs: new values at the place of the node, and what is known of integers. */
export interface Rewriter {
  readonly ranges: Ranges;
  build(op: string, type: TypeName, args: readonly Value[], attributes?: Attributes): Value;
  constant(type: TypeName, value: number | bigint): Value;
}

/** A cheaper value with exactly the bits of a node's result, or nothing. */
export function rewrite(node: Node, r: Rewriter): Value | undefined {
  const type = node.results[0].type;
  const { kind } = TYPES[type];
  if (node.op === 'select') return select(node);
  if (node.op === 'ptr_add') return pointer(node, r);
  if (node.op === 'convert' || node.op === 'bitcast' || node.op === 'ptr_cast') return conversion(node);
  if (kind === 'p') return node.op === 'compare' ? comparison(node, r) : predicate(node);
  // NaN and zeros of both signs leave no identity of floats that keeps every bit.
  return kind === 'i' || kind === 'u' || kind === 'b' ? integer(node, r) : undefined;
}

function select(node: Node): Value | undefined {
  const [condition, yes, no] = node.args;
  if (yes === no) return yes;
  const known = knownOf(condition);
  return known === undefined ? undefined : known === 0 ? no : yes;
}

function conversion(node: Node): Value | undefined {
  const [source] = node.args;
  const [result] = node.results;
  if (node.args.length === 1 && source.type === result.type && Object.keys(node.attributes).length === 0) return source;
  const inner = source.node;
  if (node.op === 'bitcast' && inner.op === 'bitcast' && inner.args[0].type === result.type) return inner.args[0];
  return undefined;
}

/** A whole number against itself; floats may be NaN. */
function comparison(node: Node, r: Rewriter): Value | undefined {
  const [left, right] = node.args;
  const { kind } = TYPES[left.type];
  if (left !== right || kind === 'f' || kind === 'v') return undefined;
  const test = String(node.attributes.test);
  return r.constant('pred', test === 'eq' || test === 'le' || test === 'ge' ? 1 : 0);
}

function predicate(node: Node): Value | undefined {
  const [left, right] = node.args;
  if (node.op === 'not') return left.node.op === 'not' ? left.node.args[0] : undefined;
  if (node.op !== 'and' && node.op !== 'or') return undefined;
  if (left === right) return left;
  for (const [one, other] of [
    [left, right],
    [right, left],
  ]) {
    const known = knownOf(one);
    if (known !== undefined) return (known === 1) === (node.op === 'and') ? other : one;
  }
  return undefined;
}

function integer(node: Node, r: Rewriter): Value | undefined {
  const [left, right] = node.args;
  const type = node.results[0].type;
  if (left === right) {
    if (node.op === 'and' || node.op === 'or' || node.op === 'min' || node.op === 'max') return left;
    if (node.op === 'xor' || (node.op === 'sub' && TYPES[type].kind !== 'b')) return r.constant(type, 0);
  }
  const b = right && knownOf(right);
  const a = left && knownOf(left);
  const zero = (x: number | bigint | undefined): boolean => x !== undefined && Number(x) === 0;
  const one = (x: number | bigint | undefined): boolean => x !== undefined && Number(x) === 1;
  switch (node.op) {
    case 'add':
    case 'or':
    case 'xor':
      return zero(b) ? left : zero(a) ? right : undefined;
    case 'sub':
    case 'shl':
    case 'shr':
      return zero(b) ? left : undefined;
    case 'and':
      return zero(b) ? right : zero(a) ? left : undefined;
    case 'mul':
      if (one(b) || zero(a)) return left;
      if (one(a) || zero(b)) return right;
      return b === undefined ? undefined : product(left, b, type, r);
    case 'div':
      return one(b) ? left : b === undefined ? undefined : quotient(node, left, Number(b), type, r);
    case 'rem':
      return b === undefined ? undefined : quotient(node, left, Number(b), type, r);
    default:
      return undefined;
  }
}

function exponentOf(number: number): number | undefined {
  if (!Number.isSafeInteger(number) || number <= 0) return undefined;
  const exponent = Math.log2(number);
  return 2 ** Math.round(exponent) === number ? Math.round(exponent) : undefined;
}

function product(left: Value, b: number | bigint, type: TypeName, r: Rewriter): Value | undefined {
  const exponent = exponentOf(Number(b));
  if (exponent === undefined || TYPES[type].bits < 16 || exponent >= TYPES[type].bits) return undefined;
  return r.build('shl', type, [left, r.constant('u32', exponent)]);
}

/** Division of numbers that are not negative: shifts, masks, and products with a rounded reciprocal. */
function quotient(node: Node, left: Value, divisor: number, type: TypeName, r: Rewriter): Value | undefined {
  if (TYPES[type].bits < 32 || divisor <= 0 || !Number.isSafeInteger(divisor)) return undefined;
  const narrow = TYPES[type].bits === 32;
  if (TYPES[type].kind !== 'u' && !(narrow && r.ranges.of(left).low >= 0)) return undefined;
  const exponent = exponentOf(divisor);
  if (exponent !== undefined) {
    if (node.op === 'div') return r.build('shr', type, [left, r.constant('u32', exponent)]);
    return r.build('and', type, [left, r.constant(type, divisor - 1)]);
  }
  if (!narrow || r.ranges.of(left).high >= 2 ** 31) return undefined;
  const part = reciprocal(left, divisor, type, r);
  if (node.op === 'div') return part;
  return r.build('sub', type, [left, r.build('mul', type, [part, r.constant(type, divisor)])]);
}

/**
 * floor(n / d) for 0 <= n < 2^31 as (n * m) >> (31 + s), with s = ceil(log2 d) and m = floor(2^(31 + s) / d) + 1 < 2^32
 * (Granlund and Montgomery, "Division by invariant integers using multiplication").
 */
function reciprocal(left: Value, divisor: number, type: TypeName, r: Rewriter): Value {
  const shift = Math.ceil(Math.log2(divisor));
  const factor = (1n << BigInt(31 + shift)) / BigInt(divisor) + 1n;
  const number = type === 'u32' ? left : r.build('bitcast', 'u32', [left]);
  const high = r.build('mulhi', 'u32', [number, r.constant('u32', factor)]);
  const result = r.build('shr', 'u32', [high, r.constant('u32', shift - 1)]);
  return type === 'u32' ? result : r.build('bitcast', type, [result]);
}

/** Largest multiplier and offset that addresses keep as constants. */
const MOST = 2 ** 31 - 1;

/** Moves constants of the index into the address's scale and offset, where no 32-bit sum or product can wrap. */
function pointer(node: Node, r: Rewriter): Value | undefined {
  const [base, index] = node.args;
  const type = base.type;
  const scale = Number(node.attributes.scale ?? 1);
  const bytes = Number(node.attributes.bytes ?? 0);
  const again = (from: Value, by: Value | undefined, factor: number, offset: number): Value | undefined => {
    if (Math.abs(factor) > MOST || Math.abs(offset) > MOST) return undefined;
    const attributes = { ...(by && factor !== 1 && { scale: factor }), ...(offset !== 0 && { bytes: offset }) };
    return r.build('ptr_add', type, by ? [from, by] : [from], attributes);
  };
  if (!index) {
    if (bytes === 0) return base;
    if (base.node.op !== 'ptr_add') return undefined;
    const inner = base.node;
    return again(
      inner.args[0],
      inner.args[1],
      Number(inner.attributes.scale ?? 1),
      bytes + Number(inner.attributes.bytes ?? 0),
    );
  }
  const known = knownOf(index);
  if (known !== undefined) return again(base, undefined, 1, bytes + Number(known) * scale);
  const innerBytes = base.node.op === 'ptr_add' ? Number(base.node.attributes.bytes ?? 0) : 0;
  if (innerBytes !== 0) {
    const inner = base.node;
    const start = inner.args[1]
      ? again(inner.args[0], inner.args[1], Number(inner.attributes.scale ?? 1), 0)
      : inner.args[0];
    return start && again(start, index, scale, bytes + innerBytes);
  }
  return indexed(node, r, again);
}

function indexed(
  node: Node,
  r: Rewriter,
  again: (from: Value, by: Value | undefined, factor: number, offset: number) => Value | undefined,
): Value | undefined {
  const [base, index] = node.args;
  const scale = Number(node.attributes.scale ?? 1);
  const bytes = Number(node.attributes.bytes ?? 0);
  const { node: inner } = index;
  const width = TYPES[base.type].bits;
  if (inner.op === 'convert' && Object.keys(inner.attributes).length === 0) {
    const from = TYPES[inner.args[0].type];
    // The product has 64 bits by itself: a widened index needs no 64-bit register.
    if (width === 64 && from.bits === 32 && (from.kind === 'i' || from.kind === 'u') && TYPES[index.type].bits === 64) {
      if (from.kind === TYPES[index.type].kind || from.kind === 'u') return again(base, inner.args[0], scale, bytes);
    }
    return undefined;
  }
  if (inner.args.length !== 2) return undefined;
  const known = knownOf(inner.args[1]);
  if (known === undefined) return undefined;
  const number = Number(known);
  // Sums modulo the address's width are the address's own.
  const wraps = TYPES[index.type].bits < width && !exact(inner, number, r);
  if (wraps) return undefined;
  switch (inner.op) {
    case 'add':
      return again(base, inner.args[0], scale, bytes + number * scale);
    case 'sub':
      return again(base, inner.args[0], scale, bytes - number * scale);
    case 'mul':
      return again(base, inner.args[0], scale * number, bytes);
    case 'shl':
      return number < 31 ? again(base, inner.args[0], scale * 2 ** number, bytes) : undefined;
    default:
      return undefined;
  }
}

/** Whether a 32-bit sum, difference or product with a constant is what it is among all whole numbers. */
function exact(node: Node, number: number, r: Rewriter): boolean {
  const [left] = node.args;
  const { low, high } = r.ranges.of(left);
  switch (node.op) {
    case 'add':
      return r.ranges.fits(left, low + number, high + number);
    case 'sub':
      return r.ranges.fits(left, low - number, high - number);
    case 'mul':
      return low >= 0 && number >= 0 && r.ranges.fits(left, low * number, high * number);
    case 'shl':
      return low >= 0 && number >= 0 && number < 31 && r.ranges.fits(left, low, high * 2 ** number);
    default:
      return false;
  }
}
