import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../src/repository/config.ts';
import { sequenceOptions } from '../src/repository/scheduling.ts';
import { SequenceScheduler } from '../src/scheduling/sequences.ts';
import { Job } from '../src/scheduling/job.ts';
import type { Executor } from '../src/scheduling/scheduler.ts';
import { ModelStatistics } from '../src/statistics/statistics.ts';
import { until } from './serving.ts';

const TIMES = { computeInput: 0, computeInfer: 0, computeOutput: 0 };

/** Takes a batch when it has none, and ends it when told to. */
class Hand implements Executor {
  readonly permit = undefined;
  batch: readonly Job[] = [];
  readonly seen: string[] = [];

  get busy(): boolean {
    return this.batch.length > 0;
  }

  execute(batch: readonly Job[]): void {
    this.batch = batch;
    this.seen.push(batch.map(({ request }) => request.id).join('+'));
    for (const job of batch) job.start(job.arrived);
  }

  finish(scheduler: SequenceScheduler): void {
    for (const job of this.batch) job.succeed(TIMES);
    this.batch = [];
    scheduler.dispatch();
  }
}

interface Scheduled {
  readonly scheduler: SequenceScheduler;
  readonly hands: readonly Hand[];
  /** A request of a sequence: `a1` is the first of a, `a2!` its last. */
  readonly add: (name: string, more?: { timeoutMs?: number; signal?: AbortSignal }) => Job;
  readonly dispatched: () => Promise<void>;
}

function schedule(slots: number, executors: number, idleMs = 60_000): Scheduled {
  const batching = { maxBatchSize: slots, preferred: [slots], delay: 0, ragged: new Set<string>() };
  const rest = { iterative: false, controls: () => [], initial: new Map() };
  const scheduler = new SequenceScheduler({ model: 'm', slots, idle: idleMs * 1e6, batching, ...rest });
  const hands = Array.from({ length: executors }, () => new Hand());
  for (const hand of hands) scheduler.attach(hand);
  const add: Scheduled['add'] = (name, { timeoutMs, signal = new AbortController().signal } = {}) => {
    const sequence = { id: name[0], start: name[1] === '1', end: name.endsWith('!') };
    const request = { id: name, inputs: new Map(), sequence, signal, timeoutMs };
    const job = new Job(request as unknown as Job['request'], 1, new ModelStatistics());
    job.responses.next().catch(() => {});
    scheduler.add(job);
    return job;
  };
  return { scheduler, hands, add, dispatched: () => new Promise((resolve) => setImmediate(resolve)) };
}

test('sequences share out the executors, and each keeps to its own', async () => {
  const { scheduler, hands, add, dispatched } = schedule(2, 2);
  for (const name of ['a1', 'b1', 'a2', 'b2', 'c1', 'a3!']) add(name);
  await dispatched();
  assert.deepEqual(
    hands.map(({ seen }) => seen),
    [['a1+c1'], ['b1']],
  );
  for (let i = 0; i < 3; i++) for (const hand of hands) if (hand.busy) hand.finish(scheduler);
  assert.deepEqual(
    hands.map(({ seen }) => seen),
    [
      ['a1+c1', 'a2', 'a3!'],
      ['b1', 'b2'],
    ],
  );
});

test('a sequence waits for a slot until another one ends', async () => {
  const { scheduler, hands, add, dispatched } = schedule(1, 1);
  for (const name of ['a1', 'b1!', 'a2!']) add(name);
  await dispatched();
  const [hand] = hands;
  hand.finish(scheduler);
  hand.finish(scheduler);
  assert.deepEqual(hand.seen, ['a1', 'a2!', 'b1!']);
  // The id is free again.
  add('a1');
  hand.finish(scheduler);
  await dispatched();
  assert.deepEqual(hand.seen.at(-1), 'a1');
});

test('a sequence that is silent for too long is over', async () => {
  const { scheduler, hands, add, dispatched } = schedule(1, 1, 20);
  add('a1');
  await dispatched();
  // While it is being executed it is not silent.
  await new Promise((resolve) => setTimeout(resolve, 40));
  hands[0].finish(scheduler);
  add('b1');
  await until(() => hands[0].seen.length === 2, 'its slot goes to the one that waits');
  assert.throws(() => add('a2'), /for sequence a to model 'm' must specify the START flag/);
});

test('sequences of an executor that is lost are over, others go on', async () => {
  const { scheduler, hands, add, dispatched } = schedule(1, 2);
  add('a1');
  add('b1');
  const lost = add('a2');
  await dispatched();
  scheduler.detach(hands[0]);
  assert.equal(lost.ended, true);
  assert.throws(() => add('a3'), /must specify the START flag/);
  add('b2');
  hands[1].finish(scheduler);
  assert.deepEqual(hands[1].seen, ['b1', 'b2']);
});

test('a sequence whose request is cancelled while it waits is over', async () => {
  const { scheduler, hands, add, dispatched } = schedule(1, 1);
  const abort = new AbortController();
  add('a1');
  const others = [add('a2', { signal: abort.signal }), add('a3')];
  add('b1');
  await dispatched();
  abort.abort();
  assert.deepEqual(
    others.map(({ ended, failed }) => [ended, failed]),
    [
      [true, true],
      [true, true],
    ],
  );
  assert.throws(() => add('a4'), /must specify the START flag/);
  hands[0].finish(scheduler);
  assert.deepEqual(hands[0].seen, ['a1', 'b1']);
});

test('a sequence that gets no slot within the timeout of its requests is refused', async () => {
  const { scheduler, hands, add, dispatched } = schedule(1, 1);
  // Nobody looked in time, but a slot is free: it has not waited for one.
  add('a1', { timeoutMs: 0 });
  const late = add('b1', { timeoutMs: 20 });
  const reason = late.responses.next().catch((error: Error) => error.message);
  await dispatched();
  await until(() => late.ended, 'it is refused');
  assert.throws(() => add('b2'), /must specify the START flag/);
  assert.equal(await reason, 'timeout of the corresponding sequence has been expired');
  // Once it has a slot, time does not matter.
  hands[0].finish(scheduler);
  add('a2', { timeoutMs: 1 });
  await dispatched();
  assert.deepEqual(hands[0].seen, ['a1', 'a2']);
});

test('direct and oldest: when batches go, and how many sequences there may be', () => {
  const options = (text: string) =>
    sequenceOptions(parseConfig(`name: "m" max_batch_size: 8 sequence_batching { ${text} }`, 'f'));
  const of = (text: string): unknown => {
    const { slots, batching } = options(text);
    return [slots, batching.preferred, batching.delay];
  };
  assert.deepEqual(of(''), [8, [8], 0]);
  // Without a least share of slots nothing is waited for.
  assert.deepEqual(of('direct { max_queue_delay_microseconds: 100 }'), [8, [8], 0]);
  assert.deepEqual(of('direct { max_queue_delay_microseconds: 100 minimum_slot_utilization: 0.7 }'), [
    8,
    [6, 7, 8],
    100_000,
  ]);
  assert.deepEqual(of('oldest { max_queue_delay_microseconds: 100 }'), [8, [8], 100_000]);
  assert.deepEqual(of('oldest { max_candidate_sequences: 30 preferred_batch_size: [ 2, 4 ] }'), [30, [2, 4], 0]);
});
