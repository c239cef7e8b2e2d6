import assert from 'node:assert/strict';
import test from 'node:test';
import type { SimulatorOptions, SimulatorResult, TraceEvent } from '../src/sim/api.ts';
import { simulate } from '../src/sim/simulate.ts';
import { kinds, KernelWriter, tensor, UNVERIFIED } from './sim-kernel.ts';

/** Runs a kernel that fills `out` (i32, one element a thread) in one CTA. */
function run(
  w: KernelWriter,
  threads: number,
  options: SimulatorOptions = {},
): { out: number[]; result: SimulatorResult } {
  const out = new Int32Array(threads);
  const result = simulate(w.kernel, { grid: [1, 1, 1], args: { out }, options: { ...UNVERIFIED, ...options } });
  return { out: [...out], result };
}

function writer(threads: number = 32): KernelWriter {
  return new KernelWriter({ params: [tensor('out', 'i32')], threads });
}

test('lanes take both ways of a branch and meet again', () => {
  const w = writer();
  const tid = w.special('tid.x');
  const x = w.slot('i32', 'x');
  w.if(
    w.compare('lt', tid, 10),
    () => w.set(x, w.value('add', 'i32', [tid, w.constant('i32', 100)])),
    () => w.set(x, w.value('neg', 'i32', [tid])),
  );
  w.store(w.at(w.param(0), tid), w.get(x));
  const { out, result } = run(w, 32);
  assert.deepEqual(kinds(result), []);
  assert.deepEqual(
    out,
    Array.from({ length: 32 }, (_, i) => (i < 10 ? i + 100 : -i)),
  );
});

test('loops with break, continue to the latch, labels of outer loops and return', () => {
  const w = writer();
  const tid = w.special('tid.x');
  const [i, j, sum] = [w.slot('i32', 'i'), w.slot('i32', 'j'), w.slot('i32', 'sum')];
  const zero = w.constant('i32', 0);
  const one = w.constant('i32', 1);
  w.set(sum, zero);
  w.set(i, zero);
  w.loop(
    'outer',
    () => {
      w.if(w.compare('ge', w.get(i), tid), () => w.emit('break', { attributes: { label: 'outer' } }));
      w.set(j, zero);
      w.loop(
        'inner',
        () => {
          w.if(w.compare('ge', w.get(j), 4), () => w.emit('break', { attributes: { label: 'inner' } }));
          w.if(w.compare('eq', w.get(j), 1), () => w.emit('continue', { attributes: { label: 'inner' } }));
          w.if(w.compare('eq', w.get(i), 20), () => w.emit('break', { attributes: { label: 'outer' } }));
          w.if(w.compare('eq', w.get(i), 3), () => w.emit('continue', { attributes: { label: 'outer' } }));
          w.set(sum, w.value('add', 'i32', [w.get(sum), w.get(j)]));
        },
        () => w.set(j, w.value('add', 'i32', [w.get(j), one])),
      );
      w.set(sum, w.value('add', 'i32', [w.get(sum), w.constant('i32', 100)]));
    },
    () => w.set(i, w.value('add', 'i32', [w.get(i), one])),
  );
  w.if(w.compare('eq', tid, 7), () => w.emit('return'));
  w.block('b', () => {
    w.if(w.compare('eq', tid, 8), () => w.emit('break', { attributes: { label: 'b' } }));
    w.set(sum, w.value('add', 'i32', [w.get(sum), one]));
  });
  w.store(w.at(w.param(0), tid), w.get(sum));
  const expected = Array.from({ length: 32 }, (_, tid) => {
    let total = 0;
    outer: for (let i = 0; i < tid; i++) {
      for (let j = 0; j < 4; j++) {
        if (j === 1) continue;
        if (i === 20) break outer;
        if (i === 3) continue outer;
        total += j;
      }
      total += 100;
    }
    return tid === 7 ? 0 : total + (tid === 8 ? 0 : 1);
  });
  const { out, result } = run(w, 32);
  assert.deepEqual(kinds(result), []);
  assert.deepEqual(out, expected);
});

