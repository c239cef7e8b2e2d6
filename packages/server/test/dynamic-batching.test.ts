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

/**
 * A model that answers with how many requests it was given together. One whose first element is 1 says that it has
 * begun and goes on when it is told to.
 */
const COUNTS = `import { BroadcastChannel } from 'node:worker_threads';
let turns = 0;
export default class {
  async execute(requests) {
    const turn = turns++;
    if (requests[0].input('IN').data[0] === 1) await held();
    return requests.map((request) => {
      const data = new Int32Array(request.input('IN').data.length).fill(requests.length);
      return { outputs: { OUT: { datatype: 'INT32', shape: request.input('IN').shape, data } }, parameters: { turn } };
    });
  }
}
function held() {
  const channel = new BroadcastChannel('NAME');
  return new Promise((resolve) => {
    channel.onmessage = ({ data }) => {
      if (data !== 'go') return;
      channel.close();
      resolve();
    };
    channel.postMessage('begun');
  });
}`;

interface Batched extends Serving {
  /** One row of so many elements, of which one says whether it holds the instance. */
  readonly infer: (first: number, parameters?: object, width?: number) => Promise<Reply>;
  /** Sends a request that holds an instance until it is told to go, and resolves when it has begun. */
  readonly hold: () => Promise<{ readonly reply: Promise<Reply>; readonly go: () => void }>;
  /** Resolves when so many requests wait. */
  readonly waiting: (count: number) => Promise<void>;
}

let servers = 0;

async function serveBatched(t: TestContext, batching: string, more = '', input = ''): Promise<Batched> {
  const text = config('TYPE_INT32', `max_batch_size: 8\ndynamic_batching { ${batching} }\n${more}`).replace(
    'dims: -1',
    `dims: -1 ${input}`,
  );
  const name = `batching ${++servers}`;
  const directory = makeRepository(t, { 'm/config.pbtxt': text, 'm/1/model.ts': COUNTS.replace('NAME', name) });
  const serving = await serve(t, { repository: { directories: [directory] } });
  const infer = (first: number, parameters = {}, width = 1): Promise<Reply> =>
    serving.post('/v2/models/m/infer', {
      parameters,
      inputs: [{ name: 'IN', datatype: 'INT32', shape: [1, width], data: Array.from({ length: width }).fill(first) }],
    });
  const hold: Batched['hold'] = async () => {
    const channel = new BroadcastChannel(name);
    t.after(() => channel.close());
    const begun = new Promise<void>((resolve) => {
      channel.addEventListener('message', () => resolve(), { once: true });
    });
    const reply = infer(1);
    await begun;
    return { reply, go: () => channel.postMessage('go') };
  };
  const waiting: Batched['waiting'] = async (count) => {
    const line = `nv_inference_pending_request_count{model="m",version="1"} ${count}\n`;
    while (!(await (await serving.get('/metrics')).text()).includes(line)) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  return { ...serving, infer, hold, waiting };
}

const sizeOf = async (reply: Reply): Promise<number> => (await reply.json()).outputs[0].data[0];

test('requests that wait are executed together, and counted one by one', async (t) => {
  const { infer, hold, waiting, get } = await serveBatched(t, 'max_queue_delay_microseconds: 200');
  const held = await hold();
  const others = [infer(0), infer(0), infer(0)];
  await waiting(3);
  held.go();
  const replies = await Promise.all([held.reply, ...others]);
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
  const metrics = await (await get('/metrics')).text();
  assert.match(metrics, /^nv_inference_exec_count\{model="m",version="1"\} 2$/m);
  assert.match(metrics, /^nv_inference_request_failure\{model="m",reason="REJECTED",version="1"\} 0$/m);
});

test('a higher priority goes first', async (t) => {
  const levels = 'preferred_batch_size: 1 priority_levels: 2 default_priority_level: 2';
  const { infer, hold, waiting } = await serveBatched(t, levels);
  const held = await hold();
  const others = [infer(0), infer(0, { priority: 2 })];
  await waiting(2);
  others.push(infer(0, { priority: 9 }), infer(0, { priority: 1 }));
  await waiting(4);
  held.go();
  // The replies themselves may overtake each other on their way.
  const turns = await Promise.all(
    (await Promise.all(others)).map(async (reply) => (await reply.json()).parameters.turn),
  );
  assert.deepEqual([turns[3], turns.toSorted((a, b) => a - b)], [1, [1, 2, 3, 4]]);
});

test('a queue policy refuses what waits too long or is too much', async (t) => {
  const policy = 'default_timeout_microseconds: 600000000 allow_timeout_override: true max_queue_size: 2';
  const { infer, hold, waiting, get } = await serveBatched(t, `default_queue_policy { ${policy} }`);
  const refusal = async (reply: Reply): Promise<unknown> => [reply.status, (await reply.json()).error];
  const held = await hold();
  const others = [infer(0), infer(0)];
  await waiting(2);
  assert.deepEqual(await refusal(await infer(0)), [503, '[request id: <id_unknown>] Exceeds maximum queue size']);
  held.go();
  assert.deepEqual(
    (await Promise.all([held.reply, ...others])).map(({ status }) => status),
    [200, 200, 200],
  );
  // Told while the instance is still held, not after the running batch.
  const again = await hold();
  assert.deepEqual(await refusal(await infer(0, { timeout: 1000 })), [503, 'Request timeout expired']);
  again.go();
  await again.reply;
  const [stats] = (await (await get('/v2/models/m/stats')).json()).model_stats;
  assert.deepEqual([stats.inference_stats.success.count, stats.inference_stats.fail.count], [4, 2]);
});

test('what may be late is answered behind what is not', async (t) => {
  const policy = 'timeout_action: DELAY default_timeout_microseconds: 1000';
  const { infer, hold, waiting } = await serveBatched(t, `preferred_batch_size: 1 default_queue_policy { ${policy} }`);
  const held = await hold();
  const others = [infer(0), infer(0)];
  await waiting(2);
  held.go();
  assert.deepEqual(
    (await Promise.all(others)).map(({ status }) => status),
    [200, 200],
  );
});

test('with preserve_ordering answers come in the order of their requests', async (t) => {
  const two = 'instance_group { count: 2 }';
  const { infer, hold, get } = await serveBatched(t, 'preferred_batch_size: 1 preserve_ordering: true', two);
  const ended: number[] = [];
  const held = await hold();
  const first = held.reply.then(() => ended.push(1));
  const second = infer(0).then(() => ended.push(2));
  // The other instance has executed the second request, whose answer is held back.
  const executed = async (): Promise<number> =>
    (await (await get('/v2/models/m/stats')).json()).model_stats[0].execution_count;
  while ((await executed()) === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  // Its answer would have come before this one.
  await get('/v2/models/m/stats');
  assert.deepEqual(ended, []);
  held.go();
  await Promise.all([first, second]);
});

test('requests of different lengths go together where the input may be ragged', async (t) => {
  const { infer, hold, waiting } = await serveBatched(t, '', '', 'allow_ragged_batch: true');
  const held = await hold();
  const others = [infer(0), infer(0, {}, 3), infer(0, {}, 7)];
  await waiting(3);
  held.go();
  assert.deepEqual(await Promise.all((await Promise.all(others)).map(sizeOf)), [3, 3, 3]);
});
