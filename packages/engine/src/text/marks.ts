import { RoseError } from '../errors.ts';
import { Dictionary } from './dictionary.ts';

/**
 * Marks where a rendered text came from. A marked text has private-use characters in place of some of its characters,
 * one for one; templates pass them on like any other character, and `restore` brings the text back. A control token
 * that is spelled without a single mark was written by the template.
 */
export interface Marks {
  /** Marks every character that can be part of a control token. */
  readonly all: (text: string) => string;
  /** Marks whole control tokens alone: less than `all`, so that templates still recognise what they look for. */
  readonly whole: (text: string) => string;
  readonly restore: (text: string) => string;
}

const FIRST_PRIVATE = 0xe000;
const LAST_PRIVATE = 0xf8ff;
const PRIVATE = /[\uE000-\uF8FF]/g;

/** Makes the marks for one conversation: characters that occur in none of its texts nor in the template. */
export class Marker {
  readonly #controls: Dictionary;
  readonly #characters: readonly string[];
  readonly #taken: ReadonlySet<string>;
  readonly #usual: Marks;

  /**
   * @param controls texts of the control tokens
   * @param template source of the template; what it writes itself is never taken for a mark
   */
  constructor(controls: readonly string[], template: string) {
    this.#controls = new Dictionary(controls);
    this.#characters = closeUnderCase(new Set(controls.join('').replaceAll(/\s/g, '').split('')));
    this.#taken = new Set((template + controls.join('')).match(PRIVATE));
    this.#usual = this.#make(this.#taken);
  }

  /** @param texts everything that may be marked */
  marksFor(texts: readonly string[]): Marks {
    const present = texts.flatMap((text) => text.match(PRIVATE) ?? []);
    return present.length === 0 ? this.#usual : this.#make(new Set([...this.#taken, ...present]));
  }

  #make(taken: ReadonlySet<string>): Marks {
    const marks = new Map<string, string>();
    const originals = new Map<string, string>();
    let code = FIRST_PRIVATE;
    for (const character of this.#characters) {
      while (taken.has(String.fromCharCode(code))) code++;
      if (code > LAST_PRIVATE) throw new RoseError('invalid', 'the messages use too many private-use characters');
      const mark = String.fromCharCode(code++);
      marks.set(character, mark);
      originals.set(mark, character);
    }
    const mark = (text: string): string => text.replaceAll(/\S/g, (character) => marks.get(character) ?? character);
    const whole = (text: string): string => {
      let marked = '';
      let done = 0;
      for (const { index, word } of this.#controls.occurrences(text)) {
        const start = Math.max(index, done);
        const end = Math.max(index + word.length, done);
        marked += text.slice(done, start) + mark(text.slice(start, end));
        done = end;
      }
      return marked + text.slice(done);
    };
    const restore = (text: string): string =>
      text.replaceAll(PRIVATE, (character) => originals.get(character) ?? character);
    return { all: mark, whole, restore };
  }
}

/**
 * The characters, and those that changing a text's case, however often, turns into one of them: a template may do so,
 * and what a client wrote must be marked all the same.
 */
function closeUnderCase(characters: ReadonlySet<string>): string[] {
  const closed = new Set(characters);
  for (let size = 0; size < closed.size;) {
    size = closed.size;
    for (const [character, variants] of caseVariants()) {
      if (variants.some((variant) => closed.has(variant))) closed.add(character);
    }
  }
  return [...closed];
}

/** UTF-16 units that have another case, with the units of their cases. */
function* caseVariants(): Iterable<[string, string[]]> {
  for (let code = 0; code <= 0xffff; code++) {
    const character = String.fromCharCode(code);
    const [lower, upper] = [character.toLowerCase(), character.toUpperCase()];
    if (lower !== character || upper !== character) yield [character, (lower + upper).split('')];
  }
}
