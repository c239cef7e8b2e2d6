import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StopMatcher } from '../src/serve/stop.ts';
import { uniform } from '../src/sampling/philox.ts';

function stream(pieces: readonly string[], stops: readonly string[], include = false): [string, string | undefined] {
  const matcher = new StopMatcher(stops, include);
  let text = '';
  for (const piece of pieces) {
    const out = matcher.push(piece);
    text += out.text;
    if (out.stop !== undefined) return [text, out.stop];
  }
  return [text + matcher.flush(), undefined];
}

test('text ends before the first stop string', () => {
  assert.deepEqual(stream(['one two', ' three'], ['two']), ['one ', 'two']);
  assert.deepEqual(stream(['one t', 'w', 'o three'], ['two']), ['one ', 'two']);
  assert.deepEqual(stream(['one t', 'w', 'o three'], ['two'], true), ['one two', 'two']);
  assert.deepEqual(stream(['one tw'], ['two']), ['one tw', undefined]);
  assert.deepEqual(stream(['abc'], ['b', 'bc']), ['a', 'bc']);
  assert.deepEqual(stream(['abc'], []), ['abc', undefined]);
  assert.deepEqual(stream(['abc'], ['']), ['abc', undefined]);
});

test('a possible beginning is held back, and only that', () => {
  const matcher = new StopMatcher(['###'], false);
  assert.equal(matcher.push('a##').text, 'a');
  assert.equal(matcher.push('b#').text, '##b');
  assert.equal(matcher.flush(), '#');
});

test('any split of a text gives the same answer', () => {
  let drawn = 0;
  const u = (): number => uniform(3, drawn++);
  const letters = (length: number): string => Array.from({ length }, () => 'ab'[Math.floor(u() * 2)]).join('');
  for (let round = 0; round < 2000; round++) {
    const text = letters(Math.floor(u() * 24));
    const stops = Array.from({ length: 1 + Math.floor(u() * 3) }, () => letters(1 + Math.floor(u() * 5)));
    const pieces: string[] = [];
    for (let at = 0; at < text.length;) {
      const size = 1 + Math.floor(u() * 4);
      pieces.push(text.slice(at, at + size));
      at += size;
    }
    // Letter by letter, a stop is found as soon as it is complete; in larger pieces a longer or an earlier one may
    // show up at the same time, so the reference is the earliest among those complete after the same piece.
    let seen = '';
    let expected: string | undefined;
    for (const piece of pieces) {
      seen += piece;
      const starts = stops.map((stop) => seen.indexOf(stop)).filter((at) => at >= 0);
      if (starts.length > 0) {
        expected = seen.slice(0, Math.min(...starts));
        break;
      }
    }
    assert.equal(stream(pieces, stops)[0], expected ?? text);
  }
});
