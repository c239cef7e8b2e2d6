import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { test, type TestContext } from 'node:test';
import { EventParser } from '../src/load/events.ts';
import { shareGptLike } from '../src/load/lengths.ts';
import { openaiTarget } from '../src/load/openai.ts';
import { Random } from '../src/load/random.ts';
import type { RequestRecord } from '../src/load/record.ts';
import { runLoad, type Load } from '../src/load/run.ts';
import { send } from '../src/load/send.ts';
import { percentiles, summarize } from '../src/load/summary.ts';
import { loadTable } from '../src/load/table.ts';
import { wordCount, wordsFor } from '../src/load/text.ts';
import { conversations, orderOf, randomPrompts, sharedPrefixes } from '../src/load/workload.ts';

const WORDS = { tokensPerWord: 1, overhead: 0 };

test('events are found wherever the stream is cut', () => {
  const bytes = Buffer.from(
    ': hello\n\ndata: {"a":"é"}\r\n\r\nevent: x\ndata:one\ndata: two\n\ndata: [DONE]\n\ndata: open',
  );
  for (let cut = 0; cut <= bytes.length; cut++) {
    const parser = new EventParser();
    const events = [...parser.push(bytes.subarray(0, cut)), ...parser.push(bytes.subarray(cut))];
    assert.deepEqual(events, ['{"a":"é"}', 'one\ntwo', '[DONE]'], `cut at ${cut}`);
  }
});

test('a request is the same for the same seed and number, and another for another', () => {
  const source = randomPrompts(shareGptLike(2048), WORDS);
  const options = { seed: 7, source, prefixes: sharedPrefixes(7, 3, 20, WORDS), cancel: 0.5 };
  const orders = Array.from({ length: 200 }, (_, i) => orderOf(options, i));
  assert.deepEqual(orders[5], orderOf({ ...options, prefixes: sharedPrefixes(7, 3, 20, WORDS) }, 5));
  assert.equal(new Set(orders.map(({ prompt }) => prompt)).size, 200);
  assert.notDeepEqual(orders[5], orderOf({ ...options, seed: 8 }, 5));
  const beginnings = new Set(orders.map(({ prompt }) => prompt.split(' ').slice(0, 20).join(' ')));
  assert.equal(beginnings.size, 3);
  const cancelled = orders.filter(({ cancelAfter }) => cancelAfter !== undefined);
  assert.ok(cancelled.length > 70 && cancelled.length < 130, `${cancelled.length} of 200 hang up`);
  assert.ok(cancelled.every(({ cancelAfter, output }) => cancelAfter! >= 1 && cancelAfter! < output));
});

test('lengths have the means of ShareGPT, and fit the context', () => {
  const draw = (context: number): { input: number; output: number }[] => {
    const random = new Random(1);
    return Array.from({ length: 20_000 }, () => shareGptLike(context)(random));
  };
  const mean = (values: number[]): number => values.reduce((a, b) => a + b) / values.length;
  const free = draw(1e9);
  // Within five deviations of a mean of 20 000 draws.
  assert.ok(Math.abs(mean(free.map(({ input }) => input)) - 161) < 161 * 0.065);
  assert.ok(Math.abs(mean(free.map(({ output }) => output)) - 338) < 338 * 0.04);
  for (const { input, output } of draw(100)) {
    assert.ok(input >= 4 && input <= 50 && output >= 4 && input + output <= 100, `${input} + ${output}`);
  }
});

test('words are counted as the server counts tokens', () => {
  const words = wordCount(20, 40, 120, 190);
  assert.deepEqual(words, { tokensPerWord: 1.5, overhead: 10 });
  assert.equal(wordsFor(310, words), 200);
});

test('a data set gives its questions, and refuses what it is not', () => {
  const turn = (value: string): object => ({ from: 'human', value });
  const file = [
    { conversations: [turn('one two three four five'), turn('six '.repeat(40).trim())] },
    { conversations: [turn('no answer')] },
    { conversations: [turn('far too long '.repeat(100)), turn('yes')] },
  ];
  const source = conversations(JSON.stringify(file), 64, WORDS);
  for (let i = 0; i < 5; i++) {
    assert.deepEqual(source(new Random(i)), { prompt: 'one two three four five', output: 40 });
  }
  assert.throws(() => conversations('{}', 64, WORDS), /not a JSON array/);
  assert.throws(() => conversations('[{}, null]', 64, WORDS), /none of its 2 entries/);
  assert.throws(() => conversations('nonsense', 64, WORDS), SyntaxError);
});

