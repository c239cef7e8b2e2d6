import assert from 'node:assert/strict';
import { test } from 'node:test';
import { JsonObject, JsonSyntaxError, parseJson, type JsonValue } from '../src/triton/json.ts';
import { random } from './random.ts';

const parse = (text: string): JsonValue => parseJson(Buffer.from(text));

/** The value as JSON.parse would give it. */
function plain(value: JsonValue): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof JsonObject)
    return Object.fromEntries(value.members.map(([key, member]) => [key, plain(member)]));
  return typeof value === 'bigint' ? Number(value) : value;
}

test('64-bit integers are exact, larger ones are doubles', () => {
  assert.equal(parse('9007199254740993'), 9007199254740993n);
  assert.equal(parse('-9223372036854775808'), -9223372036854775808n);
  assert.equal(parse('18446744073709551615'), 18446744073709551615n);
  assert.equal(parse('18446744073709551616'), 18446744073709551616);
  assert.equal(parse('9007199254740991'), 9007199254740991);
  assert.equal(parse('1'.repeat(300)), Number('1'.repeat(300)));
  assert.ok(Object.is(parse('-0'), -0));
});

test('NaN and the infinities are numbers', () => {
  assert.deepEqual(parse('[NaN, Infinity, -Infinity]'), [NaN, Infinity, -Infinity]);
  assert.throws(() => parse('-NaN'), JsonSyntaxError);
  assert.throws(() => parse('nan'), JsonSyntaxError);
});

test('members keep their order and their duplicates', () => {
  const value = parse('{"b": 1, "10": 2, "9": 3, "b": 4}') as JsonObject;
  assert.deepEqual(value.members, [
    ['b', 1],
    ['10', 2],
    ['9', 3],
    ['b', 4],
  ]);
  assert.equal(value.get('b'), 1);
  assert.equal(value.get('__proto__'), undefined);
});

test('escapes and text outside ASCII', () => {
  assert.equal(parse(String.raw`"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00 é😀"`), '"\\/\b\f\n\r\té😀 é😀');
  for (const bad of [
    String.raw`"\ud83d"`,
    String.raw`"\ude00"`,
    String.raw`"\ud83d\u0041"`,
    String.raw`"\x"`,
    '"\n"',
  ]) {
    assert.throws(() => parse(bad), JsonSyntaxError, bad);
  }
});

test('errors say where', () => {
  const cases: [string, RegExp][] = [
    ['', /empty.* at 0$/],
    ['{"a":1,}', /name for object member.* at 7$/],
    ['[1 2]', /comma or \] .* at 3$/],
    ['{"a" 1}', /colon.* at 5$/],
    ['[1] x', /root.* at 4$/],
    ['1e999', /too big/],
    ['01', /root/],
    ['1.', /fraction.* at 2$/],
    ['1e', /exponent.* at 2$/],
    ['"abc', /closing quotation mark/],
    ['[1,', /Invalid value/],
    ['[truth]', /Invalid value.* at 1$/],
    ['[nullx]', /comma or \]/],
    ['é"', /Invalid value/],
  ];
  for (const [text, message] of cases) assert.throws(() => parse(text), message, text);
  assert.throws(() => parseJson(Buffer.from([0x22, 0xff, 0x22])), /UTF-8/);
  assert.throws(() => parse('['.repeat(100_000)), /too deep/);
});

test('mutated documents: agrees with JSON.parse, or refuses what it refuses', () => {
  const { integer, pick } = random(7);
  const seeds = [
    '{"id":"7","inputs":[{"name":"A","shape":[2,1],"datatype":"INT32","data":[1,-2.5e3]}],"x":{"é":[true,false,null,{}]}}',
    String.raw`{"text":"a\u00e9\n\ud83d\ude00","parameters":{"temperature":0.7,"stop":["x","y"]},"n":[[],[[]]]}`,
    '[0.1, -0, 1E5, 12345678901234567890, "", [[[[]]]], {"a":{"b":{"c":1}}}]',
  ];
  const pieces = ['"', '{', '}', '[', ']', ',', ':', '\\', '\\u', 'e', '-', '.', '0', '1', ' ', 'true', 'é', '\u0001'];
  let accepted = 0;
  for (let round = 0; round < 6000; round++) {
    let text = pick(seeds);
    for (let edits = integer(3); edits >= 0; edits--) {
      const at = integer(text.length);
      text = text.slice(0, at) + (integer(2) === 0 ? pick(pieces) : '') + text.slice(at + integer(3));
    }
    let expected: unknown;
    try {
      expected = JSON.parse(text);
    } catch {
      expected = undefined;
    }
    try {
      assert.deepEqual(plain(parse(text)), expected, text);
      accepted++;
    } catch (error) {
      if (!(error instanceof JsonSyntaxError)) throw error;
      // JSON.parse takes lone surrogates for text and makes infinities of large numbers.
      if (!/surrogate|too big/.test(error.message)) assert.equal(expected, undefined, `${text}: ${error.message}`);
    }
  }
  assert.ok(accepted > 300);
});
