import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadFrom, moved, storeTo } from '../src/atoms/record.ts';
import { clusterSync } from '../src/atoms/cluster.ts';
import { fence, spinUntil } from '../src/atoms/system.ts';
import { runPasses } from '../src/passes/passes.ts';
import type { SimulatorOptions, SimulatorResult } from '../src/sim/api.ts';
import { simulate } from '../src/sim/simulate.ts';
import { atomic, bid, f32, i32, kernel, sync, tid, u32, type Tensor } from '../src/trace/index.ts';
import { block, recordKernel, tensor, thread } from './record-kernel.ts';
import { kinds } from './sim-kernel.ts';
import type { Value } from '../src/ir/ir.ts';

/** What CTAs do to each other in global memory. */

const SCHEDULES: readonly SimulatorOptions[] = [
  { schedule: 'round-robin' },
  { schedule: 'late' },
  { schedule: 'random', seed: 5 },
];

/** Runs a body of several CTAs with 64 numbers of data and 8 flags, in every schedule. */
function run(ctas: number, body: (data: Value, flags: Value) => void): SimulatorResult[] {
  const params = [tensor('data', 'i32', 'readwrite'), tensor('flags', 'u32', 'readwrite')];
  const ir = runPasses(recordKernel('grid', { threads: [32, 1, 1], params }, body));
  return SCHEDULES.map((options) =>
    simulate(ir, { grid: [ctas, 1, 1], args: { data: new Int32Array(64), flags: new Uint32Array(8) }, options }),
  );
}

const RACE = /CTAs that do not synchronise with each other need a release and an acquire/;

function races(results: readonly SimulatorResult[]): void {
  for (const { findings } of results) {
    assert.ok(findings.length > 0);
    for (const { kind, message } of findings) {
      assert.equal(kind, 'race');
      assert.match(message, RACE);
      assert.match(message, /sim-grid\.test\.ts:\d+[^]*sim-grid\.test\.ts:\d+/);
    }
  }
}

function clean(results: readonly SimulatorResult[]): void {
  for (const result of results) assert.deepEqual(kinds(result), []);
}

const number = (of: number): number => of;

test('two CTAs write the same place', () => {
  races(
    run(2, (data) => {
      'use gpu';
      storeTo(moved(data, thread(), 4), block() + 1, 'i32');
    }),
  );
});

test('two CTAs write the same value: nobody can tell them apart', () => {
  clean(
    run(2, (data) => {
      'use gpu';
      storeTo(moved(data, thread(), 4), thread() + 1, 'i32');
    }),
  );
});

test('a CTA reads what another one writes in the same launch', () => {
  races(
    run(2, (data) => {
      'use gpu';
      const here = moved(data, block() * 32 + thread(), 4);
      storeTo(here, thread() + 1, 'i32');
      const there = loadFrom(moved(data, (1 - block()) * 32 + thread(), 4), 'i32');
      storeTo(here, there, 'i32');
    }),
  );
});

type Half = 'release' | 'relaxed' | 'volatile' | 'fence';

/** CTA 0 writes and raises a flag, CTA 1 waits for that and reads. */
function handOver(write: Half, read: 'acquire' | 'relaxed' | 'volatile' | 'fence'): SimulatorResult[] {
  return run(2, (data, flags) => {
    'use gpu';
    const t = thread();
    if (block() === 0) {
      if (t === 0) {
        storeTo(data, 7, 'i32');
        if (write === 'fence') fence('gpu');
        const order = write === 'fence' ? 'relaxed' : write;
        storeTo(flags, 1, 'u32', order === 'volatile' ? { order } : { order, scope: 'gpu' });
      }
    } else if (t === 0) {
      const order = read === 'fence' ? 'relaxed' : read;
      spinUntil(flags, (value) => value === 1, { limit: 1000, order, scope: 'gpu' });
      if (read === 'fence') fence('gpu');
      const seen = loadFrom(data, 'i32');
      storeTo(moved(data, 1, 4), seen, 'i32');
    }
  });
}