test('special registers in a grid of three dimensions', () => {
  const names = ['tid.y', 'ctaid.x', 'ctaid.z', 'nctaid.y', 'ntid.z', 'laneid', 'warpid'];
  const w = new KernelWriter({ params: [tensor('out', 'i32')], threads: [4, 4, 3] });
  const thread = w.value('add', 'i32', [
    w.value('mad', 'i32', [w.special('tid.y'), w.constant('i32', 4), w.special('tid.x')]),
    w.value('mul', 'i32', [w.special('tid.z'), w.constant('i32', 16)]),
  ]);
  const block = w.value('mad', 'i32', [w.special('ctaid.z'), w.constant('i32', 2), w.special('ctaid.x')]);
  const place = w.value('mad', 'i32', [block, w.constant('i32', 48), thread]);
  const row = w.at(w.param(0), place, 4 * names.length);
  for (const [i, name] of names.entries()) w.store(w.at(row, i), w.special(name));
  const out = new Int32Array(4 * 48 * names.length);
  const result = simulate(w.kernel, { grid: [2, 1, 2], args: { out } });
  assert.deepEqual(kinds(result), []);
  assert.equal(result.stats.ctas, 4);
  const at = (block: number, thread: number): number[] => [...out.subarray((block * 48 + thread) * 7).subarray(0, 7)];
  assert.deepEqual(at(3, 0), [0, 1, 1, 1, 3, 0, 0]);
  assert.deepEqual(at(2, 38), [1, 0, 1, 1, 3, 6, 1]);
});

test('shuffles, votes, match, redux, elect and ballots', () => {
  const w = writer();
  const tid = w.special('tid.x');
  const shuffle = (mode: string, by: number, width = 32): void => {
    const node = w.emit('shuffle', {
      args: [tid, w.constant('i32', by)],
      types: ['i32', 'pred'],
      attributes: { mode, width },
    });
    sums.push(w.value('select', 'i32', [node.results[1], node.results[0], w.constant('i32', -1)]));
  };
  const sums = [w.constant('i32', 0)].slice(1);
  shuffle('bfly', 5);
  shuffle('up', 3);
  shuffle('down', 2, 8);
  shuffle('idx', 1, 4);
  const odd = w.compare('eq', w.value('and', 'i32', [tid, w.constant('i32', 1)]), 1);
  sums.push(w.value('bitcast', 'i32', [w.value('vote', 'u32', [odd], { function: 'ballot' })]));
  sums.push(w.value('convert', 'i32', [w.value('vote', 'pred', [odd], { function: 'any' })]));
  sums.push(w.value('convert', 'i32', [w.value('vote', 'pred', [odd], { function: 'all' })]));
  sums.push(w.value('warp_reduce', 'i32', [tid], { function: 'add' }));
  sums.push(w.value('convert', 'i32', [w.value('elect', 'pred')]));
  const third = w.value('rem', 'i32', [tid, w.constant('i32', 16)]);
  sums.push(w.value('bitcast', 'i32', [w.value('match', 'u32', [third], { function: 'any' })]));
  for (const [i, value] of sums.entries()) w.store(w.at(w.at(w.param(0), tid, 4 * 10), i), value);
  const out = new Int32Array(320);
  const result = simulate(w.kernel, { grid: [1, 1, 1], args: { out } });
  assert.deepEqual(kinds(result), []);
  const lane = (i: number): number[] => [...out.subarray(10 * i, 10 * i + 10)];
  const odds = 0xaaaaaaaa | 0;
  assert.deepEqual(lane(0), [5, -1, 2, 1, odds, 1, 0, 496, 1, 0x10001]);
  assert.deepEqual(lane(6), [3, 3, -1, 5, odds, 1, 0, 496, 0, 0x400040]);
  assert.deepEqual(lane(31), [26, 28, -1, 29, odds, 1, 0, 496, 0, 0x80008000 | 0]);
});

test('a shuffle that not all named lanes execute is found', () => {
  const build = (mask: number): SimulatorResult => {
    const w = writer();
    const tid = w.special('tid.x');
    w.if(w.compare('lt', tid, 16), () => {
      w.value('shuffle', 'i32', [tid, w.constant('i32', 1)], { mode: 'bfly', mask });
    });
    return run(w, 32).result;
  };
  assert.deepEqual(kinds(build(0xffffffff)), ['divergence']);
  assert.deepEqual(kinds(build(0xffff)), []);
});

test('atomics: sums, old values, compare and swap', () => {
  const w = new KernelWriter({
    params: [tensor('sum', 'f32'), tensor('count', 'u32'), tensor('old', 'u32')],
    threads: 64,
  });
  const tid = w.special('tid.x');
  w.emit('reduce', { args: [w.param(0), w.constant('f32', 0.5)], attributes: { function: 'add', count: 1 } });
  const old = w.value('atomic', 'u32', [w.param(1), w.constant('u32', 1)], { function: 'add' });
  w.store(w.at(w.param(2), old), old);
  w.value('atomic', 'u32', [w.at(w.param(1), 1), w.constant('u32', 7), w.value('convert', 'u32', [tid])], {
    function: 'cas',
  });
  const [sum, count, all] = [new Float32Array(1), Uint32Array.of(0, 7), new Uint32Array(64)];
  const result = simulate(w.kernel, { grid: [1, 1, 1], args: { sum, count, old: all } });
  assert.deepEqual(kinds(result), []);
  assert.equal(sum[0], 32);
  assert.deepEqual([...count], [64, 0]);
  assert.deepEqual(
    [...all],
    Array.from({ length: 64 }, (_, i) => i),
  );
});

