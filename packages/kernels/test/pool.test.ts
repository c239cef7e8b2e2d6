import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeCase } from '../src/check.ts';
import pool from '../src/pool.ts';
import { specialise } from '../src/spec.ts';
import { runCase, SIMULATOR, testKernel } from './support.ts';

testKernel(pool);

const ints = (list: readonly number[]): Uint8Array => new Uint8Array(Int32Array.from(list).buffer);

for (const kind of ['mean', 'max', 'last'] as const) {
  test(`pool: ${kind} of a sequence has the same bits alone and between others`, async () => {
    const [columns, options] = [40, { kind } as const];
    const starts = [0, 3, 140, 141];
    const given = { rowStart: ints(starts) };
    const whole = await runCase(pool, { dims: { sequences: 3, rows: 141, columns }, options }, given);
    for (const [s, from] of starts.slice(0, -1).entries()) {
      const rows = starts[s + 1] - from;
      const own = { rowStart: ints([0, rows]), x: whole.x.slice(from * columns * 2, (from + rows) * columns * 2) };
      const { y } = await runCase(pool, { dims: { sequences: 1, rows, columns }, options }, own);
      assert.deepEqual(y, whole.y.slice(s * columns * 4, (s + 1) * columns * 4), `sequence ${s}`);
    }
  });
}

test('pool: a launch for more sequences than there are leaves the others as they are', async () => {
  const columns = 40;
  const s = specialise(pool, { dims: { sequences: 3, rows: 9, columns } });
  const { args } = makeCase(pool, s);
  const { rowStart, x, y } = args;
  assert.ok(typeof rowStart !== 'number' && typeof x !== 'number' && typeof y !== 'number');
  rowStart.bytes.set(ints([0, 5, -1, -1]), rowStart.offset);
  await SIMULATOR.run(pool.trace(s), { ...args, sequences: 1 }, pool.grid(s, { multiprocessors: 2 }));
  const own = { rowStart: ints([0, 5]), x: x.bytes.slice(x.offset, x.offset + 5 * columns * 2) };
  const alone = await runCase(pool, { dims: { sequences: 1, rows: 5, columns } }, own);
  const after = y.bytes.subarray(y.offset, y.offset + y.length);
  assert.deepEqual(after.slice(0, columns * 4), Uint8Array.from(alone.y));
  assert.ok(after.subarray(columns * 4).every((byte) => byte === 0xff));
});
