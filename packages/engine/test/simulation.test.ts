import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GREEDY, type EngineRequest } from '../src/engine/request.ts';
import { uniform } from '../src/sampling/philox.ts';
import {
  Collector,
  FakeModel,
  fakeEngine,
  generateRequest,
  poisonedBy,
  type FakeOptions,
  type FakeWork,
} from './fake-model.ts';

/**
 * Random traces on a device whose answers depend on everything a real one would look at. Whatever the traffic, every
 * request ends once, an answer is the one the request gets alone, and after each step every page and slot is accounted
 * for.
 */
const TRACES = 1000;
const CONTEXT = 160;

interface Random {
  /** A number in [0, 1). */
  readonly u: () => number;
  /** A whole number from 1 to `most`. */
  readonly whole: (most: number) => number;
}

function random(seed: number): Random {
  let drawn = 0;
  const u = (): number => uniform(seed, drawn++);
  return { u, whole: (most) => 1 + Math.floor(u() * most) };
}

/** A device of any size that can hold one sequence of full length. */
function deviceOptions({ u, whole }: Random): FakeOptions {
  const pages = 10 + whole(25);
  const sequences = whole(5);
  return {
    rows: sequences + whole(40),
    sequences,
    pages,
    draws: 'context',
    elsewhere: u() < 0.5,
    ...(u() < 0.5 && { answersApart: true }),
    ...(u() < 0.4 && { sliding: { window: 8 + whole(40), pages: 6 + whole(20) } }),
    ...(u() < 0.3 && { slots: sequences + whole(6) }),
  };
}

/** Prompts that often share their beginnings, sometimes to the last token. */
function promptsOf({ u, whole }: Random, count: number): number[][] {
  const stems = Array.from({ length: 3 }, () => Array.from({ length: whole(90) }, () => whole(99)));
  return Array.from({ length: count }, () => {
    const stem = stems[whole(3) - 1];
    const own = Array.from({ length: u() < 0.2 ? 0 : whole(30) }, () => whole(99));
    return [...stem.slice(0, u() < 0.5 ? stem.length : whole(stem.length)), ...own];
  });
}

/** What the device answers to a request that has it for itself, chunk by chunk of `rows`. */
async function alone(options: FakeOptions, request: EngineRequest): Promise<{ tokens: number[]; prompt: number[] }> {
  const model = new FakeModel({ ...options, elsewhere: false });
  const engine = fakeEngine(CONTEXT, model);
  engine.submit({ ...request, deadline: undefined, siblingOf: undefined }, 0);
  const sink = new Collector();
  while (engine.hasWork) await engine.step(0, sink);
  assert.equal(sink.endOf(request.id).kind, 'finished');
  return { tokens: sink.tokensOf(request.id), prompt: sink.promptOf(request.id) };
}

/** What happened in a trace: ends of requests by kind, and what the engine did on the way. */
type Seen = Record<string, number>;

