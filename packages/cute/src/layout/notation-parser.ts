import { ScaledBasis } from './basis.ts';
import { ComposedLayout, swizzled } from './composed.ts';
import { hasUnderscore, type Stride } from './coord.ts';
import { LayoutError } from './error.ts';
import { Layout } from './layout.ts';
import { isDynamic, type Leaf } from './leaf.ts';
import { tokenize, type Token } from './notation-lexer.ts';
import { composeValues } from './notation-layouts.ts';
import { FUNCTIONS, suggestion } from './notation-functions.ts';
import { asCoord, asInts, asLayout, asLeaf, formatValue, isList, MajorName, type Value } from './notation-value.ts';
import { slice } from './slice.ts';
import { Swizzle } from './swizzle.ts';
import { _, mapLeaves, type IntTuple } from './tuple.ts';
import { Unknown } from './unknown.ts';

const NAMES: Readonly<Record<string, Value>> = {
  _,
  X: _,
  None: _,
  LayoutLeft: new MajorName('left'),
  LayoutRight: new MajorName('right'),
  GenColMajor: new MajorName('left'),
  GenRowMajor: new MajorName('right'),
};

/** Reads an expression and computes it on the way; an expression is `part o part o ... (coordinate)`. */
export class Parser {
  readonly #tokens: readonly Token[];
  #next = 0;

  constructor(text: string) {
    this.#tokens = tokenize(text);
  }

  /** The value of the whole text. Throws a `LayoutError` that names the column of what cannot be read. */
  parse(): Value {
    const value = this.#expression();
    const token = this.#peek();
    if (token.kind !== 'end') throw this.#unexpected(token, 'nothing more');
    return value;
  }

  #expression(): Value {
    const parts: Value[] = [this.#part()];
    while (this.#peek().kind === 'name' && this.#peek().text === 'o') {
      this.#next += 1;
      parts.push(this.#part());
    }
    let value = chain(parts);
    while (this.#peek().text === '(' && isCallable(value)) value = call(value, this.#list('(', ')'));
    return value;
  }

  /** A primary, or `shape:stride`. */
  #part(): Value {
    const shape = this.#primary();
    if (!this.#accept(':')) return shape;
    return new Layout(asInts(shape), asStride(this.#primary()));
  }

  #primary(): Value {
    const token = this.#take();
    switch (token.kind) {
      case 'number': {
        const value = Number(token.text);
        if (!Number.isSafeInteger(value)) {
          throw new LayoutError(`column ${token.column}: ${token.text} is beyond 2^53`);
        }
        return this.#basis(value === 0 ? 0 : value);
      }
      case 'unknown':
        return this.#basis(unknown(token));
      case 'name':
        return this.#named(token);
      default:
    }
    if (token.text === '(') {
      this.#next -= 1;
      const list = this.#list('(', ')');
      // Parentheses around a layout only group; around a number they make a tuple of one mode.
      return list.length === 1 && isCallable(list[0]) ? list[0] : list;
    }
    if (token.text === '<' || token.text === '[') {
      this.#next -= 1;
      return this.#list(token.text, token.text === '<' ? '>' : ']');
    }
    throw this.#unexpected(token, 'a number, a tuple, a layout or a function');
  }

  #basis(value: Leaf): Value {
    const modes: number[] = [];
    while (this.#accept('@')) {
      const mode = this.#take();
      if (mode.kind !== 'number') throw this.#unexpected(mode, 'the number of a mode');
      modes.unshift(Number(mode.text));
    }
    return modes.length === 0 ? value : new ScaledBasis(value, modes);
  }

  #named(token: Token): Value {
    const { text: name, column } = token;
    const parameters = this.#peek().text === '<' ? this.#list('<', '>') : [];
    if (name === 'S' || name === 'Sw' || name === 'Swizzle') {
      if (parameters.length < 2 || parameters.length > 3 || !parameters.every((value) => typeof value === 'number')) {
        throw new LayoutError(`column ${column}: a swizzle is written ${name}<bits,base,shift>`);
      }
      const [bits, base, shift] = parameters;
      return new Swizzle(bits, base, shift ?? bits);
    }
    if (Object.hasOwn(NAMES, name)) return NAMES[name];
    if (!Object.hasOwn(FUNCTIONS, name)) {
      throw new LayoutError(`column ${column}: there is no function ${name}${suggestion(name)}`);
    }
    const { apply, least, most, usage } = FUNCTIONS[name];
    const given = this.#peek().text === '(' ? this.#list('(', ')') : [];
    // C++'s template arguments follow the others.
    const args = [...given, ...parameters];
    if (args.length < least || args.length > most) {
      throw new LayoutError(`${name} is called as ${usage}; ${args.length} arguments are given`);
    }
    return apply(args);
  }

  #list(open: string, close: string): Value[] {
    const first = this.#take();
    if (first.text !== open) throw this.#unexpected(first, `"${open}"`);
    const values: Value[] = [];
    if (this.#accept(close)) return values;
    for (;;) {
      values.push(this.#expression());
      const token = this.#take();
      if (token.text === close) return values;
      if (token.text !== ',') throw this.#unexpected(token, `"," or "${close}"`);
      if (this.#accept(close)) return values;
    }
  }

  #peek(): Token {
    return this.#tokens[this.#next];
  }

  #take(): Token {
    const token = this.#peek();
    if (token.kind !== 'end') this.#next += 1;
    return token;
  }

  #accept(symbol: string): boolean {
    if (this.#peek().kind !== 'symbol' || this.#peek().text !== symbol) return false;
    this.#next += 1;
    return true;
  }

  #unexpected(token: Token, wanted: string): LayoutError {
    return new LayoutError(
      `column ${token.column}: ${wanted} is expected, not ${token.kind === 'end' ? token.text : `"${token.text}"`}`,
    );
  }
}

