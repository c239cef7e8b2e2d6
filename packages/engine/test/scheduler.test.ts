import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Collector, drain, FakeModel, fakeEngine, generateRequest, type FakeWork } from './fake-model.ts';

test('tenants get equal shares, however much each of them asks for', async () => {
  const engine = fakeEngine(64, new FakeModel({ rows: 8, sequences: 1, pages: 8 }));
  for (let id = 1; id <= 30; id++) engine.submit(generateRequest(id, [1], {}, { tenant: 'busy' }), 0);
  for (let id = 31; id <= 35; id++) engine.submit(generateRequest(id, [1], {}, { tenant: 'modest' }), 0);
  const ends = (await drain(engine)).events.filter((event) => event.kind === 'finished').map(({ id }) => id);
  const modest = ends.map((id, place) => (id > 30 ? place : -1)).filter((place) => place >= 0);
  assert.ok(modest.at(-1)! < 11, `the modest tenant's places: ${modest.join(', ')}`);
});

test('a tenant with a thousand long requests gives half of its places to one that comes later', async () => {
  const model = new FakeModel({ rows: 64, sequences: 16, pages: 16 * 64, draws: 'next' });
  const engine = fakeEngine(1024, model);
  const sink = new Collector();
  const submit = (tenant: string, from: number, count: number): void => {
    for (let id = from; id < from + count; id++) {
      engine.submit(generateRequest(id, [id % 90, id % 83, 3], { maxTokens: 900 }, { tenant }), 0);
    }
  };
  submit('busy', 1, 900);
  for (let i = 0; i < 100; i++) await engine.step(0, sink);
  submit('late', 1001, 40);
  const rows = { busy: 0, late: 0 };
  let waited = 0;
  const before = sink.events.length;
  for (let i = 0; i < 600; i++) {
    await engine.step(0, sink);
    engine.scheduler.check();
    if (!sink.events.some(({ kind, id }) => kind === 'token' && id > 1000)) waited++;
  }
  for (const event of sink.events.slice(before)) if (event.kind === 'token') rows[event.id > 1000 ? 'late' : 'busy']++;
  // Without a turn given, the first of the late tenant would begin after 800 steps.
  assert.ok(waited < 40, `the late tenant waited ${waited} steps for its first token`);
  const share = rows.late / (rows.late + rows.busy);
  assert.ok(share > 0.45 && share < 0.55, `the late tenant has ${share} of the tokens`);
  // Places move while shares are unequal, not for ever.
  assert.ok(engine.state.turns >= 8 && engine.state.turns < 24, `${engine.state.turns} turns`);
  for (let id = 1; id <= 1040; id++) engine.cancel(id);
  await drain(engine, sink);
});

test('with a single place, tenants take turns at it, and their answers do not change', async () => {
  const options = { rows: 8, sequences: 1, pages: 128, draws: 'context' } as const;
  const requests = ['one', 'two'].map((tenant, i) =>
    generateRequest(i + 1, [5 + i, 6, 7], { maxTokens: 1500 }, { tenant }),
  );
  const expected: number[][] = [];
  for (const request of requests) {
    const alone = fakeEngine(2048, new FakeModel(options));
    alone.submit(request, 0);
    expected.push((await drain(alone)).tokensOf(request.id));
  }
  const engine = fakeEngine(2048, new FakeModel(options));
  for (const request of requests) engine.submit(request, 0);
  const sink = new Collector();
  for (let i = 0; i < 600; i++) await engine.step(0, sink);
  const lengths = requests.map(({ id }) => sink.tokensOf(id).length);
  assert.ok(Math.min(...lengths) > 200, `after 600 steps: ${lengths.join(' and ')} tokens`);
  await drain(engine, sink);
  assert.deepEqual([sink.tokensOf(1), sink.tokensOf(2)], expected);
  assert.ok(engine.state.turns > 0 && engine.state.turns <= 16, `${engine.state.turns} turns`);
});

