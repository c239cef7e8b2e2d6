import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { after, before, describe, test } from 'node:test';
import { openModels, type ModelHub } from '@rose/engine';
import { startServer, type RunningServer } from '@rose/server';

const root = fileURLToPath(new URL('..', import.meta.url));
const readme = `${root}README.md`;
const run = promisify(execFile);

/** A command of the README with the output that stands below it. */
interface Step {
  readonly command: string;
  readonly output: string;
}

/** The `sh` blocks that are followed by a block of output. */
function stepsOf(text: string): Step[] {
  const pair = /```sh\n([^`]*)```\n\n```(?:json)?\n([^`]*)```/g;
  return [...text.matchAll(pair)].map(([, command, output]) => ({ command: command.trim(), output: output.trim() }));
}

/** What differs from one answer to the next by nature. */
function masked(output: string): string {
  return output.replace(/"id":"[^"]*"/, '"id":"…"').replace(/"created":\d+/, '"created":0');
}

/**
 * The tour is followed word for word, but for the port: each command must print what the README says it does.
 * ROSE_UPDATE_README=1 writes what was printed into the README instead.
 */
describe('the README’s tour', { concurrency: false }, () => {
  const text = readFileSync(readme, 'utf8');
  const steps = stepsOf(text);
  let hub: ModelHub;
  let server: RunningServer;
  let updated = text;

  before(async () => {
    const models = ['tiny-chat', 'tiny-embed', 'tiny-rerank'].map((name) => ({
      name,
      directory: `${root}models/${name}`,
    }));
    hub = await openModels({ models, threads: 2 });
    server = await startServer(hub, { host: '127.0.0.1', port: 0, version: '0.1.0' });
  });
  after(async () => {
    await server.close();
    await hub.close();
    if (process.env['ROSE_UPDATE_README'] === '1') writeFileSync(readme, updated);
  });

  test('has its steps', () => assert.equal(steps.length, 5));

  for (const { command, output } of steps) {
    test(command.split('\n')[0], async () => {
      const here = command
        .replace('http://127.0.0.1:8000', server.url)
        .replace('npm run --silent rose --', 'node scripts/rose.cjs');
      const { stdout } = await run('sh', ['-c', here.replace(/^curl/, 'curl -sS')], { cwd: root });
      if (process.env['ROSE_UPDATE_README'] === '1') updated = updated.replace(output, stdout.trim());
      else assert.equal(masked(stdout.trim()), masked(output));
    });
  }
});
