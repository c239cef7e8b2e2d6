import { RegExpParser, type AST } from '@eslint-community/regexpp';
import { RoseError } from '../errors.ts';
import { codePoints, complement, contains, intersection, type CodePoints } from './code-points.ts';
import { choice, EMPTY, repeat, sequence, type Expression } from './expression.ts';

/** A regular expression as an expression, and how many characters its texts have. */
export interface Pattern {
  readonly expression: Expression;
  readonly minLength: number;
  readonly maxLength: number;
}

/** How a character of the pattern is written: as it is, or as JSON strings write it. */
type Encode = (set: CodePoints) => Expression;

const parser = new RegExpParser({ ecmaVersion: 2025 });
const DIGITS: CodePoints = [[0x30, 0x39]];
const WORD = codePoints([...DIGITS, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]]);
/** White space and line terminators (ECMA-262, 12.2 and 12.3). */
const SPACE = codePoints([
  [9, 13],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
]);
const LINE_ENDS = codePoints([
  [10, 10],
  [13, 13],
  [0x2028, 0x2029],
]);
/** Repetitions beyond this are refused rather than written out. */
const MOST_COPIES = 2048;
const MOST_NESTING = 256;

/**
 * Reads an ECMAScript regular expression. Its whole text is what the pattern says: anchors at the ends change nothing.
 * @param place where the pattern stands in its field, for errors
 * @throws RoseError `invalid` for what is no regular expression, or looks around or back
 */
export function readPattern(source: string, param: string, encode: Encode, place = ''): Pattern {
  const refuse: Refuse = (why) => new RoseError('invalid', `${param}: ${why}${place}`, { param });
  return new PatternReader(refuse, encode).alternatives(parse(source, refuse).alternatives);
}

/** The error for a pattern, for this reason. */
type Refuse = (why: string) => RoseError;

function parse(source: string, refuse: Refuse): AST.Pattern {
  checkNesting(source, refuse);
  try {
    // The pattern of a JSON schema is a Unicode one; many are only valid as others.
    return parser.parsePattern(source, 0, source.length, { unicode: true });
  } catch {
    try {
      return parser.parsePattern(source, 0, source.length, { unicode: false });
    } catch (error) {
      throw refuse(`it is not a regular expression: ${(error as Error).message}`);
    }
  }
}

/** What is nested without end would exhaust the stack. Parentheses in classes count too. */
function checkNesting(source: string, refuse: Refuse): void {
  let depth = 0;
  for (const [mark] of source.matchAll(/\\.|[()]/gs)) {
    if (mark === '(' && ++depth > MOST_NESTING) {
      throw refuse(`the pattern is nested more than ${MOST_NESTING} levels deep`);
    }
    if (mark === ')') depth--;
  }
}

class PatternReader {
  readonly #refuse: Refuse;
  readonly #encode: Encode;

  constructor(refuse: Refuse, encode: Encode) {
    this.#refuse = refuse;
    this.#encode = encode;
  }

  alternatives(alternatives: readonly AST.Alternative[], outermost = true): Pattern {
    const options = alternatives.map(({ elements }) => {
      let parts = elements;
      if (outermost && isAnchor(parts[0], 'start')) parts = parts.slice(1);
      if (outermost && isAnchor(parts.at(-1), 'end')) parts = parts.slice(0, -1);
      return inSequence(parts.map((element) => this.#element(element)));
    });
    return {
      expression: choice(...options.map(({ expression }) => expression)),
      minLength: Math.min(...options.map(({ minLength }) => minLength)),
      maxLength: Math.max(...options.map(({ maxLength }) => maxLength)),
    };
  }

  #element(element: AST.Element): Pattern {
    switch (element.type) {
      case 'Character':
        return this.#one(codePoints([[element.value, element.value]]));
      case 'CharacterSet':
      case 'CharacterClass':
        return this.#one(this.#set(element));
      case 'Group':
      case 'CapturingGroup':
        return this.alternatives(element.alternatives, false);
      case 'Quantifier':
        return this.#quantifier(element);
      default:
        throw this.#refuse(`${element.raw} in a pattern is not supported`);
    }
  }

  #one(set: CodePoints): Pattern {
    return { expression: this.#encode(set), minLength: 1, maxLength: 1 };
  }

  #quantifier({ element, min, max, raw }: AST.Quantifier): Pattern {
    const inner = this.#element(element);
    if (min > MOST_COPIES || (max !== Infinity && max > MOST_COPIES)) {
      throw this.#refuse(`${raw} repeats more than ${MOST_COPIES} times`);
    }
    const times = (length: number, count: number): number => (length === 0 ? 0 : length * count);
    return {
      expression: inner.maxLength === 0 ? EMPTY : repeat(inner.expression, min, max),
      minLength: times(inner.minLength, min),
      maxLength: times(inner.maxLength, max),
    };
  }

  #set(element: AST.CharacterClassElement | AST.CharacterSet | AST.CharacterClass): CodePoints {
    switch (element.type) {
      case 'Character':
        return codePoints([[element.value, element.value]]);
      case 'CharacterClassRange':
        return codePoints([[element.min.value, element.max.value]]);
      case 'CharacterClass': {
        if (element.unicodeSets) break;
        const union = codePoints(element.elements.flatMap((member) => [...this.#set(member)]));
        return element.negate ? complement(union) : union;
      }
      case 'CharacterSet':
        if (element.kind === 'any') return complement(LINE_ENDS);
        if (element.kind === 'property') break;
        return negated({ digit: DIGITS, word: WORD, space: SPACE }[element.kind], element.negate);
    }
    throw this.#refuse(`${element.raw} in a pattern is not supported`);
  }
}

function negated(set: CodePoints, negate: boolean): CodePoints {
  return negate ? complement(set) : set;
}

function isAnchor(element: AST.Element | undefined, kind: 'start' | 'end'): boolean {
  return element?.type === 'Assertion' && element.kind === kind;
}

function inSequence(parts: readonly Pattern[]): Pattern {
  return {
    expression: sequence(...parts.map(({ expression }) => expression)),
    minLength: parts.reduce((sum, { minLength }) => sum + minLength, 0),
    maxLength: parts.reduce((sum, { maxLength }) => sum + maxLength, 0),
  };
}

/** Characters as they are. */
export const asText: Encode = (characters) => ({ kind: 'set', set: codePoints(characters) });

/** Characters that JSON writes with a backslash, with what follows it. Other control characters are left out. */
const ESCAPES: readonly (readonly [number, string])[] = [
  [0x22, '\\"'],
  [0x5c, '\\\\'],
  [0x08, '\\b'],
  [0x09, '\\t'],
  [0x0a, '\\n'],
  [0x0c, '\\f'],
  [0x0d, '\\r'],
];
/** Characters that stand for themselves in a JSON string (RFC 8259, section 7). */
export const UNESCAPED: CodePoints = complement(
  codePoints([
    [0, 0x1f],
    [0x22, 0x22],
    [0x5c, 0x5c],
  ]),
);

/** Characters as a JSON string writes them. */
export const inString: Encode = (characters) => {
  const plain = intersection(characters, UNESCAPED);
  const escapes = ESCAPES.filter(([point]) => contains(characters, point));
  const options: Expression[] = escapes.map(([, escape]) => ({ kind: 'text', text: escape }));
  if (plain.length > 0) options.unshift({ kind: 'set', set: plain });
  return choice(...options);
};
