import type { IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { EventParser } from './events.ts';
import { errorText } from './error-text.ts';
import { parsed, post, reasonOf, type Headers } from './http.ts';
import type { Outcome, RequestRecord, Usage } from './record.ts';
import type { Target } from './target.ts';
import type { Order } from './workload.ts';

export interface SendOptions {
  readonly headers: Headers;
  /** A request that has not ended after so long counts as failed. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

class Failure extends Error {
  readonly reason: string;

  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** Sends one request and listens to its answer. Never throws: whatever happens is in the record. */
export async function send(
  target: Target,
  order: Order,
  scheduled: number,
  { headers, timeoutMs, signal }: SendOptions,
): Promise<RequestRecord> {
  const sent = performance.now();
  const times: number[] = [];
  let usage: Usage | undefined;
  const request = post(target.url, headers, target.body(order.prompt, order.output));
  let stopped: Failure | undefined;
  const stop = (failure: Failure): void => {
    stopped = failure;
    request.destroy(failure);
  };
  const giveUp = setTimeout(() => stop(new Failure('timeout', `no end in ${timeoutMs / 1000} s`)), timeoutMs);
  const abort = (): void => stop(new Failure('interrupted', 'the benchmark was stopped'));
  signal.addEventListener('abort', abort);
  let response: IncomingMessage | undefined;
  let outcome: Outcome;
  try {
    outcome = { kind: await listen() };
  } catch (thrown) {
    // A reader of a destroyed stream learns only that it is gone.
    const error = stopped ?? thrown;
    const reason = error instanceof Failure ? error.reason : reasonOf(error);
    outcome = { kind: 'failed', reason, message: (error as Error).message };
  } finally {
    clearTimeout(giveUp);
    signal.removeEventListener('abort', abort);
    request.destroy();
    // Where the whole answer had come before it was read, that alone leaves a connection that keeps the process alive.
    response?.destroy();
  }
  return { scheduled, sent, times, ended: performance.now(), outcome, usage };

  async function listen(): Promise<'done' | 'cancelled'> {
    response = await new Promise<IncomingMessage>((resolve, reject) => {
      request.on('response', resolve).on('error', reject);
    });
    const type = response.headers['content-type'] ?? '';
    if (response.statusCode !== 200) {
      throw new Failure(`HTTP ${response.statusCode}`, errorText(parsed(await text(response))));
    }
    if (!type.startsWith('text/event-stream')) {
      throw new Failure('no stream', `the server answered ${type || 'without a type'} instead of text/event-stream`);
    }
    const events = new EventParser();
    let ended = false;
    for await (const bytes of response as AsyncIterable<Uint8Array>) {
      const now = performance.now();
      for (const data of events.push(bytes)) {
        const piece = target.read(data);
        if (piece.error !== undefined) throw new Failure('error in stream', piece.error);
        if (piece.usage !== undefined) usage = piece.added === true ? sum(usage, piece.usage) : piece.usage;
        ended ||= piece.end === true;
        if (!piece.text) continue;
        times.push(now);
        if (times.length === order.cancelAfter) return 'cancelled';
      }
    }
    if (target.hasEnd && !ended) throw new Failure('cut off', 'the stream ended before the answer did');
    return 'done';
  }
}

/** Output tokens are those of each event; the prompt's are the same in all. */
function sum(before: Usage | undefined, now: Usage): Usage {
  return before === undefined ? now : { ...now, outputTokens: before.outputTokens + now.outputTokens };
}
