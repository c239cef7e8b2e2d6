import assert from 'node:assert/strict';
import test from 'node:test';
import type { SimulatorOptions, SimulatorResult } from '../src/sim/api.ts';
import { simulate } from '../src/sim/simulate.ts';
import { kinds, KernelWriter, tensor, UNVERIFIED } from './sim-kernel.ts';

/** Every checker: a kernel that it stops, and its twin that is right. */

function run(w: KernelWriter, options: SimulatorOptions = {}, elements: number = 64): SimulatorResult {
  const args = { out: new Int32Array(elements) };
  return simulate(w.kernel, { grid: [1, 1, 1], args, options: { ...UNVERIFIED, ...options } });
}

function writer(threads: number = 64): KernelWriter {
  return new KernelWriter({ params: [tensor('out', 'i32')], threads });
}

function check(name: string, wrong: string[], build: (good: boolean) => SimulatorResult, message?: RegExp): void {
  test(name, () => {
    const bad = build(false);
    assert.deepEqual(kinds(bad), wrong);
    if (message) assert.match(bad.findings.at(-1)?.message ?? '', message);
    const good = build(true);
    assert.deepEqual(
      good.findings.map((finding) => finding.message),
      [],
    );
  });
}

check(
  'an access behind a tensor',
  ['out-of-bounds'],
  (good) => {
    const w = writer();
    w.store(w.at(w.param(0), w.special('tid.x')), w.special('tid.x'));
    return run(w, {}, good ? 64 : 63);
  },
  /out has 252 bytes, and this is byte 252\n.*write of 4 bytes by thread \(63, 0, 0\) of CTA \(0, 0, 0\) at test\.ts:5:1/,
);

check(
  'an access in front of a tensor',
  ['out-of-bounds'],
  (good) => {
    const w = writer(1);
    w.store(w.at(w.param(0), good ? 0 : -1), w.special('tid.x'));
    return run(w);
  },
  /this is byte -4/,
);

check(
  'an access beyond an allocation of shared memory, into the next one',
  ['out-of-bounds'],
  (good) => {
    const w = writer(32);
    const first = w.shared('first', 64);
    w.shared('second', 64);
    w.store(w.at(first, good ? 15 : 16), w.constant('i32', 1));
    return run(w);
  },
  /"first" has 64 bytes, and this is byte 64/,
);

check(
  'a misaligned vector',
  ['misaligned'],
  (good) => {
    const w = writer(1);
    const one = w.constant('i32', 1);
    w.store(w.at(w.param(0), good ? 4 : 2), [one, one, one, one], { align: 16 });
    return run(w);
  },
  /needs an address that 16 divides/,
);

check('a write to what is only read', ['read-only'], (good) => {
  const w = new KernelWriter({ params: [tensor('out', 'i32', good ? 'write' : 'read')], threads: 1 });
  w.store(w.param(0), w.constant('i32', 1));
  return run(w);
});

check('shared memory that nobody wrote', ['uninitialised'], (good) => {
  const w = writer(32);
  const place = w.at(w.shared('part', 128), w.special('tid.x'));
  if (good) w.store(place, w.constant('i32', 1));
  w.load(place, 'i32');
  return run(w);
});

check('an output that is read before it was written', ['uninitialised'], (good) => {
  const w = new KernelWriter({ params: [tensor('out', 'i32', 'write')], threads: 32 });
  const place = w.at(w.param(0), w.special('tid.x'));
  if (good) w.store(place, w.constant('i32', 1));
  w.load(place, 'i32');
  return run(w);
});

check(
  'a variable that was not set on every way',
  ['uninitialised'],
  (good) => {
    const w = writer(32);
    const x = w.slot('i32', 'x');
    const tid = w.special('tid.x');
    w.if(
      w.compare('lt', tid, 5),
      () => w.set(x, tid),
      () => (good ? w.set(x, tid) : undefined),
    );
    w.store(w.at(w.param(0), tid), w.get(x));
    return run(w);
  },
  /variable x is read before it was set/,
);

/** Two warps: each thread writes its place and reads that of thread 63 - i. */
function exchange(sync: (w: KernelWriter) => void, options: SimulatorOptions = {}): SimulatorResult {
  const w = writer();
  const tid = w.special('tid.x');
  const part = w.shared('part', 256);
  w.store(w.at(part, tid), tid);
  sync(w);
  const other = w.value('sub', 'i32', [w.constant('i32', 63), tid]);
  w.store(w.at(w.param(0), tid), w.load(w.at(part, other), 'i32'));
  return run(w, options);
}

