import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { chromium, type Browser, type Page } from 'playwright-core';
import { serve, until, type Serving } from './serving.ts';

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const CHROMIUMS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

test('the page and its files: types, policy, and nothing sent twice', async (t) => {
  const { get } = await serve(t);
  for (const [path, type] of [
    ['/', 'text/html; charset=utf-8'],
    ['/page/page.css', 'text/css; charset=utf-8'],
    ['/page/page.js', 'text/javascript; charset=utf-8'],
    ['/page/icon.svg', 'image/svg+xml'],
  ]) {
    const response = await get(path);
    assert.deepEqual([response.status, response.headers.get('content-type')], [200, type]);
    assert.match(response.headers.get('content-security-policy') ?? '', /default-src 'none'; script-src 'self'/);
    assert.equal(response.headers.get('x-content-type-options'), 'nosniff');
    const again = await get(path, { headers: { 'if-none-match': response.headers.get('etag') ?? '' } });
    assert.deepEqual([again.status, await again.text()], [304, '']);
  }
});

// Where no Chromium can be had, the rest of the tests should still be of use.
if (process.env.ROSE_SKIP_BROWSER !== '1') {
  test('the page in a browser', async (t) => {
    const executablePath = CHROMIUMS.find((path) => existsSync(path));
    assert.ok(executablePath, 'no Chromium: run scripts/install-chromium.sh, or set ROSE_SKIP_BROWSER=1');
    const browser = await chromium.launch({ executablePath, args: FLAGS });
    t.after(() => browser.close());
    await t.test('chat streams, goes on, stops and begins anew', (t) => chat(t, browser));
    await t.test('errors are shown, and the message is not lost', (t) => errors(t, browser));
    await t.test('two texts and their similarity', (t) => embed(t, browser));
    await t.test('passages in both orders', (t) => rerank(t, browser));
    await t.test('models, counters and health', (t) => models(t, browser));
    await t.test('a server that wants a key', (t) => key(t, browser));
    await t.test('by keyboard, and at the width of a phone', (t) => phone(t, browser));
  });
}

interface Opened extends Serving {
  readonly page: Page;
}

/** The page of a server of its own; what the console of the browser says fails the test. */
async function open(
  t: TestContext,
  browser: Browser,
  options: { path?: string; width?: number } = {},
): Promise<Opened> {
  const serving = await serve(t);
  const page = await browser.newPage({ viewport: { width: options.width ?? 1100, height: 800 } });
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    // A refused request is reported by the browser itself, and by the page to its reader.
    if (message.type() === 'error' && !/Failed to load resource/.test(message.text())) complaints.push(message.text());
  });
  t.after(async () => {
    await page.close();
    assert.deepEqual(complaints, []);
  });
  await page.goto(serving.url + (options.path ?? '/'));
  await page.waitForSelector('.card');
  return { ...serving, page };
}

async function chat(t: TestContext, browser: Browser): Promise<void> {
  const { page, hub } = await open(t, browser);
  await page.fill('#chat-text', 'a <b>bear</b>');
  await page.press('#chat-text', 'Enter');
  await page.waitForSelector('.figures');
  assert.equal(await page.textContent('.assistant'), 'echo: a <b>bear</b>');
  assert.match((await page.textContent('.figures')) ?? '', /^20 tokens · first after \d+ ms · [\d.]+ tokens\/s$/);

  await page.click('summary');
  await page.fill('[name=temperature]', '0.5');
  await page.fill('[name=max_tokens]', '');
  await page.fill('#chat-text', '!steady');
  await page.click('#chat button[type=submit]');
  await page.locator('.assistant', { hasText: '!steadyecho: !steady' }).waitFor();
  await page.click('#chat-stop');
  await page.locator('.figures', { hasText: 'stopped' }).waitFor();
  await until(() => hub.active === 0, 'the engine forgets the request');
  const { prompt, sampling, maxTokens } = hub.seen.generate!;
  assert.deepEqual(prompt.kind === 'messages' && prompt.messages.map(({ role }) => role), [
    'user',
    'assistant',
    'user',
  ]);
  assert.deepEqual([sampling, maxTokens], [{ temperature: 0.5 }, undefined]);

  await page.click('#chat-clear');
  assert.equal(await page.textContent('#messages'), '');
  await page.fill('#chat-text', 'new');
  await page.press('#chat-text', 'Enter');
  await page.waitForSelector('.figures');
  assert.deepEqual(hub.seen.generate?.prompt.kind === 'messages' && hub.seen.generate.prompt.messages.length, 1);
}

