import type { GenerateEvent, GenerateRequest, Prompt } from '@rose/engine';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { ServerContext } from '../context.ts';
import { generationFields, generationOf } from '../generation/fields.ts';
import { merge } from '../generation/merge.ts';
import { abortOnClose } from '../http/abort.ts';
import { structureFields, structureOf } from '../generation/structure.ts';
import { tenantOf } from '../http/tenant.ts';
import { invalidField } from './errors.ts';
import { Choices } from './choices.ts';
import { append, checkPromptLogprobs, noLogprobs } from './logprobs.ts';
import { checkParameters, streamOptions } from './parameters.ts';
import { modelFor, readBody } from './request.ts';
import { sendChunks } from './stream.ts';
import { newId, unixSeconds } from './usage.ts';

/** OpenAI's default for this endpoint. */
const DEFAULT_MAX_TOKENS = 16;

/** Answers of one request that are with the engine at a time. */
const ANSWERS_AT_ONCE = 128;

const tokens = z.array(z.int32());
const fields = {
  ...generationFields,
  ...structureFields,
  model: z.string().nullish(),
  prompt: z.union(
    [z.string(), z.array(z.string()), tokens, z.array(tokens)],
    'must be a string, an array of strings, an array of token ids or an array of such arrays',
  ),
  logprobs: z.int().nullish(),
  prompt_logprobs: z.int().nullish(),
  /** The prompt is part of the answer. */
  echo: z.boolean().nullish(),
  stream: z.boolean().nullish(),
  stream_options: streamOptions.nullish(),
  /** Put the tokenizer's beginning token before a text. Default true. */
  add_special_tokens: z.boolean().nullish(),
  /** Read control tokens in the prompt's text as control tokens. Default false. */
  parse_special: z.boolean().nullish(),
};
const schema = z.looseObject(fields);
type Body = z.infer<typeof schema>;

/** POST /v1/completions */
export async function completions(
  context: ServerContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const closed = abortOnClose(request);
  const body = await readBody(request, schema, context);
  checkParameters(body, fields);
  checkPromptLogprobs(body);
  if (body.stream_options && body.stream !== true) {
    throw invalidField('stream_options', 'stream_options is only allowed when stream is true');
  }
  const model = modelFor(context.hub, body.model, 'generate');
  const prompts = promptsOf(body);
  const tenant = tenantOf(request);
  const done = new AbortController();
  const signal = AbortSignal.any([closed, done.signal]);
  const common = generateRequest(body);
  const sources = prompts.map((prompt) => model.generate({ ...common, prompt, tenant, signal }));
  const events = merge(sources, () => done.abort(), promptsAtOnce(body));
  const choices = new Choices(model, body, prompts);
  const head = {
    id: newId('cmpl'),
    object: 'text_completion',
    created: unixSeconds(),
    model: model.name,
    system_fingerprint: `rose-${context.version}`,
  };
  if (body.stream !== true) return { ...head, ...(await complete(events, choices)) };
  await sendChunks(reply, streamChunks(events, choices, body), head, context, closed);
  return reply;
}

function generateRequest(body: Body): Omit<GenerateRequest, 'signal' | 'prompt'> {
  const structure = structureOf(body);
  return {
    ...(structure && { structure }),
    ...(body.echo === true && { continues: true }),
    ...generationOf({ ...body, max_tokens: body.max_tokens ?? DEFAULT_MAX_TOKENS }),
    ...(typeof body.logprobs === 'number' && { logprobs: body.logprobs }),
    ...promptLogprobsOf(body),
  };
}

/** A long list of prompts leaves the queue to others too. */
function promptsAtOnce({ n }: Body): number {
  return Math.max(1, Math.floor(ANSWERS_AT_ONCE / (n ?? 1)));
}

/** An echoed prompt's log-probabilities are told like the answer's; both wishes are met by the larger one. */
function promptLogprobsOf({ echo, logprobs, prompt_logprobs: own }: Body): Pick<GenerateRequest, 'promptLogprobs'> {
  const echoed = echo === true && typeof logprobs === 'number' ? logprobs : undefined;
  if (typeof own !== 'number') return echoed === undefined ? {} : { promptLogprobs: echoed };
  return { promptLogprobs: own < 0 ? own : Math.max(own, echoed ?? 0) };
}

function promptsOf({ prompt, parse_special, add_special_tokens }: Body): Prompt[] {
  const options = { parseSpecial: parse_special === true, ...(add_special_tokens === false && { addSpecial: false }) };
  const text = (value: string): Prompt => ({ kind: 'text', text: value, ...options });
  if (typeof prompt === 'string') return [text(prompt)];
  if (prompt.length === 0) throw invalidField('prompt', 'prompt is an empty array: it must hold at least one prompt');
  if (typeof prompt[0] === 'number') return [{ kind: 'tokens', tokens: prompt as number[] }];
  return (prompt as (string | number[])[]).map((one) =>
    typeof one === 'string' ? text(one) : { kind: 'tokens', tokens: one },
  );
}

type Events = AsyncIterable<{ readonly source: number; readonly value: GenerateEvent }>;

/** All answers at once. */
async function complete(events: Events, pieces: Choices): Promise<object> {
  const newChoice = (index: number) => ({
    index,
    text: '',
    logprobs: pieces.told ? noLogprobs() : null,
    finish_reason: null as string | null,
    stop_reason: null as string | number | null,
  });
  const choices: ReturnType<typeof newChoice>[] = [];
  for await (const { source, value } of events) {
    for (const { index, text, logprobs, ...rest } of await pieces.take(source, value)) {
      const choice = (choices[index] ??= newChoice(index));
      choice.text += text;
      if (choice.logprobs !== null && logprobs !== null) append(choice.logprobs, logprobs);
      Object.assign(choice, rest);
    }
  }
  return { choices, usage: pieces.usage };
}

/** The answers in pieces; what all pieces have in common is not in them. */
async function* streamChunks(events: Events, pieces: Choices, body: Body): AsyncIterable<object> {
  const includeUsage = body.stream_options?.include_usage === true;
  const withUsage = includeUsage ? { usage: null } : {};
  for await (const { source, value } of events) {
    for (const piece of await pieces.take(source, value)) yield { choices: [piece], ...withUsage };
  }
  if (includeUsage) yield { choices: [], usage: pieces.usage };
}
