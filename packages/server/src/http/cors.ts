import { isIP } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { RoseError } from '@rose/engine';

/** What scripts may read beside the headers that they always may. */
const EXPOSED = 'Inference-Header-Content-Length, X-Request-Id, Retry-After, WWW-Authenticate, Content-Encoding';
const METHODS = 'GET, HEAD, POST';
/** Seconds for which a browser need not ask again: more are cut by browsers. */
const MAX_AGE = '7200';

/** @throws RoseError `invalid` where an origin is not written as browsers send it */
export function checkOrigins(origins: readonly string[]): void {
  for (const origin of origins) {
    if (origin === '*') continue;
    const url = /^[a-z][a-z\d+.-]*:\/\/[^/?#@,\s]+$/i.test(origin) ? URL.parse(origin) : null;
    // Schemes of browsers' extensions and of applications have origins that URL does not tell.
    if (url !== null && (url.origin === origin || !/^(https?|wss?|ftp|file):$/.test(url.protocol))) continue;
    const hint =
      url === null || url.origin === 'null' ? 'https://app.example.com or http://localhost:3000' : url.origin;
    throw new RoseError(
      'invalid',
      `'${origin}' is no origin: write scheme://host[:port] as ${hint}, or * for all pages`,
    );
  }
}

/** The pages that may call the server from a browser (the Fetch standard's CORS protocol), beside those it serves itself. */
export class Origins {
  readonly #origins: ReadonlySet<string>;
  readonly #any: boolean;
  readonly #host: string;

  /**
   * @param host where the server listens
   * @throws RoseError `invalid`, see `checkOrigins`
   */
  constructor(origins: readonly string[], host: string) {
    checkOrigins(origins);
    this.#origins = new Set(origins);
    this.#any = this.#origins.has('*');
    this.#host = host;
  }

  /** Whether pages of that origin may read answers. */
  allows(origin: string): boolean {
    return this.#any || this.#origins.has(origin);
  }

  /**
   * Tell browsers so: on every answer, errors and streams included, and in place of one to a preflight request, which
   * brings no key. Keys are headers, so cookies are never asked for.
   */
  serve(app: FastifyInstance): void {
    if (this.#origins.size === 0) return;
    app.addHook('onRequest', (request, reply, done) => {
      // On Node's own reply, which some write themselves.
      const { raw } = reply;
      const { origin, 'access-control-request-headers': wanted } = request.headers;
      if (!this.#any) raw.setHeader('vary', 'Origin');
      if (origin === undefined || !this.allows(origin)) {
        done();
        return;
      }
      raw.setHeader('access-control-allow-origin', this.#any ? '*' : origin);
      if (request.method !== 'OPTIONS' || request.headers['access-control-request-method'] === undefined) {
        raw.setHeader('access-control-expose-headers', EXPOSED);
        done();
        return;
      }
      raw.setHeader('access-control-allow-methods', METHODS);
      // Restricted groups have headers with names of their own.
      if (wanted !== undefined) raw.setHeader('access-control-allow-headers', wanted);
      raw.setHeader('access-control-max-age', MAX_AGE);
      raw.setHeader('vary', 'Origin, Access-Control-Request-Headers');
      void reply.code(204).send();
    });
  }

  /**
   * Refuse what pages of other origins post to these routes, unless their origins are named one by one. A browser sends simple
   * requests for any page, also to a server that only this machine can reach, and merely hides the answer: enough to load a
   * model, and run its code.
   * @param error what the instance's error handler makes the reply of
   */
  guard(app: FastifyInstance, error: (message: string) => Error): void {
    app.addHook('onRequest', ({ method, headers: { origin, host } }, reply, done) => {
      if (method !== 'POST' || origin === undefined || this.#origins.has(origin) || this.#serves(origin, host)) {
        done();
        return;
      }
      reply.header('connection', 'close');
      done(error(`pages of ${origin} may not do this: the server was started without --cors-origin ${origin}`));
    });
  }

  /**
   * Whether a page comes from this server. A name in its address tells nothing where anybody may have it lead here, so only
   * addresses, this machine's own name for itself, and the name that the server was given count.
   */
  #serves(origin: string, host: string | undefined): boolean {
    const url = URL.parse(origin);
    if (url === null || host === undefined || url.host !== host) return false;
    const name = url.hostname.replace(/^\[(.*)\]$/, '$1');
    return isIP(name) !== 0 || name === 'localhost' || name === this.#host;
  }
}
