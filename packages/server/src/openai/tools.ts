import type { ServedModel, Tool } from '@rose/engine';
import { z } from 'zod';
import { invalidField, OpenAIError } from './errors.ts';

const tool = z.looseObject({
  type: z.literal('function', "only tools of the type 'function' are supported"),
  function: z.looseObject({
    name: z.string().regex(/^[\w.-]{1,64}$/, 'must be 1 to 64 letters, digits, underscores, dots or dashes'),
    description: z.string().optional(),
    parameters: z.record(z.string(), z.unknown()).optional(),
    strict: z.boolean().nullish(),
  }),
});

export interface ToolFields {
  tools?:
    | { type: 'function'; function: Tool['function'] & { strict?: boolean | null | undefined } }[]
    | null
    | undefined;
  tool_choice?: unknown;
  parallel_tool_calls?: boolean | null | undefined;
}

export const toolFields: { [K in keyof Required<ToolFields>]: z.ZodType<ToolFields[K]> } = {
  tools: z.array(tool).nullish() as z.ZodType<ToolFields['tools']>,
  tool_choice: z.unknown().optional(),
  parallel_tool_calls: z.boolean().nullish(),
};

/** The tools that the model is shown and may call; undefined: none. */
export function toolsOf({ tools, tool_choice: choice = 'auto' }: ToolFields, model: ServedModel): Tool[] | undefined {
  if (choice !== null && choice !== 'auto' && choice !== 'none') {
    const message = `tool_choice ${JSON.stringify(choice)} is not supported: only 'auto' and 'none' are`;
    throw new OpenAIError(400, message, { param: 'tool_choice', code: 'unsupported_parameter' });
  }
  if (!tools || tools.length === 0 || choice === 'none') return undefined;
  for (const [i, { function: declared }] of tools.entries()) {
    if (declared.strict !== true) continue;
    const param = `tools[${i}].function.strict`;
    throw new OpenAIError(400, `${param} is not supported`, { param, code: 'unsupported_parameter' });
  }
  const { dialect, name } = model;
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
  return tools;
}
