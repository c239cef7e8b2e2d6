import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Collector, drain, FakeModel, fakeEngine, generateRequest, type FakeOptions } from './fake-model.ts';

/**
 * Devices that compute rows of answers by other kernels than rows of prompts: what a token's row is must follow from its
 * request alone. The random traces of simulation.test.ts have such devices too; here a chat goes on.
 */
const OPTIONS: FakeOptions = { rows: 64, sequences: 4, pages: 64, draws: 'context' };
const CONTEXT = 400;
const PROMPT = Array.from({ length: 37 }, (_, i) => (7 * i) % 90);

async function answerTo(prompt: readonly number[], before: readonly (readonly number[])[], apart: boolean) {
  const engine = fakeEngine(CONTEXT, new FakeModel({ ...OPTIONS, answersApart: apart }));
  const sink = new Collector();
  let id = 0;
  for (const tokens of [...before, prompt]) {
    engine.submit(generateRequest(++id, tokens, { maxTokens: 60 }), 0);
    await drain(engine, sink);
  }
  const begun = sink.events.findLast((event) => event.kind === 'begun');
  return { tokens: sink.tokensOf(id), cached: begun?.kind === 'begun' ? begun.cachedTokens : -1 };
}

for (const apart of [false, true]) {
  test(`the next turn of a chat is what it is alone, ${apart ? 'and finds its prompt' : 'and finds prompt and answer'}`, async () => {
    const { tokens } = await answerTo(PROMPT, [], apart);
    const next = [...PROMPT, ...tokens, 5, 6, 7];
    const alone = await answerTo(next, [], apart);
    const after = await answerTo(next, [PROMPT], apart);
    assert.deepEqual(after.tokens, alone.tokens);
    assert.equal(alone.cached, 0);
    assert.equal(after.cached, apart ? 32 : 96);
    // As a prompt the answer has been computed now, and serves the turn after.
    const third = await answerTo([...next, 8], [PROMPT, next], apart);
    assert.equal(third.cached, 96);
    assert.deepEqual(third.tokens, (await answerTo([...next, 8], [], apart)).tokens);
  });
}
