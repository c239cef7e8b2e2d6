import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE_TOKENS } from '@rose/cpu';
import { planPages } from '../src/device/pages.ts';
import { PagePool } from '../src/engine/pages.ts';
import { layerGroups } from '../src/model/groups.ts';
import type { AttentionSpec, BlockSpec, ModelSpec } from '../src/model/spec.ts';
import { Collector, decoderSpec, drain, FakeModel, fakeEngine, generateRequest } from './fake-model.ts';

const prompt = (length: number, first = 0): number[] => Array.from({ length }, (_, i) => (first + i) % 90);

/** Prompt tokens found again, by request, when one is served after the other. */
async function hits(
  options: Partial<ConstructorParameters<typeof FakeModel>[0]>,
  requests: readonly { readonly tokens: number[]; readonly tenant?: string; readonly salt?: string }[],
): Promise<number[]> {
  const model = new FakeModel({ rows: 64, sequences: 4, pages: 40, draws: 'context', ...options });
  const engine = fakeEngine(320, model);
  const cached: number[] = [];
  for (const [id, { tokens, tenant = '', salt = '' }] of requests.entries()) {
    engine.submit(generateRequest(id, tokens, { maxTokens: 40, salt }, { tenant }), 0);
    for (const event of (await drain(engine)).events) if (event.kind === 'begun') cached.push(event.cachedTokens);
  }
  return cached;
}

test('a prompt is found again in whole pages, and never all of it', async () => {
  const tokens = prompt(64);
  assert.deepEqual(
    await hits({}, [{ tokens }, { tokens }, { tokens: prompt(63) }, { tokens: prompt(80) }]),
    [0, 48, 48, 64],
  );
});

test('what is computed for one tenant or salt answers no other', async () => {
  const tokens = prompt(64);
  const requests = [{ tokens, tenant: 'a' }, { tokens, tenant: 'b' }, { tokens }, { tokens, tenant: 'a' }];
  assert.deepEqual(await hits({}, requests), [0, 0, 0, 48]);
  assert.deepEqual(await hits({}, [{ tokens, salt: 'x' }, { tokens }, { tokens, salt: 'x' }]), [0, 0, 48]);
});

test('with a window, a hit ends where the window’s pages were kept: where prompts end, and where they part', async () => {
  const sliding = { window: 20, pages: 20 };
  const stem = prompt(130);
  const one = [...stem, 1, 2, 3, ...prompt(40, 7)];
  const two = [...stem, 4, 5, 6, ...prompt(40, 9)];
  // The first that parts from the stem computes it anew, and leaves what the next one needs.
  const three = [...stem, 7, 8, 9];
  assert.deepEqual(
    await hits({ sliding }, [{ tokens: one }, { tokens: one }, { tokens: two }, { tokens: three }]),
    [0, 160, 0, 128],
  );
});

test('with states, a hit ends at a checkpoint', async () => {
  const stem = prompt(130);
  const requests = [[...stem, 1, 2, 3], stem, [...stem, 4, ...prompt(60)], [...stem, 5, ...prompt(60)]];
  // 133 tokens leave a checkpoint at 128; keys reach further than that, and are of no use without their state.
  const found = await hits(
    { slots: 12 },
    requests.map((tokens) => ({ tokens })),
  );
  assert.deepEqual(found, [0, 128, 128, 128]);
  const longer = await hits({ slots: 12 }, [{ tokens: prompt(100) }, { tokens: [...prompt(70), 1, 2, 3] }]);
  assert.deepEqual(longer, [0, 0]);
});

test('prompts that were not used for longest make room for new ones', async () => {
  const [old, recent] = [{ tokens: prompt(96) }, { tokens: prompt(96, 31) }];
  // 20 pages hold two of them with their answers, of 8 pages each, but not three.
  const cached = await hits({ pages: 20 }, [old, recent, { tokens: prompt(96, 53) }, recent, old]);
  assert.deepEqual(cached.slice(0, 4), [0, 0, 0, 80]);
  assert.ok(cached[4] < 80, `${cached[4]} tokens of the oldest prompt are still there`);
});

