import type { ServerResponse } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ServerContext } from '../context.ts';
import { abortOnClose } from '../http/abort.ts';
import { acceptedEncoding, compress, contentEncoding, decompress } from '../http/compression.ts';
import type { PathParameters } from '../http/endpoint.ts';
import { ALIGNMENT, readBody } from '../http/read-body.ts';
import { tenantOf } from '../http/tenant.ts';
import { traceOf } from '../trace/http.ts';
import { runModel } from '../trace/run.ts';
import { TritonError } from './errors.ts';
import { headLengthOf, readInferRequest, type RequestedOutput } from './infer-request.ts';
import type { KnownHeads } from './known-heads.ts';
import type { TritonModel } from './model.ts';
import { onlyResponse } from './only-response.ts';
import { inferResponse, type InferResponse } from './respond.ts';
import { freeBytes, LARGE_BYTES } from './bytes.ts';
import { byName, type Tensor } from './tensor.ts';
import { checkRequest } from './validate.ts';

/** Up to here the raw tensors of a response are copied behind its JSON: one piece is quicker to send than several. */
const ONE_PIECE_BYTES = 4096;

/**
 * Have handlers of POST run when the hooks of requests have, before anything looks at bodies: those are theirs. On this
 * instance alone, and for handlers that reply or throw.
 */
export function leaveBodies(app: FastifyInstance): void {
  app.addHook('onRoute', (route) => {
    if (![route.method].flat().includes('POST')) return;
    const { handler } = route;
    route.onRequest = (request, reply) => {
      const answered = handler.call(app, request, reply) as Promise<unknown>;
      answered.catch((error: Error) => reply.send(error));
    };
  });
}

/**
 * POST `/infer`. A small request takes the server little longer than its transport does, so this one reads and writes
 * Node's own messages: routing and hooks are fastify's, the rest of its ways is not needed here.
 */
export async function infer(
  context: ServerContext,
  knownHeads: KnownHeads,
  model: TritonModel,
  request: FastifyRequest<{ Params: PathParameters }>,
  reply: FastifyReply,
): Promise<void> {
  if (model.decoupled) {
    throw new TritonError(501, "HTTP end point doesn't support models with decoupled transaction policy");
  }
  const { raw, headers } = request;
  const { maxBodyBytes } = context;
  const signal = abortOnClose(request);
  const jsonLength = headers['inference-header-content-length']?.toString();
  const encoded = contentEncoding(headers['content-encoding']);
  const aligned = encoded === undefined ? Number(jsonLength) || 0 : 0;
  let body = await readBody(raw, maxBodyBytes, aligned).catch((error: unknown) => {
    // More of it may come, which would be taken for the next request.
    reply.header('connection', 'close');
    throw error;
  });
  if (encoded !== undefined) body = await decompress(body, encoded, maxBodyBytes);

  const trace = traceOf(context, model, reply);
  const regions = context.regions.use();
  try {
    const headLength = headLengthOf(jsonLength, body.length);
    let inferRequest = headLength === undefined ? undefined : knownHeads.find(model, body, headLength);
    if (inferRequest === undefined) {
      inferRequest = readInferRequest(body, headLength, model, maxBodyBytes, regions);
      const { inputs, outputs, id } = inferRequest;
      checkRequest(model, inputs, outputs?.map(nameOf), id);
      if (headLength !== undefined) knownHeads.keep(model, body, headLength, inferRequest);
    }
    const { inputs, outputs, parameters, id } = inferRequest;
    const { custom, timeoutMs, priority, sequence } = parameters;
    const made = await onlyResponse(
      model,
      runModel(model, {
        id,
        inputs: byName(inputs),
        owned: trace === undefined && ownsMemory(body),
        outputs: outputs && new Set(outputs.map(nameOf)),
        parameters: custom,
        timeoutMs,
        priority,
        sequence,
        signal,
        tenant: tenantOf(request),
        trace,
      }),
    );
    trace?.mark('HTTP_SEND_START');
    const response = inferResponse(model, inferRequest, made);
    const encoding = acceptedEncoding(headers['accept-encoding']);
    if (encoding === undefined) {
      reply.hijack();
      const large = made.owned === true ? made.outputs.flatMap(largeBytes) : [];
      // Comes when the system has all of the response. Where the client has gone before, it is left to the garbage collector.
      if (large.length > 0) reply.raw.once('finish', () => large.forEach(freeBytes));
      send(reply.raw, response);
      return;
    }
    const { json, raw: tensors, headerLength } = response;
    const whole = Buffer.concat([Buffer.from(json), ...tensors]);
    reply.header('content-encoding', encoding).type(contentType(response));
    if (headerLength !== undefined) reply.header('inference-header-content-length', headerLength);
    await reply.send(await compress(whole, encoding));
  } finally {
    regions.release();
  }
}

/** Whether the body lies in memory of its own, and not in a piece of what Node.js's small buffers share. */
function ownsMemory({ buffer, length }: Buffer): boolean {
  return buffer.byteLength < length + ALIGNMENT;
}

/** Bytes of a tensor that came with memory of its own; texts may lie in what Node.js's small buffers share. */
function largeBytes({ datatype, data }: Tensor): readonly Uint8Array[] {
  return datatype !== 'BYTES' && data.length >= LARGE_BYTES ? [data] : [];
}

function nameOf({ name }: RequestedOutput): string {
  return name;
}

function contentType({ headerLength }: InferResponse): string {
  return headerLength === undefined ? 'application/json' : 'application/octet-stream';
}

function send(to: ServerResponse, response: InferResponse): void {
  const { json, jsonLength, headerLength, raw } = response;
  const rawLength = raw.reduce((sum, { length }) => sum + length, 0);
  const headers = ['content-type', contentType(response), 'content-length', String(jsonLength + rawLength)];
  if (headerLength !== undefined) headers.push('inference-header-content-length', String(headerLength));
  to.writeHead(200, headers);
  if (json.length === jsonLength && rawLength <= ONE_PIECE_BYTES) {
    // A character a byte: joined with the head it is one string, which is sent at once.
    to.end(
      raw.reduce((text, bytes) => text + latin1(bytes), json),
      'latin1',
    );
    return;
  }
  // Sent together, without being copied into one piece.
  to.cork();
  to.write(json);
  for (const bytes of raw) to.write(bytes);
  to.end();
}

function latin1({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString('latin1');
}
