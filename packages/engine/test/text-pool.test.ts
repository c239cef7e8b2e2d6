import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { openText } from '../src/text/open.ts';
import { WorkerPool } from '../src/text/pool.ts';
import type { Prompt } from '../src/text/text.ts';
import { bundled } from './tokenizers.ts';

/**
 * A worker that answers with its thread's number, dies at the text `die`, waits at `wait` until `go` is called on the
 * shared flag, and does not start where the second flag is not 1.
 */
const script = `
const { parentPort, workerData, threadId } = require('node:worker_threads');
const flags = new Int32Array(workerData);
const start = Atomics.load(flags, 1);
if (start === 0) throw new Error('no start');
parentPort.on('message', ({ args: [{ text }] }) => {
  if (text === 'die') throw new Error('a fault');
  if (text === 'exit') process.exit(3);
  if (text === 'refuse') return parentPort.postMessage({ kind: 'failed', error: { code: 'invalid', message: 'no' } });
  if (text === 'wait') Atomics.wait(flags, 0, 0);
  parentPort.postMessage({ kind: 'result', value: Int32Array.of(threadId) });
});
const failed = { kind: 'failed', error: { code: 'not_found', message: 'no start: no file' } };
parentPort.postMessage(start === 1 ? { kind: 'ready', tables: {} } : failed);
`;

async function openFake(count: number): Promise<{ pool: WorkerPool; flags: Int32Array }> {
  const flags = new Int32Array(new SharedArrayBuffer(8));
  flags[1] = 1;
  const { pool } = await WorkerPool.open(() => new Worker(script, { eval: true, workerData: flags.buffer }), count);
  return { pool, flags };
}

const say = (pool: WorkerPool, text: string): Promise<Int32Array> => pool.encodePrompt({ kind: 'text', text });

describe('the pool of text workers', () => {
  it('fails the call whose worker dies, and only that one', async () => {
    const { pool } = await openFake(1);
    try {
      const calls = await Promise.allSettled(['a', 'die', 'b', 'exit', 'refuse', 'c'].map((text) => say(pool, text)));
      const results = calls.map((call) =>
        call.status === 'fulfilled' ? 'ok' : (call.reason as { code: string }).code,
      );
      assert.deepEqual(results, ['ok', 'internal', 'ok', 'internal', 'invalid', 'ok']);
      assert.match(String((calls[1] as PromiseRejectedResult).reason), /worker was lost: a fault/);
    } finally {
      await pool.close();
    }
  });

  it('works on while one worker is busy', async () => {
    const { pool, flags } = await openFake(2);
    try {
      let done = false;
      const long = say(pool, 'wait').then((ids) => {
        done = true;
        return ids;
      });
      const others = await Promise.all(['a', 'b', 'c'].map((text) => say(pool, text)));
      assert.equal(done, false);
      assert.equal(new Set(others.map(([thread]) => thread)).size, 1);
      Atomics.store(flags, 0, 1);
      Atomics.notify(flags, 0);
      assert.notEqual((await long)[0], others[0][0]);
    } finally {
      await pool.close();
    }
  });

  it('says so when workers cannot be started any more, and tries again', async () => {
    const { pool, flags } = await openFake(1);
    try {
      for (const [start, code] of [
        [0, 'internal'],
        [2, 'not_found'],
      ] as const) {
        flags[1] = start;
        const lost = assert.rejects(say(pool, 'die'), { code: 'internal' });
        await assert.rejects(say(pool, 'a'), { code, message: /no start/ });
        await lost;
        flags[1] = 1;
        assert.equal((await say(pool, 'a')).length, 1);
      }
    } finally {
      await pool.close();
    }
  });

  it('fails what waits when it is closed, and takes nothing more', async () => {
    const { pool } = await openFake(1);
    const waiting = ['wait', 'a'].map((text) => assert.rejects(say(pool, text), { code: 'unavailable' }));
    await pool.close();
    await Promise.all(waiting);
    await assert.rejects(say(pool, 'a'), { code: 'unavailable' });
    await pool.close();
  });

  it('refuses what cannot be sent', async () => {
    const { pool } = await openFake(1);
    try {
      const prompt: Prompt = { kind: 'messages', messages: [], templateArguments: { f: () => 1 } };
      await assert.rejects(pool.encodePrompt(prompt), { code: 'invalid' });
      assert.equal((await say(pool, 'a')).length, 1);
    } finally {
      await pool.close();
    }
  });
});

describe('openText', () => {
  it('fails with the reason and leaves nothing running', async () => {
    await assert.rejects(openText('/no/such/model'), {
      code: 'not_found',
      message: /\/no\/such\/model\/tokenizer\.json/,
    });
  });

  it('carries errors over the thread with their code and field', async () => {
    const { pool, vocabulary } = await openText(bundled('tiny-chat'), { workers: 2 });
    try {
      const prompt = { kind: 'messages', messages: [], templateArguments: { messages: 1 } } as const;
      await assert.rejects(pool.encodePrompt(prompt), { name: 'RoseError', code: 'invalid', param: 'messages' });
      const ids = await pool.encodePrompt({ kind: 'text', text: 'Once upon a time' });
      assert.equal(await pool.decode(ids), 'Once upon a time');
      assert.ok(vocabulary.size > Math.max(...ids));
    } finally {
      await pool.close();
    }
  });
});
