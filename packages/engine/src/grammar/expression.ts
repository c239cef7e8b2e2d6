import { RoseError } from '../errors.ts';
import { setOf, type CodePoints } from './code-points.ts';

/** What a grammar's text may be, over Unicode text. */
export type Expression =
  | { readonly kind: 'text'; readonly text: string }
  /** One character of a set. */
  | { readonly kind: 'set'; readonly set: CodePoints }
  | { readonly kind: 'sequence'; readonly parts: readonly Expression[] }
  /** One of the options; without options there is no such text. */
  | { readonly kind: 'choice'; readonly options: readonly Expression[] }
  | { readonly kind: 'repeat'; readonly inner: Expression; readonly min: number; readonly max: number }
  | { readonly kind: 'rule'; readonly name: string };

/** A context-free grammar: a text is what the rule `root` is. */
export type Rules = ReadonlyMap<string, Expression>;

export const NOTHING: Expression = { kind: 'choice', options: [] };
export const EMPTY: Expression = { kind: 'text', text: '' };

export function text(value: string): Expression {
  return { kind: 'text', text: value };
}

export function set(characters: string | CodePoints): Expression {
  return { kind: 'set', set: typeof characters === 'string' ? setOf(characters) : characters };
}

export function rule(name: string): Expression {
  return { kind: 'rule', name };
}

export function sequence(...parts: readonly (Expression | string)[]): Expression {
  return { kind: 'sequence', parts: parts.map((part) => (typeof part === 'string' ? text(part) : part)) };
}

export function choice(...options: readonly (Expression | string)[]): Expression {
  return anyOf(options.map((option) => (typeof option === 'string' ? text(option) : option)));
}

/** A choice of so many options that they may be too many for a call's arguments. */
export function anyOf(options: readonly Expression[]): Expression {
  return options.length === 1 ? options[0] : { kind: 'choice', options };
}

export function optional(inner: Expression): Expression {
  return choice(EMPTY, inner);
}

export function repeat(inner: Expression, min: number, max: number = Infinity): Expression {
  return { kind: 'repeat', inner, min, max };
}

/**
 * The same grammar without what can never come to an end.
 * @throws RoseError `invalid` if no text is left, or a rule begins with itself
 */
export function pruned(rules: Rules, param: string): Rules {
  const ending = endingRules(rules);
  if (!ending.has('root')) {
    throw new RoseError('invalid', `${param}: no text of finite length satisfies it`, { param });
  }
  const kept = new Map<string, Expression>();
  for (const [name, body] of rules) if (ending.has(name)) kept.set(name, prune(body, ending));
  checkLeftRecursion(kept, param);
  return kept;
}

/** Whether the expression derives a text of finite length. */
export function hasText(expression: Expression, rules: Rules): boolean {
  return ends(expression, endingRules(rules));
}

function endingRules(rules: Rules): ReadonlySet<string> {
  const ending = new Set<string>();
  for (let size = -1; size < ending.size;) {
    size = ending.size;
    for (const [name, body] of rules) if (ends(body, ending)) ending.add(name);
  }
  return ending;
}

function ends(expression: Expression, rules: ReadonlySet<string>): boolean {
  switch (expression.kind) {
    case 'text':
      return true;
    case 'set':
      return expression.set.length > 0;
    case 'sequence':
      return expression.parts.every((part) => ends(part, rules));
    case 'choice':
      return expression.options.some((option) => ends(option, rules));
    case 'repeat':
      return expression.min === 0 || ends(expression.inner, rules);
    case 'rule':
      return rules.has(expression.name);
  }
}

function prune(expression: Expression, ending: ReadonlySet<string>): Expression {
  switch (expression.kind) {
    case 'sequence':
      return sequence(...expression.parts.map((part) => prune(part, ending)));
    case 'choice':
      return anyOf(expression.options.filter((o) => ends(o, ending)).map((option) => prune(option, ending)));
    case 'repeat': {
      const { inner, min, max } = expression;
      return ends(inner, ending) ? repeat(prune(inner, ending), min, max) : EMPTY;
    }
    default:
      return expression;
  }
}

function checkLeftRecursion(rules: Rules, param: string): void {
  const nullable = new Set<string>();
  for (let size = -1; size < nullable.size;) {
    size = nullable.size;
    for (const [name, body] of rules) if (mayBeEmpty(body, nullable)) nullable.add(name);
  }
  const state = new Map<string, 'open' | 'done'>();
  const visit = (name: string): void => {
    if (state.get(name) === 'done') return;
    if (state.get(name) === 'open') {
      throw new RoseError('invalid', `${param}: it refers to itself with nothing in between`, { param });
    }
    state.set(name, 'open');
    for (const next of firstRules(rules.get(name)!, nullable)) visit(next);
    state.set(name, 'done');
  };
  for (const name of rules.keys()) visit(name);
}

export function mayBeEmpty(expression: Expression, nullable: ReadonlySet<string>): boolean {
  switch (expression.kind) {
    case 'text':
      return expression.text === '';
    case 'set':
      return false;
    case 'sequence':
      return expression.parts.every((part) => mayBeEmpty(part, nullable));
    case 'choice':
      return expression.options.some((option) => mayBeEmpty(option, nullable));
    case 'repeat':
      return expression.min === 0 || mayBeEmpty(expression.inner, nullable);
    case 'rule':
      return nullable.has(expression.name);
  }
}

/** Rules with which a text of the expression may begin. */
function firstRules(expression: Expression, nullable: ReadonlySet<string>): string[] {
  switch (expression.kind) {
    case 'sequence': {
      const { parts } = expression;
      const end = parts.findIndex((part) => !mayBeEmpty(part, nullable));
      return parts.slice(0, end < 0 ? parts.length : end + 1).flatMap((part) => firstRules(part, nullable));
    }
    case 'choice':
      return expression.options.flatMap((option) => firstRules(option, nullable));
    case 'repeat':
      return firstRules(expression.inner, nullable);
    case 'rule':
      return [expression.name];
    default:
      return [];
  }
}
