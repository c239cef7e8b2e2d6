import assert from 'node:assert/strict';
import { test } from 'node:test';
import { verifyKernel } from '../src/ir/verify.ts';
import { runPasses } from '../src/passes/passes.ts';
import { simulate } from '../src/sim/simulate.ts';
import { f32, i32, kernel, tid } from '../src/trace/index.ts';
import { PROGRAMS } from './programs/control.ts';
import { CORNERS } from './programs/corners.ts';
import { FLOATS, VALUES } from './programs/values.ts';

const THREADS = 32;

for (const [name, program] of Object.entries({ ...PROGRAMS, ...VALUES, ...CORNERS })) {
  test(`runs as JavaScript does: ${name}`, () => {
    const traced = kernel(
      { name: 'program', params: { y: i32.tensor(THREADS), n: i32 }, threads: THREADS },
      ({ y, n }) => {
        'use gpu';
        y[tid()] = program(tid(), n);
      },
    ).trace({});
    verifyKernel(traced);
    for (const n of [1, 5, 30]) {
      const expected = Array.from({ length: THREADS }, (_, i) => program(i, n));
      for (const [how, ir] of Object.entries({ traced, optimised: runPasses(traced) })) {
        const y = new Int32Array(THREADS);
        const { findings } = simulate(ir, { grid: [1, 1, 1], args: { y, n } });
        assert.deepEqual(findings, [], how);
        assert.deepEqual([...y], expected, `${how}, n = ${n}`);
      }
    }
  });
}

for (const [name, program] of Object.entries(FLOATS)) {
  test(`compares floats as JavaScript does: ${name}`, () => {
    const values = [0, -0, 1, -1.5, NaN, Infinity];
    const count = values.length ** 2;
    const traced = kernel(
      { name: 'program', params: { x: f32.tensor(count), y: f32.tensor(count), z: i32.tensor(count) }, threads: count },
      ({ x, y, z }) => {
        'use gpu';
        z[tid()] = program(x[tid()], y[tid()]);
      },
    ).trace({});
    const x = Float32Array.from({ length: count }, (_, i) => values[i % values.length]);
    const y = Float32Array.from({ length: count }, (_, i) => values[Math.floor(i / values.length)]);
    const z = new Int32Array(count);
    simulate(traced, { grid: [1, 1, 1], args: { x, y, z } });
    assert.deepEqual(
      [...z],
      Array.from(x, (value, i) => program(value, y[i])),
    );
  });
}
