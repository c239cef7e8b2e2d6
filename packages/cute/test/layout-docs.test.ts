import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { LayoutError, evaluateText } from '../src/layout/index.ts';

const page = readFileSync(new URL('../../../docs/layout-algebra.md', import.meta.url), 'utf8');
const blocks = [...page.matchAll(/^```layout\n([^]*?)^```$/gm)].flatMap((match) => match[1].trimEnd().split('\n'));

function answer(expression: string): string {
  try {
    return evaluateText(expression);
  } catch (error) {
    if (error instanceof LayoutError) return `error: ${error.message}`;
    throw error;
  }
}

test('docs/layout-algebra.md has examples', () => assert.ok(blocks.length >= 35));

for (const line of blocks) {
  const [expression, value] = line.split(' = ');
  test(`docs/layout-algebra.md: ${expression}`, () => assert.equal(answer(expression), value));
}
