import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { RateLimiter, type Claim, type Permit } from '../src/scheduling/rate-limiter.ts';
import type { RepositoryOptions } from '@rose/server';
import { config, makeRepository, numbers } from './repository-kit.ts';
import { serve, until } from './serving.ts';

const claim = (count: number, priority = 0, name = 'R'): Claim => ({
  priority,
  resources: count === 0 ? [] : [{ name, count, global: false }],
});
/** Those that were told to go have gone. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

test('resources are held while a batch is executed, and there are as many as the largest claim', async () => {
  const limiter = new RateLimiter();
  const [large, small, free] = [limiter.register(claim(4)), limiter.register(claim(2)), limiter.register(claim(0))];
  const told: string[] = [];
  assert.equal(
    large.take(() => told.push('large')),
    true,
  );
  assert.equal(
    small.take(() => told.push('small')),
    false,
  );
  // Behind the one whose turn it is, even without a claim of its own.
  assert.equal(
    free.take(() => told.push('free')),
    false,
  );
  large.end(true);
  await turn();
  assert.deepEqual(told, ['small', 'free']);
  // An instance that leaves takes its claim with it: then 2 is all there is.
  small.end(true);
  limiter.forget(large);
  const other = limiter.register(claim(1));
  assert.equal(
    other.take(() => {}),
    true,
  );
  assert.equal(
    small.take(() => told.push('again')),
    false,
  );
  other.end(false);
  await turn();
  assert.deepEqual(told, ['small', 'free', 'again']);
});

test('turns go by executions, weighed by priority', async () => {
  const limiter = new RateLimiter(new Map([['R', 1]]));
  const permits = {
    once: limiter.register(claim(1, 1)),
    half: limiter.register(claim(1, 2)),
    third: limiter.register(claim(1, 3)),
  };
  const order: string[] = [];
  const ask = (name: string, permit: Permit): void => {
    const go = (): void => {
      order.push(name);
      setImmediate(() => {
        permit.end(true);
        if (order.length < 66) ask(name, permit);
      });
    };
    if (permit.take(go)) go();
  };
  for (const [name, permit] of Object.entries(permits)) ask(name, permit);
  while (order.length < 66) await turn();
  const count = (name: string): number => order.filter((one) => one === name).length;
  assert.deepEqual([count('once'), count('half'), count('third')], [36, 18, 12]);
});

test('a claim that can never be met is refused', () => {
  const limiter = new RateLimiter(new Map([['R', 3]]));
  assert.throws(() => limiter.register(claim(4)), {
    message:
      'Resource count for "R" is limited to 3 which will prevent scheduling of one or more model instances, the minimum required count is 4',
  });
  assert.throws(() => limiter.register(claim(1, 0, 'S')), /"S" is limited to 0/);
  limiter.register(claim(3));
  assert.throws(
    () => limiter.register({ priority: 0, resources: [{ name: 'R', count: 1, global: true }] }),
    /Resource "R" is present as both global and device-specific resource/,
  );
  limiter.register(claim(3));
});

/** Says when it begins, and answers when told to. */
const HELD = `import { BroadcastChannel } from 'node:worker_threads';
const channel = new BroadcastChannel('limited rates');
const held = [];
channel.onmessage = ({ data }) => { if (data === 'go') held.shift()?.(); };
channel.unref();
export default class {
  #name;
  initialize({ name }) { this.#name = name; }
  async execute(requests) {
    channel.postMessage(this.#name);
    await new Promise((go) => held.push(go));
    return requests.map((request) => ({ outputs: { OUT: request.input('IN') } }));
  }
}`;

