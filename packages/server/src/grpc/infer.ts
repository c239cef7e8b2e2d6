import { status, type ServerDuplexStream } from '@grpc/grpc-js';
import type { Access, HeaderReader } from '../access/access.ts';
import type { ServerContext } from '../context.ts';
import { tenantOf } from '../http/tenant.ts';
import type { RegionUse } from '../shared-memory/regions.ts';
import { TritonError } from '../triton/errors.ts';
import type { ModelResponse, TritonModel } from '../triton/model.ts';
import type { TritonModels } from '../triton/models.ts';
import { runModel } from '../trace/run.ts';
import type { Trace } from '../trace/trace.ts';
import type { Traces } from '../trace/traces.ts';
import { byName } from '../triton/tensor.ts';
import { onlyResponse } from '../triton/only-response.ts';
import { checkRequest } from '../triton/validate.ts';
import { readInferRequest, type GrpcInferRequest } from './infer-request.ts';
import { encodeInferResponse, type InferAnswer, type StreamAnswer } from './encode-response.ts';
import { emptyResponse, inferResponse, markFinal } from './infer-response.ts';
import type { ModelInferRequest } from './proto/inference_pb.js';
import { callId, logCall, loggedCall } from './log.ts';
import { decodeInferRequest } from './decode-request.ts';
import { readMetadata } from './header.ts';
import { HEAD } from './pieces.ts';
import { categoryOfCall, refusalOf } from './protect.ts';
import { SlowCalls } from './slow-calls.ts';
import { CallError, serviceError } from './status.ts';
import type { UnaryMethod } from './unary-call.ts';

type Stream = ServerDuplexStream<ModelInferRequest, StreamAnswer>;

/** Requests of one stream that run at the same time; more wait in the connection's own buffers. */
const RUNNING_PER_STREAM = 256;

/**
 * ModelInfer: one request, one response. The work ends with the call, be it cancelled or past its deadline.
 * @param maxMessageBytes of a request
 */
export function modelInfer(context: ServerContext, access: Access, maxMessageBytes: number): UnaryMethod {
  const path = '/inference.GRPCInferenceService/ModelInfer';
  const category = categoryOfCall(path);
  const { receiveTimeoutMs, sendTimeoutMs } = context;
  return {
    path,
    maxMessageBytes,
    receiveTimeoutMs,
    sendTimeoutMs,
    slow: new SlowCalls(receiveTimeoutMs, sendTimeoutMs),
    refusal: (header) => refusalOf(access, category, header),
    failure: (error, header) => serviceError(error, context, callId(header)),
    answer: (bytes, header, signal) => {
      const message = decoded(bytes);
      return loggedCall(context, path, header, () => inferOnce(context, message, header, signal));
    },
  };
}

function decoded(bytes: Buffer): ModelInferRequest {
  try {
    return decodeInferRequest(bytes);
  } catch {
    throw new CallError(status.INTERNAL, 'Error deserializing request');
  }
}

/** @returns a ModelInferResponse with room for its head */
async function inferOnce(
  { models, traces, regions }: ServerContext,
  message: ModelInferRequest,
  header: HeaderReader,
  signal: AbortSignal,
): Promise<Buffer> {
  const model = models.find(message.modelName, message.modelVersion);
  if (model.decoupled) {
    throw new TritonError(501, "ModelInfer RPC doesn't support models with decoupled transaction policy");
  }
  const trace = traceOf(traces, model);
  const use = regions.use();
  try {
    const { request, responses } = start(model, message, header, signal, trace, use);
    const response = await onlyResponse(model, responses);
    trace?.mark('GRPC_SEND_START');
    return encodeInferResponse(inferResponse(model, request, response), HEAD);
  } finally {
    use.release();
    if (trace !== undefined) setImmediate(() => finishTrace(trace));
  }
}

/**
 * ModelStreamInfer: requests in, responses out. Responses of one request keep their order, and requests to models that
 * are not decoupled are answered in theirs. A failed request is told in the stream, which goes on; with metadata
 * `triton_grpc_error: true` it ends the stream with a status.
 */
