import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { ServerContext } from '../context.ts';
import { abortOnClose } from '../http/abort.ts';
import { tenantOf } from '../http/tenant.ts';
import { invalidField } from './errors.ts';
import { modelFor, readBody } from './request.ts';

const tokens = z.array(z.int32());
const schema = z.looseObject({
  model: z.string().nullish(),
  input: z.union(
    [z.string(), z.array(z.string()), tokens, z.array(tokens)],
    'must be a string, an array of strings, an array of token ids or an array of such arrays',
  ),
  encoding_format: z.enum(['float', 'base64']).nullish(),
  dimensions: z.int().nullish(),
  /** -1: shorten inputs that are too long to what the model reads. */
  truncate_prompt_tokens: z.literal(-1, 'only -1 is supported').nullish(),
});
type Body = z.infer<typeof schema>;

/** POST /v1/embeddings */
export async function embeddings(context: ServerContext, request: FastifyRequest): Promise<object> {
  const signal = abortOnClose(request);
  const body = await readBody(request, schema, context);
  const model = modelFor(context.hub, body.model, 'embed');
  const { embeddings, promptTokens } = await model.embed({
    inputs: inputsOf(body),
    truncate: body.truncate_prompt_tokens === -1,
    ...(typeof body.dimensions === 'number' && { dimensions: body.dimensions }),
    tenant: tenantOf(request),
    signal,
  });
  return {
    object: 'list',
    data: embeddings.map((vector, index) => ({
      object: 'embedding',
      index,
      embedding: body.encoding_format === 'base64' ? base64(vector) : [...vector],
    })),
    model: model.name,
    usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
  };
}

function inputsOf({ input }: Body): (string | number[])[] {
  if (typeof input === 'string') return [input];
  if (input.length === 0) throw invalidField('input', 'input is an empty array: it must hold at least one text');
  return typeof input[0] === 'number' ? [input as number[]] : (input as (string | number[])[]);
}

/** Little-endian float32. */
function base64(vector: Float32Array): string {
  const bytes = Buffer.alloc(vector.length * 4);
  vector.forEach((value, i) => bytes.writeFloatLE(value, i * 4));
  return bytes.toString('base64');
}