test('vector loads and stores of 16-bit elements', () => {
  const w = new KernelWriter({ params: [tensor('x', 'bf16', 'read'), tensor('y', 'bf16', 'write')], threads: 4 });
  const tid = w.special('tid.x');
  w.store(w.at(w.param(1), tid, 16), w.loads(w.at(w.param(0), tid, 16), 'bf16', 8, { align: 16 }), { align: 16 });
  const x = Uint16Array.from({ length: 32 }, (_, i) => 0x3f80 + i);
  const y = new Uint16Array(32);
  assert.deepEqual(kinds(simulate(w.kernel, { grid: [1, 1, 1], args: { x, y } })), []);
  assert.deepEqual(y, x);
});

test('print, assert and trap', () => {
  const w = writer();
  const tid = w.special('tid.x');
  w.if(w.compare('lt', tid, 2), () =>
    w.emit('print', { args: [tid, w.constant('f32', 1.5)], attributes: { format: 'lane {} has {}' } }),
  );
  const fine = run(w, 32).result;
  assert.deepEqual(fine.printed, ['lane 0 has 1.5', 'lane 1 has 1.5']);
  assert.ok(fine.ok);
  w.emit('assert', { args: [w.compare('lt', tid, 31)], attributes: { message: 'thread too high' } });
  const { result } = run(w, 32);
  assert.deepEqual(kinds(result), ['assert']);
  assert.match(result.findings[0].message, /thread too high\n.*thread \(31, 0, 0\) of CTA \(0, 0, 0\) at test\.ts:\d+/);
  const t = writer();
  t.emit('trap');
  assert.deepEqual(kinds(run(t, 32).result), ['trap']);
});

test('a trace shows the values of one thread', () => {
  const w = writer();
  const tid = w.special('tid.x');
  const double = w.value('add', 'i32', [tid, tid]);
  w.if(w.compare('gt', double, 8), () => w.store(w.at(w.param(0), tid), double));
  const events: TraceEvent[] = [];
  run(w, 32, { trace: { cta: [0, 0, 0], thread: [5, 0, 0], step: (event) => events.push(event) } });
  assert.deepEqual(
    events.map(({ node, values }) => [node.op, ...values]).filter(([op]) => op !== 'param' && op !== 'ptr_add'),
    [['special', 5], ['add', 10], ['compare', true], ['store'], ['if']],
  );
});

test('an endless loop is found', () => {
  const w = writer();
  w.loop('forever', () => {});
  const { result } = run(w, 32, { limits: { steps: 1000 } });
  assert.deepEqual(kinds(result), ['infinite-loop']);
});

test('arguments that do not fit are refused', () => {
  const w = writer();
  const refused = (
    args: Record<string, Int32Array | number>,
    grid: [number, number, number],
    message: RegExp,
  ): void => {
    assert.throws(() => simulate(w.kernel, { grid, args }), message);
  };
  refused({}, [1, 1, 1], /parameter out is missing/);
  refused({}, [1e9, 1, 1], /1000000000 CTAs; the simulator runs at most 1048576: give smaller sizes/);
  refused({ out: 1 }, [1, 1, 1], /parameter out is a tensor/);
  refused({ out: new Int32Array(1), more: 1 }, [1, 1, 1], /has no parameter more/);
  refused({ out: new Int32Array(1) }, [0, 1, 1], /grid's x/);
});

test('CTAs that wait for each other through global memory make progress', () => {
  const w = new KernelWriter({ params: [tensor('flag', 'u32')], threads: 32 });
  const cta = w.special('ctaid.x');
  const mine = w.at(w.param(0), cta);
  const last = w.value('sub', 'i32', [w.special('nctaid.x'), w.constant('i32', 1)]);
  w.if(w.compare('lt', cta, last), () => {
    w.loop('spin', () => {
      const next = w.load(w.at(mine, 1), 'u32', { order: 'acquire', scope: 'gpu' });
      w.if(w.compare('ne', next, 0), () => w.emit('break', { attributes: { label: 'spin' } }));
    });
  });
  w.if(w.compare('eq', w.special('laneid'), 0), () => {
    w.store(mine, w.constant('u32', 1), { order: 'release', scope: 'gpu' });
  });
  for (const schedule of ['round-robin', 'random'] as const) {
    const flag = new Uint32Array(6);
    const result = simulate(w.kernel, {
      grid: [6, 1, 1],
      args: { flag },
      options: { schedule, limits: { steps: 100000 } },
    });
    assert.deepEqual(kinds(result), []);
    assert.deepEqual([...flag], [1, 1, 1, 1, 1, 1]);
  }
});
