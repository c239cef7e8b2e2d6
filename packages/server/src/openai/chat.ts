import {
  controlsOf,
  type GenerateEvent,
  type GenerateRequest,
  type MessagesPrompt,
  type ServedModel,
  type Structure,
} from '@rose/engine';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { ServerContext } from '../context.ts';
import { generationFields, generationOf } from '../generation/fields.ts';
import { abortOnClose } from '../http/abort.ts';
import { structureFields, structureOf } from '../generation/structure.ts';
import { tenantOf } from '../http/tenant.ts';
import { ChatAnswer, type AnswerReading } from './answer.ts';
import { invalidField } from './errors.ts';
import { chatLogprobs, checkPromptLogprobs, promptLogprobs } from './logprobs.ts';
import { conversationFields, promptOf } from './messages.ts';
import { checkParameters, streamOptions } from './parameters.ts';
import { modelFor, readBody } from './request.ts';
import { sendChunks } from './stream.ts';
import { callsOf } from './tools.ts';
import { newId, unixSeconds, usageOf } from './usage.ts';

const fields = {
  ...generationFields,
  ...conversationFields,
  ...structureFields,
  model: z.string().nullish(),
  max_completion_tokens: z.int().nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  prompt_logprobs: z.int().nullish(),
  stream: z.boolean().nullish(),
  stream_options: streamOptions.nullish(),
};
const schema = z.looseObject(fields);
type Body = z.infer<typeof schema>;

/** POST /v1/chat/completions */
export async function chatCompletions(
  context: ServerContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const signal = abortOnClose(request);
  const body = await readBody(request, schema, context);
  checkParameters(body, fields);
  const model = modelFor(context.hub, body.model, 'generate');
  const prompt = promptOf(body, model);
  const generation = generateRequest(body, prompt, model);
  const reading = await readingOf(body, prompt, model);
  const structure = structureFor(body, model, reading);
  const events = model.generate({ ...generation, ...(structure && { structure }), tenant: tenantOf(request), signal });
  const head = {
    id: newId('chatcmpl'),
    created: unixSeconds(),
    model: model.name,
    system_fingerprint: `rose-${context.version}`,
  };
  if (body.stream !== true)
    return { ...head, object: 'chat.completion', ...(await complete(events, model, body, reading)) };
  const chunks = streamChunks(events, model, body, reading);
  await sendChunks(reply, chunks, { ...head, object: 'chat.completion.chunk' }, context, signal);
  return reply;
}

/** What the answer's text must be; it may reason before that. */
function structureFor(body: Body, model: ServedModel, reading: AnswerReading): Structure | undefined {
  const structure = callsOf(body, model, structureOf(body));
  const { reasoning: tags } = model.dialect;
  if (structure === undefined || tags === undefined) return structure;
  return { ...structure, reasoning: { tags, opened: reading.reasoningOpened ?? false } };
}

/** How the answer is to be read. */
async function readingOf(body: Body, prompt: MessagesPrompt, { dialect, text }: ServedModel): Promise<AnswerReading> {
  const open = dialect.reasoning?.open;
  // What the template refuses is reported by the request itself.
  const rendered = open === undefined ? '' : await text.render(prompt).catch(() => '');
  return {
    dialect,
    tools: prompt.tools?.map((tool) => tool.function.name),
    oneCall: body.parallel_tool_calls === false,
    reasoningOpened: open !== undefined && rendered.trimEnd().endsWith(open),
  };
}

function generateRequest(body: Body, prompt: MessagesPrompt, model: ServedModel): Omit<GenerateRequest, 'signal'> {
  const { logprobs, top_logprobs: top } = body;
  if (typeof top === 'number' && logprobs !== true) {
    throw invalidField('top_logprobs', 'top_logprobs needs logprobs: true');
  }
  if (body.stream_options && body.stream !== true) {
    throw invalidField('stream_options', 'stream_options is only allowed when stream is true');
  }
  checkPromptLogprobs(body);
  const controls = controlsOf(model.dialect, prompt.tools !== undefined);
  return {
    ...(controls.length > 0 && { keepSpecial: controls }),
    ...generationOf({ ...body, max_tokens: body.max_completion_tokens ?? body.max_tokens }),
    prompt,
    ...(logprobs === true && { logprobs: top ?? 0 }),
    ...(typeof body.prompt_logprobs === 'number' && { promptLogprobs: body.prompt_logprobs }),
  };
}

/** The whole answer at once. */
async function complete(
  events: AsyncIterable<GenerateEvent>,
  model: ServedModel,
  body: Body,
  reading: AnswerReading,
): Promise<object> {
  const newChoice = (index: number) => ({
    index,
    answer: new ChatAnswer(reading),
    logprobs: body.logprobs === true ? { content: [] as object[], refusal: null } : null,
    finish_reason: null as string | null,
    stop_reason: null as string | number | null,
  });
  const choices: ReturnType<typeof newChoice>[] = [];
  let promptTokens = 0;
  let cachedTokens = 0;
  let generatedTokens = 0;
  let judged: object | undefined;
  for await (const event of events) {
    if (event.kind === 'start') {
      promptTokens = event.promptTokens;
      cachedTokens = event.cachedTokens;
      judged = event.judged && { prompt_logprobs: promptLogprobs(event.judged, model.vocabulary) };
      continue;
    }
    const choice = (choices[event.index] ??= newChoice(event.index));
    if (event.kind === 'delta') {
      choice.answer.take(event.text);
      choice.logprobs?.content.push(...chatLogprobs(event.tokens, model.vocabulary));
    } else {
      choice.answer.end();
      choice.finish_reason = choice.answer.finishReason(event.reason);
      choice.stop_reason = event.stop ?? null;
      generatedTokens += event.generatedTokens;
    }
  }
  const written = choices.map(({ answer, index, ...rest }) => ({ index, message: answer.message(), ...rest }));
  return { choices: written, usage: usageOf(promptTokens, generatedTokens, cachedTokens), ...judged };
}

/** The answer in pieces; what all pieces have in common is not in them. */
async function* streamChunks(
  events: AsyncIterable<GenerateEvent>,
  model: ServedModel,
  body: Body,
  reading: AnswerReading,
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
  const answers: ChatAnswer[] = [];
  let promptTokens = 0;
  let cachedTokens = 0;
  let generatedTokens = 0;
  for await (const event of events) {
    if (event.kind === 'start') {
      promptTokens = event.promptTokens;
      cachedTokens = event.cachedTokens;
      for (let i = 0; i < (body.n ?? 1); i++) {
        answers.push(new ChatAnswer(reading));
        yield chunk(i, { role: 'assistant', content: '' }, null);
      }
    } else if (event.kind === 'delta') {
      const logprobs =
        body.logprobs === true ? { content: chatLogprobs(event.tokens, model.vocabulary), refusal: null } : null;
      const delta = answers[event.index].take(event.text);
      if (delta !== undefined || logprobs !== null) yield chunk(event.index, delta ?? { content: '' }, logprobs);
    } else {
      generatedTokens += event.generatedTokens;
      const answer = answers[event.index];
      const rest = answer.end();
      if (rest !== undefined) yield chunk(event.index, rest, null);
      const reason = answer.finishReason(event.reason);
      yield chunk(event.index, {}, null, { finish_reason: reason, stop_reason: event.stop ?? null });
    }
  }
  if (includeUsage) yield { choices: [], usage: usageOf(promptTokens, generatedTokens, cachedTokens) };
}
