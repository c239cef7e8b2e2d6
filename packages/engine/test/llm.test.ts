import assert from 'node:assert/strict';
import { test } from 'node:test';
import { uniform } from '../src/sampling/philox.ts';
import { Collector, drain, FakeModel, fakeEngine, generateRequest } from './fake-model.ts';

test('a sequence goes on until its tokens are used up', async () => {
  const engine = fakeEngine(64, new FakeModel({ rows: 16, sequences: 4, pages: 8 }), { entries: 10 });
  engine.submit(generateRequest(1, [5, 6, 7]), 0);
  const events = await drain(engine);
  assert.deepEqual(events.tokensOf(1), [8, 9, 10, 11, 12]);
  assert.deepEqual(events.endOf(1), { kind: 'finished', id: 1, reason: 'length', stopToken: undefined });
});

test('a stop token ends the sequence and is not part of it', async () => {
  const engine = fakeEngine(64, new FakeModel({ rows: 16, sequences: 4, pages: 8 }), { entries: 10 });
  engine.submit(generateRequest(1, [5], { stopTokens: [8], maxTokens: 50 }), 0);
  const events = await drain(engine);
  assert.deepEqual(events.tokensOf(1), [6, 7]);
  assert.deepEqual(events.endOf(1), { kind: 'finished', id: 1, reason: 'stop', stopToken: 8 });
});

test('the context length ends a sequence', async () => {
  const engine = fakeEngine(20, new FakeModel({ rows: 16, sequences: 4, pages: 8 }), { entries: 10 });
  engine.submit(generateRequest(1, [1, 2, 3], { maxTokens: 1000 }), 0);
  assert.equal((await drain(engine)).tokensOf(1).length, 17);
});

