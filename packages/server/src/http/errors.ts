import { RoseError } from '@rose/engine';
import type { ServerContext } from '../context.ts';
import { tooLarge } from './compression.ts';

/**
 * Any error of a request as Rose's own kind; faults of Rose are written to the log, where their stack belongs.
 * @param requestId the log's name of the request
 */
export function requestError(error: unknown, context: ServerContext, requestId: string): RoseError {
  if (error instanceof RoseError && error.code !== 'internal') return error;
  const { code, statusCode, message } = error as { code?: string; statusCode?: number; message?: string };
  // Nobody waits for the reply.
  if (code === 'ECONNRESET') return new RoseError('cancelled', 'the connection ended before the request');
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return tooLarge(context.maxBodyBytes);
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new RoseError('invalid', message ?? 'the request is not valid HTTP');
  }
  context.log.logger.error({ err: error, requestId }, message ?? String(error));
  return RoseError.from(error);
}
