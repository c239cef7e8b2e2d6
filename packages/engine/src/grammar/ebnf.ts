import { RoseError } from '../errors.ts';
import { complement, intersection, sizeOf, utf8Ranges, type ByteRange, type CodePoints } from './code-points.ts';
import { mayBeEmpty, type Expression, type Rules } from './expression.ts';

/** A set this large lets most tokens through: looking through them all costs time for each place that has one. */
const WIDE = 64;
/** Places with wide sets that a grammar may have. */
const MOST_WIDE = 512;
/** Rules that a grammar may become. */
const MOST_RULES = 20_000;

const ASCII: CodePoints = [[0, 0x7f]];
const REST = complement(ASCII);

/**
 * Writes a grammar as the EBNF that web-xgrammar reads, in the form that it is fast with: each rule's body is
 * right-linear (a character, then a rule for all that may follow), so that tokens are judged when the grammar is
 * compiled and not for each answer anew. Only what is a rule of its own here is a rule called from the middle there.
 */
export function ebnfOf(rules: Rules, param: string): string {
  return new Writer(param).write(rules);
}

class Writer {
  readonly #param: string;
  readonly #lines: string[] = [];
  #wide = 0;
  #count = 0;

  constructor(param: string) {
    this.#param = param;
  }

  write(rules: Rules): string {
    for (const [name, body] of rules) this.#lines.push(`${name} ::= ${this.#emit(body, '')}`);
    return `${this.#lines.join('\n')}\n`;
  }

  /** The expression, followed by `next`: EBNF, or nothing at all. */
  #emit(expression: Expression, next: string): string {
    switch (expression.kind) {
      case 'text':
        return expression.text === '' ? orEmpty(next) : join(literal(expression.text), next);
      case 'set':
        return this.#set(expression.set, next);
      case 'sequence':
        return orEmpty(expression.parts.reduceRight((rest, part) => trimmed(this.#emit(part, rest)), next));
      case 'choice': {
        const after = this.#named(next);
        return `(${expression.options.map((option) => this.#emit(option, after)).join(' | ')})`;
      }
      case 'repeat':
        return this.#repeat(expression, next);
      case 'rule':
        return join(expression.name, next);
    }
  }

  #set(set: CodePoints, next: string): string {
    if (sizeOf(set) >= WIDE && ++this.#wide > MOST_WIDE) {
      const message = `${this.#param}: it has more than ${MOST_WIDE} places for characters of any kind; lower its maxLength, minLength or repetitions`;
      throw new RoseError('invalid', message, { param: this.#param });
    }
    const classes = classesOf(set);
    if (classes.length === 1) return join(classes[0], next);
    const after = this.#named(next);
    return `(${classes.map((one) => join(one, after)).join(' | ')})`;
  }

  #repeat({ inner, min, max }: Extract<Expression, { kind: 'repeat' }>, next: string): string {
    if (max === Infinity && mayBeEmpty(inner, new Set())) {
      const message = `${this.#param}: something that may be empty cannot be repeated without end`;
      throw new RoseError('invalid', message, { param: this.#param });
    }
    const after = this.#named(next);
    let rest = after;
    if (max === Infinity) {
      rest = this.#newName();
      this.#add(rest, `${orEmpty(after)} | ${this.#emit(inner, rest)}`);
    }
    for (let i = max === Infinity ? min : max; i > 0; i--) {
      const one = this.#emit(inner, rest);
      rest = this.#newName();
      this.#add(rest, i > min ? `${orEmpty(after)} | ${one}` : one);
    }
    return orEmpty(rest);
  }

  /** The text as a rule's name, or nothing, so that it can be written several times. */
  #named(ebnf: string): string {
    if (/^\w*$/.test(ebnf)) return ebnf;
    const name = this.#newName();
    this.#add(name, ebnf);
    return name;
  }

  #newName(): string {
    return `rose_${this.#count++}`;
  }

  #add(name: string, body: string): void {
    if (this.#lines.length >= MOST_RULES) {
      throw new RoseError('invalid', `${this.#param}: it is too large`, { param: this.#param });
    }
    this.#lines.push(`${name} ::= ${body}`);
  }
}

function join(ebnf: string, next: string): string {
  return next === '' ? ebnf : `${ebnf} ${next}`;
}

function orEmpty(ebnf: string): string {
  return ebnf === '' ? '""' : ebnf;
}

function trimmed(ebnf: string): string {
  return ebnf === '""' ? '' : ebnf;
}

function literal(text: string): string {
  return `"${Array.from(text, (c) => escaped(c.codePointAt(0)!, '"\\')).join('')}"`;
}

/** A character in a string or a class. After `\x` any number of hexadecimal digits would be read; `\U` has eight. */
function escaped(codePoint: number, marks: string): string {
  const character = String.fromCodePoint(codePoint);
  if (marks.includes(character)) return `\\${character}`;
  return codePoint >= 0x20 && codePoint <= 0x7e ? character : `\\U${hex(codePoint, 8)}`;
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}

/**
 * A set as alternatives. web-xgrammar 0.1.27 matches the characters of a class one byte each, and reads whole
 * characters only in classes that exclude ASCII alone: others are written byte by byte. The class of all characters
 * cannot be written; NUL is left out of it.
 */
export function classesOf(set: CodePoints): string[] {
  const ascii = intersection(set, ASCII);
  const others = intersection(set, REST);
  if (sizeOf(others) === sizeOf(REST)) {
    const excluded = intersection(complement(ascii), ASCII);
    return [`[^${ranges(excluded.length === 0 ? [[0, 0]] : excluded)}]`];
  }
  return [...(ascii.length > 0 ? [`[${ranges(ascii)}]`] : []), ...utf8Ranges(others).map(bytes)];
}

function ranges(set: CodePoints): string {
  const one = (point: number): string => escaped(point, '"\\^-]');
  return set.map(([first, last]) => (first === last ? one(first) : `${one(first)}-${one(last)}`)).join('');
}

/** A class of one byte would be read as a character: 0xff, which is in no token, makes two of it. */
function bytes(sequence: readonly ByteRange[]): string {
  const one = ([first, last]: ByteRange): string =>
    first === last ? `[\\x${hex(first, 2)}\\xff]` : `[\\x${hex(first, 2)}-\\x${hex(last, 2)}]`;
  return sequence.map(one).join(' ');
}