test('prompts of a tenant that was served less go first, whoever came first', async () => {
  let now = 0;
  const onStep = ({ rows }: FakeWork): void => void (now += 1 + 0.1 * rows);
  const engine = fakeEngine(8192, new FakeModel({ rows: 256, sequences: 16, pages: 8000, onStep }), {
    clock: () => now,
  });
  // One answer runs, so that prompts get a part of each step.
  engine.submit(generateRequest(1, [1], { maxTokens: 8000 }, { tenant: 'other' }), 0);
  const sink = new Collector();
  for (let i = 0; i < 20; i++) await engine.step(0, sink);
  for (let id = 2; id <= 11; id++) {
    const tokens = [id, ...new Array<number>(2000).fill(7)];
    engine.submit(generateRequest(id, tokens, { maxTokens: 1 }, { tenant: 'busy' }), 0);
  }
  engine.submit(generateRequest(12, [12, ...new Array<number>(2000).fill(7)], { maxTokens: 1 }, { tenant: 'late' }), 0);
  const order: number[] = [];
  while (order.length < 11) {
    await engine.step(0, sink);
    for (let id = 2; id <= 12; id++) if (sink.hasEnded(id) && !order.includes(id)) order.push(id);
  }
  assert.ok(order.indexOf(12) <= 1, `prompts were done in the order ${order.join(', ')}`);
  engine.cancel(1);
  await drain(engine, sink);
});

test('a request of higher priority takes the place of one of lower priority', async () => {
  const engine = fakeEngine(512, new FakeModel({ rows: 8, sequences: 2, pages: 64, draws: 'context' }));
  const sink = new Collector();
  for (const id of [1, 2]) engine.submit(generateRequest(id, [id, 3], { maxTokens: 300 }, { priority: 5 }), 0);
  for (let i = 0; i < 20; i++) await engine.step(0, sink);
  engine.submit(generateRequest(3, [9], { maxTokens: 4 }, { priority: 5 }), 0);
  engine.submit(generateRequest(4, [9], { maxTokens: 4 }, { priority: 1 }), 0);
  for (let i = 0; i < 20; i++) await engine.step(0, sink);
  assert.ok(sink.hasEnded(4), 'the request of higher priority waits');
  assert.equal(sink.hasEnded(3), false, 'one of equal priority went first');
  await drain(engine, sink);
  for (const id of [1, 2]) assert.equal(sink.tokensOf(id).length, 300);
});

test('a full queue makes room for a tenant that has less in it', async () => {
  const engine = fakeEngine(64, new FakeModel({ rows: 8, sequences: 1, pages: 8 }), { entries: 6 });
  const sink = new Collector();
  const refused = (): number[] =>
    sink.events.flatMap((event) => (event.kind === 'failed' && event.error.code === 'overloaded' ? [event.id] : []));
  for (let id = 1; id <= 8; id++) engine.submit(generateRequest(id, [1], {}, { tenant: 'busy' }), 0);
  await engine.step(0, sink);
  assert.deepEqual(refused(), [7, 8]);
  engine.submit(generateRequest(9, [1], {}, { tenant: 'busy' }), 0);
  // One place is free since the first began; the newest of the busy tenant leave for others, until shares are equal.
  for (let id = 10; id <= 15; id++) engine.submit(generateRequest(id, [1], {}, { tenant: 'late' }), 0);
  await drain(engine, sink);
  assert.deepEqual(refused().slice(2), [9, 6, 5, 13, 14, 15]);
  for (const id of [1, 2, 3, 4, 10, 11, 12]) assert.equal(sink.endOf(id).kind, 'finished');
});

test('no priority is so low that others always go first', async () => {
  const engine = fakeEngine(64, new FakeModel({ rows: 8, sequences: 1, pages: 8 }));
  const sink = new Collector();
  engine.submit(generateRequest(1, [1], { maxTokens: 1 }, { priority: 3 }), 0);
  let id = 2;
  while (!sink.hasEnded(1)) {
    while (engine.state.waiting < 3) engine.submit(generateRequest(id++, [1], { maxTokens: 1 }, { priority: 0 }), 0);
    await engine.step(0, sink);
    assert.ok(id < 200, 'the request of low priority starves');
  }
  await drain(engine, sink);
});

