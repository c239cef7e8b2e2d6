import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, describe, test } from 'node:test';
import { startProcess, startWorker, type EngineLink } from '../src/engine/link.ts';
import { RoseError } from '../src/errors.ts';
import type { GenerateEvent, GenerateRequest, ModelHub, ServedModel } from '../src/serve/api.ts';
import { openModels } from '../src/serve/hub.ts';
import { bundled } from './on-cpu.ts';

interface ChatCase {
  readonly text?: string;
  readonly messages?: { role: string; content: string }[];
  readonly input_ids: number[];
  readonly greedy_ids: number[];
  readonly greedy_text: string;
}

const golden = JSON.parse(readFileSync(join(bundled('tiny-chat'), 'golden.json'), 'utf8')) as { cases: ChatCase[] };
const names = ['tiny-chat', 'tiny-embed', 'tiny-rerank'];

interface Collected {
  readonly text: string[];
  readonly tokens: number[][];
  readonly ends: Extract<GenerateEvent, { kind: 'end' }>[];
  readonly promptTokens: number;
}

async function collect(model: ServedModel, request: GenerateRequest): Promise<Collected> {
  const n = request.n ?? 1;
  const text = Array.from({ length: n }, () => '');
  const tokens = Array.from({ length: n }, (): number[] => []);
  const ends: Collected['ends'] = [];
  let promptTokens = -1;
  for await (const event of model.generate(request)) {
    if (event.kind === 'start') promptTokens = event.promptTokens;
    if (event.kind === 'delta') {
      text[event.index] += event.text;
      tokens[event.index].push(...event.tokens.map(({ token }) => token));
    }
    if (event.kind === 'end') ends[event.index] = event;
  }
  return { text, tokens, ends, promptTokens };
}

function failsWith(code: string, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof RoseError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  };
}

const links: readonly [string, () => EngineLink][] = [
  ['a worker thread', startWorker],
  ['a child process', startProcess],
];

