import { RoseError, type Schema, type Structure, type StructureForm } from '@rose/engine';
import { z } from 'zod';

type Json = Record<string, unknown>;

/** Fields that say what an answer's text must be: OpenAI's, and vLLM's in their newer and older form. */
export interface StructureFields {
  response_format?: Json | null | undefined;
  structured_outputs?: Json | null | undefined;
  guided_json?: unknown;
  guided_regex?: string | null | undefined;
  guided_choice?: string[] | null | undefined;
  guided_grammar?: string | null | undefined;
}

const object = z.record(z.string(), z.unknown());

export const structureFields: { [K in keyof Required<StructureFields>]: z.ZodType<StructureFields[K]> } = {
  response_format: object.nullish(),
  structured_outputs: object.nullish(),
  guided_json: z.unknown().optional(),
  guided_regex: z.string().nullish(),
  guided_choice: z.array(z.string()).nullish(),
  guided_grammar: z.string().nullish(),
};

const responseFormat = z.discriminatedUnion('type', [
  z.looseObject({ type: z.literal('text') }),
  z.looseObject({ type: z.literal('json_object') }),
  z.looseObject({
    type: z.literal('json_schema'),
    json_schema: z.looseObject({
      name: z.string().nullish(),
      strict: z.boolean().nullish(),
      schema: z.union([z.boolean(), object], 'must be a JSON schema'),
    }),
  }),
]);

const structuredOutputs = z.strictObject({
  json: z.unknown().optional(),
  json_object: z.boolean().nullish(),
  regex: z.string().nullish(),
  choice: z.array(z.string()).nullish(),
  grammar: z.string().nullish(),
});

/**
 * What the fields ask for; undefined: any text.
 * @throws RoseError `invalid` naming a field that is wrong, or two that ask for different things
 */
export function structureOf(fields: StructureFields): Structure | undefined {
  const asked: Structure[] = [];
  const ask = (param: string, form: StructureForm | undefined): void => {
    if (form !== undefined) asked.push({ form, param });
  };
  if (fields.response_format) {
    const format = read(responseFormat, fields.response_format, 'response_format');
    if (format.type === 'json_object') ask('response_format', { kind: 'json', schema: { type: 'object' } });
    if (format.type === 'json_schema') {
      ask('response_format.json_schema.schema', { kind: 'json', schema: format.json_schema.schema });
    }
  }
  if (fields.structured_outputs) {
    const outputs = read(structuredOutputs, fields.structured_outputs, 'structured_outputs');
    if (outputs.json_object === true)
      ask('structured_outputs.json_object', { kind: 'json', schema: { type: 'object' } });
    ask('structured_outputs.json', jsonForm(outputs.json, 'structured_outputs.json'));
    ask('structured_outputs.regex', textForm('regex', outputs.regex));
    ask('structured_outputs.choice', choiceForm(outputs.choice));
    ask('structured_outputs.grammar', textForm('grammar', outputs.grammar));
  }
  ask('guided_json', jsonForm(fields.guided_json, 'guided_json'));
  ask('guided_regex', textForm('regex', fields.guided_regex));
  ask('guided_choice', choiceForm(fields.guided_choice));
  ask('guided_grammar', textForm('grammar', fields.guided_grammar));
  if (asked.length > 1) {
    const [{ param: first }, { param }] = asked;
    throw new RoseError('invalid', `${param}: ${first} says already what the answer must be`, { param });
  }
  return asked[0];
}

function read<T>(schema: z.ZodType<T>, value: unknown, field: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const param = [field, ...issue.path].join('.');
  const message =
    issue.code === 'invalid_union' && issue.path.at(-1) === 'type' ? 'is not a known kind' : issue.message;
  throw new RoseError('invalid', `${param}: ${message}`, { param });
}

/** A schema, or the text of one. */
function jsonForm(value: unknown, param: string): StructureForm | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') return { kind: 'json', schema: value as Schema };
  try {
    return { kind: 'json', schema: JSON.parse(value) as Schema };
  } catch (error) {
    throw new RoseError('invalid', `${param} is not JSON: ${(error as Error).message}`, { param });
  }
}

function textForm(kind: 'regex' | 'grammar', text: string | null | undefined): StructureForm | undefined {
  if (text === undefined || text === null) return undefined;
  return kind === 'regex' ? { kind, pattern: text } : { kind, ebnf: text };
}

function choiceForm(choices: readonly string[] | null | undefined): StructureForm | undefined {
  return choices === undefined || choices === null ? undefined : { kind: 'choice', choices };
}
