import type { CallableTool, ServedModel, Structure, Tool, ToolFormat } from '@rose/engine';
import { z } from 'zod';
import { invalidField } from './errors.ts';

const tool = z.looseObject({
  type: z.literal('function', "only tools of the type 'function' are supported"),
  function: z.looseObject({
    name: z.string().regex(/^[\w.-]{1,64}$/, 'must be 1 to 64 letters, digits, underscores, dots or dashes'),
    description: z.string().optional(),
    parameters: z.record(z.string(), z.unknown()).optional(),
    strict: z.boolean().nullish(),
  }),
});

/** A call names its function: two of one name could not be told apart. */
function haveOwnNames(tools: readonly z.infer<typeof tool>[], context: z.RefinementCtx): void {
  const names = new Set<string>();
  for (const [
    i,
    {
      function: { name },
    },
  ] of tools.entries()) {
    if (names.has(name)) {
      const message = `another tool has the name '${name}' already`;
      context.addIssue({ code: 'custom', message, path: [i, 'function', 'name'] });
    }
    names.add(name);
  }
}

export interface ToolFields {
  tools?:
    | { type: 'function'; function: Tool['function'] & { strict?: boolean | null | undefined } }[]
    | null
    | undefined;
  tool_choice?: unknown;
  parallel_tool_calls?: boolean | null | undefined;
}

export const toolFields: { [K in keyof Required<ToolFields>]: z.ZodType<ToolFields[K]> } = {
  tools: z.array(tool).superRefine(haveOwnNames).nullish() as z.ZodType<ToolFields['tools']>,
  tool_choice: z.unknown().optional(),
  parallel_tool_calls: z.boolean().nullish(),
};

const named = z.looseObject({ type: z.literal('function'), function: z.looseObject({ name: z.string() }) });

/** Who decides about calls: the model (auto), nobody (none), the request (required, or a function by its name). */
type ToolChoice = { readonly kind: 'auto' | 'none' | 'required' } | { readonly kind: 'named'; readonly name: string };

function choiceOf({ tools, tool_choice: choice }: ToolFields): ToolChoice {
  const param = 'tool_choice';
  if (choice === undefined || choice === null || choice === 'auto') return { kind: 'auto' };
  if (choice === 'none') return { kind: 'none' };
  const parsed = named.safeParse(choice);
  if (choice !== 'required' && !parsed.success) {
    const message = `tool_choice ${JSON.stringify(choice)} is none of 'auto', 'none', 'required' and {"type": "function", "function": {"name": ...}}`;
    throw invalidField(param, message);
  }
  if (!tools || tools.length === 0) throw invalidField(param, 'tool_choice asks for a call, but there are no tools');
  if (!parsed.success) return { kind: 'required' };
  const { name } = parsed.data.function;
  if (tools.some((tool) => tool.function.name === name)) return { kind: 'named', name };
  throw invalidField(param, `tool_choice names the function '${name}', which is none of the tools`);
}

/** The tools that the model is shown and may call; undefined: none. */
export function toolsOf(fields: ToolFields, model: ServedModel): Tool[] | undefined {
  const { tools } = fields;
  const { kind } = choiceOf(fields);
  if (!tools || tools.length === 0 || kind === 'none') return undefined;
  formatOf(model);
  // How arguments are kept to their schema is no news to the model.
  return tools.map(({ type, function: { name, description, parameters, strict: _strict, ...rest } }) => ({
    type,
    function: {
      ...rest,
      name,
      ...(description !== undefined && { description }),
      ...(parameters !== undefined && { parameters }),
    },
  }));
}

/**
 * The grammar of the answer's calls: where a call is required, or arguments are to keep to their schema. undefined: the
 * model may write what it likes.
 * @param structure what the answer's text must be where it is no call
 */
export function callsOf(
  fields: ToolFields,
  model: ServedModel,
  structure: Structure | undefined,
): Structure | undefined {
  const { tools, parallel_tool_calls: parallel } = fields;
  const choice = choiceOf(fields);
  if (!tools || tools.length === 0 || choice.kind === 'none') return structure;
  const strict = tools.some((tool) => tool.function.strict === true);
  const required = choice.kind === 'required' || choice.kind === 'named';
  if (!required && !strict && structure === undefined) return undefined;
  if (structure !== undefined && structure.form.kind !== 'json') {
    throw invalidField(structure.param, `${structure.param} cannot be combined with tools: only JSON can`);
  }
  const callable = tools.map(({ function: declared }, i): CallableTool => {
    const param = `tools[${i}].function.parameters`;
    const { name, parameters = { type: 'object', properties: {} } } = declared;
    const kept = required || declared.strict === true;
    return { name, parameters: kept ? parameters : undefined, param };
  });
  return {
    form: {
      kind: 'calls',
      format: formatOf(model),
      tools: choice.kind === 'named' ? callable.filter(({ name }) => name === choice.name) : callable,
      required,
      several: choice.kind !== 'named' && parallel !== false,
      ...(!required && structure?.form.kind === 'json' && { instead: structure.form }),
    },
    param: structure?.param ?? 'tools',
  };
}

/** @throws OpenAIError where the model cannot call tools, or nobody knows how it does */
function formatOf({ dialect, name }: ServedModel): ToolFormat {
  if (!dialect.takesTools) {
    throw invalidField(
      'tools',
      `the model '${name}' cannot be given tools: its chat template does not show them to it`,
    );
  }
  if (dialect.tools === undefined) {
    const message = `the model '${name}' writes calls of tools in a format that its chat template does not tell: name it with rose serve --tool-format`;
    throw invalidField('tools', message);
  }
  return dialect.tools;
}
