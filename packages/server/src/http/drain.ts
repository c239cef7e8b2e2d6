import type { ServerResponse } from 'node:http';
import type { FastifyInstance } from 'fastify';
import { RoseError } from '@rose/engine';

/** Requests under way, and the way to their end. */
export class Drain {
  readonly #app: FastifyInstance;
  #closing = false;
  #underWay = 0;
  #onEmpty = (): void => {};

  constructor(app: FastifyInstance) {
    this.#app = app;
    app.server.on('request', (_, response: ServerResponse) => {
      this.#underWay++;
      // Comes when the last byte is with the system, or the connection is gone.
      response.once('close', () => {
        this.#underWay--;
        if (this.#underWay === 0) this.#onEmpty();
      });
    });
    app.addHook('onRequest', (_, reply, done) => {
      if (!this.#closing) {
        done();
        return;
      }
      reply.header('connection', 'close');
      done(new RoseError('unavailable', 'the server is shutting down'));
    });
  }

  /**
   * Refuse what is new, wait for what is under way, then close. Node's own `close` would cut replies that are complete
   * but that a slow client has not read yet, so it comes last.
   */
  async close(limitMs: number): Promise<void> {
    this.#closing = true;
    if (this.#underWay > 0) {
      let limit: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#onEmpty = resolve;
        limit = setTimeout(resolve, limitMs);
      });
      clearTimeout(limit);
    }
    const closed = this.#app.close();
    this.#app.server.closeAllConnections();
    await closed;
  }
}