async function runTrace(seed: number): Promise<Seen> {
  const r = random(seed);
  // In half of the traces steps take time, so that prompts are cut to what leaves running answers on time.
  let time = 0;
  const paced = r.u() < 0.5;
  const onStep = ({ rows, reads }: FakeWork): void => void (time += paced ? 1 + 0.1 * rows + 0.001 * reads : 0);
  const options = { ...deviceOptions(r), onStep };
  const model = new FakeModel(options);
  const engine = fakeEngine(CONTEXT, model, {
    clock: () => time,
    loop: options.elsewhere === true ? 'overlapped' : 'plain',
    entries: 4 + r.whole(20),
    timeoutMs: r.u() < 0.2 ? 40 : undefined,
  });
  // In some traces no step goes well that draws for this seed from this position on: its requests fail, nobody else's.
  const poison = r.u() < 0.2 ? ([r.whole(12), r.whole(100)] as const) : undefined;
  if (poison !== undefined) model.failsOn = poisonedBy(poison);
  // In others one step fails by chance, which nobody is to suffer from.
  const chance = poison === undefined && r.u() < 0.3 ? r.whole(12) : undefined;
  const sink = new Collector();
  const requests: EngineRequest[] = [];
  let now = 0;
  const step = async (): Promise<void> => {
    await engine.step(now++, sink);
    engine.scheduler.check();
  };
  const count = 12;
  const prompts = promptsOf(r, count);
  for (let id = 1; id <= count; id++) {
    const twin = requests.at(-1);
    const sibling = twin !== undefined && r.u() < 0.3;
    const tokens = sibling && twin.command.kind === 'generate' ? [...twin.command.tokens] : prompts[id - 1];
    const request = generateRequest(
      id,
      tokens,
      {
        maxTokens: r.u() < 0.1 ? 0 : r.whole(50),
        promptLogprobs: r.u() < 0.15 ? 0 : -1,
        sampling: { ...GREEDY, seed: id, ...(r.u() < 0.2 && { presencePenalty: 1 }) },
        stopTokens: r.u() < 0.3 ? [r.whole(99)] : [],
        salt: r.u() < 0.1 ? 'other' : '',
      },
      {
        tenant: ['a', 'b', ''][r.whole(3) - 1],
        priority: r.whole(3),
        deadline: r.u() < 0.1 ? now + r.whole(60) : undefined,
        siblingOf: sibling ? twin.id : undefined,
      },
    );
    requests.push(request);
    engine.submit(request, now);
    for (let left = Math.floor(r.u() * 5); left > 0; left--) await step();
    if (r.u() < 0.15) engine.cancel(r.whole(id));
    if (id === chance) model.failNext = new Error('the device failed');
  }
  for (let steps = 0; engine.hasWork; steps++) {
    assert.ok(steps < 20_000, `trace ${seed} does not come to an end`);
    await step();
  }
  const { preemptions, turns, cachedTokens } = engine.state;
  const seen: Seen = { finished: 0, preemptions, turns, cachedTokens, copies: model.copies };
  for (const request of requests) {
    const end = sink.endOf(request.id);
    const how = end.kind === 'failed' ? end.error.code : end.kind;
    seen[how] = (seen[how] ?? 0) + 1;
    const tokens = sink.tokensOf(request.id);
    const prompt = sink.promptOf(request.id);
    const right = await alone(options, request);
    const cut = end.kind !== 'finished';
    const where = `trace ${seed}, request ${request.id}`;
    const drawn = request.command.tokens.length + tokens.length;
    const poisonedAt = poison?.[0] === request.id ? poison[1] : Infinity;
    if (how === 'internal') assert.ok(drawn >= poisonedAt, `${where} failed with the device, but it was not to blame`);
    if (tokens.length > 0) assert.ok(drawn <= poisonedAt, `${where} drew on though the device failed with it`);
    assert.deepEqual(tokens, cut ? right.tokens.slice(0, tokens.length) : right.tokens, where);
    assert.deepEqual(prompt, cut ? right.prompt.slice(0, prompt.length) : right.prompt, where);
  }
  return seen;
}

test(`${TRACES} random traces: every request ends, with the answer it gets alone, and nothing is lost`, async () => {
  const total: Seen = {};
  for (let seed = 0; seed < TRACES; seed++) {
    try {
      for (const [what, count] of Object.entries(await runTrace(seed))) total[what] = (total[what] ?? 0) + count;
    } catch (error) {
      throw new Error(`trace ${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
  // The traces would prove little if these did not happen in them.
  const often = { finished: 5, preemptions: 0.1, turns: 0.1, cachedTokens: 10, copies: 1 };
  const ends = { cancelled: 0.2, deadline: 0.1, unavailable: 0.05, overloaded: 0.1, internal: 0.02 };
  for (const [what, each] of Object.entries({ ...often, ...ends })) {
    assert.ok(total[what] > each * TRACES, `${what}: ${total[what]} in all traces`);
  }
});
