import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startRose, type RoseServer } from './rose-server.ts';

/** docs/client.md: every example runs as it stands, but for the address, and prints what the page says. */

const root = fileURLToPath(new URL('../../..', import.meta.url));
const page = readFileSync(join(root, 'docs/client.md'), 'utf8');
const examples = [...page.matchAll(/```ts\n([^`]*(?:`[^`]+`[^`]*)*?)```\n\n```output\n([^`]*)```/g)];
// Inside the checkout, so that `@rose/client` is found.
mkdirSync(join(root, '.cache'), { recursive: true });
const folder = mkdtempSync(join(root, '.cache', 'client-docs-'));
let server: RoseServer;

before(async () => (server = await startRose(['simple', 'simple_sequence', 'repeat_int32', 'tiny_chat'])));
after(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

test('every example of the page has its output', () => {
  assert.equal(examples.length, page.split('```ts\n').length - 1);
  assert.ok(examples.length >= 6);
});

for (const [i, [, code, output]] of examples.entries()) {
  test(`example ${i + 1} prints what the page says`, async () => {
    const file = join(folder, `${i}.ts`);
    const here = code.replaceAll('http://127.0.0.1:8000', server.url).replaceAll('127.0.0.1:8001', server.address);
    assert.notEqual(here, code);
    writeFileSync(file, here);
    const { stdout } = await promisify(execFile)(process.execPath, ['--conditions=development', file]);
    assert.equal(stdout, output);
  });
}
