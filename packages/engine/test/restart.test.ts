import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { startProcess, startWorker, type EngineLink } from '../src/engine/link.ts';
import { RoseError } from '../src/errors.ts';
import type { ModelHub, ServedModel } from '../src/serve/api.ts';
import { openModels } from '../src/serve/hub.ts';
import type { OpenOptions } from '../src/serve/options.ts';
import { bundled } from './on-cpu.ts';

const prompt = {
  kind: 'text',
  text: 'A bear, a fox and a very long list of other animals went to the river.',
} as const;
const models = ['tiny-chat', 'tiny-embed'].map((name) => ({ name, directory: bundled(name) }));

async function answer(model: ServedModel, maxTokens: number): Promise<string> {
  let text = '';
  for await (const event of model.generate({ prompt, maxTokens, ignoreEos: true, sampling: { temperature: 0 } })) {
    if (event.kind === 'delta') text += event.text;
  }
  return text;
}

/** A hub whose engines can be ended, with what it told its owner. */
async function restarting(
  start: () => EngineLink,
  options: Partial<OpenOptions> & { readonly restarts: number },
): Promise<{ hub: ModelHub; end: () => Promise<void>; told: string[]; back: () => Promise<void> }> {
  let link: EngineLink;
  let [ready, count] = [Promise.resolve(), 0];
  let resolve = (): void => {};
  const told: string[] = [];
  const hub = await openModels(
    {
      models,
      threads: 1,
      onLost: ({ message }, final) => void told.push(`${message}${final ? ', for good' : ''}`),
      onRestart: () => resolve(),
      ...options,
    },
    () => {
      ready = new Promise((done) => (resolve = done));
      count++;
      return (link = start());
    },
  );
  return { hub, told, end: () => link.terminate(), back: () => ready.then(() => assert.ok(count > 1)) };
}

const unavailable = (message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof RoseError, String(error));
  assert.equal(error.code, 'unavailable');
  assert.match(error.message, message);
  return true;
};

for (const [where, start] of [
  ['a worker thread', startWorker],
  ['a child process', startProcess],
] as const) {
  describe(`an engine in ${where} that may be started again`, async () => {
    const { hub, told, end, back } = await restarting(start, { restarts: 2 });
    after(() => hub.close());
    const [chat, embed] = hub.models;

    test('comes back with all its models, the same answers, and counters that did not fall', async () => {
      const before = await answer(chat, 12);
      await answer(chat, 12);
      const cached = chat.counters.cachedTokens;
      const running = assert.rejects(() => answer(chat, 2000), unavailable(/the engine stopped: its/));
      await end();
      await running;
      const early = (): Promise<string> => answer(chat, 4);
      await assert.rejects(early, (error: RoseError) => {
        assert.equal(error.retryAfterSeconds, 5);
        return unavailable(/is being started again/)(error);
      });
      assert.equal(await hub.ready(), false);
      await back();
      assert.equal(await hub.ready(), true);
      assert.equal(await answer(chat, 12), before);
      assert.ok(chat.counters.cachedTokens >= cached && cached > 0);
      const { embeddings } = await embed.embed({ inputs: ['a bear'] });
      assert.equal(embeddings.length, 1);
      assert.equal(hub.stats.restarts, 1);
      assert.equal(told.length, 1);
    });

    test('comes back as often as it may, and then not', async () => {
      const before = await answer(chat, 12);
      await end();
      await back();
      assert.equal(await answer(chat, 12), before);
      await end();
      await assert.rejects(() => answer(chat, 4), unavailable(/the engine stopped: its/));
      assert.equal(await hub.ready(), false);
      assert.equal(hub.stats.restarts, 2);
      assert.deepEqual(
        told.map((line) => line.endsWith(', for good')),
        [false, false, true],
      );
    });
  });
}

test('an engine that cannot be started again is tried as often as it may be, and says why', async () => {
  let starts = 0;
  let first: EngineLink | undefined;
  const told: string[] = [];
  const refusing = (): EngineLink => {
    const link = startWorker();
    return {
      ...link,
      // As a device does that is still held by what ended.
      post: (message) =>
        link.post(message.kind === 'open' ? { ...message, choice: { device: 'none', threads: 1 } } : message),
    };
  };
  const hub = await openModels(
    {
      models: models.slice(0, 1),
      threads: 1,
      restarts: 2,
      onLost: ({ message }, final) => void told.push(`${final} ${message}`),
    },
    () => (starts++ === 0 ? (first = startWorker()) : refusing()),
  );
  await first!.terminate();
  while (!told.some((line) => line.startsWith('true'))) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.equal(starts, 3);
  assert.match(told[0], /^false the engine stopped: its thread ended/);
  assert.match(told[2], /^true the engine stopped: it could not be started again: there is no device 'none'/);
  await assert.rejects(() => answer(hub.models[0], 1), unavailable(/could not be started again/));
  await hub.close();
});

test('a hub that is closed while its engine starts again leaves nothing running', async () => {
  const { hub, end, told } = await restarting(startWorker, { restarts: 1 });
  await end();
  await hub.close();
  assert.deepEqual(told.length, 1);
  await assert.rejects(() => answer(hub.models[0], 1), unavailable(/shutting down/));
});
