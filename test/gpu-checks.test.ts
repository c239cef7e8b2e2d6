import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runSteps, type Step, type StepReport } from '../scripts/gpu-checks/runner.ts';
import { gpuSteps } from '../scripts/gpu-checks/step-list.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'rose-gpu-checks-'));
after(() => rmSync(folder, { recursive: true, force: true }));

function step(name: string, code: string, more: Partial<Step> = {}): Step {
  return { name, group: 'any', command: [process.execPath, '-e', code], limitSeconds: 60, ...more };
}

test('steps go on whatever becomes of the ones before, and the summary says it', async () => {
  const out = join(folder, 'mixed');
  const result = `require('fs').writeFileSync(process.env.ROSE_BENCH_RESULTS + '/figure.json', '{}')`;
  const seen: string[] = [];
  const reports = await runSteps(
    [
      step('good', `console.log(process.env.WORD); ${result}`, { env: { WORD: 'hello' } }),
      step('bad', `console.log('before'); console.error('Error: no such thing'); process.exit(3)`),
      step('endless', 'setInterval(() => {}, 1000)', { limitSeconds: 1 }),
      step('nowhere', '', { skip: 'no GPU: none' }),
      { ...step('missing', ''), command: ['/no/such/program'] },
      step('last', result),
    ],
    { out, directory: ROOT, about: { here: true }, onStep: ({ name }) => seen.push(name) },
  );
  const facts = reports.map(({ name, status, reason, results }) => [name, status, reason, results]);
  assert.deepEqual(facts.slice(0, 4), [
    ['good', 'passed', undefined, ['results/figure.json']],
    ['bad', 'failed', 'Error: no such thing', []],
    ['endless', 'timed out', undefined, []],
    ['nowhere', 'skipped', 'no GPU: none', undefined],
  ]);
  assert.match(String(facts[4]), /^missing,failed,.*ENOENT/);
  assert.equal(reports[5].status, 'passed');
  assert.equal(seen.length, 6);
  assert.equal(readFileSync(join(out, 'logs', 'good.log'), 'utf8'), 'hello\n');
  const summary = JSON.parse(readFileSync(join(out, 'summary.json'), 'utf8')) as { here: boolean; steps: StepReport[] };
  assert.ok(summary.here);
  assert.deepEqual(summary.steps, JSON.parse(JSON.stringify(reports)));
});

test(
  'what a step started ends with it',
  { skip: process.platform === 'win32' && 'there are no groups of processes' },
  async () => {
    const out = join(folder, 'children');
    const child = `const { spawn } = require('child_process');
    const one = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
    console.log(one.pid); one.unref(); process.exit(0)`;
    await runSteps([step('parent', child)], { out, directory: ROOT });
    const pid = Number(readFileSync(join(out, 'logs', 'parent.log'), 'utf8'));
    for (;;) {
      try {
        process.kill(pid, 0);
      } catch {
        break;
      }
      // A killed process that nobody has waited for yet is still listed.
      if (/^State:\s*Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))) break;
    }
  },
);

test('no step begins when the budget is over', async () => {
  const out = join(folder, 'budget');
  const reports = await runSteps([step('one', ''), step('two', '')], { out, directory: ROOT, budgetSeconds: 0.5 });
  assert.deepEqual(
    reports.map(({ status, reason }) => [status, reason]),
    [1, 2].map(() => ['not run', 'the budget was over']),
  );
});

test('every step names files that there are, and none twice', () => {
  const steps = gpuSteps(ROOT, undefined);
  assert.equal(new Set(steps.map(({ name }) => name)).size, steps.length);
  for (const { name, command, skip } of steps) {
    assert.equal(skip, undefined);
    const files = command.filter((word) => /^(bench|packages)\/.*\.(ts|json)$/.test(word));
    assert.ok(files.length > 0, name);
    for (const file of files) assert.ok(existsSync(join(ROOT, file)), `${name} wants ${file}`);
  }
});

test('without a GPU tests are skipped with the reason, and benchmarks run to say so themselves', () => {
  for (const { group, skip } of gpuSteps(ROOT, 'no driver')) {
    const expected = group === 'tests' || group === 'protocols' ? 'no GPU: no driver' : undefined;
    assert.equal(skip, expected);
  }
});

test('the command lists its steps, and refuses what it does not know', () => {
  const run = (...args: string[]): { code: number | null; said: string } => {
    const node = ['--disable-warning=ExperimentalWarning', '--conditions=development'];
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [...node, join(ROOT, 'scripts/gpu-checks.ts'), ...args],
      {
        encoding: 'utf8',
      },
    );
    return { code: status, said: stdout + stderr };
  };
  const list = run('--list', '--only', 'tests,bench-soak');
  assert.equal(list.code, 0, list.said);
  assert.match(list.said, /^tests +linear-gpu +300 s at most$/m);
  assert.match(list.said, /^benches +bench-soak/m);
  assert.doesNotMatch(list.said, /bench-gemm/);
  assert.match(run('--only', 'nothing', '--list').said, /there is no step or group nothing/);
  assert.equal(run().code, 2);
});
