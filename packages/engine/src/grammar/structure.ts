import { TOOL_CONTROLS } from '../answer/dialect.ts';
import type { ReasoningTags } from '../answer/reasoning.ts';
import { RoseError } from '../errors.ts';
import { callsOf, type CallsForm, type JsonForm } from './calls.ts';
import { clientGrammar } from './client-grammar.ts';
import { ebnfOf } from './ebnf.ts';
import { anyOf, choice, pruned, repeat, rule, sequence, set, text, type Expression } from './expression.ts';
import { JSON_RULES } from './json.ts';
import { upTo } from './marker.ts';
import { asText, readPattern } from './pattern.ts';
import { SchemaWriter } from './schema.ts';

/** What an answer's text must be. */
export interface Structure {
  readonly form: StructureForm;
  /** The field of the request that asks for it, for errors. */
  readonly param: string;
  /** The answer may reason first, in these tags; `opened`: the prompt has opened them already. */
  readonly reasoning?: { readonly tags: ReasoningTags; readonly opened: boolean };
}

export type StructureForm =
  | JsonForm
  /** Text that an ECMAScript regular expression matches as a whole. */
  | { readonly kind: 'regex'; readonly pattern: string }
  /** One of these texts. */
  | { readonly kind: 'choice'; readonly choices: readonly string[] }
  /** What the rule `root` of a grammar in EBNF (GBNF's notation) derives. */
  | { readonly kind: 'grammar'; readonly ebnf: string }
  | CallsForm;

/** A grammar as the engine takes it. */
export interface GrammarSource {
  readonly ebnf: string;
  readonly root: string;
  /** The field of the request that it comes from, for errors. */
  readonly param: string;
  /** Control tokens whose text belongs to the answer, by name. All others but end tokens are never drawn. */
  readonly controls: readonly string[];
}

/** @throws RoseError `invalid` for what cannot be kept, naming the field and the reason */
export function grammarOf({ form, param, reasoning }: Structure): GrammarSource {
  const controls = form.kind === 'calls' && form.format !== 'llama3' ? [...TOOL_CONTROLS[form.format]] : [];
  if (reasoning !== undefined) controls.push(reasoning.tags.open, reasoning.tags.close);
  if (form.kind === 'grammar') {
    const own = clientGrammar(form.ebnf, param);
    if (reasoning === undefined) return { ebnf: own, root: 'root', param, controls };
    // The client's grammar is called like a rule; names with a prefix do not meet its own.
    const rules = new Map<string, Expression>();
    rules.set('rose_root', reasoned(rule('root'), reasoning, rules));
    return { ebnf: `${ebnfOf(rules, param)}${own}\n`, root: 'rose_root', param, controls };
  }
  const rules = new Map(JSON_RULES);
  const content = contentOf(form, param, rules);
  rules.set('root', reasoning === undefined ? content : reasoned(content, reasoning, rules));
  return { ebnf: ebnfOf(used(pruned(rules, param)), param), root: 'root', param, controls };
}

function contentOf(
  form: Exclude<StructureForm, { kind: 'grammar' }>,
  param: string,
  rules: Map<string, Expression>,
): Expression {
  switch (form.kind) {
    case 'json':
      return new SchemaWriter(form.schema, param, rules, 'schema').write(form.schema);
    case 'regex':
      return readPattern(form.pattern, param, asText).expression;
    case 'choice':
      if (form.choices.length === 0)
        throw new RoseError('invalid', `${param}: there is nothing to choose from`, { param });
      return anyOf(form.choices.map(text));
    case 'calls':
      return callsOf(form, param, rules);
  }
}

/** White space after the reasoning belongs to its notation. */
const GAP: Expression = repeat(set(' \n\r\t'), 0, 4);

function reasoned(
  content: Expression,
  { tags, opened }: NonNullable<Structure['reasoning']>,
  rules: Map<string, Expression>,
): Expression {
  rules.set('rose_content', content);
  const thought = upTo(tags.close, sequence(GAP, rule('rose_content')), false, rules, 'rose_thought');
  return opened ? thought : choice(sequence(GAP, tags.open, thought), rule('rose_content'));
}

/** The rules that the root leads to. */
function used(rules: ReadonlyMap<string, Expression>): ReadonlyMap<string, Expression> {
  const found = new Set(['root']);
  // Rules lead to rules in chains as long as the list of an object's properties: too long for the stack.
  for (const name of found) {
    const visit = (expression: Expression): void => {
      if (expression.kind === 'sequence') expression.parts.forEach(visit);
      else if (expression.kind === 'choice') expression.options.forEach(visit);
      else if (expression.kind === 'repeat') visit(expression.inner);
      else if (expression.kind === 'rule') found.add(expression.name);
    };
    visit(rules.get(name)!);
  }
  return new Map([...rules].filter(([name]) => found.has(name)));
}
