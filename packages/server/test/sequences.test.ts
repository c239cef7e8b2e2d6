import assert from 'node:assert/strict';
import { test } from 'node:test';
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
  readonly add: (name: string) => Job;
  readonly dispatched: () => Promise<void>;
}

function schedule(slots: number, executors: number, idleMs = 60_000): Scheduled {
  const batching = { maxBatchSize: slots, preferred: [slots], delay: 0, ragged: new Set<string>() };
  const scheduler = new SequenceScheduler({ model: 'm', slots, idle: idleMs * 1e6, batching });
  const hands = Array.from({ length: executors }, () => new Hand());
  for (const hand of hands) scheduler.attach(hand);
  const add = (name: string): Job => {
    const sequence = { id: name[0], start: name[1] === '1', end: name.endsWith('!') };
    const request = { id: name, inputs: new Map(), sequence, signal: new AbortController().signal };
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
