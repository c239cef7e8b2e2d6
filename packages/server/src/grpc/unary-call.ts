import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { status } from '@grpc/grpc-js';
import type { HeaderReader } from '../access/access.ts';
import { timeoutOf } from './deadline.ts';
import { readHeaders } from './header.ts';
import { OneMessage } from './one-message.ts';
import { HEAD } from './pieces.ts';
import { releaseListened } from './release.ts';
import type { PatientCall, SlowCalls } from './slow-calls.ts';
import { CallError } from './status.ts';

/** A method with one request and one response that is served on HTTP/2's streams directly. */
export interface UnaryMethod {
  /** `/SERVICE/CALL`. */
  readonly path: string;
  /** The longest request. */
  readonly maxMessageBytes: number;
  /** Why a call is not taken, before any of its message is; undefined: it is. */
  refusal(header: HeaderReader): CallError | undefined;
  /** A request must have come completely within this time. */
  readonly receiveTimeoutMs: number;
  /** A client that takes nothing of its response for so long is given up. */
  readonly sendTimeoutMs: number;
  /** Looks after its calls for these limits. */
  readonly slow: SlowCalls;
  /**
   * @param message of a request
   * @param signal aborted when nobody waits for the answer any more
   * @returns the response's message, with `HEAD` bytes in front that are free
   */
  answer(message: Buffer, header: HeaderReader, signal: AbortSignal): Promise<Buffer>;
  /** What a client is told of an error that is no CallError: a fault of Rose, which the log is told, too. */
  failure(error: unknown, header: HeaderReader): CallError;
}

const CONTENT_TYPE = 'application/grpc+proto';
const RESPONSE_HEADERS: readonly string[] = [
  ...[':status', '200', 'content-type', CONTENT_TYPE],
  ...['grpc-accept-encoding', 'identity,deflate,gzip', 'grpc-encoding', 'identity'],
];
const RESPONSE_OPTIONS = { waitForTrailers: true, sendDate: false };
const FAILURE_OPTIONS = { endStream: true, sendDate: false };
const TRAILERS = { 'grpc-status': status.OK, 'grpc-message': 'OK' };
/** The longest message in either direction. */
export const MOST_MESSAGE_BYTES: number = 2 ** 31 - 1;

/**
 * Serve the call of a unary method that a stream of HTTP/2 has begun with. grpc-js makes a chain of objects for a call, which wait
 * for each other: with it a small request took the server a fifth more of the processor.
 */
export function serveUnary(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, method: UnaryMethod): void {
  // Node.js keeps a stream that is over, and who listens to it, until the next full collection; the call is free at once.
  let call: UnaryCall | undefined = new UnaryCall(stream, headers, method);
  // Each error is followed by the stream's end.
  stream.on('error', ignore);
  stream.on('data', (piece: Buffer) => call?.take(piece));
  stream.on('end', () => void call?.answer());
  stream.on('close', () => {
    if (call !== undefined) {
      method.slow.delete(call);
      call.closed();
    }
    call = undefined;
    releaseListened(stream);
  });
  method.slow.add(call);
  call.start();
}

