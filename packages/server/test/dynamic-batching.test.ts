import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { nextBatch, type Batching } from '../src/scheduling/batching.ts';
import type { Job } from '../src/scheduling/job.ts';
import { makeRepository, config } from './repository-kit.ts';
import { serve, type Reply, type Serving } from './serving.ts';

const MS = 1e6;

/** A job with one input of so many rows of this width, which arrived at this millisecond. */
function job(rows: number, arrivedMs = 0, width = 4): Job {
  const inputs = new Map([['IN', { name: 'IN', datatype: 'INT32', shape: [rows, width], data: new Uint8Array() }]]);
  return { rows, arrived: arrivedMs * MS, request: { inputs } } as unknown as Job;
}

/** Rows of the batch that is made, or the milliseconds to wait. */
function decide(jobs: readonly Job[], batching: Partial<Batching>, nowMs: number): number[] | string {
  const whole = { maxBatchSize: 8, preferred: [8], delay: 0, ragged: new Set<string>(), ...batching };
  const decision = nextBatch(jobs, whole, nowMs * MS);
  return 'batch' in decision ? decision.batch.map(({ rows }) => rows) : `wait ${decision.waitNs / MS}`;
}

test('batches are formed as Triton forms them', () => {
  const ones = [job(1), job(1), job(1), job(1), job(1)];
  assert.deepEqual(decide(ones, {}, 1), [1, 1, 1, 1, 1]);
  assert.deepEqual(decide([job(3), job(4), job(2)], {}, 1), [3, 4]);
  // The largest preferred size that can be had.
  assert.deepEqual(decide(ones, { preferred: [2, 4], delay: 5 * MS }, 1), [1, 1, 1, 1]);
  assert.deepEqual(decide(ones.slice(0, 3), { preferred: [2, 4], delay: 5 * MS }, 1), [1, 1]);
  // No preferred size: wait for more, but not longer than said.
  assert.deepEqual(decide([job(1, 1)], { preferred: [4], delay: 5 * MS }, 2), 'wait 4');
  assert.deepEqual(decide([job(1, 1), job(1, 5)], { preferred: [4], delay: 5 * MS }, 6), [1, 1]);
  assert.deepEqual(decide(ones.slice(0, 3), { preferred: [2, 4], delay: 5 * MS }, 6), [1, 1, 1]);
  // A batch that cannot grow goes.
  assert.deepEqual(decide([job(6), job(4)], { delay: 5 * MS }, 0), [6]);
  assert.deepEqual(decide([job(1), job(1, 0, 5)], { delay: 5 * MS }, 0), [1]);
  assert.deepEqual(decide([job(1), job(1, 0, 5)], { delay: 0, ragged: new Set(['IN']) }, 0), [1, 1]);
});

/** A model that answers with how many requests it was given together, and takes as many milliseconds as the first says. */
const COUNTS = `export default class {
  async execute(requests) {
    const [ms] = requests[0].input('IN').data;
    if (ms > 0) await new Promise((resolve) => setTimeout(resolve, ms));
    return requests.map((request) => {
      const data = new Int32Array(request.input('IN').data.length).fill(requests.length);
      return { outputs: { OUT: { datatype: 'INT32', shape: request.input('IN').shape, data } } };
    });
  }
}`;

interface Batched extends Serving {
  readonly infer: (ms: number, parameters?: object) => Promise<Reply>;
}

async function serveBatched(t: TestContext, batching: string, more = ''): Promise<Batched> {
  const text = config('TYPE_INT32', `max_batch_size: 8\ndynamic_batching { ${batching} }\n${more}`);
  const directory = makeRepository(t, { 'm/config.pbtxt': text, 'm/1/model.ts': COUNTS });
  const serving = await serve(t, { repository: { directories: [directory] } });
  const infer = (ms: number, parameters = {}): Promise<Reply> =>
    serving.post('/v2/models/m/infer', {
      parameters,
      inputs: [{ name: 'IN', datatype: 'INT32', shape: [1, 1], data: [ms] }],
    });
  return { ...serving, infer };
}

/** Sends one request that keeps the model busy, and gives the others time to wait behind it. */
async function behind(infer: Batched['infer'], busyMs: number, others: () => Promise<Reply>[]): Promise<Reply[]> {
  const first = infer(busyMs);
  await new Promise((resolve) => setTimeout(resolve, busyMs / 4));
  return Promise.all([first, ...others()]);
}

