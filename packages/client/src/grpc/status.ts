import { status, type ServiceError } from '@grpc/grpc-js';
import { InferenceError } from '../errors.ts';

/** What grpc-js rejects with, in the client's words. */
export function asInferenceError(error: unknown, address: string): unknown {
  if (!(error instanceof Error) || typeof (error as Partial<ServiceError>).code !== 'number') return error;
  const { code, details } = error as ServiceError;
  // What grpc-js says itself where no connection can be had, or it breaks.
  if (code === status.UNAVAILABLE && /^(No connection established|Connection dropped|read ECONNRESET)/.test(details)) {
    return new InferenceError('network', `no answer from ${address}: ${details}`, { cause: error });
  }
  const name = status[code] ?? String(code);
  return new InferenceError('refused', details || name, { status: name, cause: error });
}