function unknown({ text, column }: Token): Unknown {
  if (text === '?') return new Unknown();
  const divisor = /^\?\{\s*(?:i\d+\s+)?div\s*=\s*(\d+)\s*\}$/.exec(text)?.[1];
  if (divisor === undefined)
    throw new LayoutError(`column ${column}: an unknown is written ? or ?{div=4}, not ${text}`);
  return new Unknown(Number(divisor));
}

function asStride(value: Value): Stride {
  const check = (part: Value): Stride => {
    if (isList(part)) return part.map((mode) => check(mode));
    if (typeof part === 'number' || isDynamic(part) || part instanceof ScaledBasis) return part;
    throw new LayoutError(`a stride is a whole number or a scaled basis, not ${formatValue(part)}`);
  };
  return check(value);
}

function isCallable(value: Value): value is Layout | ComposedLayout | Swizzle {
  return value instanceof Layout || value instanceof ComposedLayout || value instanceof Swizzle;
}

/** `A o off o B` is a composed layout; `A o B` is the composition. */
function chain(parts: readonly Value[]): Value {
  if (parts.length === 1) return parts[0];
  const [outer, middle, inner] = parts;
  if (parts.length === 3 && (outer instanceof Swizzle || outer instanceof Layout) && !isCallable(middle)) {
    return swizzled(outer, asInts(middle), asLayoutWithin(inner));
  }
  return parts.slice(0, -1).reduceRight<Value>((right, left) => composeValues(left, right), parts.at(-1)!);
}

function asLayoutWithin(value: Value | undefined): Layout {
  const layout = asLayout(value);
  if (layout instanceof Layout) return layout;
  throw new LayoutError(`the inner part of a composed layout is a plain layout, not ${String(layout)}`);
}

/** The index of a coordinate, or the slice where the coordinate leaves modes open. */
function call(callee: Layout | ComposedLayout | Swizzle, args: readonly Value[]): Value {
  if (callee instanceof Swizzle) return callee.apply(asLeaf(args[0]));
  const coord = asCoord(args.length === 1 ? args[0] : args);
  if (hasUnderscore(coord)) return slice(coord, callee);
  checkInside(coord as IntTuple);
  return callee.coordAt(coord);
}

function checkInside(coord: IntTuple): void {
  mapLeaves<Leaf, Leaf>(coord, (leaf) => {
    if (typeof leaf === 'number' && leaf < 0) throw new LayoutError(`a coordinate is at least 0, not ${leaf}`);
    return leaf;
  });
}
