import { choice, EMPTY, NOTHING, optional, repeat, sequence, set, text, type Expression } from './expression.ts';

/** Whole numbers have so many digits at most: a double holds them all exactly. */
const MOST_DIGITS = 15;
/** The largest whole number that is written. */
export const LARGEST: number = 10 ** MOST_DIGITS - 1;
/** Digits behind the point where a number has bounds, so that no rounding carries it over one. */
const MOST_FRACTION = 6;

const DIGIT = set('0123456789');

function digit(from: number, to: number): Expression {
  return from > to ? NOTHING : set('0123456789'.slice(from, to + 1));
}

function digits(min: number, max: number): Expression {
  return max === 0 ? EMPTY : repeat(DIGIT, min, max);
}

/** Any whole number. */
export const INTEGER: Expression = sequence(optional(text('-')), wholeNumbers(0, LARGEST));

/** Any number: 15 digits on either side of the point and an exponent of two digits, which no double overflows at. */
export const NUMBER: Expression = sequence(
  INTEGER,
  optional(sequence('.', digits(1, MOST_DIGITS))),
  optional(sequence(set('eE'), optional(set('+-')), digits(1, 2))),
);

/** Whole numbers from `low` to `high`, at most `LARGEST` in magnitude. */
export function integersWithin(low: number, high: number): Expression {
  const [from, to] = [Math.max(Math.ceil(low), -LARGEST), Math.min(Math.floor(high), LARGEST)];
  const options: Expression[] = [];
  if (from < 0 && from <= to) options.push(sequence('-', wholeNumbers(Math.max(1, -to), -from)));
  if (to >= 0 && from <= to) options.push(wholeNumbers(Math.max(0, from), to));
  return choice(...options);
}

/** Decimal texts of the whole numbers 0 <= from <= n <= to. */
function wholeNumbers(from: number, to: number): Expression {
  const options: Expression[] = [];
  for (let length = String(from).length; length <= String(to).length; length++) {
    const low = Math.max(from, length === 1 ? 0 : 10 ** (length - 1));
    const high = Math.min(to, 10 ** length - 1);
    if (low <= high) options.push(sameLength(String(low), String(high)));
  }
  return choice(...options);
}

/** Digit strings of one length between two, both included. */
function sameLength(low: string, high: string): Expression {
  if (low === '') return EMPTY;
  const rest = low.length - 1;
  if (/^0*$/.test(low) && /^9*$/.test(high)) return digits(low.length, low.length);
  const [first, last] = [Number(low[0]), Number(high[0])];
  if (first === last) return sequence(low[0], sameLength(low.slice(1), high.slice(1)));
  const options: Expression[] = [];
  const [lowFull, highFull] = [/^0*$/.test(low.slice(1)), /^9*$/.test(high.slice(1))];
  if (!lowFull) options.push(sequence(low[0], sameLength(low.slice(1), '9'.repeat(rest))));
  const [from, to] = [lowFull ? first : first + 1, highFull ? last : last - 1];
  if (from <= to) options.push(sequence(digit(from, to), digits(rest, rest)));
  if (!highFull) options.push(sequence(high[0], sameLength('0'.repeat(rest), high.slice(1))));
  return choice(...options);
}

/** An end of a range of numbers. */
export interface Bound {
  readonly value: number;
  /** The value itself is not in the range. */
  readonly exclusive: boolean;
}

/** Decimal texts, without exponents, of numbers between two bounds; undefined where a bound has too many digits. */
export function numbersWithin(low: Bound, high: Bound): Expression | undefined {
  const options: (Expression | undefined)[] = [];
  const zero = { value: 0, exclusive: false };
  if (high.value >= 0) options.push(magnitudes(low.value >= 0 ? low : zero, high));
  if (low.value < 0) {
    const from = high.value < 0 ? { ...high, value: -high.value } : { value: 0, exclusive: true };
    const negative = magnitudes(from, { ...low, value: -low.value });
    options.push(negative && sequence('-', negative));
  }
  return options.includes(undefined) ? undefined : choice(...(options as Expression[]));
}

