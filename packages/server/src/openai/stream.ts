import type { FastifyReply } from 'fastify';
import type { ServerContext } from '../context.ts';
import { requestError } from '../http/errors.ts';
import { sendEvents } from '../http/event-stream.ts';
import { OpenAIError, openaiError, openaiErrorBody } from './errors.ts';

/**
 * Stream chunks as OpenAI does: an event each, `[DONE]` after the last. An error on the way is an event of its own, and
 * no `[DONE]` follows it.
 * @param head members that every chunk has
 */
export async function sendChunks(
  reply: FastifyReply,
  chunks: AsyncIterable<object>,
  head: object,
  context: ServerContext,
  signal: AbortSignal,
): Promise<void> {
  await sendEvents(reply, chunks, {
    contentType: 'text/event-stream; charset=utf-8',
    signal,
    print: (chunk) => JSON.stringify({ ...head, ...chunk }),
    last: '[DONE]',
    onError: (error) => {
      const known = error instanceof OpenAIError ? error : requestError(error, context, reply.request.id);
      return JSON.stringify(openaiErrorBody(openaiError(known)));
    },
  });
}