for (const [where, start] of links) {
  describe(`an engine in ${where}`, async () => {
    const models = names.map((name) => ({ name, directory: bundled(name) }));
    const hub: ModelHub = await openModels({ models, threads: 1 }, start);
    after(() => hub.close());
    const chat = hub.get('tiny-chat');
    const greedy = { sampling: { temperature: 0 } };

    test('says what it serves', async () => {
      assert.deepEqual(
        hub.models.map(({ name, task }) => [name, task]),
        [
          ['tiny-chat', 'generate'],
          ['tiny-embed', 'embed'],
          ['tiny-rerank', 'score'],
        ],
      );
      assert.match(hub.stats.device, /cpu/i);
      assert.equal(await hub.ready(), true);
      assert.equal(await chat.ready(), true);
      assert.throws(() => hub.get('gpt-9'), failsWith('not_found', /no model 'gpt-9'.*'tiny-chat'/));
    });

    test('continues every reference prompt as the reference does, all at once', async () => {
      const answers = await Promise.all(
        golden.cases.map(({ text, messages, greedy_ids: ids }) =>
          collect(chat, {
            ...greedy,
            prompt: messages ? { kind: 'messages', messages } : { kind: 'text', text: text! },
            maxTokens: ids.length,
            ignoreEos: true,
            keepSpecial: true,
          }),
        ),
      );
      answers.forEach((answer, i) => {
        const expected = golden.cases[i];
        assert.equal(answer.promptTokens, expected.input_ids.length);
        assert.deepEqual(answer.tokens[0], expected.greedy_ids);
        assert.equal(answer.text[0], expected.greedy_text);
        assert.equal(answer.ends[0].reason, 'length');
      });
    });

    test('ends an answer at the checkpoint’s end token', async () => {
      const prompt = { kind: 'messages', messages: [{ role: 'user', content: 'What is quantum computing?' }] } as const;
      const { text, ends } = await collect(chat, { ...greedy, prompt });
      assert.equal(ends[0].reason, 'stop');
      assert.equal(ends[0].stop, undefined);
      assert.ok(text[0].length > 10 && !text[0].includes('<|im_end|>'));
    });

    test('draws the same answer for the same seed, alone or among others', async () => {
      const request = (seed: number): GenerateRequest => ({
        prompt: { kind: 'text', text: 'Once upon a time' },
        maxTokens: 40,
        sampling: { temperature: 1, topK: 0, topP: 1, seed },
      });
      const alone = await collect(chat, request(7));
      const crowd = await Promise.all([1, 2, 7, 3].map((seed) => collect(chat, request(seed))));
      assert.deepEqual(crowd[2].tokens, alone.tokens);
      assert.notDeepEqual(crowd[0].tokens, alone.tokens);
      // The i-th of n answers is the one that seed + i gives.
      const several = await collect(chat, { ...request(6), n: 2 });
      assert.deepEqual(several.tokens[1], alone.tokens[0]);
    });

    test('finds a prompt computed before, for the same tenant and salt alone', async () => {
      const text = 'A bear, a fox and a very long list of other animals went to the river and wanted to cross it.';
      const ask = async (more: Partial<GenerateRequest>): Promise<{ cached: number; prompt: number; text: string }> => {
        const request = { ...greedy, prompt: { kind: 'text', text }, maxTokens: 12, ignoreEos: true, ...more } as const;
        let [cached, prompt, answer] = [-1, -1, ''];
        for await (const event of chat.generate(request)) {
          if (event.kind === 'start') [cached, prompt] = [event.cachedTokens, event.promptTokens];
          if (event.kind === 'delta') answer += event.text;
        }
        return { cached, prompt, text: answer };
      };
      const first = await ask({ tenant: 'one' });
      assert.equal(first.cached, 0);
      const again = await ask({ tenant: 'one' });
      assert.equal(again.cached, Math.floor((first.prompt - 1) / 16) * 16);
      assert.ok(again.cached > 0 && again.text === first.text);
      const others = await Promise.all([ask({ tenant: 'two' }), ask({ tenant: 'one', cacheSalt: 'x' })]);
      for (const { cached, text: answer } of others) assert.deepEqual([cached, answer], [0, first.text]);
      assert.ok(chat.counters.cachedTokens >= again.cached && chat.counters.pages > 0);
    });

    test('stops before a stop string and says which', async () => {
      const { greedy_text: full, text } = golden.cases[0];
      const stop = full.slice(30, 36);
      const prompt = { kind: 'text', text: text! } as const;
      const answer = await collect(chat, { ...greedy, prompt, stop: [stop, 'never found'], ignoreEos: true });
      assert.equal(answer.text[0], full.slice(0, full.indexOf(stop)));
      assert.equal(answer.ends[0].reason, 'stop');
      assert.equal(answer.ends[0].stop, stop);
      const including = await collect(chat, { ...greedy, prompt, stop: [stop], includeStop: true, ignoreEos: true });
      assert.equal(including.text[0], full.slice(0, full.indexOf(stop) + stop.length));
    });

    test('applies bias and penalties', async () => {
      const prompt = { kind: 'text', text: 'Once upon a time' } as const;
      const first = golden.cases[0].greedy_ids[0];
      const banned = await collect(chat, {
        prompt,
        maxTokens: 8,
        sampling: { temperature: 0, logitBias: [[first, -100]] },
      });
      assert.ok(!banned.tokens[0].includes(first));
      const wanted = await collect(chat, {
        prompt,
        maxTokens: 3,
        sampling: { temperature: 0, logitBias: [[77, 100]] },
      });
      assert.deepEqual(wanted.tokens[0], [77, 77, 77]);
      // With the largest frequency penalty the token loses its bias of 100 after 50 occurrences.
      const tired = await collect(chat, {
        prompt,
        maxTokens: 60,
        sampling: { temperature: 0, logitBias: [[77, 100]], frequencyPenalty: 2 },
      });
      const run = tired.tokens[0].findIndex((token) => token !== 77);
      assert.ok(run > 30 && run < 60, `a run of ${run}`);
      const minimum = await collect(chat, {
        prompt,
        minTokens: 5,
        stopTokens: [first],
        maxTokens: 8,
        sampling: { temperature: 0 },
      });
      assert.ok(minimum.ends[0].generatedTokens >= 5 && !minimum.tokens[0].slice(0, 5).includes(first));
    });

    test('reports log-probabilities of the model’s own distribution', async () => {
      const request: GenerateRequest = {
        prompt: { kind: 'text', text: 'Once upon a time' },
        maxTokens: 4,
        logprobs: 5,
        sampling: { temperature: 0 },
      };
      const plain: GenerateEvent[] = [];
      for await (const event of chat.generate(request)) plain.push(event);
      const tokens = plain.flatMap((event) => (event.kind === 'delta' ? event.tokens : []));
      assert.equal(tokens.length, 4);
      for (const { token, logprob, top } of tokens) {
        assert.equal(top!.length, 5);
        assert.equal(top![0].token, token);
        assert.equal(top![0].logprob, logprob);
        assert.ok(logprob! <= 0);
        const mass = top!.reduce((sum, entry) => sum + Math.exp(entry.logprob), 0);
        assert.ok(mass > 0.1 && mass <= 1.000001);
        for (let i = 1; i < 5; i++) assert.ok(top![i].logprob <= top![i - 1].logprob);
      }
      // A bias changes what is drawn, not what is reported.
      const [chosen] = tokens;
      const other = chosen.top![3];
      const biased: GenerateEvent[] = [];
      const sampling = { temperature: 0, logitBias: [[other.token, 100]] as const };
      for await (const event of chat.generate({ ...request, maxTokens: 1, sampling })) biased.push(event);
      const [drawn] = biased.flatMap((event) => (event.kind === 'delta' ? event.tokens : []));
      assert.equal(drawn.token, other.token);
      assert.equal(drawn.logprob, other.logprob);
      assert.deepEqual(drawn.top, chosen.top);
    });

    test('leaves bad words out, at the beginning and behind a space', async () => {
      const prompt = { kind: 'text', text: 'Once upon a time' } as const;
      const free = await collect(chat, { prompt, maxTokens: 24, ...greedy });
      const word = 'girl';
      assert.match(free.text[0], / girl/);
      const bound = await collect(chat, { prompt, maxTokens: 24, badWords: [word, 'xylophone'], ...greedy });
      assert.doesNotMatch(bound.text[0], /girl/);
      assert.equal(bound.text[0].slice(0, 10), free.text[0].slice(0, 10));
    });

    test('tells what the model makes of a prompt, once for all answers', async () => {
      const prompt = { kind: 'text', text: 'Once upon a time' } as const;
      for await (const event of chat.generate({ prompt, maxTokens: 0, promptLogprobs: 2, n: 2 })) {
        if (event.kind !== 'start') {
          assert.deepEqual([event.kind, event.kind === 'end' && event.generatedTokens], ['end', 0]);
          continue;
        }
        const { prompt: tokens, judged } = event;
        assert.deepEqual(
          judged!.map(({ token }) => token),
          [...tokens.subarray(1)],
        );
        for (const { token, logprob, rank, top } of judged!) {
          assert.equal(top.length, 2);
          assert.ok(top[0].logprob >= top[1].logprob && top[0].logprob >= logprob);
          if (rank <= 2) assert.deepEqual(top[rank - 1], { token, logprob });
          else assert.ok(logprob <= top[1].logprob);
        }
      }
    });

    test('keeps the text of a stop token where that is asked for', async () => {
      const prompt = { kind: 'text', text: 'Once upon a time' } as const;
      const free = await collect(chat, { prompt, maxTokens: 4, ...greedy });
      const stopTokens = [free.tokens[0][3]];
      const cut = await collect(chat, { prompt, maxTokens: 9, stopTokens, ...greedy });
      const kept = await collect(chat, { prompt, maxTokens: 9, stopTokens, includeStop: true, ...greedy });
      assert.ok(free.text[0].startsWith(cut.text[0]) && cut.text[0].length < free.text[0].length);
      assert.equal(kept.text[0], free.text[0]);
      assert.equal(kept.ends[0].stop, stopTokens[0]);
    });

    test('forgets a request whose client went away', async () => {
      const abort = new AbortController();
      const request: GenerateRequest = {
        prompt: { kind: 'text', text: 'Once' },
        ignoreEos: true,
        signal: abort.signal,
      };
      let seen = 0;
      await assert.rejects(
        async () => {
          for await (const event of chat.generate(request)) if (event.kind === 'delta' && ++seen === 3) abort.abort();
        },
        failsWith('cancelled', /cancelled/),
      );
      // A reader that just stops reading counts as gone too.
      for await (const event of chat.generate({ ...request, signal: new AbortController().signal })) {
        if (event.kind === 'delta') break;
      }
      const limit = Date.now() + 60_000;
      while (chat.counters.running > 0 && Date.now() < limit) {
        await collect(chat, { prompt: { kind: 'text', text: 'a' }, maxTokens: 1 });
        await sleep(5);
      }
      assert.equal(chat.counters.running, 0);
      assert.equal(chat.counters.cancelled, 2);
      const before = chat.generate({ ...request, signal: AbortSignal.abort() });
      await assert.rejects(
        async () => {
          for await (const _ of before);
        },
        failsWith('cancelled', /cancelled/),
      );
    });

    test('a request that is cancelled before it starts fails once, even if its prompt is wrong too', async () => {
      const wrong = { kind: 'messages', messages: [{ role: 'user', content: 'x'.repeat(20_000) }] } as const;
      const request = { prompt: wrong, signal: AbortSignal.abort() };
      await assert.rejects(() => collect(chat, request), failsWith('cancelled', /cancelled/));
      const controller = new AbortController();
      const late = collect(chat, { prompt: wrong, signal: controller.signal });
      controller.abort();
      await assert.rejects(() => late, failsWith('cancelled', /cancelled/));
      // An unhandled rejection of the text work would fail this file.
      await sleep(50);
    });

    test('a reader that stands still keeps nothing running once its request is cancelled', async () => {
      const controller = new AbortController();
      const prompt = { kind: 'text', text: 'Once' } as const;
      const events = chat.generate({ prompt, ignoreEos: true, signal: controller.signal })[Symbol.asyncIterator]();
      assert.equal((await events.next()).value.kind, 'start');
      controller.abort();
      const limit = Date.now() + 60_000;
      while (chat.counters.running > 0 && Date.now() < limit) await sleep(5);
      assert.equal(chat.counters.running, 0);
      // What was read before may still come out.
      await assert.rejects(
        async () => {
          while ((await events.next()).done !== true);
        },
        failsWith('cancelled', /cancelled/),
      );
    });

    test('refuses what it cannot serve, naming the field', async () => {
      const prompt = { kind: 'text', text: 'x' } as const;
      const bad: [GenerateRequest, RegExp][] = [
        [{ prompt, maxTokens: -1 }, /max_tokens is -1/],
        [{ prompt, promptLogprobs: 21 }, /prompt_logprobs is 21/],
        [{ prompt, sampling: { allowedTokens: [] } }, /allowed_token_ids is empty/],
        [{ prompt, sampling: { allowedTokens: [6144] } }, /allowed_token_ids is 6144/],
        [{ prompt, badWords: [' '] }, /bad_words has a text without a word/],
        [{ prompt, sampling: { temperature: -1 } }, /temperature is -1/],
        [{ prompt, sampling: { temperature: Number.NaN } }, /temperature is NaN/],
        [{ prompt, sampling: { topP: 0 } }, /top_p is 0/],
        [{ prompt, sampling: { repetitionPenalty: 1e-50 } }, /repetition_penalty is 1e-50/],
        [{ prompt, sampling: { logitBias: [[99999, 1]] } }, /logit_bias is 99999/],
        [{ prompt, logprobs: 21 }, /logprobs is 21/],
        [{ prompt: { kind: 'tokens', tokens: [] } }, /no tokens/],
        [{ prompt: { kind: 'text', text: 'word '.repeat(1e6) } }, /5000000 characters: they do not fit the context/],
        [{ prompt: { kind: 'tokens', tokens: [6144] } }, /token 6144 at index 0/],
        [{ prompt: { kind: 'tokens', tokens: new Array<number>(2048).fill(5) } }, /2048 tokens, but at most 2047/],
      ];
      for (const [request, message] of bad) {
        await assert.rejects(() => collect(chat, request), failsWith('invalid', message));
      }
      // Every token ends the answer, and none may before the third.
      const stopTokens = Array.from({ length: 6144 }, (_, token) => token);
      const none: GenerateRequest = { prompt, minTokens: 3, maxTokens: 5, stopTokens };
      await assert.rejects(() => collect(chat, none), failsWith('invalid', /no token may follow: min_tokens/));
      await assert.rejects(() => collect(hub.get('tiny-embed'), { prompt }), failsWith('unsupported', /embeddings/));
      await assert.rejects(() => chat.embed({ inputs: ['x'] }), failsWith('unsupported', /generates text/));
    });

    test('fails a request at its deadline', async () => {
      const request: GenerateRequest = { prompt: { kind: 'text', text: 'Once' }, ignoreEos: true, timeoutMs: 1 };
      await assert.rejects(() => collect(chat, request), failsWith('deadline', /deadline/));
    });

    test('embeds texts and ids, whole and shortened', async () => {
      const embed = hub.get('tiny-embed');
      const { cases } = JSON.parse(readFileSync(join(bundled('tiny-embed'), 'golden.json'), 'utf8')) as {
        cases: { text: string; input_ids: number[]; embedding: number[] }[];
      };
      const { embeddings, promptTokens } = await embed.embed({ inputs: cases.map(({ text }) => text) });
      assert.equal(
        promptTokens,
        cases.reduce((sum, { input_ids: ids }) => sum + ids.length, 0),
      );
      cases.forEach(({ embedding }, i) => {
        const dot = embedding.reduce((sum, x, j) => sum + x * embeddings[i][j], 0);
        assert.ok(dot > 0.9999, `cosine ${dot}`);
      });
      const byIds = await embed.embed({ inputs: [cases[0].input_ids] });
      assert.deepEqual(byIds.embeddings[0], embeddings[0]);
      const short = await embed.embed({ inputs: [cases[0].text], dimensions: 32 });
      assert.equal(short.embeddings[0].length, 32);
      assert.ok(Math.abs(Math.hypot(...short.embeddings[0]) - 1) < 1e-6);
      // More inputs than the engine's queue holds.
      const many = await embed.embed({ inputs: Array.from({ length: 1500 }, (_, i) => [2, 5 + (i % 50), 3]) });
      assert.equal(many.embeddings.length, 1500);
      assert.deepEqual(many.embeddings[1450], many.embeddings[0]);
      await assert.rejects(() => embed.embed({ inputs: ['x'], dimensions: 257 }), failsWith('invalid', /dimensions/));
      const long = 'word '.repeat(600);
      await assert.rejects(() => embed.embed({ inputs: ['x', long] }), failsWith('invalid', /512/));
      assert.equal((await embed.embed({ inputs: [long], truncate: true })).promptTokens, 512);
    });

    test('scores pairs', async () => {
      const rerank = hub.get('tiny-rerank');
      const { cases } = JSON.parse(readFileSync(join(bundled('tiny-rerank'), 'golden.json'), 'utf8')) as {
        cases: { query: string; text: string; logit: number; input_ids: number[]; token_type_ids: number[] }[];
      };
      const { logits } = await rerank.score({ inputs: cases });
      cases.forEach(({ logit }, i) => assert.ok(Math.abs(logits[i][0] - logit) < 1e-3));
      const byIds = await rerank.score({
        inputs: cases.map(({ input_ids: tokens, token_type_ids: types }) => ({ tokens, types })),
      });
      assert.deepEqual(byIds.logits, logits);
      const wrong = { tokens: [2, 3], types: [0, 2] };
      await assert.rejects(() => rerank.score({ inputs: [wrong] }), failsWith('invalid', /token type 2/));
    });
  });
}

