import { ANY, complement, intersection, setOf } from './code-points.ts';
import { choice, EMPTY, rule, sequence, set, type Expression } from './expression.ts';

/**
 * Text up to the first time a marker is complete, and then `next`: the automaton of Knuth, Morris and Pratt, a rule for
 * each number of the marker's characters that have come.
 * @param rules where the rules go
 * @param mayEnd the text may also end without the marker
 */
export function upTo(
  marker: string,
  next: Expression,
  mayEnd: boolean,
  rules: Map<string, Expression>,
  prefix: string,
): Expression {
  const characters = [...marker];
  const name = (state: number): string => `${prefix}${state}`;
  /** How much of the marker has come when `character` follows its first `state` characters. */
  const step = (state: number, character: string): number => {
    const seen = [...characters.slice(0, state), character];
    for (let length = Math.min(seen.length, characters.length); length > 0; length--) {
      if (seen.slice(-length).join('') === characters.slice(0, length).join('')) return length;
    }
    return 0;
  };
  for (const [state] of characters.entries()) {
    const options: Expression[] = mayEnd ? [EMPTY] : [];
    for (const character of new Set(characters)) {
      const to = step(state, character);
      options.push(sequence(character, to === characters.length ? next : rule(name(to))));
    }
    const others = intersection(ANY, complement(setOf(marker)));
    options.push(sequence(set(others), rule(name(0))));
    rules.set(name(state), choice(...options));
  }
  return rule(name(0));
}