test('a flag that is released and acquired orders what lies around it', () => {
  clean(handOver('release', 'acquire'));
  clean(handOver('fence', 'acquire'));
  clean(handOver('release', 'fence'));
  clean(handOver('fence', 'fence'));
});

test('a flag without a release or without an acquire orders nothing', () => {
  races(handOver('relaxed', 'acquire'));
  races(handOver('volatile', 'acquire'));
  races(handOver('release', 'relaxed'));
  races(handOver('release', 'volatile'));
  races(handOver('fence', 'relaxed'));
});

test('what a CTA has heard of it hands on', () => {
  clean(
    run(3, (data, flags) => {
      'use gpu';
      const cta = block();
      if (thread() === 0) {
        if (cta === 0) storeTo(data, 7, 'i32');
        else {
          const mine = moved(flags, cta, 4);
          spinUntil(mine, (value) => value === 1, { limit: 1000, order: 'acquire', scope: 'gpu' });
        }
        if (cta === 2) storeTo(moved(data, 1, 4), loadFrom(data, 'i32'), 'i32');
        storeTo(moved(flags, cta + 1, 4), 1, 'u32', { order: 'release', scope: 'gpu' });
      }
    }),
  );
});

/** The last CTA to finish adds up what all of them left behind. */
function lastOne(order: 'relaxed' | 'acq_rel', fenced: boolean): SimulatorResult {
  const ir = kernel(
    { name: 'last', params: { parts: f32.tensor(64), sum: f32.tensor(1), count: u32.tensor(1) }, threads: 32 },
    ({ parts, sum, count }: { parts: Tensor; sum: Tensor; count: Tensor<u32> }) => {
      'use gpu';
      if (tid() === 0) {
        parts[bid()] = f32(number(bid()));
        if (fenced) fence('gpu');
        const before = atomic(count, 'add', u32(1), { order, scope: 'gpu' });
        if (before === 7) {
          if (fenced) fence('gpu');
          let total = f32(0);
          for (let i = 0; i < 8; i++) total += parts[i];
          sum[0] = total;
        }
      }
      sync();
    },
  ).trace({});
  const sum = new Float32Array(1);
  const args = { parts: new Float32Array(64), sum, count: new Uint32Array(1) };
  const result = simulate(runPasses(ir), { grid: [8, 1, 1], args });
  assert.equal(sum[0], 28);
  return result;
}

test('the last CTA reads what the others left behind: with acq_rel or fences', () => {
  clean([lastOne('acq_rel', false), lastOne('relaxed', true)]);
  races([lastOne('relaxed', false)]);
});

test('atomics do not race with each other, and do with a plain read by another CTA', () => {
  const make = (reads: boolean): SimulatorResult => {
    const ir = kernel({ name: 'count', params: { n: i32.tensor(2) }, threads: 32 }, ({ n }) => {
      'use gpu';
      atomic(n, 'add', i32(1));
      if (reads && tid() === 0) n[1] = n[0];
    }).trace({});
    return simulate(runPasses(ir), { grid: [4, 1, 1], args: { n: new Int32Array(2) } });
  };
  clean([make(false)]);
  races(
    [make(true)].map((result) => ({
      ...result,
      findings: result.findings.filter(({ message }) => RACE.test(message)),
    })),
  );
});

test('a cluster alone is ordered by its own barrier', () => {
  const params = [tensor('data', 'i32', 'readwrite')];
  const ir = recordKernel('pair', { threads: [32, 1, 1], cluster: [2, 1, 1], params }, (data) => {
    'use gpu';
    storeTo(moved(data, block() * 32 + thread(), 4), thread() + 1, 'i32');
    clusterSync();
    const there = loadFrom(moved(data, (block() ^ 1) * 32 + thread(), 4), 'i32');
    clusterSync();
    storeTo(moved(data, block() * 32 + thread(), 4), there, 'i32');
  });
  clean([simulate(runPasses(ir), { grid: [4, 1, 1], args: { data: new Int32Array(128) } })]);
});
