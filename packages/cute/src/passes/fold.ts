import type { Attribute, Node, Value } from '../ir/ir.ts';
import { constantOf } from '../ptx/constants.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import { decodeFloat, encodeFloat } from '../types/numeric.ts';

/** A known number: bigint for 64-bit integers, 0 or 1 for predicates. */
type Known = number | bigint;

/** The number of a constant in its type: integers wrapped, floats rounded; nothing for types that do not fold. */
export function knownOf(value: Value): Known | undefined {
  if (value.node.op !== 'const') return undefined;
  return toType(constantOf(value), value.type);
}

/** A number rounded or wrapped to a type; nothing where that is not done here. */
function toType(x: Known, type: TypeName): Known | undefined {
  const { kind, bits } = TYPES[type];
  switch (kind) {
    case 'p':
      return Number(x) === 0 ? 0 : 1;
    case 'i':
      return bits === 64 ? BigInt.asIntN(64, BigInt(x)) : Number(BigInt.asIntN(bits, BigInt(x)));
    case 'u':
      return bits === 64 ? BigInt.asUintN(64, BigInt(x)) : Number(BigInt.asUintN(bits, BigInt(x)));
    case 'f':
      if (type === 'f64') return Number(x);
      if (type === 'f32') return Math.fround(Number(x));
      if (type === 'f16') return Math.f16round(Number(x));
      return type === 'bf16' ? decodeFloat('bf16', encodeFloat('bf16', Number(x))) : undefined;
    default:
      return undefined;
  }
}

/** How a `const` node writes a number. */
export function attributeOf(x: Known): Attribute {
  if (typeof x === 'number') {
    if (Number.isFinite(x)) return x;
    return x > 0 ? 'inf' : '-inf';
  }
  return Number.isSafeInteger(Number(x)) ? Number(x) : String(x);
}

/**
 * The result of a node whose operands are all known, to the bit what the device computes; nothing where that is not
 * sure (NaN has many patterns; sums that round twice).
 */
export function fold(node: Node): Known | undefined {
  if (node.results.length !== 1 || node.args.length === 0) return undefined;
  const args: Known[] = [];
  for (const arg of node.args) {
    const known = knownOf(arg);
    if (known === undefined || Number.isNaN(known)) return undefined;
    args.push(known);
  }
  const type = node.results[0].type;
  const source = node.args[0].type;
  const result = evaluate(node, args, source, type);
  if (result === undefined || Number.isNaN(result)) return undefined;
  return toType(result, type);
}

function evaluate(node: Node, args: readonly Known[], source: TypeName, type: TypeName): Known | undefined {
  const { kind } = TYPES[source];
  switch (node.op) {
    case 'compare':
      return compare(String(node.attributes.test), args[0], args[1]);
    case 'select':
      return Number(args[0]) === 0 ? args[2] : args[1];
    case 'convert':
      return convert(node, args[0], source, type);
    default:
  }
  if (kind === 'i' || kind === 'u') return integer(node.op, args.map(BigInt), TYPES[source].bits);
  if (kind === 'p') return predicate(node.op, args.map(Number));
  return kind === 'f' ? floating(node, args.map(Number)) : undefined;
}

function integer(op: string, [a, b, c]: readonly bigint[], bits: number): bigint | undefined {
  switch (op) {
    case 'add':
      return a + b;
    case 'sub':
      return a - b;
    case 'mul':
    case 'mulwide':
      return a * b;
    case 'mad':
      return a * b + c;
    case 'mulhi':
      return (a * b) >> BigInt(bits);
    // Division by zero is left to the device.
    case 'div':
      return b === 0n ? undefined : a / b;
    case 'rem':
      return b === 0n ? undefined : a % b;
    case 'min':
      return a < b ? a : b;
    case 'max':
      return a > b ? a : b;
    case 'neg':
      return -a;
    case 'abs':
      return a < 0n ? -a : a;
    case 'and':
      return a & b;
    case 'or':
      return a | b;
    case 'xor':
      return a ^ b;
    case 'not':
      return ~a;
    case 'shl':
      return b < 0n || b >= bits ? 0n : a << b;
    case 'shr':
      return a >> (b < 0n || b >= bits ? BigInt(bits) : b);
    default:
      return undefined;
  }
}

function predicate(op: string, [a, b]: readonly number[]): number | undefined {
  if (op === 'and') return a & b;
  if (op === 'or') return a | b;
  if (op === 'xor') return a ^ b;
  return op === 'not' ? 1 - a : undefined;
}

/**
 * Float64 has more than twice the digits of the smaller types, so that one operation in it rounded to them is the
 * operation rounded once (Figueroa, "When is double rounding innocuous?"); not so for fma.
 */
function floating(node: Node, [a, b]: readonly number[]): number | undefined {
  switch (node.op) {
    case 'add':
      return a + b;
    case 'sub':
      return a - b;
    case 'mul':
      return a * b;
    case 'div':
      return node.attributes.approx === true ? undefined : a / b;
    case 'neg':
      return -a;
    case 'abs':
      return Math.abs(a);
    case 'sqrt':
      return Math.sqrt(a);
    case 'rcp':
      return 1 / a;
    // Zeros of both signs are left to the device.
    case 'min':
      return a === 0 && b === 0 ? undefined : Math.min(a, b);
    case 'max':
      return a === 0 && b === 0 ? undefined : Math.max(a, b);
    default:
      return undefined;
  }
}

function compare(test: string, a: Known, b: Known): number | undefined {
  switch (test.length === 3 && test.endsWith('u') ? test.slice(0, 2) : test) {
    case 'eq':
      return a === b ? 1 : 0;
    case 'ne':
      return a === b ? 0 : 1;
    case 'lt':
      return a < b ? 1 : 0;
    case 'le':
      return a <= b ? 1 : 0;
    case 'gt':
      return a > b ? 1 : 0;
    case 'ge':
      return a >= b ? 1 : 0;
    case 'num':
      return 1;
    default:
      return test === 'nan' ? 0 : undefined;
  }
}

/** Conversions without attributes, and only where the result is in range. */
function convert(node: Node, x: Known, source: TypeName, type: TypeName): Known | undefined {
  if (Object.keys(node.attributes).length > 0) return undefined;
  const from = TYPES[source].kind;
  const { kind, bits } = TYPES[type];
  if (kind === 'f') {
    // Numbers of 64 bits would round twice on their way through float64.
    if (typeof x === 'bigint' && !Number.isSafeInteger(Number(x))) return undefined;
    return Number(x);
  }
  if (kind === 'p') return Number(x) === 0 ? 0 : 1;
  if (kind !== 'i' && kind !== 'u') return undefined;
  if (from !== 'f') return x;
  const whole = Math.trunc(Number(x));
  const [low, high] = kind === 'i' ? [-(2 ** (bits - 1)), 2 ** (bits - 1)] : [0, 2 ** bits];
  return whole >= low && whole < high ? BigInt(whole) : undefined;
}
