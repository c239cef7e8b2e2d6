import { complement, contains, intersection, setOf } from './code-points.ts';
import { choice, EMPTY, repeat, sequence, set, text, type Expression } from './expression.ts';
import { quoted } from './json.ts';

/** Characters that a free key is made of: none that could be written in two ways. */
const KEY_CHARACTERS = intersection(complement([[0, 0x1f]]), complement(setOf('"\\')));
const ANY_REST: Expression = repeat(set(KEY_CHARACTERS), 0);

/** A key that is none of these names, as a JSON string. */
export function keyBesides(names: readonly string[]): Expression {
  return quoted(besides(names.filter((name) => [...name].every(isPlain)).map((name) => [...name])));
}

function isPlain(character: string): boolean {
  return contains(KEY_CHARACTERS, character.codePointAt(0)!);
}

/** Texts that are none of the names, by their first character. */
function besides(names: readonly (readonly string[])[]): Expression {
  if (names.length === 0) return ANY_REST;
  const byFirst = Map.groupBy(
    names.filter((name) => name.length > 0),
    ([first]) => first,
  );
  const options: Expression[] = [...byFirst].map(([first, group]) =>
    sequence(text(first), besides(group.map((name) => name.slice(1)))),
  );
  const others = intersection(KEY_CHARACTERS, complement(setOf([...byFirst.keys()].join(''))));
  options.push(sequence(set(others), ANY_REST));
  if (names.every((name) => name.length > 0)) options.push(EMPTY);
  return choice(...options);
}

/** A key as a schema names it. */
export function keyNamed(name: string): Expression {
  return text(JSON.stringify(name));
}
