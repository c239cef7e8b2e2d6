import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { ServerContext } from '../context.ts';
import { abortOnClose } from '../http/abort.ts';
import { tenantOf } from '../http/tenant.ts';
import { scoresOf } from '../scores.ts';
import { invalidField } from './errors.ts';
import { modelFor, readBody } from './request.ts';
import { newId } from './usage.ts';

const schema = z.looseObject({
  model: z.string().nullish(),
  query: z.string(),
  documents: z
    .array(z.union([z.string(), z.looseObject({ text: z.string() })], 'must be a string or an object with a text'))
    .min(1, 'must hold at least one document'),
  top_n: z.int().min(1, 'must be at least 1').nullish(),
  return_documents: z.boolean().nullish(),
  /** -1: shorten documents that are too long to what the model reads. */
  truncate_prompt_tokens: z.literal(-1, 'only -1 is supported').nullish(),
});

/**
 * POST /v1/rerank, in the shape of Cohere's and Jina's services: documents by how well they answer the query. The
 * relevance score is the sigmoid of the model's one label.
 */
export async function rerank(context: ServerContext, request: FastifyRequest): Promise<object> {
  const signal = abortOnClose(request);
  const body = await readBody(request, schema, context);
  const model = modelFor(context.hub, body.model, 'score');
  const labels = model.spec.head.kind === 'classifier' ? model.spec.head.labels : [];
  if (labels.length !== 1) {
    const message = `the model '${model.name}' has ${labels.length} labels (${labels.join(', ')}): ranking needs exactly one`;
    throw invalidField('model', message);
  }
  const texts = body.documents.map((document) => (typeof document === 'string' ? document : document.text));
  const { logits, promptTokens } = await model.score({
    inputs: texts.map((text) => ({ query: body.query, text })),
    truncate: body.truncate_prompt_tokens === -1,
    tenant: tenantOf(request),
    signal,
  });
  const results = logits
    .map((row, index) => ({ index, relevance_score: scoresOf(row)[0] }))
    .sort((a, b) => b.relevance_score - a.relevance_score || a.index - b.index)
    .slice(0, body.top_n ?? undefined)
    .map((result) =>
      body.return_documents === true ? { ...result, document: { text: texts[result.index] } } : result,
    );
  return {
    id: newId('rerank'),
    model: model.name,
    results,
    usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
  };
}
