import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { test } from 'node:test';
import { chromium } from 'playwright-core';
import { startRose } from './rose-server.ts';

const SOURCES = new URL('../src/', import.meta.url);
const CHROMIUMS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** Files that a page loads: all but those of gRPC. */
function files(): string[] {
  const all = readdirSync(SOURCES, { recursive: true, encoding: 'utf8' });
  return all.filter((file) => file.endsWith('.ts') && !file.startsWith('grpc'));
}

test('what browsers load imports nothing but its own files', () => {
  assert.ok(files().includes('index.ts') && files().length > 10);
  for (const file of files()) {
    const imports = [...readFileSync(new URL(file, SOURCES), 'utf8').matchAll(/\bfrom '([^']+)'/g)];
    for (const [, specifier] of imports) {
      assert.match(specifier, /^\.\.?\/(?!.*grpc)/, `${file} imports ${specifier}`);
    }
  }
});

if (process.env.ROSE_SKIP_BROWSER !== '1') {
  test('inference and a stream in a browser', async (t) => {
    const executablePath = CHROMIUMS.find((path) => existsSync(path));
    assert.ok(executablePath, 'no Chromium: run scripts/install-chromium.sh, or set ROSE_SKIP_BROWSER=1');
    const server = await startRose(['simple', 'mock_llm']);
    t.after(() => server.close());
    const browser = await chromium.launch({
      executablePath,
      args: ['--no-sandbox', '--disable-gpu', '--no-first-run'],
    });
    t.after(() => browser.close());
    const page = await browser.newPage();
    // A page of the server's own origin, with the client's sources as JavaScript beside it.
    await page.route('**/client/**', async (route) => {
      const path = new URL(route.request().url()).pathname.slice('/client/'.length);
      if (path === '') return route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>client</title>' });
      const body = stripTypeScriptTypes(readFileSync(new URL(path, SOURCES), 'utf8'));
      return route.fulfill({ contentType: 'text/javascript', body });
    });
    await page.goto(`${server.url}/client/`);
    const seen = await page.evaluate(async (origin) => {
      const index = `${origin}/client/index.ts`;
      const { HttpClient, tensor } = (await import(index)) as typeof import('@rose/client');
      const client = new HttpClient(origin, { requestCompression: 'gzip' });
      const inputs = {
        INPUT0: tensor('INT32', [1, 16], new Int32Array(16).fill(4)),
        INPUT1: tensor('INT32', [1, 16], new Int32Array(16).fill(1)),
      };
      const sum = (await client.infer('simple', { inputs })).output('OUTPUT0', 'INT32').data;
      const texts: unknown[] = [];
      for await (const { TEXT } of client.generateStream('mock_llm', { PROMPT: 'hi', STREAM: true, REPETITION: 2 })) {
        texts.push(TEXT);
      }
      const error: unknown = await client.modelConfig('nobody').catch((reason: unknown) => reason);
      return { sum: [...sum], texts, status: (error as { status: unknown }).status };
    }, server.url);
    assert.deepEqual(seen, { sum: Array.from({ length: 16 }).fill(5), texts: ['hi', 'hi'], status: 404 });
  });
}