export function modelStreamInfer(context: ServerContext, call: Stream): void {
  const { models, traces, regions } = context;
  const header = readMetadata(call.metadata);
  const requestId = callId(header);
  const begun = performance.now();
  const failing = call.metadata.get('triton_grpc_error').includes('true');
  const writer = new Writer(call, context.sendTimeoutMs);
  // Every request of the stream listens for its end.
  call.setMaxListeners(0);
  let running = 0;
  let over = false;
  let failed = false;
  // Answers of models that are not decoupled are written after those of the requests before them.
  let inOrder: Promise<unknown> = Promise.resolve();

  const fail = (error: unknown): void => {
    if (failed) return;
    failed = true;
    call.emit('error', serviceError(error, context, requestId));
  };
  const finish = (): void => {
    if (!over || running > 0 || failed) return;
    call.end();
    if (context.log.settings.verbose > 0) logCall(context, call.getPath(), requestId, status.OK, begun);
  };
  const answer = async (message: ModelInferRequest, before: Promise<unknown>): Promise<void> => {
    let trace: Trace | undefined;
    const controller = new AbortController();
    const abort = (): void => controller.abort();
    // Also comes when the call's deadline passes.
    call.once('cancelled', abort);
    if (call.cancelled) abort();
    const use = regions.use();
    try {
      const model = models.find(message.modelName, message.modelVersion);
      trace = traceOf(traces, model);
      const { request, responses } = start(model, message, header, controller.signal, trace, use);
      if (model.decoupled) {
        await sendAll(writer, model, message, request, responses);
        return;
      }
      const response = await onlyResponse(model, responses);
      await before;
      trace?.mark('GRPC_SEND_START');
      await writer.write(markFinal(inferResponse(model, request, response), true));
    } catch (error) {
      if (call.cancelled) return;
      if (failing) return fail(error);
      await before;
      const { details } = serviceError(error, context, requestId);
      await writer.write(markFinal(emptyResponse(message.id), true), details);
    } finally {
      call.off('cancelled', abort);
      use.release();
      if (trace !== undefined) finishTrace(trace);
    }
  };

  call.on('data', (message: ModelInferRequest) => {
    running++;
    if (running >= RUNNING_PER_STREAM) call.pause();
    const own = answer(message, inOrder)
      // Only writing can fail here, when the client is gone.
      .catch(() => {})
      .finally(() => {
        running--;
        if (running < RUNNING_PER_STREAM) call.resume();
        finish();
      });
    if (!isDecoupled(models, message)) inOrder = own;
  });
  call.on('end', () => {
    over = true;
    finish();
  });
}

/** The responses of a decoupled request, then, if the client wants one, an empty response that says it was the last. */
async function sendAll(
  writer: Writer,
  model: TritonModel,
  message: ModelInferRequest,
  request: GrpcInferRequest,
  responses: AsyncIterable<ModelResponse>,
): Promise<void> {
  for await (const response of responses) {
    await writer.write(markFinal(inferResponse(model, request, response), false));
  }
  if (!request.emptyFinalResponse) return;
  await writer.write(markFinal(emptyResponse(request.id, model.name, message.modelVersion), true));
}

/** A request that was read and is under way. */
interface Started {
  readonly request: GrpcInferRequest;
  readonly responses: AsyncIterable<ModelResponse>;
}

function start(
  model: TritonModel,
  message: ModelInferRequest,
  header: HeaderReader,
  signal: AbortSignal,
  trace: Trace | undefined,
  regions: RegionUse,
): Started {
  const request = readInferRequest(message, model, regions);
  checkRequest(model, request.inputs, request.outputs, request.id);
  const { custom, timeoutMs, priority, sequence } = request.parameters;
  const responses = runModel(model, {
    id: request.id,
    inputs: byName(request.inputs),
    outputs: request.outputs && new Set(request.outputs),
    parameters: custom,
    timeoutMs,
    priority,
    sequence,
    signal,
    tenant: tenantOf({ headers: { authorization: header('authorization'), 'x-api-key': header('x-api-key') } }),
    trace,
  });
  return { request, responses };
}

/** A trace of a request that was just read, if it is one to be traced. */
function traceOf(traces: Traces, { name }: TritonModel): Trace | undefined {
  const trace = traces.sample(name);
  // How long its message was on its way is not known here.
  trace?.mark('GRPC_WAITREAD_START');
  trace?.mark('GRPC_WAITREAD_END');
  return trace;
}

/** The answer is with the connection. */
function finishTrace(trace: Trace): void {
  trace.mark('GRPC_SEND_END');
  trace.finish();
}

function isDecoupled(models: TritonModels, { modelName, modelVersion }: ModelInferRequest): boolean {
  try {
    return models.find(modelName, modelVersion).decoupled;
  } catch {
    return false;
  }
}

/** Writes to a stream no faster than its client reads, and not at all once that has stopped reading. */
class Writer {
  readonly #stream: Stream;
  readonly #timeoutMs: number;
  #room: Promise<void> | undefined;
  #stalled = false;

  /** @param timeoutMs a client that takes nothing for so long is given up */
  constructor(stream: Stream, timeoutMs: number) {
    this.#stream = stream;
    this.#timeoutMs = timeoutMs;
  }

  /** @param errorMessage empty: the request went well */
  async write(inferResponse: InferAnswer, errorMessage = ''): Promise<void> {
    while (this.#room) await this.#room;
    if (this.#stream.cancelled || this.#stalled) throw new TritonError(400, 'the client is gone');
    if (this.#stream.write({ errorMessage, inferResponse })) return;
    this.#room = new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(limit);
        this.#stream.off('drain', done);
        this.#stream.off('cancelled', done);
        this.#room = undefined;
        resolve();
      };
      const limit = setTimeout(() => {
        this.#stalled = true;
        done();
      }, this.#timeoutMs);
      this.#stream.once('drain', done);
      this.#stream.once('cancelled', done);
    });
  }
}