test('percentiles are values that were measured', () => {
  const values = Array.from({ length: 200 }, (_, i) => 200 - i);
  assert.deepEqual(percentiles(values), { count: 200, mean: 100.5, p50: 100, p90: 180, p99: 198, max: 200 });
  assert.deepEqual(percentiles([3]), { count: 1, mean: 3, p50: 3, p90: 3, p99: 3, max: 3 });
  assert.equal(percentiles([]), undefined);
});

test('a summary counts from the time a request was due', () => {
  const record = (scheduled: number, times: number[], rest: Partial<RequestRecord> = {}): RequestRecord => ({
    ...{ scheduled, sent: scheduled + 5, times, ended: (times.at(-1) ?? scheduled) + 1 },
    ...{ outcome: { kind: 'done' }, usage: undefined, ...rest },
  });
  const summary = summarize([
    record(1000, [1100, 1110, 1130], { usage: { inputTokens: 50, outputTokens: 5, cachedTokens: 16 } }),
    record(1500, [1700, 1740]),
    record(2000, [2010], { outcome: { kind: 'cancelled' } }),
    record(2500, [], { ended: 3000, outcome: { kind: 'failed', reason: 'HTTP 503', message: 'later' } }),
  ]);
  assert.deepEqual(
    [summary.requests, summary.done, summary.cancelled, summary.seconds, summary.requestsPerSecond],
    [4, 2, 1, 2, 1],
  );
  assert.deepEqual(summary.errors, { 'HTTP 503': { count: 1, example: 'later' } });
  assert.deepEqual([summary.outputTokens, summary.inputTokens, summary.cachedTokens], [8, 50, 16]);
  assert.deepEqual([summary.outputTokensPerSecond, summary.countedByEvents], [4, 1]);
  assert.deepEqual([summary.timeToFirstToken?.p50, summary.timeToFirstToken?.max], [100, 200]);
  assert.deepEqual([summary.interToken?.count, summary.interToken?.max], [3, 40]);
  assert.deepEqual([summary.timePerOutputToken?.p50, summary.timePerOutputToken?.max], [7.5, 40]);
  assert.deepEqual([summary.endToEnd?.count, summary.endToEnd?.max, summary.sendLag?.p50], [2, 241, 5]);
  assert.equal(summary.together, undefined, 'so few events tell no rate');
  const table = loadTable(summary);
  assert.match(table, /1 x HTTP 503: later/);
  assert.match(table, /does not say how many tokens 1 answers have/);
});

test('the rate of answers that come at once counts from the last first token to the first end', () => {
  const record = (times: number[], outputTokens: number): RequestRecord => ({
    ...{ scheduled: 0, sent: 0, times, ended: times.at(-1)! },
    ...{ outcome: { kind: 'done' }, usage: { inputTokens: 1, outputTokens, cachedTokens: 0 } },
  });
  const steps = (from: number, count: number): number[] => Array.from({ length: count }, (_, i) => from + 100 * i);
  // From 1000 to 3000 both answer, twenty events of two tokens and twenty of one.
  const both = summarize([record(steps(100, 30), 60), record(steps(1000, 40), 40)]);
  assert.deepEqual(both.together, { answers: 2, seconds: 2, outputTokensPerSecond: 30 });
  assert.match(loadTable(both), /30 tokens\/s out while 2 answers come at once \(2\.0 s\)/);
  assert.equal(summarize([record([100], 1), record([100], 1)]).together, undefined);
  // One begins in each step in which another one ends: 51 at once for moments, within a burst of events.
  const bursts = Array.from({ length: 64 }, (_, i) =>
    record(
      steps(200 * i, 101).map((at) => at + 0.02 * i),
      101,
    ),
  );
  assert.equal(summarize(bursts).together, undefined);
});

/** A server of one model whose answers the test writes. */
async function fakeServer(t: TestContext, answer: (response: ServerResponse, body: string) => void): Promise<URL> {
  const listener: RequestListener = (request: IncomingMessage, response) => {
    if (request.method === 'GET') response.end(JSON.stringify({ data: [{ id: 'fake', max_model_len: 500 }] }));
    else void text(request).then((body) => answer(response, body));
  };
  // Longer than any test: what is closed is closed by the client.
  const server = createServer({ keepAliveTimeout: 60_000 }, listener).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
}

