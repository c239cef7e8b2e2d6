import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EnsemblePlan, type Step } from '../src/ensemble/plan.ts';
import { EnsembleRun } from '../src/ensemble/run.ts';
import { Turns } from '../src/ensemble/turns.ts';
import { parseConfig } from '../src/repository/config.ts';
import { ModelStatistics } from '../src/statistics/statistics.ts';
import type { ModelRequest, ModelResponse, TritonModel } from '../src/triton/model.ts';
import { numbers, type Tensor } from '../src/triton/tensor.ts';
import { ensemble, step } from './repository-kit.ts';
import { until } from './serving.ts';

const TIMES = { computeInput: 1, computeInfer: 2, computeOutput: 3 };
type Run = (request: ModelRequest) => AsyncIterable<ModelResponse>;

/** A model with one input and one output of any length. */
function model(name: string, decoupled: boolean, run: Run): TritonModel {
  return {
    ...{ name, version: '1', platform: '', maxBatchSize: 0, decoupled },
    inputs: [{ name: 'IN', datatypes: ['INT32'], dims: [-1], optional: false }],
    outputs: [{ name: 'OUT', datatype: 'INT32', dims: [-1] }],
    config: () => ({}),
    ready: async () => true,
    hold: () => () => {},
    statistics: new ModelStatistics(),
    run,
  };
}

const tensor = (name: string, ...values: number[]): Tensor => numbers(name, 'INT32', values);
const answer = (...values: number[]): ModelResponse => ({ outputs: [tensor('OUT', ...values)] });
const request = (...values: number[]): ModelRequest => ({
  ...{ id: '', outputs: undefined, parameters: new Map(), timeoutMs: undefined, priority: 0, tenant: '' },
  inputs: new Map([['IN', tensor('IN', ...values)]]),
  sequence: undefined,
  signal: new AbortController().signal,
});

/** Ensembles of two steps, one behind the other. */
function chain(first: TritonModel, second: TritonModel, limit = 0) {
  const steps = step('first', { IN: 'IN' }, { OUT: 'x' }) + step('second', { IN: 'x' }, { OUT: 'OUT' });
  const policy = `model_transaction_policy { decoupled: ${first.decoupled || second.decoupled} }`;
  const plan = new EnsemblePlan(parseConfig(`name: "e" ${ensemble(steps, policy)}`, 'f'));
  const models = new Map<Step, TritonModel>(plan.steps.map((one) => [one, one.model === 'first' ? first : second]));
  const limits = new Map(limit > 0 ? plan.steps.map((one) => [one, new Turns(limit)]) : []);
  const statistics = new ModelStatistics();
  let over = 0;
  const start = (of: ModelRequest): EnsembleRun => {
    const run = new EnsembleRun(of, 1, { plan, statistics, models, limits, over: () => over++ });
    run.start();
    return run;
  };
  return { start, statistics, over: () => over };
}

const same: Run = async function* (of) {
  of.onTimes?.(TIMES);
  yield { outputs: [{ ...(of.inputs.get('IN') as Tensor), name: 'OUT' }] };
};

test('a decoupled step is not far ahead of a client that takes its time, and ends with it', async () => {
  let given = 0;
  let signal: AbortSignal | undefined;
  const endless: Run = async function* (of) {
    ({ signal } = of);
    for (;;) yield answer(given++);
  };
  const { start, statistics, over } = chain(model('first', true, endless), model('second', false, same));
  const { responses } = start(request(1));
  for (let i = 0; i < 5; i++) {
    const { value } = await responses.next();
    assert.equal(Buffer.from(value.outputs[0].data).readInt32LE(), i);
  }
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(given >= 37 && given < 50, `${given} responses for 5 that were taken`);
  for (let i = 0; i < 10; i++) await responses.next();
  await until(() => given >= 47, 'it goes on when there is room');
  await responses.return();
  assert.equal(signal?.aborted, true);
  await until(() => over() === 1, 'no step runs any more');
  const last = given;
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(given, last);
  assert.deepEqual([statistics.fail.count, statistics.failures.CANCELED, statistics.success.count], [1, 1, 0]);
});

test('a step works on so many requests at a time, those of all clients together', async () => {
  let now = 0;
  let most = 0;
  const slow: Run = async function* (of) {
    most = Math.max(most, ++now);
    await new Promise((resolve) => setTimeout(resolve, 5));
    now--;
    yield* same(of);
  };
  const counting: Run = async function* () {
    for (let i = 0; i < 6; i++) yield answer(i);
  };
  const limited = chain(model('first', true, counting), model('second', false, slow), 2);
  const read = async ({ responses }: EnsembleRun): Promise<number> => {
    let count = 0;
    for await (const _ of responses) count++;
    return count;
  };
  assert.deepEqual(await Promise.all([1, 2, 3].map((value) => read(limited.start(request(value))))), [6, 6, 6]);
  assert.equal(most, 2);
  most = 0;
  const free = chain(model('first', true, counting), model('second', false, slow));
  await Promise.all([1, 2, 3].map((value) => read(free.start(request(value)))));
  assert.ok(most > 2);
});

test('times add up; a step that does not answer, and one that says no, end the request', async () => {
  const { start, statistics } = chain(model('first', false, same), model('second', false, same));
  const { responses } = start(request(7));
  const first = await responses.next();
  assert.deepEqual(first.value.parameters.get('sequence_id'), 0n);
  assert.equal((await responses.next()).done, true);
  assert.deepEqual(
    [statistics.computeInput, statistics.computeInfer, statistics.computeOutput, statistics.queue],
    [
      { count: 1, ns: 2 },
      { count: 1, ns: 4 },
      { count: 1, ns: 6 },
      { count: 1, ns: 0 },
    ],
  );
  const silent = chain(
    model('first', false, async function* () {}),
    model('second', false, same),
  );
  await assert.rejects(silent.start(request(1)).responses.next(), {
    status: 400,
    message:
      "in ensemble 'e', [request id: <id_unknown>] unexpected deadlock, at least one output is not set while no more ensemble steps can be made",
  });
  assert.equal(silent.statistics.fail.count, 1);
});

test('sequences go from step to step, and a response may send what follows to another one', async () => {
  const seen: unknown[] = [];
  const remember = (parameters?: ModelResponse['parameters']): Run =>
    async function* (of) {
      seen.push(of.sequence);
      for await (const response of same(of)) yield { ...response, ...(parameters && { parameters }) };
    };
  const sequence = { id: 'a', start: true, end: false };
  const kept = chain(model('first', false, remember()), model('second', false, remember()));
  const { value } = await kept.start({ ...request(1), sequence }).responses.next();
  assert.deepEqual(seen, [sequence, sequence]);
  assert.deepEqual(
    [...value.parameters],
    [
      ['sequence_id', 'a'],
      ['sequence_start', true],
      ['sequence_end', false],
    ],
  );
  seen.length = 0;
  const other = new Map<string, string | number | boolean>([
    ['sequence_id', 9],
    ['sequence_end', true],
  ]);
  const sent = chain(model('first', false, remember(other)), model('second', false, remember()));
  await sent.start({ ...request(1), sequence }).responses.next();
  assert.deepEqual(seen, [sequence, { id: 9n, start: false, end: true }]);
  const wrong = chain(
    model('first', false, remember(new Map([['sequence_start', 'yes']]))),
    model('second', false, same),
  );
  await assert.rejects(wrong.start(request(1)).responses.next(), /expect parameter 'sequence_start' to be/);
});
