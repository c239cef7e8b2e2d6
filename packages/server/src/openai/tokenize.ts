import type { ServedModel } from '@rose/engine';
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { ServerContext } from '../context.ts';
import { invalidField } from './errors.ts';
import { conversationFields, promptOf } from './messages.ts';
import { checkParameters } from './parameters.ts';
import { parseBody, readBody, readJson, tokenizerOf } from './request.ts';

const textFields = {
  model: z.string().nullish(),
  prompt: z.string(),
  /** Default: true. */
  add_special_tokens: z.boolean().nullish(),
  /** Default: true. The tokenizer's own reading; prompts of completions are text unless they ask for it. */
  parse_special: z.boolean().nullish(),
  return_token_strs: z.boolean().nullish(),
};
const chatFields = {
  ...conversationFields,
  model: z.string().nullish(),
  return_token_strs: z.boolean().nullish(),
};
const textSchema = z.looseObject(textFields);
const chatSchema = z.looseObject(chatFields);

const detokenizeFields = { model: z.string().nullish(), tokens: z.array(z.int32()) };
const detokenizeSchema = z.looseObject(detokenizeFields);

/** POST /tokenize, in vLLM's shape: a text (`prompt`) or a conversation (`messages`) as tokens. */
export async function tokenize(context: ServerContext, request: FastifyRequest): Promise<object> {
  const body = await readJson(request, context);
  const has = (field: string): boolean =>
    typeof body === 'object' && body !== null && ((body as Record<string, unknown>)[field] ?? null) !== null;
  const isChat = has('messages');
  if (isChat && has('prompt')) {
    throw invalidField(
      'prompt',
      'prompt and messages cannot be given together: a text and a conversation are two things',
    );
  }
  const { model, tokens, named } = isChat ? await ofChat(context, body) : await ofText(context, body);
  return {
    count: tokens.length,
    max_model_len: model.spec.contextLength,
    tokens: [...tokens],
    token_strs: named ? await model.text.tokenNames(tokens) : null,
  };
}

interface Tokenized {
  readonly model: ServedModel;
  readonly tokens: Int32Array;
  /** Whether the tokens are to be told by name too. */
  readonly named: boolean;
}

async function ofText({ hub }: ServerContext, json: unknown): Promise<Tokenized> {
  const body = parseBody(json, textSchema);
  checkParameters(body, textFields);
  const model = tokenizerOf(hub, body.model);
  const named = body.return_token_strs === true;
  const addSpecial = body.add_special_tokens !== false;
  // Encoders read a text between tokens, as plain text; decoders go on behind those before it.
  if (model.task !== 'generate' && addSpecial) {
    const [{ tokens }] = await model.text.encodeTexts([body.prompt], { maxTokens: Infinity, truncate: false });
    return { model, tokens, named };
  }
  const parseSpecial = body.parse_special !== false;
  const tokens = await model.text.encodePrompt({ kind: 'text', text: body.prompt, parseSpecial, addSpecial });
  return { model, tokens, named };
}

async function ofChat({ hub }: ServerContext, json: unknown): Promise<Tokenized> {
  const body = parseBody(json, chatSchema);
  checkParameters(body, chatFields);
  const model = tokenizerOf(hub, body.model);
  if (model.task !== 'generate') throw invalidField('messages', `the model '${model.name}' has no conversations`);
  const tokens = await model.text.encodePrompt(promptOf(body, model));
  return { model, tokens, named: body.return_token_strs === true };
}

/** POST /detokenize, in vLLM's shape: tokens as text, control tokens by their names. */
export async function detokenize(context: ServerContext, request: FastifyRequest): Promise<object> {
  const body = await readBody(request, detokenizeSchema, context);
  checkParameters(body, detokenizeFields);
  const model = tokenizerOf(context.hub, body.model);
  const size = model.spec.vocabSize;
  const wrong = body.tokens.findIndex((token) => token < 0 || token >= size);
  if (wrong >= 0) {
    const message = `tokens[${wrong}] is ${body.tokens[wrong]}: the vocabulary has ${size} tokens`;
    throw invalidField('tokens', message);
  }
  return { prompt: await model.text.decode(Int32Array.from(body.tokens), { keepSpecial: true }) };
}

/** GET /tokenizer_info, as vLLM answers it: the tokenizer's configuration. `?model=NAME` where several generate. */
export async function tokenizerInfo(context: ServerContext, request: FastifyRequest): Promise<object> {
  const { model } = request.query as { model?: string };
  return await tokenizerOf(context.hub, model).text.configuration();
}
