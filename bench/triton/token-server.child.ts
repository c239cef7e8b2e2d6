/**
 * A server whose one model makes a token every two milliseconds, without arithmetic; a token's text is the time at which
 * the engine gave it. Says on which port it listens.
 */
import { setTimeout } from 'node:timers/promises';
import type { GenerateEvent, ServedModel } from '@rose/engine';
import { startServer } from '@rose/server';
import { fakeHub } from '../../packages/server/test/fake-hub.ts';

const GAP_MS = 2;

async function* tokens({ maxTokens = 0 }: { readonly maxTokens?: number }): AsyncIterable<GenerateEvent> {
  yield { kind: 'start', promptTokens: 1, cachedTokens: 0, prompt: Int32Array.of(1), judged: undefined };
  for (let i = 0; i < maxTokens; i++) {
    await setTimeout(GAP_MS);
    yield { kind: 'delta', index: 0, text: `${process.hrtime.bigint()}`, tokens: [{ token: 1 }] };
  }
  yield { kind: 'end', index: 0, reason: 'length', stop: undefined, generatedTokens: maxTokens };
}

const hub = fakeHub();
const model: ServedModel = { ...hub.get('chat'), generate: (request) => tokens(request) };
const server = await startServer(
  { ...hub, models: [model], get: () => model },
  { host: '127.0.0.1', port: 0, version: '0' },
);
console.log(server.port);