async function errors(t: TestContext, browser: Browser): Promise<void> {
  const { page, server } = await open(t, browser);
  const alert = page.locator('#chat .error');
  await page.fill('#chat-text', '!full');
  await page.press('#chat-text', 'Enter');
  await alert.waitFor();
  assert.match((await alert.textContent()) ?? '', /the queue is full/);
  assert.equal(await page.inputValue('#chat-text'), '!full');

  await page.fill('#chat-text', '!late');
  await page.press('#chat-text', 'Enter');
  await page.locator('#chat .error', { hasText: 'the device failed' }).waitFor();
  assert.equal(await page.textContent('.assistant'), 'ech');

  await server.close(0);
  await page.fill('#chat-text', 'anyone there?');
  await page.press('#chat-text', 'Enter');
  await page.locator('#chat .error', { hasText: 'does not answer' }).waitFor();
  await page.waitForSelector('#health[data-state=failing]');
}

async function embed(t: TestContext, browser: Browser): Promise<void> {
  const { page } = await open(t, browser, { path: '/#embed' });
  await page.fill('[name=a]', 'same');
  await page.fill('[name=b]', 'same');
  await page.click('#embed [type=submit]');
  await page.waitForSelector('#similarity strong');
  assert.equal(await page.textContent('#similarity'), '1.0000cosine similarity · 4 dimensions · 8 tokens');
  await page.fill('[name=b]', '!early');
  await page.click('#embed [type=submit]');
  await page.locator('#embed .error', { hasText: 'the prompt is too long' }).waitFor();
}

async function rerank(t: TestContext, browser: Browser): Promise<void> {
  const { page } = await open(t, browser, { path: '/#rerank' });
  // A model with two labels cannot rank.
  assert.deepEqual(await page.locator('#rerank option').allTextContents(), ['rerank']);
  await page.fill('[name=query]', 'a b');
  await page.fill('[name=passages]', 'x\n\na b\na');
  await page.click('#rerank [type=submit]');
  await page.waitForSelector('#ranking li');
  const texts = (): Promise<string[]> => page.locator('#ranking li span:first-child').allTextContents();
  assert.deepEqual(await texts(), ['a b', 'a', 'x']);
  assert.equal(await page.locator('#ranking .score').first().textContent(), '0.7311');
  await page.click('[data-order=given]');
  assert.deepEqual(await texts(), ['x', 'a b', 'a']);
}

async function models(t: TestContext, browser: Browser): Promise<void> {
  const { page, hub, post } = await open(t, browser);
  assert.equal(await page.textContent('#device'), 'fake (no arithmetic)');
  assert.equal(await page.textContent('#health'), 'ready');
  assert.deepEqual(await page.locator('.card h3').allTextContents(), ['chat', 'embed', 'rerank', 'org/topics']);
  await (await post('/v1/completions', { prompt: 'hi' })).text();
  hub.healthy = false;
  await page.waitForSelector('#health[data-state=failing]');
  const counters = await page.locator('.card').first().locator('dd').allTextContents();
  assert.equal(counters[3], '1');
}

async function key(t: TestContext, browser: Browser): Promise<void> {
  const { server } = await serve(t, { access: { apiKeys: ['sesame'] } });
  const page = await browser.newPage();
  t.after(() => page.close());
  const answers = ['wrong', 'sesame'];
  const questions: string[] = [];
  page.on('dialog', (dialog) => {
    questions.push(dialog.message());
    void dialog.accept(answers.shift());
  });
  await page.goto(server.url);
  await page.waitForSelector('#health[data-state=ready]');
  assert.equal(await page.textContent('#device'), 'fake (no arithmetic)');
  assert.deepEqual(questions, ['This server needs an API key:', 'The server does not know this key. Another one:']);
}

async function phone(t: TestContext, browser: Browser): Promise<void> {
  const { page } = await open(t, browser, { width: 360 });
  const overflow = (): Promise<number> => page.evaluate('document.documentElement.scrollWidth - innerWidth');
  assert.ok((await overflow()) <= 0);
  await page.focus('#tab-chat');
  await page.keyboard.press('ArrowRight');
  assert.ok(await page.isVisible('#embed'));
  assert.ok((await overflow()) <= 0);
  await page.keyboard.press('End');
  assert.ok(await page.isVisible('#rerank'));
  assert.equal(await page.getAttribute('#tab-rerank', 'aria-selected'), 'true');
  await page.keyboard.press('Tab');
  assert.ok(await page.isVisible('#rerank [name=model]:focus'));
  assert.ok((await overflow()) <= 0);
}
