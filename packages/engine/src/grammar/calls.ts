import type { ToolFormat } from '../answer/dialect.ts';
import { RoseError } from '../errors.ts';
import { ANY, complement, intersection, setOf } from './code-points.ts';
import { choice, EMPTY, hasText, repeat, rule, sequence, set, type Expression } from './expression.ts';
import { upTo } from './marker.ts';
import { SchemaWriter } from './schema.ts';
import type { Schema } from './schema-node.ts';

/** A tool that may be called. */
export interface CallableTool {
  readonly name: string;
  /** Schema of its arguments; undefined: any object. */
  readonly parameters: Schema | undefined;
  /** The field of the request that the schema comes from, for errors. */
  readonly param: string;
}

/** JSON that a schema allows. */
export interface JsonForm {
  readonly kind: 'json';
  readonly schema: Schema;
}

/** Answers that call tools. */
export interface CallsForm {
  readonly kind: 'calls';
  readonly format: ToolFormat;
  readonly tools: readonly CallableTool[];
  /** Whether there must be a call. */
  readonly required: boolean;
  /** What the answer may be instead, where there need be none. Default: text, or text and then calls. */
  readonly instead?: JsonForm | undefined;
  /** Whether there may be more than one. */
  readonly several: boolean;
}

/** How calls are written; the readers in `answer/` read it. */
export function callsOf(form: CallsForm, param: string, rules: Map<string, Expression>): Expression {
  const { instead } = form;
  if (instead !== undefined) {
    const json = new SchemaWriter(instead.schema, param, rules, 'schema').write(instead.schema);
    return choice(callsOf({ ...form, required: true, instead: undefined }, param, rules), json);
  }
  const calls = form.tools.map((tool, i) => ({ ...tool, values: argumentsOf(tool, rules, `tool${i}_`) }));
  const objects = (key: string): Expression =>
    choice(
      ...calls.map(({ name, values }) =>
        sequence(
          '{',
          space,
          '"name"',
          space,
          ':',
          space,
          JSON.stringify(name),
          space,
          ',',
          space,
          `"${key}"`,
          space,
          ':',
          space,
          values,
          space,
          '}',
        ),
      ),
    );
  const others = (one: Expression): Expression => (form.several ? repeat(one, 0) : EMPTY);
  switch (form.format) {
    case 'hermes': {
      rules.set('call', objects('arguments'));
      const rest = sequence(space, rule('call'), space, '</tool_call>');
      const more = others(sequence(space, '<tool_call>', rest));
      const some = sequence(rest, more);
      return form.required ? sequence('<tool_call>', some) : upTo('<tool_call>', some, true, rules, 'text');
    }
    case 'llama3': {
      rules.set('call', objects('parameters'));
      const some = sequence(rule('call'), others(sequence('; ', rule('call'))));
      // What begins with a brace is read as a call.
      const first = intersection(ANY, complement(setOf('{ \t\r\n')));
      return form.required ? some : choice(EMPTY, sequence(set(first), repeat(set(ANY), 0)), some);
    }
    case 'mistral': {
      rules.set('call', objects('arguments'));
      const comma = sequence(space, ',', space);
      const list = sequence('[', space, rule('call'), others(sequence(comma, rule('call'))), space, ']');
      rules.set('headed', choice(...calls.map(({ name, values }) => sequence(name, '[ARGS]', values))));
      const headed = sequence(rule('headed'), others(sequence('[TOOL_CALLS]', rule('headed'))));
      const some = choice(list, headed);
      return form.required ? sequence('[TOOL_CALLS]', some) : upTo('[TOOL_CALLS]', some, true, rules, 'text');
    }
  }
}

const space: Expression = rule('space');

function argumentsOf({ parameters, param }: CallableTool, rules: Map<string, Expression>, prefix: string): Expression {
  if (parameters === undefined) return rule('object');
  const writer = new SchemaWriter(parameters, param, rules, prefix);
  const values = writer.write({ allOf: [{ type: 'object' }, parameters] });
  // A tool that could never be called is refused, though others could be.
  if (!hasText(values, rules)) {
    throw new RoseError('invalid', `${param}: no object of finite length satisfies it`, { param });
  }
  return values;
}
