import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { KernelError } from '../src/ir/error.ts';
import { bf16, f32, i32, kernel, u32 } from '../src/trace/index.ts';
import { REFUSED_NUMBERS } from './programs/refused-numbers.ts';
import { REFUSED } from './programs/refused.ts';

/** Programs with the lines that say HERE, in the order of the programs. */
const FILES = [
  { file: 'refused.ts', programs: REFUSED },
  { file: 'refused-numbers.ts', programs: REFUSED_NUMBERS },
].map(({ file, programs }) => {
  const source = readFileSync(new URL(`programs/${file}`, import.meta.url), 'utf8').split('\n');
  return { file, programs, lines: source.flatMap((line, i) => (/\/\/ HERE/.test(line) ? [i + 1] : [])) };
});

const PARAMS = {
  y: f32.tensor(8),
  b: bf16.tensor(8),
  m: f32.tensor('M'),
  n: i32,
  u: u32,
  f: f32,
};

for (const { file, programs, lines } of FILES) {
  for (const [index, [name, [run, message]]] of Object.entries(programs).entries()) {
    test(`refuses ${name}, with file and line`, () => {
      const traced = kernel({ name: 'refused', params: PARAMS, threads: 32 }, (args) => {
        'use gpu';
        return run(args);
      });
      let error: unknown;
      try {
        traced.trace({});
      } catch (caught) {
        error = caught;
      }
      assert.ok(error instanceof KernelError, `not a located error: ${String(error)}`);
      assert.match(error.message, message);
      assert.equal(error.position?.line, lines[index], error.message);
      assert.match(error.message, new RegExp(`programs/${file}:\\d+:\\d+`));
    });
  }

  test(`every program of ${file} has its line`, () => {
    assert.equal(lines.length, Object.keys(programs).length);
  });
}

const returns = (run: (n: i32) => unknown): (() => unknown) => {
  const traced = kernel({ name: 'returns', params: { n: i32 }, threads: 32 }, ({ n }) => {
    'use gpu';
    if (n > 2) return run(n) as undefined;
    return undefined;
  });
  return () => traced.trace({});
};

test('a kernel returns nothing', () => {
  assert.throws(
    returns((n) => n),
    /a kernel returns nothing: store its results/,
  );
  assert.doesNotThrow(returns(() => undefined));
});

test('a kernel that was not transformed says what to start Node.js with', () => {
  assert.throws(() => kernel({ name: 'plain', params: {}, threads: 32 }, () => {}).trace({}), /'use gpu'/);
  const body = Object.assign(() => {}, { toString: () => "() => { 'use gpu'; }" });
  assert.throws(
    () => kernel({ name: 'plain', params: {}, threads: 32 }, body).trace({}),
    /--import @rose\/cute\/register/,
  );
});

test('a kernel that nobody marked is found by its own line', () => {
  const plain = kernel({ name: 'plain', params: PARAMS, threads: 32 }, ({ y, n }) => {
    y[0] = f32(+n + 1); // in the kernel's own function
  });
  const own = readFileSync(new URL(import.meta.url), 'utf8').split('\n');
  const line = own.findIndex((text) => text.includes("// in the kernel's own function")) + 1;
  assert.throws(
    () => plain.trace({}),
    (error) => error instanceof KernelError && error.position?.line === line && /lacks 'use gpu'/.test(error.message),
  );
});