for (const schedule of ['round-robin', 'random', 'late'] as const) {
  check(
    `a missing barrier between warps (${schedule})`,
    // One warp reads what the other has not written yet, the other what the first has: two races, both with two places.
    schedule === 'random' ? ['race', 'race'] : ['uninitialised', 'race', 'race'],
    (good) =>
      exchange((w) => (good ? w.barrier() : undefined), {
        schedule,
        seed: 4,
        checks: { uninitialised: schedule !== 'random' },
      }),
    /a synchronisation is missing.*\n.*(write|read) of shared "part" \+ \d+ by thread.*at test\.ts:\d+:1\n.*at test\.ts:\d+/,
  );
}

check('a missing barrier, thousands of accesses later', ['race', 'race'], (good) =>
  exchange(
    (w) => {
      if (good) w.barrier();
      const own = w.at(w.param(0), w.special('tid.x'));
      for (let i = 0; i < 3000; i++) w.load(own, 'i32');
    },
    { checks: { uninitialised: false } },
  ),
);

check('a barrier missing before memory is used again', ['race', 'race'], (good) => {
  const w = writer();
  const tid = w.special('tid.x');
  const part = w.shared('part', 256);
  w.store(w.at(part, tid), tid);
  w.barrier();
  const read = w.load(w.at(part, w.value('xor', 'i32', [tid, w.constant('i32', 63)])), 'i32');
  if (good) w.barrier();
  w.store(w.at(part, tid), read);
  return run(w);
});

check('lanes of one warp without warp_sync', ['race'], (good) => {
  const w = writer(32);
  const tid = w.special('tid.x');
  const part = w.shared('part', 128);
  w.store(w.at(part, tid), tid);
  if (good) w.emit('warp_sync');
  w.load(w.at(part, w.value('xor', 'i32', [tid, w.constant('i32', 1)])), 'i32');
  return run(w);
});

check('named barriers order those who take part', ['race'], (good) => {
  const w = writer(96);
  const tid = w.special('tid.x');
  const part = w.shared('part', 512);
  w.if(
    w.compare('lt', tid, 64),
    () => {
      w.store(w.at(part, tid), tid);
      w.emit('barrier', { attributes: { id: good ? 2 : 1, count: good ? 96 : 64 } });
    },
    () => {
      if (good) w.emit('barrier', { attributes: { id: 2, count: 96 } });
      else w.emit('nanosleep', { args: [w.constant('u32', 10)] });
      w.load(w.at(part, w.value('sub', 'i32', [tid, w.constant('i32', 64)])), 'i32');
    },
  );
  return run(w);
});

check('two threads write different values to one place', ['race'], (good) => {
  const w = writer(32);
  w.store(w.shared('part', 16), good ? w.constant('i32', 3) : w.special('tid.x'));
  return run(w);
});

check('a race in global memory within a CTA', ['race', 'race'], (good) => {
  const w = writer();
  const tid = w.special('tid.x');
  w.store(w.at(w.param(0), tid), tid);
  if (good) w.barrier();
  w.load(w.at(w.param(0), w.value('xor', 'i32', [tid, w.constant('i32', 32)])), 'i32');
  return run(w, { checks: { uninitialised: false } });
});

check('an atomic and a plain read without a barrier', ['race'], (good) => {
  const w = writer();
  const tid = w.special('tid.x');
  const part = w.shared('part', 16);
  w.if(w.compare('eq', tid, 0), () => w.store(part, w.constant('i32', 0)));
  w.barrier();
  w.emit('reduce', { args: [part, w.constant('i32', 1)], attributes: { function: 'add', count: 1 } });
  if (good) w.barrier();
  w.store(w.at(w.param(0), tid), w.load(part, 'i32'));
  return run(w);
});

check(
  'a barrier that some lanes of a warp do not reach',
  ['barrier-divergence'],
  (good) => {
    const w = writer();
    w.if(w.compare('lt', w.special('tid.x'), good ? 64 : 40), () => w.barrier());
    return run(w);
  },
  /executed by some lanes of a warp only.*\n.*barrier by thread \(32, 0, 0\).*at test\.ts:5:1\n.*a lane that is elsewhere by thread \(40, 0, 0\)/,
);

check(
  'a barrier that a whole warp does not reach',
  ['deadlock'],
  (good) => {
    const w = writer();
    w.if(w.compare('lt', w.special('tid.x'), good ? 64 : 32), () => w.barrier());
    return run(w);
  },
  /1 other warp has ended.*\n.*barrier waits for barrier 0: 32 of 64 threads are there \(32 threads; the first\) by thread \(0, 0, 0\) of CTA \(0, 0, 0\) at test\.ts:5:1/,
);

