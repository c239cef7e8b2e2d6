import { STATUS_CODES, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import fastify, {
  LogController,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyServerOptions,
} from 'fastify';
import type { ServerContext } from '../context.ts';
import { openaiError, sendOpenAIError } from '../openai/errors.ts';
import type { TlsOptions } from '../tls.ts';
import { httpTls } from '../tls.ts';
import { sendTritonError, tritonNotFound } from '../triton/routes.ts';
import { requestError } from './errors.ts';
import { httpRequestId } from './request-id.ts';

export interface HttpLimits {
  /** Milliseconds in which a whole request must have come. */
  readonly receiveTimeoutMs: number;
  /** A client that takes nothing of what it is sent for so many milliseconds is cut off. */
  readonly sendTimeoutMs: number;
}

/** Long prompts of tracing headers and tokens; Node's default of 16 KiB is refused by some gateways' traffic. */
const HEADER_BYTES = 64 * 1024;
/** Of a part of a path: a name of 255 bytes, which file systems allow, is three times as long where all of it is encoded. */
const PARAMETER_LENGTH = 1024;
/** Headers are small: they must have come sooner than a body. */
const HEADER_MS = 60_000;
/** How exactly these limits are kept. */
const MOST_CHECK_MS = 5000;

/** The HTTP server before it has routes: its limits, and its replies to what is no HTTP. */
export function createApp(
  context: ServerContext,
  { receiveTimeoutMs, sendTimeoutMs }: HttpLimits,
  tls: TlsOptions | undefined,
): FastifyInstance {
  const protocol = {
    maxHeaderSize: HEADER_BYTES,
    noDelay: true,
    // Node's own refusal has no body, and the name is not needed.
    requireHostHeader: false,
    connectionsCheckingInterval: Math.min(MOST_CHECK_MS, receiveTimeoutMs / 4),
  };
  const options: FastifyServerOptions = {
    // Where it listens is told by whoever starts the server.
    loggerInstance: requestLogger(context),
    genReqId: httpRequestId,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: context.maxBodyBytes,
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: PARAMETER_LENGTH },
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    // A long answer takes its time.
    connectionTimeout: 0,
    requestTimeout: receiveTimeoutMs,
    clientErrorHandler: refuseNonsense,
    // An address that is no address, such as `/%zz`: refused before any route is looked for.
    frameworkErrors: (error, request, reply) => {
      if (!request.url.startsWith('/v1')) void sendTritonError(reply, error, context);
      else void sendOpenAIError(reply, openaiError(requestError(error, context, request.id)));
    },
  };
  const secure = tls && { https: { ...protocol, ...httpTls(tls) } };
  const app = fastify({ ...options, ...(secure ?? { http: protocol }) } as FastifyServerOptions);
  // Clients keep connections in pools and reuse them hours later. (Fastify takes a 0 for its own default.)
  app.server.keepAliveTimeout = 0;
  app.server.on('checkExpectation', (_, response: ServerResponse) => {
    const body = JSON.stringify({ error: "only 'Expect: 100-continue' is met" });
    const headers = { 'content-type': 'application/json', 'content-length': body.length, connection: 'close' };
    response.writeHead(417, headers).end(body);
  });
  // Node would end the connection without a word.
  app.server.on('connect', (_, socket: Duplex) => {
    socket.on('error', () => {});
    socket.write(plainReply(405, 'Method Not Allowed', 'Allow: GET, HEAD, POST, OPTIONS\r\n'));
    // The server no longer knows of it: nobody else would close it where the client does not.
    (socket as Socket).destroySoon();
  });
  app.server.headersTimeout = Math.min(HEADER_MS, receiveTimeoutMs);
  // Comes when a connection is silent. That is nothing bad while the engine works or the client has no request; it is
  // when there is something to take.
  app.server.setTimeout(sendTimeoutMs, (socket) => {
    if (socket !== undefined && socket.writableLength > 0) socket.destroy();
  });
  return app;
}

/** Fastify's logger, of which it makes a child for every request: lines about a request name it themselves. */
function requestLogger({ log }: ServerContext): FastifyBaseLogger {
  const logger: FastifyBaseLogger = log.logger.child({}, { level: 'warn' });
  logger.child = () => logger;
  return logger;
}

const REFUSALS: Readonly<Record<string, readonly [status: number, message: string]>> = {
  HPE_HEADER_OVERFLOW: [431, `the headers of a request may have ${HEADER_BYTES} bytes`],
  HPE_INVALID_EOF_STATE: [400, 'the connection ended in the middle of a request'],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'the request did not come in time'],
};

/** The reply to bytes that are no request, with the body that errors have everywhere. */
function refuseNonsense(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return;
  const [status, message] = REFUSALS[error.code ?? ''] ?? [400, `this is not HTTP: ${error.message}`];
  // Node's own note of the answer that is on its way: this would be taken for a part of it.
  const { _httpMessage: answer } = socket as Socket & { readonly _httpMessage?: ServerResponse };
  if (socket.writable && answer?.headersSent !== true) {
    socket.write(plainReply(status, message));
  }
  socket.destroySoon();
}

/** A whole reply with the body that errors have everywhere, for a connection that ends with it. */
function plainReply(status: number, message: string, headers = ''): string {
  const body = JSON.stringify({ error: message });
  const head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${headers}Content-Type: application/json\r\n`;
  return `${head}Connection: close\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

/**
 * Reply to `OPTIONS *`, which asks about the server as a whole (RFC 9110, 9.3.7). The router takes the asterisk for `/`:
 * this belongs where that is served.
 */
export function answerAsterisk(app: FastifyInstance): void {
  app.addHook('onRequest', (request, reply, done) => {
    if (request.url !== '*') done();
    else if (request.method === 'OPTIONS') void reply.code(204).header('allow', 'GET, HEAD, POST, OPTIONS').send();
    else void tritonNotFound(reply);
  });
}
