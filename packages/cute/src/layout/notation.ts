import { LayoutError } from './error.ts';
import { Parser } from './notation-parser.ts';
import { formatValue, type Value } from './notation-value.ts';

/**
 * Computes an expression in CuTe's notation, such as `composition((8,8):(1,8), (4,2):(2,1))`.
 * Throws a `LayoutError` with a reason in words.
 */
export function evaluate(text: string): Value {
  try {
    return new Parser(text).parse();
  } catch (error) {
    if (error instanceof RangeError) throw new LayoutError('the expression is nested too deeply, or too long');
    throw error;
  }
}

/** The value of an expression as it is printed. */
export function evaluateText(text: string): string {
  return formatValue(evaluate(text));
}