/** Numbers 0 <= low <= x <= high. */
function magnitudes(low: Bound, high: Bound): Expression | undefined {
  const [from, to] = [decimalOf(low), decimalOf(high)];
  if (from === undefined || to === undefined) return undefined;
  const room = Math.min(MOST_FRACTION, MOST_DIGITS - String(to.whole).length);
  if (from.fraction.length > room || to.fraction.length > room) return undefined;
  const number = (whole: number, { bare, more }: Fraction): Expression =>
    sequence(text(String(whole)), choice(...(bare ? [EMPTY] : []), ...(more === NOTHING ? [] : [sequence('.', more)])));
  if (from.whole > to.whole) return NOTHING;
  if (from.whole === to.whole) {
    const between = fractionBetween(from.fraction, low.exclusive, to.fraction, high.exclusive, room);
    return number(from.whole, between);
  }
  const options = [number(from.whole, fractionFrom(from.fraction, low.exclusive, room))];
  if (to.whole - from.whole >= 2) {
    const fraction = room === 0 ? EMPTY : optional(sequence('.', digits(1, room)));
    options.push(sequence(wholeNumbers(from.whole + 1, to.whole - 1), fraction));
  }
  options.push(number(to.whole, fractionTo(to.fraction, high.exclusive, room)));
  return choice(...options);
}

function decimalOf({ value }: Bound): { whole: number; fraction: string } | undefined {
  const match = /^(\d+)(?:\.(\d+))?$/.exec(String(value));
  if (match === null || value > LARGEST) return undefined;
  return { whole: Number(match[1]), fraction: match[2] ?? '' };
}

/** Digits behind the point: whether there may be none, and what they may be otherwise. */
interface Fraction {
  readonly bare: boolean;
  readonly more: Expression;
}

/** A digit, then digits of which `rest` tells. */
function after(first: string, { bare, more }: Fraction): Expression {
  return sequence(first, choice(...(bare ? [EMPTY] : []), more));
}

/** Digits of 0.x >= 0.bound, or above it. A bound does not end in 0. */
function fractionFrom(bound: string, exclusive: boolean, room: number): Fraction {
  if (bound === '') {
    if (!exclusive) return { bare: true, more: room === 0 ? NOTHING : digits(1, room) };
    if (room === 0) return { bare: false, more: NOTHING };
    const zeros = fractionFrom('', true, room - 1);
    return { bare: false, more: choice(sequence(digit(1, 9), digits(0, room - 1)), after('0', zeros)) };
  }
  const first = Number(bound[0]);
  const above = sequence(digit(first + 1, 9), digits(0, room - 1));
  return { bare: false, more: choice(above, after(bound[0], fractionFrom(bound.slice(1), exclusive, room - 1))) };
}

/** Digits of 0.x <= 0.bound, or below it. */
function fractionTo(bound: string, exclusive: boolean, room: number): Fraction {
  if (bound === '') return { bare: !exclusive, more: NOTHING };
  const below = sequence(digit(0, Number(bound[0]) - 1), digits(0, room - 1));
  const rest = fractionTo(bound.slice(1), exclusive, room - 1);
  return { bare: true, more: choice(below, after(bound[0], rest)) };
}

function fractionBetween(low: string, lowEx: boolean, high: string, highEx: boolean, room: number): Fraction {
  if (low === '' && !lowEx) return fractionTo(high, highEx, room);
  if (high === '' || room === 0) return { bare: false, more: NOTHING };
  const [first, last] = [Number(low[0] ?? '0'), Number(high[0])];
  if (first > last) return { bare: false, more: NOTHING };
  const [lowRest, highRest] = [low.slice(1), high.slice(1)];
  if (first === last) {
    return { bare: false, more: after(high[0], fractionBetween(lowRest, lowEx, highRest, highEx, room - 1)) };
  }
  const middle = sequence(digit(first + 1, last - 1), digits(0, room - 1));
  const lower = after(String(first), fractionFrom(lowRest, lowEx, room - 1));
  const upper = after(String(last), fractionTo(highRest, highEx, room - 1));
  return { bare: false, more: choice(lower, middle, upper) };
}
