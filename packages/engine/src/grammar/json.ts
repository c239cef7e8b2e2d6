import { ANY } from './code-points.ts';
import { choice, optional, repeat, rule, sequence, set, text, type Expression } from './expression.ts';
import { INTEGER, NUMBER } from './numbers.ts';
import { inString, UNESCAPED } from './pattern.ts';

/**
 * White space between the parts of JSON: none, a space, or a line end and an indent. More is never needed, and what may
 * go on without end, a model may go on with without end.
 */
const SPACE: Expression = choice('', ' ', sequence('\n', repeat(set(' \t'), 0, 20)));

/** Escapes in strings (RFC 8259, section 7), but for halves of surrogate pairs, which are no characters. */
const ESCAPE: Expression = sequence(
  '\\',
  choice(
    set('"\\/bfnrt'),
    sequence('u', choice(sequence(set('0123456789ABCEFabcef'), hex(3)), sequence(set('Dd'), set('01234567'), hex(2)))),
  ),
);

function hex(count: number): Expression {
  return repeat(set('0123456789ABCDEFabcdef'), count, count);
}

/** Any character of a string, in every way in which it can be written. */
const CHARACTER: Expression = choice({ kind: 'set', set: UNESCAPED }, ESCAPE);

/** Rules that the grammars of JSON share, by name. */
export const JSON_RULES: ReadonlyMap<string, Expression> = new Map([
  ['space', SPACE],
  ['string', sequence('"', repeat(CHARACTER, 0), '"')],
  ['number', NUMBER],
  ['integer', INTEGER],
  ['object', objectOf(rule('member'), 0, Infinity)],
  ['member', member(rule('string'), rule('value'))],
  ['array', arrayOf([], rule('value'), 0, Infinity)],
  ['value', choice(...['object', 'array', 'string', 'number'].map(rule), 'true', 'false', 'null')],
]);

export function member(key: Expression, value: Expression): Expression {
  return sequence(key, rule('space'), ':', rule('space'), value);
}

/** A string of `min` to `max` characters. */
export function stringOf(min: number, max: number): Expression {
  return quoted(repeat(inString(ANY), min, max));
}

export function quoted(content: Expression): Expression {
  return sequence('"', content, '"');
}

/** A JSON value's text without white space. */
export function constant(value: unknown): Expression {
  return text(JSON.stringify(value));
}

/** Members in any order and number. */
function objectOf(one: Expression, min: number, max: number): Expression {
  return between('{', list(one, min, max), '}');
}

/** An array whose first items are `first`, so many of them as there are, and then others. */
export function arrayOf(
  first: readonly Expression[],
  others: Expression | undefined,
  min: number,
  max: number,
): Expression {
  const comma = sequence(rule('space'), ',', rule('space'));
  const [rest, most] = others === undefined ? [undefined, Math.min(max, first.length)] : [others, max];
  // From the last place backwards: what may follow when i items are written.
  let tail: Expression =
    rest === undefined || most <= first.length
      ? text('')
      : first.length === 0
        ? list(rest, min, most)
        : repeat(sequence(comma, rest), Math.max(0, min - first.length), most - first.length);
  for (let i = Math.min(first.length, most) - 1; i >= 0; i--) {
    const item = sequence(...(i > 0 ? [comma] : []), first[i], tail);
    tail = i >= min ? optional(item) : item;
  }
  return between('[', tail, ']');
}

function list(one: Expression, min: number, max: number): Expression {
  if (max === 0) return text('');
  const more = repeat(sequence(rule('space'), ',', rule('space'), one), Math.max(0, min - 1), max - 1);
  const some = sequence(one, more);
  return min === 0 ? optional(some) : some;
}

export function between(open: string, content: Expression, close: string): Expression {
  return sequence(open, rule('space'), content, rule('space'), close);
}