test('running sequences step together, and a prompt longer than a step is fed in pieces beside them', async () => {
  const model = new FakeModel({ rows: 8, sequences: 4, pages: 40 });
  const engine = fakeEngine(200, model, { entries: 10 });
  engine.submit(generateRequest(1, [1], { maxTokens: 12 }), 0);
  engine.submit(generateRequest(2, [40], { maxTokens: 12 }), 0);
  const longPrompt = Array.from({ length: 30 }, (_, i) => i);
  engine.submit(generateRequest(3, longPrompt, { maxTokens: 2 }), 0);
  const events = await drain(engine);
  assert.deepEqual(events.tokensOf(3), [30, 31]);
  assert.deepEqual(events.tokensOf(1), [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
  // The first step takes the short prompts and six rows of the long one; then two rows go on and six are fed.
  assert.deepEqual(
    model.steps.slice(0, 5).map(({ rows, outputs }) => [rows, outputs]),
    [
      [8, 2],
      [8, 2],
      [8, 2],
      [8, 2],
      [8, 3],
    ],
  );
});

test('requests that cannot be served are refused with what is wrong', async () => {
  const engine = fakeEngine(16, new FakeModel({ rows: 8, sequences: 2, pages: 4 }), { entries: 2 });
  engine.submit(generateRequest(1, []), 0);
  engine.submit(generateRequest(2, [3, 100]), 0);
  engine.submit(
    generateRequest(
      3,
      Array.from({ length: 16 }, () => 1),
    ),
    0,
  );
  for (const id of [4, 5, 6]) engine.submit(generateRequest(id, [1]), 0);
  const events = await drain(engine);
  const failure = (id: number): string => {
    const end = events.endOf(id);
    return end.kind === 'failed' ? `${end.error.code}: ${end.error.message}` : end.kind;
  };
  assert.match(failure(1), /^invalid: the prompt has no tokens/);
  assert.match(failure(2), /^invalid: token 100 at index 1 is not in the vocabulary/);
  assert.match(failure(3), /^invalid: the prompt has 16 tokens, but at most 15 fit/);
  assert.equal(failure(4), 'finished');
  assert.match(failure(6), /^overloaded: the queue is full/);
});

test('a cancelled request is gone at the next step, whether it waits or runs', async () => {
  const model = new FakeModel({ rows: 8, sequences: 1, pages: 4 });
  const engine = fakeEngine(64, model, { entries: 10 });
  engine.submit(generateRequest(1, [1], { maxTokens: 40 }), 0);
  engine.submit(generateRequest(2, [1], { maxTokens: 3 }), 0);
  engine.submit(generateRequest(3, [1], { maxTokens: 3 }), 0);
  const events = new Collector();
  await engine.step(0, events);
  await engine.step(0, events);
  engine.cancel(1);
  engine.cancel(3);
  await engine.step(0, events);
  assert.equal(engine.state.running, 1);
  await drain(engine, events);
  assert.equal(events.tokensOf(1).length, 2);
  assert.deepEqual(events.tokensOf(2), [2, 3, 4]);
  for (const id of [1, 3]) {
    const end = events.endOf(id);
    assert.ok(end.kind === 'failed' && end.error.code === 'cancelled');
  }
});

test('a deadline that has passed fails the request, before it starts or midway', async () => {
  const engine = fakeEngine(64, new FakeModel({ rows: 8, sequences: 1, pages: 4 }), { entries: 10 });
  engine.submit(generateRequest(1, [1], { maxTokens: 40 }, { deadline: 100 }), 0);
  engine.submit(generateRequest(2, [1], {}, { deadline: 50 }), 0);
  const events = new Collector();
  await engine.step(10, events);
  await drain(engine, events, 101);
  assert.equal(events.tokensOf(1).length, 1);
  for (const id of [1, 2]) {
    const end = events.endOf(id);
    assert.ok(end.kind === 'failed' && end.error.code === 'deadline');
  }
});

test('a smaller priority number goes first', async () => {
  const engine = fakeEngine(64, new FakeModel({ rows: 8, sequences: 1, pages: 4 }), { entries: 10 });
  engine.submit(generateRequest(1, [1], {}, { priority: 5 }), 0);
  engine.submit(generateRequest(2, [1], {}, { priority: 1 }), 0);
  engine.submit(generateRequest(3, [1], {}, { priority: 5 }), 0);
  const ends = (await drain(engine)).events.filter((event) => event.kind === 'finished').map(({ id }) => id);
  assert.deepEqual(ends, [2, 1, 3]);
});

test('a probe reports a device that fails, and one that works again', async () => {
  const model = new FakeModel({ rows: 8, sequences: 2, pages: 8 });
  const engine = fakeEngine(64, model, { entries: 10 });
  model.failNext = new Error('gone');
  await engine.probe();
  assert.equal(engine.failure?.message, 'gone');
  await engine.probe();
  assert.equal(engine.failure, undefined);
});

test('random traffic: every request ends once, with the right tokens, and no page is lost', async () => {
  for (let round = 0; round < 60; round++) {
    let drawn = 0;
    const u = (): number => uniform(round, drawn++);
    const whole = (most: number): number => 1 + Math.floor(u() * most);
    const model = new FakeModel({ rows: 4 + whole(28), sequences: whole(4), pages: 4 + whole(12) });
    const engine = fakeEngine(64, model, { entries: 1000 });
    const events = new Collector();
    const expected = new Map<number, { first: number; count: number; cancelled: boolean }>();
    for (let id = 1; id <= 40; id++) {
      const length = whole(40);
      const maxTokens = whole(40);
      const first = Math.floor(u() * 90);
      engine.submit(generateRequest(id, [...new Array<number>(length - 1).fill(3), first], { maxTokens }), 0);
      expected.set(id, { first, count: Math.min(maxTokens, 64 - length), cancelled: false });
      for (let step = Math.floor(u() * 4); step > 0; step--) {
        await engine.step(0, events);
      }
      if (u() < 0.2) {
        const victim = whole(id);
        if (!events.hasEnded(victim)) {
          engine.cancel(victim);
          expected.get(victim)!.cancelled = true;
        }
      }
    }
    // Idle at the end: the engine itself checks that every page is back.
    await drain(engine, events);
    for (const [id, { first, count, cancelled }] of expected) {
      const end = events.endOf(id);
      const tokens = events.tokensOf(id);
      const right = Array.from({ length: tokens.length }, (_, i) => (first + 1 + i) % 100);
      assert.deepEqual(tokens, right, `round ${round}, request ${id}`);
      if (!cancelled) assert.ok(end.kind === 'finished' && tokens.length === count, `round ${round}, request ${id}`);
    }
  }
});

test('a prompt is judged whole, whatever is known of it, and however it is cut', async () => {
  const prompt = Array.from({ length: 50 }, (_, i) => (7 * i) % 100);
  const judged: number[][] = [];
  for (const rows of [64, 20, 7, 3]) {
    const model = new FakeModel({ rows, sequences: 2, pages: 12, draws: 'context' });
    const engine = fakeEngine(64, model, { loop: rows === 20 ? 'overlapped' : 'plain' });
    for (const id of [1, 2]) {
      engine.submit(generateRequest(id, prompt, { promptLogprobs: 0, maxTokens: id - 1 }), 0);
      const events = await drain(engine);
      judged.push(events.promptOf(id));
      assert.equal(events.tokensOf(id).length, id - 1);
      assert.deepEqual(events.endOf(id), { kind: 'finished', id, reason: 'length', stopToken: undefined });
      assert.deepEqual(events.events[0], { kind: 'begun', id, cachedTokens: 0 });
    }
    // Without that wish the same prompt is found computed.
    engine.submit(generateRequest(3, prompt, { maxTokens: 0 }), 0);
    const [begun] = (await drain(engine)).events;
    assert.deepEqual(begun, { kind: 'begun', id: 3, cachedTokens: 48 });
  }
  assert.equal(judged[0].length, 49);
  for (const other of judged) assert.deepEqual(other, judged[0]);
});

test('a prompt as long as the context is read, but not answered', async () => {
  const engine = fakeEngine(32, new FakeModel({ rows: 16, sequences: 2, pages: 8 }));
  const prompt = Array.from({ length: 32 }, (_, i) => i);
  engine.submit(generateRequest(1, prompt, { maxTokens: 0, promptLogprobs: 0 }), 0);
  engine.submit(generateRequest(2, prompt, { maxTokens: 1 }), 0);
  engine.submit(generateRequest(3, [...prompt, 1], { maxTokens: 0 }), 0);
  const events = await drain(engine);
  assert.equal(events.promptOf(1).length, 31);
  assert.equal(events.endOf(1).kind, 'finished');
  assert.equal(events.endOf(2).kind, 'failed');
  assert.equal(events.endOf(3).kind, 'failed');
});

test('several answers of no tokens', async () => {
  const engine = fakeEngine(64, new FakeModel({ rows: 16, sequences: 4, pages: 8 }));
  const command = { maxTokens: 0, promptLogprobs: 0 };
  engine.submit(generateRequest(1, [1, 2, 3], command), 0);
  engine.submit(generateRequest(2, [1, 2, 3], { ...command, promptLogprobs: -1 }, { siblingOf: 1 }), 0);
  const events = await drain(engine);
  for (const id of [1, 2]) assert.equal(events.endOf(id).kind, 'finished');
  assert.deepEqual(events.promptOf(2), []);
});
