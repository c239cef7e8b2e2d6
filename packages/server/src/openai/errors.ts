import type { FastifyReply } from 'fastify';
import { RoseError, type ErrorCode } from '@rose/engine';
import type { z } from 'zod';
import { REQUEST_ID } from '../http/request-id.ts';
import { sendRetryAfter } from '../http/retry.ts';

/** An error as OpenAI's clients know it. */
export class OpenAIError extends Error {
  readonly status: number;
  readonly type: string;
  readonly param: string | undefined;
  readonly code: string | undefined;
  /** When it is worth trying again. */
  readonly retryAfterSeconds: number | undefined;

  constructor(
    status: number,
    message: string,
    details: { type?: string; param?: string; code?: string; retryAfterSeconds?: number } = {},
  ) {
    super(message);
    this.status = status;
    this.type = details.type ?? (status < 500 ? 'invalid_request_error' : 'server_error');
    this.param = details.param;
    this.code = details.code;
    this.retryAfterSeconds = details.retryAfterSeconds;
  }
}

/** OpenAI's clients try again after 408, 409, 429 and everything from 500 on. */
const STATUS: Readonly<Record<ErrorCode, { readonly status: number; readonly type?: string; readonly code?: string }>> =
  {
    invalid: { status: 400 },
    not_found: { status: 404, code: 'not_found' },
    too_large: { status: 413, code: 'request_too_large' },
    overloaded: { status: 429, type: 'rate_limit_error', code: 'queue_full' },
    unsupported: { status: 400, code: 'unsupported' },
    unavailable: { status: 503, code: 'unavailable' },
    deadline: { status: 504, code: 'deadline_exceeded' },
    cancelled: { status: 499, code: 'cancelled' },
    internal: { status: 500 },
  };

export function openaiError(error: RoseError | OpenAIError): OpenAIError {
  if (error instanceof OpenAIError) return error;
  const { status, ...details } = STATUS[error.code];
  return new OpenAIError(status, error.message, {
    ...details,
    ...(error.param !== undefined && { param: error.param }),
    ...(error.retryAfterSeconds !== undefined && { retryAfterSeconds: error.retryAfterSeconds }),
  });
}

/** The body of every error. */
export function openaiErrorBody({ message, type, param, code }: OpenAIError): object {
  return { error: { message, type, param: param ?? null, code: code ?? null } };
}

export function sendOpenAIError(reply: FastifyReply, error: OpenAIError): FastifyReply {
  sendRetryAfter(reply, error);
  reply.header(REQUEST_ID, reply.request.id);
  return reply.code(error.status).send(openaiErrorBody(error));
}

/** A field that cannot be served as written. */
export function invalidField(param: string, message: string): OpenAIError {
  return new OpenAIError(400, message, { param });
}

/** The first problem of a body that does not fit its schema, with the path of the field. */
export function schemaError(error: z.ZodError): OpenAIError {
  const [issue] = error.issues;
  const message = issue.code === 'invalid_key' ? issue.issues[0].message : issue.message;
  const param = issue.path.reduce<string>((text, key) => {
    if (typeof key === 'number') return `${text}[${key}]`;
    return text === '' ? String(key) : `${text}.${String(key)}`;
  }, '');
  return new OpenAIError(400, param === '' ? message : `${param}: ${message}`, param === '' ? {} : { param });
}