test('a backlog of low priority does not overtake what comes later with a better one', async () => {
  const engine = fakeEngine(64, new FakeModel({ rows: 8, sequences: 1, pages: 8 }));
  const sink = new Collector();
  for (let id = 1; id <= 500; id++) engine.submit(generateRequest(id, [1], { maxTokens: 1 }, { priority: 3 }), 0);
  let better = 0;
  for (let id = 501; id <= 900; id++) {
    if (engine.state.waiting < 505) engine.submit(generateRequest(id, [1], { maxTokens: 1 }, { priority: 0 }), 0);
    await engine.step(0, sink);
  }
  for (const event of sink.events) if (event.kind === 'token' && event.id > 500) better++;
  // One of the backlog in 3 * 16 gets through, so that it does not starve.
  assert.ok(better > 380 && better < 400, `${better} of 400 steps for the better priority`);
  for (let id = 1; id <= 900; id++) engine.cancel(id);
  await drain(engine, sink);
});

test('a tenant that was served much is not passed over for ever by others that are always new', async () => {
  const engine = fakeEngine(2048, new FakeModel({ rows: 8, sequences: 1, pages: 128 }));
  const sink = new Collector();
  engine.submit(generateRequest(1, [1], { maxTokens: 400 }, { tenant: 'old' }), 0);
  engine.submit(generateRequest(2, [1], { maxTokens: 1 }, { tenant: 'new 2' }), 0);
  let id = 3;
  while (!sink.hasEnded(1)) {
    while (engine.state.waiting < 5) {
      engine.submit(generateRequest(id, [1], { maxTokens: 1 }, { tenant: `new ${id++}` }), 0);
    }
    await engine.step(0, sink);
    assert.ok(id < 5000, 'the tenant starves');
  }
  await drain(engine, sink);
});

test('what waits too long, or finds the queue full, is told when to try again', async () => {
  const engine = fakeEngine(64, new FakeModel({ rows: 8, sequences: 1, pages: 8 }), { entries: 2, timeoutMs: 100 });
  const sink = new Collector();
  engine.submit(generateRequest(1, [1], { maxTokens: 50 }), 0);
  await engine.step(0, sink);
  for (const id of [2, 3, 4]) engine.submit(generateRequest(id, [1]), 10);
  await engine.step(20, sink);
  const full = sink.endOf(4);
  assert.ok(full.kind === 'failed' && full.error.code === 'overloaded' && full.error.retryAfterSeconds! >= 1);
  await engine.step(111, sink);
  const late = sink.endOf(2);
  assert.ok(late.kind === 'failed' && late.error.code === 'unavailable' && late.error.retryAfterSeconds! >= 1);
  assert.equal(sink.hasEnded(1), false);
  await drain(engine, sink, 111);
  assert.equal(sink.endOf(1).kind, 'finished');
});

test('several answers to a prompt compute it once, and part without disturbing each other', async () => {
  const prompt = Array.from({ length: 37 }, (_, i) => i);
  const model = new FakeModel({ rows: 64, sequences: 8, pages: 40, draws: 'context' });
  const engine = fakeEngine(160, model);
  engine.submit(generateRequest(1, prompt, { maxTokens: 20 }), 0);
  for (let id = 2; id <= 5; id++) engine.submit(generateRequest(id, prompt, { maxTokens: 20 }, { siblingOf: 1 }), 0);
  const sink = await drain(engine);
  assert.deepEqual(model.steps[0], { rows: 37, sequences: 1, outputs: 5 });
  for (let id = 2; id <= 5; id++) assert.deepEqual(sink.tokensOf(id), sink.tokensOf(1));
});