test('barriers that reduce over all threads', () => {
  const w = writer();
  const tid = w.special('tid.x');
  const low = w.compare('lt', tid, 40);
  const count = w.value('barrier_reduce', 'u32', [low], { function: 'popc' });
  const all = w.value('barrier_reduce', 'pred', [low], { function: 'and' });
  const any = w.value('barrier_reduce', 'pred', [low], { function: 'or' });
  const sum = w.value('add', 'u32', [
    count,
    w.value('select', 'u32', [all, w.constant('u32', 1000), w.constant('u32', 0)]),
  ]);
  w.store(w.at(w.param(0), tid), w.value('select', 'u32', [any, sum, w.constant('u32', 7)]));
  const out = new Int32Array(64);
  assert.deepEqual(kinds(simulate(w.kernel, { grid: [1, 1, 1], args: { out } })), []);
  assert.deepEqual([out[0], out[63]], [40, 40]);
});

test('bank conflicts and sectors are counted on request', () => {
  const w = writer(32);
  const tid = w.special('tid.x');
  const part = w.shared('part', 4096);
  w.store(w.at(part, tid, 128), tid);
  w.store(w.at(w.param(0), tid), tid);
  w.store(w.at(w.param(0), tid, 64), tid);
  const { stats, findings } = run(w, { report: { banks: true, coalescing: true }, checks: { races: false } }, 1024);
  assert.deepEqual(findings, []);
  assert.deepEqual(
    stats.banks.map(({ actual, ideal, instructions }) => [actual, ideal, instructions]),
    [[32, 1, 1]],
  );
  assert.deepEqual(
    stats.coalescing.map(({ actual, ideal, position }) => [actual, ideal, position.line > 0]),
    [
      [32, 4, true],
      [4, 4, true],
    ],
  );
});

test('accesses of one line are one report, however often they were unrolled', () => {
  const w = writer(32);
  const [place, zero] = [w.at(w.shared('part', 4096), w.special('tid.x'), 128), w.constant('i32', 0)];
  for (let i = 0; i < 4; i++) w.builder.emit('store', { args: [place, zero] });
  const { stats } = run(w, { report: { banks: true } });
  assert.deepEqual(
    stats.banks.map(({ actual, ideal, instructions }) => [actual, ideal, instructions]),
    [[128, 4, 4]],
  );
});

test('the same finding is kept once and counted', () => {
  const w = writer(64);
  w.store(w.at(w.param(0), w.special('tid.x')), w.special('tid.x'));
  const [finding, ...rest] = run(w, {}, 1).findings;
  assert.equal(rest.length, 0);
  assert.equal(finding.count, 63);
});

test('too many different findings end the simulation', () => {
  const w = writer(1);
  for (let i = 0; i < 5; i++) w.store(w.at(w.param(0), -1), w.constant('i32', 1));
  assert.deepEqual(kinds(run(w, { limits: { findings: 2 } })), ['out-of-bounds', 'out-of-bounds', 'limit']);
});

test('lanes that wait for lanes of the other branch: the deadlock says what the simulator does', () => {
  const w = writer(32);
  const full = w.shared('barrier', 8, 8);
  const first = w.compare('eq', w.special('laneid'), 0);
  w.if(first, () => w.emit('mbarrier_init', { args: [full], attributes: { count: 1 } }));
  w.emit('warp_sync');
  w.if(
    first,
    () => w.emit('mbarrier_wait', { args: [full, w.constant('u32', 0)] }),
    () => w.if(w.compare('eq', w.special('laneid'), 1), () => w.emit('mbarrier_arrive', { args: [full] })),
  );
  const { findings } = run(w);
  assert.deepEqual(
    findings.map(({ kind }) => kind),
    ['deadlock'],
  );
  assert.match(findings[0].message, /wait outside of the branch/);
});

test('what is not simulated is refused with its place', () => {
  const w = writer(32);
  w.emit('asm', { attributes: { template: 'nanosleep.u32 1;' } });
  assert.throws(() => run(w), /asm is simulated only with a model.*\n {2}at test\.ts:1:1/);
  const t = writer(32);
  t.emit('tcgen05_shift', { args: [t.constant('ptr.tmem', 0)], attributes: { cta_group: 1 } });
  assert.throws(() => run(t), /tcgen05_shift is not simulated/);
});
