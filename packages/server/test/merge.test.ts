import assert from 'node:assert/strict';
import { test } from 'node:test';
import { merge } from '../src/generation/merge.ts';

/** Counts up until it is told to end; says when its clean-up ran. */
async function* counting(name: string, ended: string[]): AsyncGenerator<string> {
  try {
    for (let i = 0; ; i++) {
      await new Promise((resolve) => setImmediate(resolve));
      yield `${name}${i}`;
    }
  } finally {
    ended.push(name);
  }
}

async function* failing(): AsyncGenerator<string> {
  yield 'last words';
  throw new Error('broken');
}

test('a source that fails ends the others, even those whose value nobody has read', async () => {
  const ended: string[] = [];
  let cancelled = 0;
  const merged = merge([counting('a', ended), failing(), counting('b', ended)], () => void cancelled++);
  await assert.rejects(async () => {
    for await (const _ of merged);
  }, /broken/);
  assert.equal(cancelled, 1);
  assert.deepEqual(ended.toSorted(), ['a', 'b']);
});

test('a source that fails while the reader is busy with another one fails when the reader is back', async () => {
  const ended: string[] = [];
  const merged = merge([counting('a', ended), failing()], () => undefined);
  assert.equal((await merged.next()).done, false);
  // Time for the failure to happen: unhandled, it would fail this file.
  await new Promise((resolve) => setTimeout(resolve, 20));
  await assert.rejects(async () => {
    for await (const _ of merged);
  }, /broken/);
  assert.deepEqual(ended, ['a']);
});

test('a reader that stops ends all sources', async () => {
  const ended: string[] = [];
  for await (const { source } of merge([counting('a', ended), counting('b', ended)], () => undefined)) {
    if (source === 1) break;
  }
  assert.deepEqual(ended.toSorted(), ['a', 'b']);
});

test('so many sources are read at once, and every one in the end', async () => {
  let running = 0;
  let most = 0;
  async function* some(): AsyncGenerator<number> {
    most = Math.max(most, ++running);
    for (let i = 0; i < 3; i++) {
      await new Promise((resolve) => setImmediate(resolve));
      yield i;
    }
    running--;
  }
  const seen = new Map<number, number[]>();
  const sources = Array.from({ length: 5000 }, some);
  for await (const { source, value } of merge(sources, () => undefined, 7)) {
    seen.set(source, [...(seen.get(source) ?? []), value]);
  }
  assert.equal(most, 7);
  assert.equal(seen.size, 5000);
  for (const values of seen.values()) assert.deepEqual(values, [0, 1, 2]);
});

test('sources that had not begun when the reader stops never begin', async () => {
  const begun: string[] = [];
  async function* named(name: string): AsyncGenerator<string> {
    begun.push(name);
    yield name;
  }
  for await (const _ of merge(['a', 'b', 'c'].map(named), () => undefined, 1)) break;
  assert.deepEqual(begun, ['a']);
});
