import type { FastifyReply } from 'fastify';
import { now } from '../backend/protocol.ts';
import type { ServerContext } from '../context.ts';
import type { TritonModel } from '../triton/model.ts';
import type { Trace } from './trace.ts';

/** A trace of a request that is here to its last byte, if it is one to be traced; it ends with the reply. */
export function traceOf({ traces }: ServerContext, { name }: TritonModel, reply: FastifyReply): Trace | undefined {
  const trace = traces.sample(name);
  if (trace === undefined) return undefined;
  const received = now();
  trace.mark('HTTP_RECV_START', received - Math.round(reply.elapsedTime * 1e6));
  trace.mark('HTTP_RECV_END', received);
  reply.raw.once('close', () => {
    trace.mark('HTTP_SEND_END');
    trace.finish();
  });
  return trace;
}
