import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { LoadSummary } from '../src/load/summary.ts';
import { threads, rose, start, type Ended, type Running } from './rose.ts';

let running: Running;
let url: string;
let folder: string;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rose-bench-'));
  running = start(['serve', '--port', '0', ...threads, 'tiny-chat', 'tiny-embed']);
  [, url] = await running.until(/listening on (\S+)/);
});

after(async () => {
  running.process.kill('SIGTERM');
  await running.ended;
  await rm(folder, { recursive: true });
});

const SHORT = ['--input-tokens', '40', '--output-tokens', '6', '--ignore-eos', '--requests', '8', '--warm-up', '1'];

async function bench(...args: string[]): Promise<{ ended: Ended; summary: LoadSummary }> {
  const file = join(folder, 'load.json');
  const ended = await rose(['bench', 'serve', url, ...SHORT, '--json', file, ...args]);
  assert.equal(ended.code, 0, ended.stderr);
  return { ended, summary: (JSON.parse(await readFile(file, 'utf8')) as { summary: LoadSummary }).summary };
}

for (const api of ['chat', 'completions', 'triton']) {
  test(`rose bench serve measures Rose through its ${api} endpoint`, async () => {
    const { ended, summary } = await bench('--api', api, '--model', 'tiny-chat', '--rate', '50');
    assert.deepEqual([summary.requests, summary.done, summary.errors, summary.countedByEvents], [8, 8, {}, 0]);
    // Exactly as asked for, since end tokens are passed over.
    assert.equal(summary.outputTokens, 48);
    // Words are not quite tokens.
    assert.ok(summary.inputTokens > 8 * 30 && summary.inputTokens < 8 * 50, `${summary.inputTokens} tokens in`);
    assert.equal(summary.timeToFirstToken?.count, 8);
    assert.match(ended.stdout, /8 answered, 0 cancelled, 0 failed/);
    assert.match(ended.stdout, /time to first token +\d/);
  });
}

test('shared beginnings are found by the server, and cancelled requests leave it', async () => {
  const shared = ['--shared-prefix', '100', '--output-tokens', '40', '--cancel', '0.5', '--seed', '3'];
  const { summary } = await bench('--concurrency', '2', ...shared);
  assert.equal(summary.done + summary.cancelled, 8);
  assert.ok(summary.cancelled > 0 && summary.done > 0, `${summary.cancelled} of 8 cancelled`);
  // Answers in full say so; each but perhaps the first finds the beginning.
  assert.ok(summary.cachedTokens >= (summary.done - 1) * 80, `${summary.cachedTokens} tokens cached`);
});

test('a model is served for the time of the benchmark', async () => {
  const ended = await rose(['bench', 'serve', 'tiny-chat', ...threads, ...SHORT, '--concurrency', '4']);
  assert.equal(ended.code, 0, ended.stderr);
  assert.match(ended.stderr, /serving tiny-chat/);
  assert.match(ended.stdout, /8 answered/);
});

const WRONG: readonly (readonly [args: readonly string[], code: number, says: RegExp])[] = [
  [['URL', '--model', 'tiny-chatt'], 3, /no model "tiny-chatt"; its models: tiny-chat, tiny-embed/],
  [['URL', '--api', 'triton'], 2, /needs the name of a model/],
  [['URL', '--api', 'triton', '--model', 'tiny-chatt'], 3, /400: Request for unknown model|unknown model/],
  [['URL', '--api', 'triton', '--model', 'tiny-embed'], 2, /takes no text_input/],
  [['URL', '--model', 'tiny-embed'], 2, /HTTP 400\): .*tiny-embed/],
  [['URL', '--rate', '1', '--concurrency', '1'], 2, /exclude each other/],
  [['URL', '--header', 'nonsense'], 2, /is not 'Name: value'/],
  [['URL', '--dataset', '/no/such/file'], 2, /--dataset \/no\/such\/file/],
  [['URL', '--shared-prefix', '3000'], 2, /leaves no room/],
  [['http://127.0.0.1:1'], 4, /there is no server at http:\/\/127\.0\.0\.1:1 \(ECONNREFUSED\)/],
  [['no-such-model'], 3, /there is no model "no-such-model"/],
];

for (const [args, code, says] of WRONG) {
  test(`rose bench serve ${args.join(' ')}: exit code ${code}`, async () => {
    const ended = await rose(['bench', 'serve', ...args.map((arg) => (arg === 'URL' ? url : arg))]);
    assert.equal(ended.code, code, ended.stderr);
    assert.match(ended.stderr, says);
    assert.doesNotMatch(ended.stderr, /\n\s+at /, 'no stack trace');
  });
}

test('a server without streams is told from one with', async (t) => {
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(request.method === 'GET' ? { data: [{ id: 'x' }] } : { choices: [] }));
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  t.after(() => server.close());
  const ended = await rose(['bench', 'serve', `http://127.0.0.1:${(server.address() as AddressInfo).port}`]);
  assert.equal(ended.code, 2, ended.stderr);
  assert.match(ended.stderr, /no stream.*application\/json instead of text\/event-stream/);
});
