import type { ChatMessage, GenerateEvent, GenerateRequest, ServedModel } from '@rose/engine';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { ServerContext } from '../context.ts';
import { generationFields, generationOf } from '../generation/fields.ts';
import { abortOnClose } from '../http/abort.ts';
import { tenantOf } from '../http/tenant.ts';
import { invalidField } from './errors.ts';
import { chatLogprobs } from './logprobs.ts';
import { modelFor, readBody, refuseNotDone } from './request.ts';
import { sendChunks } from './stream.ts';
import { newId, unixSeconds, usageOf } from './usage.ts';

const part = z.looseObject({ type: z.string(), text: z.string().nullish() });
const message = z.looseObject({
  role: z.string().min(1),
  content: z.union([z.string(), z.array(part)], 'must be a string or an array of content parts').nullish(),
  name: z.string().nullish(),
});
const schema = z.looseObject({
  ...generationFields,
  model: z.string().nullish(),
  messages: z.array(message).min(1, 'must hold at least one message'),
  max_completion_tokens: z.int().nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
  add_generation_prompt: z.boolean().nullish(),
  chat_template_kwargs: z.record(z.string(), z.unknown()).nullish(),
});
type Body = z.infer<typeof schema>;

/** POST /v1/chat/completions */
export async function chatCompletions(
  context: ServerContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const signal = abortOnClose(reply);
  const body = await readBody(request, schema, context);
  refuseNotDone(body);
  const model = modelFor(context.hub, body.model, 'generate');
  const events = model.generate({ ...generateRequest(body), tenant: tenantOf(request), signal });
  const head = {
    id: newId('chatcmpl'),
    created: unixSeconds(),
    model: model.name,
    system_fingerprint: `rose-${context.version}`,
  };
  if (body.stream !== true) return { ...head, object: 'chat.completion', ...(await complete(events, model, body)) };
  const chunks = streamChunks(events, model, body);
  await sendChunks(reply, chunks, { ...head, object: 'chat.completion.chunk' }, context, signal);
  return reply;
}

function generateRequest(body: Body): Omit<GenerateRequest, 'signal'> {
  const { logprobs, top_logprobs: top } = body;
  if (typeof top === 'number' && logprobs !== true) {
    throw invalidField('top_logprobs', 'top_logprobs needs logprobs: true');
  }
  if (body.stream_options && body.stream !== true) {
    throw invalidField('stream_options', 'stream_options is only allowed when stream is true');
  }
  return {
    ...generationOf({ ...body, max_tokens: body.max_completion_tokens ?? body.max_tokens }),
    prompt: {
      kind: 'messages',
      messages: body.messages.map(chatMessage),
      ...(typeof body.add_generation_prompt === 'boolean' && { addGenerationPrompt: body.add_generation_prompt }),
      ...(body.chat_template_kwargs && { templateArguments: body.chat_template_kwargs }),
    },
    ...(logprobs === true && { logprobs: top ?? 0 }),
  };
}

/** A message as the template reads it. OpenAI's `developer` is what every checkpoint's template calls `system`. */
function chatMessage({ role, content, name, ...rest }: Body['messages'][number], index: number): ChatMessage {
  const where = `messages[${index}]`;
  if (role === 'tool' || role === 'function') {
    throw invalidField(`${where}.role`, `${where}.role: '${role}' is not supported, because tools are not`);
  }
  if (Array.isArray(rest.tool_calls) && rest.tool_calls.length > 0) {
    throw invalidField(`${where}.tool_calls`, `${where}.tool_calls is not supported, because tools are not`);
  }
  if (content === undefined || content === null) {
    throw invalidField(`${where}.content`, `${where}.content is missing: a message needs text`);
  }
  const texts =
    typeof content === 'string' ? [content] : content.map((part, i) => textOf(part, `${where}.content[${i}]`));
  return { role: role === 'developer' ? 'system' : role, content: texts.join('\n'), ...(name && { name }) };
}

function textOf({ type, text }: z.infer<typeof part>, where: string): string {
  if (type !== 'text') throw invalidField(where, `${where} is of type '${type}': only text is supported`);
  if (typeof text !== 'string') throw invalidField(`${where}.text`, `${where}.text is missing`);
  return text;
}

/** The whole answer at once. */
async function complete(events: AsyncIterable<GenerateEvent>, model: ServedModel, body: Body): Promise<object> {
  const newChoice = (index: number) => ({
    index,
    message: { role: 'assistant', content: '', refusal: null },
    logprobs: body.logprobs === true ? { content: [] as object[], refusal: null } : null,
    finish_reason: null as string | null,
    stop_reason: null as string | number | null,
  });
  const choices: ReturnType<typeof newChoice>[] = [];
  let promptTokens = 0;
  let cachedTokens = 0;
  let generatedTokens = 0;
  for await (const event of events) {
    if (event.kind === 'start') {
      promptTokens = event.promptTokens;
      cachedTokens = event.cachedTokens;
      continue;
    }
    const choice = (choices[event.index] ??= newChoice(event.index));
    if (event.kind === 'delta') {
      choice.message.content += event.text;
      choice.logprobs?.content.push(...chatLogprobs(event.tokens, model.vocabulary));
    } else {
      choice.finish_reason = event.reason;
      choice.stop_reason = event.stop ?? null;
      generatedTokens += event.generatedTokens;
    }
  }
  return { choices, usage: usageOf(promptTokens, generatedTokens, cachedTokens) };
}

/** The answer in pieces; what all pieces have in common is not in them. */
async function* streamChunks(
  events: AsyncIterable<GenerateEvent>,
  model: ServedModel,
  body: Body,
): AsyncIterable<object> {
  const includeUsage = body.stream_options?.include_usage === true;
  const withUsage = includeUsage ? { usage: null } : {};
  const chunk = (
    index: number,
    delta: object,
    logprobs: object | null,
    end: object = { finish_reason: null },
  ): object => ({
    choices: [{ index, delta, logprobs, ...end }],
    ...withUsage,
  });
  let promptTokens = 0;
  let cachedTokens = 0;
  let generatedTokens = 0;
  for await (const event of events) {
    if (event.kind === 'start') {
      promptTokens = event.promptTokens;
      cachedTokens = event.cachedTokens;
      for (let i = 0; i < (body.n ?? 1); i++) yield chunk(i, { role: 'assistant', content: '' }, null);
    } else if (event.kind === 'delta') {
      const logprobs =
        body.logprobs === true ? { content: chatLogprobs(event.tokens, model.vocabulary), refusal: null } : null;
      if (event.text !== '' || logprobs !== null) yield chunk(event.index, { content: event.text }, logprobs);
    } else {
      generatedTokens += event.generatedTokens;
      yield chunk(event.index, {}, null, { finish_reason: event.reason, stop_reason: event.stop ?? null });
    }
  }
  if (includeUsage) yield { choices: [], usage: usageOf(promptTokens, generatedTokens, cachedTokens) };
}