for (const [where, start] of links) {
  const models = [{ name: 'tiny-chat', directory: bundled('tiny-chat') }];
  const endless: GenerateRequest = { prompt: { kind: 'text', text: 'Once' }, ignoreEos: true };

  test(`when ${where} is lost, every request ends, readiness says so, and the owner is told once`, async () => {
    const link = start();
    const told: RoseError[] = [];
    const hub = await openModels({ models, threads: 1, onLost: (error) => told.push(error) }, () => link);
    const chat = hub.get('tiny-chat');
    const others = [1, 2, 3].map(() => collect(chat, endless));
    const lost = failsWith('unavailable', /the engine stopped: its (thread|process) ended/);
    await assert.rejects(async () => {
      for await (const event of chat.generate(endless)) if (event.kind === 'delta') await link.terminate();
    }, lost);
    for (const other of others) await assert.rejects(() => other, lost);
    assert.equal(await hub.ready(), false);
    assert.equal(await chat.ready(), false);
    assert.deepEqual([chat.counters.running, chat.counters.waiting], [0, 0]);
    await assert.rejects(() => collect(chat, endless), lost);
    await hub.close();
    assert.equal(told.length, 1);
  });

  describe(`draining an engine in ${where}`, () => {
    test('lets running requests end and refuses new ones', async () => {
      const hub = await openModels({ models, threads: 1 }, start);
      try {
        const chat = hub.get('tiny-chat');
        const running = collect(chat, { ...endless, maxTokens: 20 });
        const drained = hub.drain(60_000);
        const late = collect(chat, { prompt: { kind: 'text', text: 'x' } });
        await assert.rejects(() => late, failsWith('unavailable', /shutting down/));
        assert.equal(await hub.ready(), false);
        await drained;
        assert.equal((await running).tokens[0].length, 20);
      } finally {
        await hub.close();
      }
    });

    test('cuts off what is not done at its limit', async () => {
      const told: RoseError[] = [];
      const hub = await openModels({ models, threads: 1, onLost: (error) => told.push(error) }, start);
      try {
        const chat = hub.get('tiny-chat');
        const long = collect(chat, { ...endless, n: 8 });
        const cut = assert.rejects(() => long, failsWith('unavailable', /shutting down/));
        await hub.drain(0);
        await cut;
      } finally {
        await hub.close();
      }
      // An engine that ends because it was asked to is not lost.
      assert.deepEqual(told, []);
    });
  });
}

test('a model that cannot be opened leaves nothing running', async () => {
  const missing = openModels({ models: [{ name: 'x', directory: bundled('no-such-model') }] });
  await assert.rejects(() => missing, failsWith('not_found', /no-such-model/));
  const twice = [1, 2].map(() => ({ name: 'x', directory: bundled('tiny-chat') }));
  await assert.rejects(() => openModels({ models: twice }), failsWith('invalid', /two models are named 'x'/));
  await assert.rejects(
    () => openModels({ models: [], device: 'cuda:99' }),
    failsWith('unavailable', /No NVIDIA driver was found|there is no GPU 99/),
  );
  await assert.rejects(() => openModels({ models: [], device: 'tpu' }), failsWith('invalid', /no device 'tpu'/));
});