class UnaryCall implements PatientCall {
  readonly #method: UnaryMethod;
  readonly #header: HeaderReader;
  readonly #headers: IncomingHttpHeaders;
  readonly #message: OneMessage;
  readonly #controller: AbortController = new AbortController();
  /** Undefined once it is over, whoever ended it. */
  #stream: ServerHttp2Stream | undefined;
  #deadline: NodeJS.Timeout | undefined;
  readonly #begun: number = performance.now();
  /** The stream whose response was handed to it and may still be on its way. */
  #sending: ServerHttp2Stream | undefined;
  /** The client has sent all that it will. */
  #received = false;

  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, method: UnaryMethod) {
    this.#method = method;
    this.#stream = stream;
    this.#headers = headers;
    this.#header = readHeaders(headers);
    this.#message = new OneMessage(method.path, method.maxMessageBytes);
  }

  /** Refuse the call, or take its time. */
  start(): void {
    const refusal = this.#method.refusal(this.#header) ?? this.#startDeadline();
    if (refusal !== undefined) this.#fail(refusal);
  }

  /** @returns why it cannot be kept */
  #startDeadline(): CallError | undefined {
    const timeout = this.#headers['grpc-timeout']?.toString();
    if (timeout === undefined) return undefined;
    const ms = timeoutOf(timeout);
    if (ms === undefined) return new CallError(status.INTERNAL, `Invalid grpc-timeout value "${timeout}"`);
    if (ms < Infinity) {
      const passed = (): void => this.#fail(new CallError(status.DEADLINE_EXCEEDED, 'Deadline exceeded'));
      this.#deadline = setTimeout(passed, ms);
    }
    return undefined;
  }

  /** More of its message is here. */
  take(piece: Buffer): void {
    if (this.#stream === undefined) return;
    try {
      this.#message.take(piece);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** All of its message is here. */
  async answer(): Promise<void> {
    this.#received = true;
    if (this.#stream === undefined) return;
    try {
      const whole = this.#message.whole(this.#headers['grpc-encoding']?.toString());
      const message = whole instanceof Promise ? await whole : whole;
      // Unpacking takes its time.
      if (this.#controller.signal.aborted) return;
      this.#succeed(await this.#method.answer(message, this.#header, this.#controller.signal));
    } catch (error) {
      this.#fail(error);
    }
  }

  #succeed(response: Buffer): void {
    const length = response.length - HEAD;
    if (length > MOST_MESSAGE_BYTES) {
      throw new CallError(
        status.RESOURCE_EXHAUSTED,
        `Sent message larger than max (${length} vs. ${MOST_MESSAGE_BYTES})`,
      );
    }
    const stream = this.#end();
    if (stream === undefined) return;
    response[0] = 0;
    response.writeUInt32BE(length, 1);
    stream.once('wantTrailers', () => stream.sendTrailers(TRAILERS));
    stream.respond(RESPONSE_HEADERS, RESPONSE_OPTIONS);
    stream.end(response);
    this.#sending = stream;
  }

  #fail(error: unknown): void {
    const failure = error instanceof CallError ? error : this.#method.failure(error, this.#header);
    const stream = this.#end();
    this.#controller.abort();
    if (stream === undefined) return;
    const { code, details, metadata } = failure;
    const trailers = { 'grpc-status': code, 'grpc-message': encodeURI(details.toWellFormed()) };
    const headers = { ':status': 200, 'content-type': CONTENT_TYPE, ...trailers, ...metadata.toHttp2Headers() };
    stream.respond(headers, FAILURE_OPTIONS);
    // No more is taken of its message. A reset takes the place of headers that have not gone out.
    if (!this.#received) setImmediate(() => stream.close(constants.NGHTTP2_NO_ERROR));
  }

  look(now: number): void {
    const { receiveTimeoutMs, sendTimeoutMs } = this.#method;
    const stream = this.#sending;
    if (stream !== undefined) {
      // It is not gone at once. From here on Node.js starts its time anew whenever a part of it goes out.
      this.#sending = undefined;
      stream.setTimeout(sendTimeoutMs, () => stream.close(constants.NGHTTP2_CANCEL));
    } else if (!this.#received && now - this.#begun > receiveTimeoutMs) {
      this.#fail(new CallError(status.DEADLINE_EXCEEDED, 'The request did not come completely in time'));
    }
  }

  /** Its stream is over. */
  closed(): void {
    if (this.#stream === undefined) return;
    this.#end();
    this.#controller.abort();
  }

  /** @returns its stream; undefined if the call is over, or the client has gone */
  #end(): ServerHttp2Stream | undefined {
    const stream = this.#stream;
    this.#stream = undefined;
    clearTimeout(this.#deadline);
    return stream === undefined || stream.closed || stream.destroyed ? undefined : stream;
  }
}

function ignore(): void {}
