import type { GenerateEvent, GenerateRequest, Prompt, ServedModel } from '@rose/engine';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { ServerContext } from '../context.ts';
import { generationFields, generationOf } from '../generation/fields.ts';
import { merge } from '../generation/merge.ts';
import { abortOnClose } from '../http/abort.ts';
import { tenantOf } from '../http/tenant.ts';
import { invalidField } from './errors.ts';
import { LegacyLogprobsWriter, type LegacyLogprobs } from './logprobs.ts';
import { modelFor, readBody, refuseNotDone } from './request.ts';
import { sendChunks } from './stream.ts';
import { newId, unixSeconds, usageOf } from './usage.ts';

/** OpenAI's default for this endpoint. */
const DEFAULT_MAX_TOKENS = 16;

const tokens = z.array(z.int32());
const schema = z.looseObject({
  ...generationFields,
  model: z.string().nullish(),
  prompt: z.union(
    [z.string(), z.array(z.string()), tokens, z.array(tokens)],
    'must be a string, an array of strings, an array of token ids or an array of such arrays',
  ),
  logprobs: z.int().nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
  /** Read control tokens in the prompt's text as control tokens. Default false. */
  parse_special: z.boolean().nullish(),
});
type Body = z.infer<typeof schema>;

/** An event of any answer; answers are numbered through all prompts. */
interface Step {
  readonly event: GenerateEvent;
  readonly choice: number;
}

/** POST /v1/completions */
export async function completions(
  context: ServerContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const closed = abortOnClose(reply);
  const body = await readBody(request, schema, context);
  refuseNotDone(body);
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
  const steps = numbered(
    merge(sources, () => done.abort()),
    body.n ?? 1,
  );
  const head = {
    id: newId('cmpl'),
    object: 'text_completion',
    created: unixSeconds(),
    model: model.name,
    system_fingerprint: `rose-${context.version}`,
  };
  if (body.stream !== true) return { ...head, ...(await complete(steps, model, body)) };
  await sendChunks(reply, streamChunks(steps, model, body), head, context, closed);
  return reply;
}

function generateRequest(body: Body): Omit<GenerateRequest, 'signal' | 'prompt'> {
  return {
    ...generationOf({ ...body, max_tokens: body.max_tokens ?? DEFAULT_MAX_TOKENS }),
    ...(typeof body.logprobs === 'number' && { logprobs: body.logprobs }),
  };
}

function promptsOf({ prompt, parse_special }: Body): Prompt[] {
  const text = (value: string): Prompt => ({ kind: 'text', text: value, parseSpecial: parse_special === true });
  if (typeof prompt === 'string') return [text(prompt)];
  if (prompt.length === 0) throw invalidField('prompt', 'prompt is an empty array: it must hold at least one prompt');
  if (typeof prompt[0] === 'number') return [{ kind: 'tokens', tokens: prompt as number[] }];
  return (prompt as (string | number[])[]).map((one) =>
    typeof one === 'string' ? text(one) : { kind: 'tokens', tokens: one },
  );
}

async function* numbered(
  events: AsyncIterable<{ readonly source: number; readonly value: GenerateEvent }>,
  answers: number,
): AsyncIterable<Step> {
  for await (const { source, value } of events) {
    yield { event: value, choice: value.kind === 'start' ? 0 : source * answers + value.index };
  }
}

/** All answers at once. */
async function complete(steps: AsyncIterable<Step>, model: ServedModel, body: Body): Promise<object> {
  const writers = new LogprobWriters(model, body);
  const newChoice = (index: number) => ({
    index,
    text: '',
    logprobs: writers.enabled ? emptyLogprobs() : null,
    finish_reason: null as string | null,
    stop_reason: null as string | number | null,
  });
  const choices: ReturnType<typeof newChoice>[] = [];
  let promptTokens = 0;
  let cachedTokens = 0;
  let generatedTokens = 0;
  for await (const { event, choice: index } of steps) {
    if (event.kind === 'start') {
      promptTokens += event.promptTokens;
      cachedTokens += event.cachedTokens;
      continue;
    }
    const choice = (choices[index] ??= newChoice(index));
    if (event.kind === 'delta') {
      choice.text += event.text;
      if (choice.logprobs !== null) append(choice.logprobs, writers.of(index).write(event.tokens));
    } else {
      choice.finish_reason = event.reason;
      choice.stop_reason = event.stop ?? null;
      generatedTokens += event.generatedTokens;
    }
  }
  return { choices, usage: usageOf(promptTokens, generatedTokens, cachedTokens) };
}

/** The answers in pieces; what all pieces have in common is not in them. */
async function* streamChunks(steps: AsyncIterable<Step>, model: ServedModel, body: Body): AsyncIterable<object> {
  const writers = new LogprobWriters(model, body);
  const includeUsage = body.stream_options?.include_usage === true;
  const withUsage = includeUsage ? { usage: null } : {};
  let promptTokens = 0;
  let cachedTokens = 0;
  let generatedTokens = 0;
  for await (const { event, choice: index } of steps) {
    if (event.kind === 'start') {
      promptTokens += event.promptTokens;
      cachedTokens += event.cachedTokens;
    } else if (event.kind === 'delta') {
      const logprobs = writers.enabled ? writers.of(index).write(event.tokens) : null;
      if (event.text === '' && logprobs === null) continue;
      yield { choices: [{ index, text: event.text, logprobs, finish_reason: null }], ...withUsage };
    } else {
      generatedTokens += event.generatedTokens;
      const end = { finish_reason: event.reason, stop_reason: event.stop ?? null };
      yield { choices: [{ index, text: '', logprobs: null, ...end }], ...withUsage };
    }
  }
  if (includeUsage) yield { choices: [], usage: usageOf(promptTokens, generatedTokens, cachedTokens) };
}

/** A writer for each answer, made with its first token. */
class LogprobWriters {
  readonly enabled: boolean;
  readonly #model: ServedModel;
  readonly #keepSpecial: boolean;
  readonly #writers = new Map<number, LegacyLogprobsWriter>();

  constructor(model: ServedModel, body: Body) {
    this.enabled = typeof body.logprobs === 'number';
    this.#model = model;
    this.#keepSpecial = body.skip_special_tokens === false;
  }

  of(choice: number): LegacyLogprobsWriter {
    let writer = this.#writers.get(choice);
    if (writer === undefined) {
      writer = new LegacyLogprobsWriter(this.#model.vocabulary, this.#keepSpecial);
      this.#writers.set(choice, writer);
    }
    return writer;
  }
}

function emptyLogprobs(): LegacyLogprobs {
  return { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
}

function append(to: LegacyLogprobs, piece: LegacyLogprobs): void {
  to.tokens.push(...piece.tokens);
  to.token_logprobs.push(...piece.token_logprobs);
  to.top_logprobs.push(...piece.top_logprobs);
  to.text_offset.push(...piece.text_offset);
}