test('pages in use and pages kept are told apart in every group of layers', async () => {
  const model = new FakeModel({ rows: 64, sequences: 4, pages: 40, sliding: { window: 20, pages: 20 } });
  const engine = fakeEngine(320, model);
  const sink = new Collector();
  for (const first of [0, 31, 53]) {
    engine.submit(generateRequest(first, prompt(130, first), { maxTokens: 3 }), 0);
    await drain(engine, sink);
    const { pages, usedPages, cachedPages } = engine.state;
    const free = engine.scheduler.cache.pools.reduce((sum, { available }) => sum + available, 0);
    assert.deepEqual([usedPages, cachedPages], [0, pages - free]);
  }
  // Beside what is kept, two run: one on pages that are kept, and on which it sees no more than the window.
  engine.submit(generateRequest(100, [...prompt(130), 1, 2, 3], { maxTokens: 40 }), 0);
  engine.submit(generateRequest(101, prompt(50, 77), { maxTokens: 40 }), 0);
  for (let i = 0; i < 8; i++) await engine.step(0, sink);
  const held = engine.scheduler.running.flatMap(({ tables }) =>
    tables!.tables.flatMap((table, group) =>
      [...table.subarray(tables!.first[group], tables!.pages)].map((page) => `${group} ${page}`),
    ),
  );
  assert.ok(engine.scheduler.running.length === 2 && engine.state.cachedPages > 0);
  assert.equal(engine.state.usedPages, new Set(held).size);
  await drain(engine, sink);
});

test('the integrity check names what is wrong', () => {
  const pool = new PagePool(4);
  const page = pool.take();
  pool.share(page);
  pool.check(Int32Array.of(2, 0, 0, 0));
  assert.throws(() => pool.check(Int32Array.of(1, 0, 0, 0)), /page 0 has 2 holders, but 1 hold it/);
  pool.keep(page);
  assert.throws(() => pool.check(Int32Array.of(3, 0, 0, 0)), /whether page 0 is in the prefix tree/);
  pool.check(Int32Array.of(3, 0, 0, 0), Uint8Array.of(1, 0, 0, 0));
  pool.drop(page);
  assert.throws(() => pool.drop(page), /page 0 is not in the prefix tree/);
  pool.release(page);
  pool.release(page);
  assert.throws(() => pool.release(page), /page 0 was given back twice/);
  assert.throws(() => pool.share(3), /page 3 is free/);
});

test('pages are shared out by what a context needs in each group of layers', () => {
  const mixer = { kind: 'attention', heads: 2, kvHeads: 1, headDim: 16, window: undefined } as unknown as AttentionSpec;
  const block = (window: number | undefined): BlockSpec => ({ mixer: { ...mixer, window } }) as BlockSpec;
  const spec: ModelSpec = { ...decoderSpec(1024), blocks: [block(64), block(undefined), block(64), block(2048)] };
  const groups = layerGroups(spec);
  assert.deepEqual(groups, [
    { window: undefined, layers: [1, 3] },
    { window: 64, layers: [0, 2] },
  ]);
  const options = { cacheDtype: 'f32', maxSequences: 4, rows: 128 } as const;
  const page = 2 * PAGE_TOKENS * 16 * 4;
  // A context needs 64 pages in full layers, and 2 * (4 + 1) + 8 in those with a window.
  const all = planPages(spec, groups, options, 1e9);
  assert.deepEqual(
    all.map(({ pages, tokens, bytes }) => [pages, tokens, bytes]),
    [
      [256, 4096, 256 * 2 * page],
      [72, 1152, 72 * 2 * page],
    ],
  );
  const whole = 2 * page * (64 + 18);
  assert.deepEqual(
    planPages(spec, groups, options, 1.5 * whole).map(({ pages }) => pages),
    [96, 27],
  );
  const half = planPages(spec, groups, options, whole / 2);
  assert.ok(half[0].pages >= 20 && half.reduce((sum, { bytes }) => sum + bytes, 0) <= whole / 2);
  // A limit in MiB is room like any other, and goes beyond what is taken where nobody says anything.
  const mib = (bytes: number): number => bytes / 2 ** 20;
  assert.deepEqual(planPages(spec, groups, { ...options, kvCacheMib: mib(whole / 2) }, 1e9), half);
  assert.deepEqual(planPages(spec, groups, { ...options, kvCacheMib: 1e6 }, whole / 2), half);
  assert.throws(
    () => planPages(spec, groups, { ...options, kvCacheMib: mib(page) }, 1e9),
    /16 tokens of keys and values take 0.00781 MiB, more than the .* that --kv-cache-mib allows/,
  );
});