const SSE = { 'content-type': 'text/event-stream' };
const chunk = (content: string): string => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`;
const DONE = 'data: [DONE]\n\n';

async function load(url: URL, kind: Load, requests: number, cancelAfter?: number): Promise<RequestRecord[]> {
  const { signal } = new AbortController();
  const target = await openaiTarget(url, 'chat', undefined, {}, {}, 5000);
  assert.equal(target.context, 500);
  const order = { prompt: 'hello', output: 4, cancelAfter };
  const options = { headers: {}, timeoutMs: 20_000, signal };
  const sendOne = (_: number, scheduled: number): Promise<RequestRecord> => send(target, order, scheduled, options);
  return await runLoad(sendOne, { load: kind, seed: 1, requests, milliseconds: Infinity, signal });
}

test('arrivals wait for no answer, and the waiting counts', { timeout: 30_000 }, async (t) => {
  const COUNT = 12;
  const waiting: ServerResponse[] = [];
  // Nobody is answered before the last one has come.
  const url = await fakeServer(t, (response) => {
    if (waiting.push(response) < COUNT) return;
    for (const each of waiting) each.writeHead(200, SSE).end(chunk('a') + chunk('b') + DONE);
  });
  const records = await load(url, { kind: 'open', perSecond: 200 }, COUNT);
  assert.deepEqual(new Set(records.map(({ outcome }) => outcome.kind)), new Set(['done']));
  const [first] = records;
  const last = records.at(-1)!;
  assert.ok(last.scheduled > first.scheduled);
  assert.ok(first.times[0] - first.scheduled >= last.scheduled - first.scheduled, 'from when it was due');
  assert.ok(
    records.every(({ sent, scheduled }) => sent >= scheduled),
    'none was sent before it was due',
  );
});

test('a closed load has so many requests under way, never more', async (t) => {
  let now = 0;
  let most = 0;
  const url = await fakeServer(t, (response) => {
    most = Math.max(most, ++now);
    setTimeout(() => {
      now--;
      response.writeHead(200, SSE).end(chunk('a') + DONE);
    }, 5);
  });
  const records = await load(url, { kind: 'closed', concurrency: 4 }, 21);
  assert.deepEqual([records.length, most], [21, 4]);
});

test('what goes wrong is told apart', async (t) => {
  const answers: Record<string, (response: ServerResponse) => void> = {
    'HTTP 503': (response) => response.writeHead(503).end('{"error":{"message":"too many"}}'),
    'no stream': (response) => response.writeHead(200, { 'content-type': 'application/json' }).end('{}'),
    'cut off': (response) => response.writeHead(200, SSE).end(chunk('a')),
    'error in stream': (response) => response.writeHead(200, SSE).end(`data: {"error":{"message":"broken"}}\n\n`),
    ECONNRESET: (response) => response.destroy(),
  };
  const kinds = Object.keys(answers);
  let next = 0;
  const url = await fakeServer(t, (response) => answers[kinds[next++]](response));
  const records = await load(url, { kind: 'closed', concurrency: 1 }, kinds.length);
  const reasons = records.map(({ outcome }) => (outcome.kind === 'failed' ? outcome.reason : outcome.kind));
  assert.deepEqual(reasons, kinds);
  assert.equal(summarize(records).errors['HTTP 503'].example, 'too many');
});

test('who hangs up is gone for the server, and counts what came', { timeout: 30_000 }, async (t) => {
  const COUNT = 4;
  let left = 0;
  let allLeft = (): void => {};
  const gone = new Promise<void>((resolve) => (allLeft = resolve));
  const url = await fakeServer(t, (response) => {
    response.on('close', () => {
      if (++left === COUNT) allLeft();
    });
    response.writeHead(200, SSE).write(chunk('a') + chunk('b'));
  });
  const records = await load(url, { kind: 'closed', concurrency: 2 }, COUNT, 2);
  assert.deepEqual(
    records.map(({ outcome, times }) => [outcome.kind, times.length]),
    Array.from({ length: COUNT }, () => ['cancelled', 2]),
  );
  await gone;
});

test('who hangs up on an answer that is there already leaves no connection open', { timeout: 30_000 }, async (t) => {
  const sockets = new Set<Socket>();
  // In pieces, so that what comes behind the first is not read, as where the machine is busy.
  const url = await fakeServer(t, (response) => {
    const { socket } = response;
    if (socket !== null && !sockets.has(socket)) {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
    }
    response.writeHead(200, SSE);
    response.cork();
    for (let i = 0; i < 4; i++) response.write(chunk(String(i)));
    response.end(DONE);
    response.uncork();
  });
  const records = await load(url, { kind: 'closed', concurrency: 1 }, 2, 1);
  assert.deepEqual(
    records.map(({ outcome, times }) => [outcome.kind, times.length]),
    [1, 2].map(() => ['cancelled', 1]),
  );
  while (sockets.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
});
