import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { launcher, rose } from './rose.ts';

test('rose layout prints the value of an expression', async () => {
  const ended = await rose(['layout', 'composition((8,8):(1,8), (4,2):(2,1))']);
  assert.deepEqual([ended.code, ended.stdout, ended.stderr], [0, '(4,2):(2,1)\n', '']);
});

test('rose layout says why an expression has no value, and where it cannot be read', async () => {
  const [refused, unread] = await Promise.all([
    rose(['layout', 'composition((4,8):(2,1), 33:5)']),
    rose(['layout', 'coalesc((4,8):(2,1))']),
  ]);
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /^rose: composition of \(4,8\):\(2,1\) with 33:5: .*neither below the extent 4/);
  assert.equal(unread.code, 2);
  assert.match(unread.stderr, /column 1: there is no function coalesc; did you mean coalesce\?/);
});

test('rose layout - answers each line with one line', async () => {
  const lines = ['8:1', '', 'coalesce((2,4):(1,2))', 'complement(8:0.5)', '(S<3,4,3> o 0 o (8,64):(64,1))(3,17)'];
  const many = Array.from({ length: 20_000 }, (_line, i) => `(${i + 1},2):(2,1)(${i},1)`);
  const ended = await rose(['layout', '-'], `${[...lines, ...many].join('\n')}\n`);
  assert.equal(ended.code, 0, ended.stderr);
  const answers = ended.stdout.split('\n');
  assert.deepEqual(answers.slice(0, 3), ['8:1', '', '8:1']);
  assert.match(answers[3], /^error: column 15: "\." has no meaning here$/);
  assert.equal(answers[4], String((3 * 64 + 17) ^ (1 << 4)));
  assert.equal(answers[5 + 19_999], String(2 * 19_999 + 1));
  assert.equal(answers.length, lines.length + many.length + 1);
});

test('rose layout - answers each line as it comes', async () => {
  const child = spawn(process.execPath, [launcher, 'layout', '-'], { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdout.setEncoding('utf8');
  for (const [asked, answered] of [
    ['8:1\n', '8:1\n'],
    ['size((4,8):(1,4))\r\n', '32\n'],
  ]) {
    child.stdin.write(asked);
    assert.deepEqual(await once(child.stdout, 'data', { signal: AbortSignal.timeout(30_000) }), [answered]);
  }
  child.stdin.end('coalesce((2,4):(1,2))\n\n\0');
  const rest: string[] = [];
  for await (const piece of child.stdout) rest.push(piece as string);
  assert.equal(rest.join(''), '8:1\n\nerror: column 1: "\\u0000" has no meaning here\n');
});

test('an expression may begin with a negative number, and an option that there is not is told', async () => {
  const [negative, option] = await Promise.all([rose(['layout', '-8:1']), rose(['layout', '--tabel'])]);
  assert.match(`${negative.stdout}${negative.stderr}`, /-8/);
  assert.doesNotMatch(negative.stderr, /option/);
  assert.equal(option.code, 2);
  assert.match(option.stderr, /there is no option --tabel/);
});

test('rose layout --svg draws layouts and thread-value layouts', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'rose-layout-'));
  try {
    const file = join(directory, 'tv.svg');
    const ended = await rose(['layout', 'make_layout_tv((2,2):(2,1), (1,2):(0,1))', '--svg', file]);
    assert.equal(ended.code, 0, ended.stderr);
    const picture = await readFile(file, 'utf8');
    assert.match(picture, /^<svg /);
    for (const label of ['T0', 'T1', 'T2', 'T3', 'V0', 'V1']) assert.ok(picture.includes(`>${label}<`), label);
    const number = await rose(['layout', 'size(8:1)', '--svg', file]);
    assert.equal(number.code, 2);
    assert.match(number.stderr, /only layouts can be drawn, not 8/);
  } finally {
    await rm(directory, { recursive: true });
  }
});
