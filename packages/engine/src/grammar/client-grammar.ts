import { RoseError } from '../errors.ts';
import { codePoints, complement, type CodePoints } from './code-points.ts';
import { classesOf } from './ebnf.ts';

const MOST_CHARACTERS = 65_536;
/**
 * A string, a comment or a class of characters: where brackets mean something else than in the rest of a grammar. One
 * that is never closed is matched as far as it goes, so that no text is looked through more than once.
 */
const TOKEN = /"(?:[^"\\\n]|\\.)*"?|#[^\n]*|\[(\^?)((?:[^\]\\]|\\.)*)(\]?)/gs;
const ITEM = /\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))|(.)/gsu;
const ESCAPES: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, b: 8, f: 12, v: 11, '0': 0 };

/**
 * A client's EBNF with classes of characters beyond ASCII written out in bytes: web-xgrammar would match a byte where a
 * character is meant.
 */
export function clientGrammar(ebnf: string, param: string): string {
  if (ebnf.length > MOST_CHARACTERS) {
    const message = `${param}: the grammar has ${ebnf.length} characters, more than ${MOST_CHARACTERS}`;
    throw new RoseError('invalid', message, { param });
  }
  if (!/^[ \t]*root\s*::=/m.test(ebnf)) {
    throw new RoseError('invalid', `${param}: the grammar has no rule root (root ::= ...)`, { param });
  }
  return ebnf.replaceAll(
    TOKEN,
    (token, negated: string | undefined, inner: string | undefined, end: string | undefined) => {
      if (inner === undefined || end === '') return token;
      const listed = classOf(inner);
      if (listed.every(([, last]) => last <= 0x7f)) return token;
      return `(${classesOf(negated === '^' ? complement(listed) : listed).join(' | ')})`;
    },
  );
}

function classOf(inner: string): CodePoints {
  const items: { point: number; dash: boolean }[] = [];
  for (const [, x, u, U, escaped, plain] of inner.matchAll(ITEM)) {
    const code = x ?? u ?? U;
    const point =
      code === undefined ? (ESCAPES[escaped] ?? (escaped ?? plain).codePointAt(0)!) : Number.parseInt(code, 16);
    items.push({ point, dash: plain === '-' });
  }
  const ranges: [number, number][] = [];
  for (let i = 0; i < items.length; i++) {
    const range = (items[i + 1]?.dash ?? false) && i + 2 < items.length;
    ranges.push([items[i].point, range ? items[i + 2].point : items[i].point]);
    if (range) i += 2;
  }
  return codePoints(ranges);
}
