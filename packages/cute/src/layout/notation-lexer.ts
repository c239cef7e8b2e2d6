import { LayoutError } from './error.ts';

/** A piece of the notation, and the column (from 1) where it begins. */
export interface Token {
  readonly kind: 'number' | 'name' | 'unknown' | 'symbol' | 'end';
  readonly text: string;
  readonly column: number;
}

/** Blank, then: `?{div=4}`, a number (`_8` is C++'s static one), a name, or a symbol. */
const PIECE = /\s*(?:(\?(?:\{[^}]*\})?)|(-?_?\d+)(?![\w])|([A-Za-z_][\w]*)|(::|[-(),:<>@=[\]])|(\S)|$)/uy;

export function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  PIECE.lastIndex = 0;
  for (;;) {
    const match = PIECE.exec(text);
    if (match === null) throw new LayoutError(`column ${text.length}: this is not the notation of layouts`);
    const [whole, unknown, number, name, symbol, other] = match;
    const piece = unknown ?? number ?? name ?? symbol ?? other;
    const column = match.index + whole.length - (piece?.length ?? 0) + 1;
    if (other !== undefined) throw new LayoutError(`column ${column}: ${JSON.stringify(other)} has no meaning here`);
    if (unknown !== undefined) tokens.push({ kind: 'unknown', text: unknown, column });
    else if (number !== undefined) tokens.push({ kind: 'number', text: number.replace('_', ''), column });
    else if (name !== undefined) tokens.push({ kind: 'name', text: name, column });
    else if (symbol !== undefined) tokens.push({ kind: 'symbol', text: symbol, column });
    else return [...tokens, { kind: 'end', text: 'the end', column }];
  }
}