const sizeOf = async (reply: Reply): Promise<number> => (await reply.json()).outputs[0].data[0];

test('requests that wait are executed together, and counted one by one', async (t) => {
  const { infer, get } = await serveBatched(t, 'max_queue_delay_microseconds: 200');
  const replies = await behind(infer, 200, () => [infer(0), infer(0), infer(0)]);
  assert.deepEqual(await Promise.all(replies.map(sizeOf)), [1, 3, 3, 3]);
  const [stats] = (await (await get('/v2/models/m/stats')).json()).model_stats;
  assert.deepEqual([stats.inference_count, stats.execution_count], [4, 2]);
  assert.deepEqual(
    stats.batch_stats.map((batch: { batch_size: number; compute_infer: { count: number } }) => [
      batch.batch_size,
      batch.compute_infer.count,
    ]),
    [
      [1, 1],
      [3, 1],
    ],
  );
  for (const part of ['success', 'queue', 'compute_input', 'compute_infer', 'compute_output']) {
    assert.equal(stats.inference_stats[part].count, 4, part);
  }
  assert.ok(stats.inference_stats.queue.ns > 100 * MS, 'three of them waited');
});

test('a higher priority goes first', async (t) => {
  const levels = 'preferred_batch_size: 1 priority_levels: 2 default_priority_level: 2';
  const { infer } = await serveBatched(t, levels);
  const ended: string[] = [];
  const mark = async (name: string, reply: Promise<Reply>): Promise<Reply> => {
    const answered = await reply;
    ended.push(name);
    return answered;
  };
  await behind(infer, 200, () => [
    mark('default', infer(20)),
    mark('second', infer(20, { priority: 2 })),
    mark('unknown level', infer(20, { priority: 9 })),
    mark('first', infer(20, { priority: 1 })),
  ]);
  assert.equal(ended[0], 'first');
  assert.deepEqual(ended.length, 4);
});

test('a queue policy refuses what waits too long or is too much', async (t) => {
  const policy = 'default_timeout_microseconds: 60000000 allow_timeout_override: true max_queue_size: 2';
  const { infer, get } = await serveBatched(t, `default_queue_policy { ${policy} }`);
  const refusal = async (reply: Reply): Promise<unknown> => [reply.status, (await reply.json()).error];
  const full = await behind(infer, 200, () => [infer(0), infer(0), infer(0)]);
  const refused = full.filter(({ status }) => status !== 200);
  assert.deepEqual(await Promise.all(refused.map(refusal)), [
    [503, '[request id: <id_unknown>] Exceeds maximum queue size'],
  ]);
  const ended: string[] = [];
  const busy = infer(300).then(() => ended.push('busy'));
  await new Promise((resolve) => setTimeout(resolve, 50));
  const late = await infer(0, { timeout: 1000 });
  ended.push('late');
  assert.deepEqual(await refusal(late), [503, 'Request timeout expired']);
  await busy;
  // Told at once, not after the running batch.
  assert.deepEqual(ended, ['late', 'busy']);
  const [stats] = (await (await get('/v2/models/m/stats')).json()).model_stats;
  assert.deepEqual([stats.inference_stats.success.count, stats.inference_stats.fail.count], [4, 2]);
});

test('what may be late is answered behind what is not', async (t) => {
  const policy = 'timeout_action: DELAY default_timeout_microseconds: 1000';
  const { infer } = await serveBatched(t, `preferred_batch_size: 1 default_queue_policy { ${policy} }`);
  const replies = await behind(infer, 100, () => [infer(0), infer(0)]);
  assert.deepEqual(
    replies.map(({ status }) => status),
    [200, 200, 200],
  );
});

test('with preserve_ordering answers come in the order of their requests', async (t) => {
  const two = 'instance_group { count: 2 }';
  const { infer } = await serveBatched(t, 'preferred_batch_size: 1 preserve_ordering: true', two);
  const ended: number[] = [];
  const first = infer(200).then(() => ended.push(1));
  await new Promise((resolve) => setTimeout(resolve, 50));
  await Promise.all([first, infer(0).then(() => ended.push(2))]);
  assert.deepEqual(ended, [1, 2]);
});
