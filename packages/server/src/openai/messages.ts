import type { ChatMessage, MessagesPrompt, ServedModel, ToolCall } from '@rose/engine';
import { z } from 'zod';
import { invalidField } from './errors.ts';
import { toolFields, toolsOf, type ToolFields } from './tools.ts';

const part = z.looseObject({ type: z.string(), text: z.string().nullish() });
const call = z.looseObject({
  id: z.string().min(1),
  type: z.literal('function', "only 'function' is supported").default('function'),
  function: z.looseObject({ name: z.string().min(1), arguments: z.string().default('') }),
});

const message = z.looseObject({
  role: z.string().min(1),
  content: z.union([z.string(), z.array(part)], 'must be a string or an array of content parts').nullish(),
  name: z.string().nullish(),
  reasoning_content: z.string().nullish(),
  tool_calls: z.array(call).nullish(),
  tool_call_id: z.string().nullish(),
});

interface Part {
  type: string;
  text?: string | null | undefined;
}

interface Call {
  id: string;
  type: 'function';
  function: { name: string; arguments: string };
}

interface Message {
  role: string;
  content?: string | Part[] | null | undefined;
  name?: string | null | undefined;
  reasoning_content?: string | null | undefined;
  tool_calls?: Call[] | null | undefined;
  tool_call_id?: string | null | undefined;
}

/** Fields of a body that say what conversation the model is to go on with. */
export interface ConversationFields extends ToolFields {
  messages: Message[];
  add_generation_prompt?: boolean | null | undefined;
  chat_template_kwargs?: Record<string, unknown> | null | undefined;
}

export const conversationFields: {
  [K in keyof Required<ConversationFields>]: z.ZodType<ConversationFields[K]>;
} = {
  ...toolFields,
  messages: z.array(message).min(1, 'must hold at least one message'),
  add_generation_prompt: z.boolean().nullish(),
  chat_template_kwargs: z.record(z.string(), z.unknown()).nullish(),
};

/** The conversation; the tools in it are those that the model may call. */
export function promptOf(body: ConversationFields, model: ServedModel): MessagesPrompt {
  const tools = toolsOf(body, model);
  return {
    kind: 'messages',
    messages: body.messages.map(chatMessage),
    ...(tools !== undefined && { tools }),
    ...(typeof body.add_generation_prompt === 'boolean' && { addGenerationPrompt: body.add_generation_prompt }),
    ...(body.chat_template_kwargs && { templateArguments: body.chat_template_kwargs }),
  };
}

/** A message as the template reads it. OpenAI's `developer` is what every checkpoint's template calls `system`. */
function chatMessage(message: Message, index: number): ChatMessage {
  const { role, name, content, reasoning_content: reasoning, tool_call_id: id } = message;
  const where = `messages[${index}]`;
  if (role === 'function') {
    throw invalidField(`${where}.role`, `${where}.role: 'function' is not supported: use 'tool' and tool_calls`);
  }
  const calls = (message.tool_calls ?? []).map((made, i) => toolCall(made, `${where}.tool_calls[${i}]`));
  if (calls.length > 0 && role !== 'assistant') {
    throw invalidField(`${where}.tool_calls`, `${where}.tool_calls: only an assistant's message can have calls`);
  }
  if ((content === undefined || content === null) && calls.length === 0) {
    throw invalidField(`${where}.content`, `${where}.content is missing: a message needs text`);
  }
  if (role === 'tool' && !id) {
    const param = `${where}.tool_call_id`;
    throw invalidField(param, `${param} is missing: a tool's message names the call that it answers`);
  }
  return {
    role: role === 'developer' ? 'system' : role,
    content: textOf(content ?? '', where),
    ...(name && { name }),
    ...(reasoning && { reasoning_content: reasoning }),
    ...(calls.length > 0 && { tool_calls: calls }),
    ...(id && { tool_call_id: id }),
  };
}

function textOf(content: string | Part[], where: string): string {
  if (typeof content === 'string') return content;
  const texts = content.map(({ type, text }, i) => {
    const at = `${where}.content[${i}]`;
    if (type !== 'text') throw invalidField(at, `${at} is of type '${type}': only text is supported`);
    if (typeof text !== 'string') throw invalidField(`${at}.text`, `${at}.text is missing`);
    return text;
  });
  return texts.join('\n');
}

function toolCall({ id, type, function: made }: Call, where: string): ToolCall {
  const param = `${where}.function.arguments`;
  let values: unknown;
  try {
    values = made.arguments.trim() === '' ? {} : JSON.parse(made.arguments);
  } catch (error) {
    throw invalidField(param, `${param} is not valid JSON: ${(error as Error).message}`);
  }
  if (typeof values !== 'object' || values === null || Array.isArray(values)) {
    throw invalidField(param, `${param} must be the JSON text of an object`);
  }
  return { id, type, function: { name: made.name, arguments: values as Record<string, unknown> } };
}
