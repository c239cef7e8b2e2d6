import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MessageChannel } from 'node:worker_threads';
import type { Device } from '../src/device/device.ts';
import { EngineHost } from '../src/engine/host.ts';
import type { FromEngine, ToEngine } from '../src/engine/protocol.ts';
import { FakeModel, generateRequest } from './fake-model.ts';
import { bundled } from './on-cpu.ts';

/** A host on a device of ours, with what it says. */
function hostOn(device: Device): { host: EngineHost; post: (message: ToEngine) => void; said: FromEngine[] } {
  const said: FromEngine[] = [];
  let receive = (_message: ToEngine): void => {};
  const transport = {
    post: (message: FromEngine) => void said.push(message),
    listen: (listener: typeof receive) => void (receive = listener),
  };
  const host = new EngineHost(transport, async () => device);
  return { host, post: (message) => receive(message), said };
}

const LOAD = {
  directory: bundled('tiny-chat'),
  quantize: undefined,
  dtype: undefined,
  cacheDtype: undefined,
  memoryShare: undefined,
  kvCacheMib: undefined,
  toCome: undefined,
  maxSequences: 4,
  maxRows: 64,
  queueLimit: 10,
  queueTimeoutMs: undefined,
  stepMs: undefined,
  loop: undefined,
} as const;

async function answered(said: readonly FromEngine[], calls: number): Promise<void> {
  const answers = (): FromEngine[] => said.filter(({ kind }) => kind === 'reply' || kind === 'error');
  while (answers().length < calls) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(
    answers().filter(({ kind }) => kind === 'error'),
    [],
  );
}

for (const loop of ['plain', 'overlapped'] as const) {
  test(`a host whose device is lost ends with the reason and blames no request, ${loop} loop`, async () => {
    let lost: Error | undefined;
    let closed = false;
    const device: Device = {
      description: 'a device that breaks',
      defaults: { maxSequences: 4, maxRows: 64, loop },
      load: async () => {
        const model = new FakeModel({ rows: 64, sequences: 4, pages: 100, elsewhere: true });
        let steps = 0;
        const step = model.step.bind(model);
        model.step = async (batch) => {
          // As a GPU does: the step that breaks it, and all after that.
          if (++steps > 5) throw (lost ??= new Error('a kernel read memory that is not mapped'));
          return step(batch);
        };
        return model;
      },
      get lost() {
        return lost;
      },
      close: async () => void (closed = true),
    };
    const { host, post, said } = hostOn(device);
    const running = host.run();
    post({ kind: 'open', call: 1, choice: { device: 'broken', threads: undefined } });
    await answered(said, 1);
    post({ kind: 'load', call: 2, model: 0, options: LOAD });
    await answered(said, 2);
    for (let id = 1; id <= 3; id++)
      post({ kind: 'submit', request: { ...generateRequest(id, [1, 2, 3], { maxTokens: 50 }) } });
    await assert.rejects(running, {
      name: 'RoseError',
      code: 'unavailable',
      message: 'the device was lost: a kernel read memory that is not mapped',
    });
    const failed = said.flatMap((message) =>
      message.kind === 'step' ? message.events.filter(({ kind }) => kind === 'failed') : [],
    );
    assert.deepEqual(failed, []);
    assert.equal(closed, false);
  });
}

test('a model that no engine can run goes back to the device', async () => {
  let closed = 0;
  const device: Device = {
    description: 'a device without pages',
    defaults: { maxSequences: 4, maxRows: 64, loop: 'plain' },
    load: async () => {
      const model = new FakeModel({ rows: 64, sequences: 4, pages: 0 });
      model.close = () => void closed++;
      return model;
    },
    close: async () => {},
  };
  const { host, post, said } = hostOn(device);
  const running = host.run();
  post({ kind: 'open', call: 1, choice: { device: 'cpu', threads: undefined } });
  await answered(said, 1);
  post({ kind: 'load', call: 2, model: 0, options: LOAD });
  while (!said.some(({ kind }) => kind === 'error')) await new Promise((resolve) => setTimeout(resolve, 5));
  const [refusal] = said.filter((message) => message.kind === 'error');
  assert.match(refusal.error.message, /no pages/);
  assert.equal(closed, 1);
  post({ kind: 'close', call: 3 });
  await running;
});

test('a model that is unloaded in the middle of a step is closed when that is done', async () => {
  const order: string[] = [];
  const device: Device = {
    description: 'a device that takes its time',
    defaults: { maxSequences: 4, maxRows: 64, loop: 'plain' },
    load: async () => {
      const model = new FakeModel({ rows: 64, sequences: 4, pages: 100, elsewhere: true });
      const step = model.step.bind(model);
      model.step = async (batch) => {
        order.push('begun');
        await new Promise((resolve) => setTimeout(resolve, 20));
        const result = await step(batch);
        order.push('done');
        return result;
      };
      model.close = () => void order.push('closed');
      return model;
    },
    close: async () => {},
  };
  const { host, post, said } = hostOn(device);
  const running = host.run();
  post({ kind: 'open', call: 1, choice: { device: 'slow', threads: undefined } });
  await answered(said, 1);
  post({ kind: 'load', call: 2, model: 0, options: LOAD });
  await answered(said, 2);
  order.length = 0;
  post({ kind: 'submit', request: { ...generateRequest(1, [1, 2, 3], { maxTokens: 50 }) } });
  while (order.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  post({ kind: 'unload', call: 3, model: 0 });
  await answered(said, 3);
  assert.deepEqual(order, ['begun', 'done', 'closed']);
  post({ kind: 'close', call: 4 });
  await running;
});

test('requests that come one behind the other to an idle host are in its first step', async () => {
  const model = new FakeModel({ rows: 64, sequences: 4, pages: 100 });
  const device: Device = {
    description: 'a device',
    defaults: { maxSequences: 4, maxRows: 64, loop: 'plain' },
    load: async () => model,
    close: async () => {},
  };
  const { host, post, said } = hostOn(device);
  const running = host.run();
  post({ kind: 'open', call: 1, choice: { device: 'cpu', threads: undefined } });
  await answered(said, 1);
  post({ kind: 'load', call: 2, model: 0, options: LOAD });
  await answered(said, 2);
  model.steps = [];
  // As they come from another thread: each in a turn of its own.
  const { port1, port2 } = new MessageChannel();
  port2.on('message', (message: ToEngine) => post(message));
  for (let id = 1; id <= 3; id++) {
    port1.postMessage({ kind: 'submit', request: generateRequest(id, [1, 2, 3], { maxTokens: 1 }) } satisfies ToEngine);
  }
  while (model.steps.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  port1.close();
  post({ kind: 'close', call: 3 });
  await running;
  assert.equal(model.steps[0].sequences, 3);
});
