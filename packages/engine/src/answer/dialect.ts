import type { ReasoningTags } from './reasoning.ts';

/** Notations of tool calls that Rose reads. */
export const TOOL_FORMATS = ['hermes', 'llama3', 'mistral'] as const;
export type ToolFormat = (typeof TOOL_FORMATS)[number];

/** How a model writes what is more than text: told by its chat template, or by whoever serves it. */
export interface Dialect {
  /** The chat template shows tools to the model. */
  readonly takesTools: boolean;
  readonly tools: ToolFormat | undefined;
  readonly reasoning: ReasoningTags | undefined;
}

/** What a server may be told about a model whose template does not tell. */
export interface DialectOptions {
  readonly toolFormat?: ToolFormat | 'none';
  /** `think`: `<think>...</think>`, `mistral`: `[THINK]...[/THINK]`. */
  readonly reasoningFormat?: ReasoningFormat | 'none';
}

/** Notations of reasoning, by name. */
export const REASONING_FORMATS = ['think', 'mistral'] as const;
export type ReasoningFormat = (typeof REASONING_FORMATS)[number];
const REASONING: Readonly<Record<ReasoningFormat, ReasoningTags>> = {
  think: { open: '<think>', close: '</think>' },
  mistral: { open: '[THINK]', close: '[/THINK]' },
};

/** Control tokens that may stand around reasoning. */
export const REASONING_CONTROLS: readonly string[] = Object.values(REASONING).flatMap(({ open, close }) => [
  open,
  close,
]);

/** Texts of a template that tell its notation of calls; those with one of `but` write something else between the tags. */
const SIGNS: readonly { readonly format: ToolFormat; readonly signs: readonly string[]; readonly but: string[] }[] = [
  { format: 'mistral', signs: ['[TOOL_CALLS]'], but: [] },
  { format: 'hermes', signs: ['<tool_call>'], but: ['<function=', '<arg_key>', '<parameter='] },
  { format: 'llama3', signs: ['<|start_header_id|>', '"parameters":'], but: ['<tool_call>'] },
];

/**
 * Reads a dialect off a chat template.
 * @param template its source
 * @param identifiers names of its variables and of the fields it reads
 */
export function dialectOf(
  template: string,
  identifiers: ReadonlySet<string>,
  { toolFormat, reasoningFormat }: DialectOptions = {},
): Dialect {
  const has = (text: string): boolean => template.includes(text);
  const takesTools = identifiers.has('tools');
  const told = SIGNS.find(({ signs, but }) => signs.every(has) && !but.some(has))?.format;
  const tools = toolFormat ?? (takesTools ? told : undefined);
  const reasoning = reasoningFormat ?? REASONING_FORMATS.find((name) => has(REASONING[name].close));
  return {
    takesTools,
    tools: tools === 'none' ? undefined : tools,
    reasoning: reasoning === undefined || reasoning === 'none' ? undefined : REASONING[reasoning],
  };
}

/** Control tokens that are part of a format's notation, so that their text must reach the reader. */
export const TOOL_CONTROLS: Readonly<Record<ToolFormat, readonly string[]>> = {
  hermes: ['<tool_call>', '</tool_call>'],
  llama3: ['<|python_tag|>'],
  mistral: ['[TOOL_CALLS]', '[CALL_ID]', '[ARGS]'],
};