async function limited(t: TestContext, groups: Record<string, string>, rateLimit: RepositoryOptions['rateLimit']) {
  const files = Object.entries(groups).flatMap(([name, group]) => [
    [`${name}/config.pbtxt`, config('TYPE_INT32', `instance_group { ${group} }`)],
    [`${name}/1/model.ts`, HELD],
  ]);
  const directory = makeRepository(t, Object.fromEntries(files) as Record<string, string>);
  const serving = await serve(t, { repository: { directories: [directory], ...(rateLimit && { rateLimit }) } });
  const channel = new BroadcastChannel('limited rates');
  t.after(() => channel.close());
  const begun: string[] = [];
  channel.addEventListener('message', ({ data }) => void (data === 'go' || begun.push(data)));
  const ask = async (name: string, init: RequestInit = {}): Promise<number> =>
    (await serving.post(`/v2/models/${name}/infer`, numbers(1), init)).status;
  const pending = async (name: string): Promise<number> => {
    const text = await (await serving.get('/metrics')).text();
    return Number(new RegExp(`pending_request_count\\{model="${name}",version="1"\\} (\\d+)`).exec(text)?.[1]);
  };
  return { begun, ask, go: () => channel.postMessage('go'), pending };
}

const ONE = 'rate_limiter { resources { name: "R" count: 1 } }';

test('models that want the same resource take turns; without the option they do not', async (t) => {
  const { begun, ask, go, pending } = await limited(t, { a: ONE, b: ONE }, {});
  const answers = [ask('a'), ask('b')];
  await until(() => begun.length === 1, 'one begins');
  const second = begun[0] === 'a' ? 'b' : 'a';
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(begun.length, 1);
  assert.equal(await pending(second), 1);
  go();
  await until(() => begun.length === 2, 'the other begins when the first has ended');
  go();
  assert.deepEqual(await Promise.all(answers), [200, 200]);
  // Who waits and goes away leaves the turn to others.
  const first = ask('a');
  await until(() => begun.length === 3, 'it begins');
  const abort = new AbortController();
  const gone = ask('b', { signal: abort.signal }).catch(() => 0);
  while ((await pending('b')) !== 1) await new Promise((resolve) => setTimeout(resolve, 5));
  abort.abort();
  while ((await pending('b')) !== 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const third = ask('a');
  go();
  await until(() => begun.length === 4, 'the next one of the same model begins');
  go();
  assert.deepEqual(await Promise.all([first, gone, third]), [200, 0, 200]);

  const free = await limited(t, { c: ONE, d: ONE }, undefined);
  const both = [free.ask('c'), free.ask('d')];
  await until(() => free.begun.length === 2, 'both begin');
  free.go();
  assert.deepEqual(await Promise.all(both), [200, 200]);
});

test('instances of one model share what there is, and a claim beyond it fails the load', async (t) => {
  const two = await limited(t, { a: `count: 3 ${ONE}` }, { resources: new Map([['R', 2]]) });
  const answers = [two.ask('a'), two.ask('a'), two.ask('a')];
  await until(() => two.begun.length === 2, 'two begin');
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(two.begun.length, 2);
  two.go();
  await until(() => two.begun.length === 3, 'the third begins');
  two.go();
  two.go();
  assert.deepEqual(await Promise.all(answers), [200, 200, 200]);
  await assert.rejects(limited(t, { b: ONE.replace('count: 1', 'count: 3') }, { resources: new Map([['R', 2]]) }), {
    message: /load failed for model 'b': .*Resource count for "R" is limited to 2 which will prevent scheduling/,
  });
});

test('sequences wait for resources too', async (t) => {
  const files = {
    'a/config.pbtxt': config('TYPE_INT32', `sequence_batching { } instance_group { ${ONE} }`),
    'a/1/model.ts': HELD,
    'b/config.pbtxt': config('TYPE_INT32', `instance_group { ${ONE} }`),
    'b/1/model.ts': HELD,
  };
  const directory = makeRepository(t, files);
  const { post } = await serve(t, { repository: { directories: [directory], rateLimit: {} } });
  const channel = new BroadcastChannel('limited rates');
  t.after(() => channel.close());
  const begun: string[] = [];
  channel.addEventListener('message', ({ data }) => void (data === 'go' || begun.push(data)));
  const b = post('/v2/models/b/infer', numbers(1));
  await until(() => begun.length === 1, 'b begins');
  const parameters = { sequence_id: 5, sequence_start: true, sequence_end: true };
  const a = post('/v2/models/a/infer', { ...numbers(1), parameters });
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(begun, ['b']);
  channel.postMessage('go');
  await until(() => begun.length === 2, 'a begins');
  channel.postMessage('go');
  assert.deepEqual([(await a).status, (await b).status], [200, 200]);
});
