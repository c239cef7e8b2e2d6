import type { Value } from './notation-value.ts';

/** A function of the notation. */
export interface NotationFunction {
  readonly apply: (args: readonly Value[]) => Value;
  readonly least: number;
  readonly most: number;
  readonly usage: string;
}

/** `usage` names the arguments; those after `[` may be left out, `...` stands for any number. */
export function define(usage: string, apply: (...args: readonly (Value | undefined)[]) => Value): NotationFunction {
  const inside = usage.slice(usage.indexOf('(') + 1, usage.lastIndexOf(')'));
  const [required = '', optional] = inside.split('[');
  const count = (text: string): number =>
    text.split(',').filter((part) => /\w/.test(part) && !part.includes('...')).length;
  const least = count(required);
  const most = usage.includes('...') ? Infinity : least + (optional === undefined ? 0 : count(optional));
  return { apply: (args) => apply(...args), least, most, usage };
}
