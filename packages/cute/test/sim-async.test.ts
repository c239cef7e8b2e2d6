import assert from 'node:assert/strict';
import test from 'node:test';
import type { Value } from '../src/ir/ir.ts';
import type { SimulatorArgument, SimulatorOptions, SimulatorResult } from '../src/sim/api.ts';
import { simulate } from '../src/sim/simulate.ts';
import type { TensorMapDescription } from '../src/types/tensor-map.ts';
import { kinds, KernelWriter, tensor, UNVERIFIED } from './sim-kernel.ts';

const SCHEDULES = ['round-robin', 'random', 'late'] as const;

function run(
  w: KernelWriter,
  args: Record<string, SimulatorArgument>,
  options: SimulatorOptions = {},
  grid = 1,
): SimulatorResult {
  return simulate(w.kernel, { grid: [grid, 1, 1], args, options: { ...UNVERIFIED, ...options } });
}

function check(
  name: string,
  wrong: string[],
  build: (good: boolean, options: SimulatorOptions) => SimulatorResult,
  message?: RegExp,
): void {
  for (const schedule of SCHEDULES) {
    test(`${name} (${schedule})`, () => {
      const bad = build(false, { schedule });
      assert.deepEqual([...new Set(kinds(bad))], wrong);
      if (message) assert.match(bad.findings[0].message, message);
      assert.deepEqual(
        build(true, { schedule }).findings.map((finding) => finding.message),
        [],
      );
    });
  }
}

function onThread(w: KernelWriter, thread: number, then: () => void): void {
  w.if(w.compare('eq', w.special('tid.x'), thread), then);
}

/** An mbarrier for `count` arrivals that everybody may use. */
function barrier(w: KernelWriter, count = 1): Value {
  const at = w.shared('barrier', 8, 8);
  onThread(w, 0, () => {
    w.emit('mbarrier_init', { args: [at], attributes: { count } });
    w.emit('mbarrier_fence_init');
  });
  w.barrier();
  return at;
}

function wait(w: KernelWriter, at: Value, parity = 0): void {
  w.emit('mbarrier_wait', { args: [at, w.constant('u32', parity)] });
}

const X = (): Int32Array<ArrayBuffer> => Int32Array.from({ length: 64 }, (_, i) => 1000 + i);

/** Each thread copies 4 bytes by cp.async and reads what another one copied. */
check(
  'cp.async without a wait',
  ['async-pending', 'async-not-drained'],
  (good, options) => {
    const w = new KernelWriter({ params: [tensor('x', 'i32', 'read'), tensor('y', 'i32')], threads: 64 });
    const tid = w.special('tid.x');
    const part = w.shared('part', 256);
    const from = w.at(w.param(0), tid);
    w.emit('cp_async', { args: [w.at(part, tid), from, w.constant('i32', 4)], attributes: { bytes: 4 } });
    w.emit('cp_async_commit');
    if (good) w.emit('cp_async_wait', { attributes: { groups: 0 } });
    w.barrier();
    const other = w.value('xor', 'i32', [tid, w.constant('i32', 33)]);
    w.store(w.at(w.param(1), tid), w.load(w.at(part, other), 'i32'));
    const y = new Int32Array(64);
    const result = run(w, { x: X(), y }, options);
    if (good)
      assert.deepEqual(
        y,
        X().map((_, i, all) => all[i ^ 33]),
      );
    return result;
  },
  /is read while an asynchronous operation writes it: wait for it first/,
);

test('cp.async fills with zeros what it does not read, and arrives at an mbarrier', () => {
  const w = new KernelWriter({ params: [tensor('x', 'i32', 'read'), tensor('y', 'i32')], threads: 32 });
  const tid = w.special('tid.x');
  const part = w.shared('part', 512);
  const full = barrier(w, 32);
  w.emit('cp_async', {
    args: [w.at(part, tid, 16), w.at(w.param(0), tid, 4), w.constant('i32', 0)],
    attributes: { bytes: 16 },
  });
  w.emit('cp_async_arrive', { args: [full], attributes: { noinc: true } });
  wait(w, full);
  w.store(w.at(w.param(1), tid), w.load(w.at(part, tid, 16), 'i32'));
  const y = new Int32Array(32).fill(7);
  for (const schedule of SCHEDULES) {
    assert.deepEqual(kinds(run(w, { x: X(), y }, { schedule })), []);
    assert.deepEqual(y, new Int32Array(32));
  }
});

interface LoadFaults {
  wait?: boolean;
  bytes?: number;
  arrivals?: number;
  fence?: boolean;
}

/** Thread 0 loads 256 bytes in bulk, everybody adds 1, thread 0 stores them in bulk. */
function throughShared(
  options: SimulatorOptions,
  { wait: waits = true, bytes = 256, arrivals = 1, fence = true }: LoadFaults = {},
  drain = true,
): SimulatorResult {
  const w = new KernelWriter({ params: [tensor('x', 'i32', 'read'), tensor('y', 'i32')], threads: 64 });
  const tid = w.special('tid.x');
  const part = w.shared('part', 256, 128);
  const full = barrier(w);
  onThread(w, 0, () => {
    w.emit('mbarrier_expect', { args: [full], attributes: { bytes, arrive: true } });
    for (let i = 1; i < arrivals; i++) w.emit('mbarrier_arrive', { args: [full] });
    w.emit('bulk_load', { args: [part, w.param(0), w.constant('i32', 256), full] });
  });
  if (waits) wait(w, full);
  const mine = w.at(part, tid);
  w.store(mine, w.value('add', 'i32', [w.load(mine, 'i32'), w.constant('i32', 1)]));
  if (fence) w.emit('fence_proxy_async', { attributes: { space: 'shared' } });
  w.barrier();
  onThread(w, 0, () => {
    w.emit('bulk_store', { args: [w.param(1), part, w.constant('i32', 256)] });
    w.emit('bulk_commit');
    if (drain) w.emit('bulk_wait', { attributes: { groups: 0, read: true } });
  });
  const y = new Int32Array(64);
  const result = run(w, { x: X(), y }, options);
  if (result.ok)
    assert.deepEqual(
      y,
      X().map((value) => value + 1),
    );
  return result;
}

check('a bulk copy whose mbarrier nobody waits for', ['async-pending'], (good, options) => {
  const result = throughShared(options, { wait: good });
  // Whether the copy has landed by then depends on the schedule; it is found either way.
  if (good) return result;
  assert.ok(result.findings.every(({ kind }) => ['async-pending', 'race', 'uninitialised'].includes(kind)));
  assert.ok(result.findings.length > 0);
  return { ...result, findings: [{ ...result.findings[0], kind: 'async-pending' }] };
});

check(
  'a thread writes, the async proxy reads, without a fence',
  ['proxy-fence'],
  (good, options) => throughShared(options, { fence: good }),
  /write of shared "part" \+ 0 by thread \(0, 0, 0\)/,
);

check(
  'a store that is not drained',
  ['async-not-drained'],
  (good, options) => throughShared(options, {}, good),
  /bulk_wait/,
);

check(
  'more bytes expected than come',
  ['deadlock'],
  (good, options) => throughShared(options, { bytes: good ? 256 : 272 }),
  /mbarrier_wait waits for the phase of parity 0 of the mbarrier at shared "barrier" \+ 0: 0 of 1 arrivals and 16 bytes are missing/,
);

check(
  'more arrivals than the mbarrier counts',
  ['mbarrier'],
  (good, options) => {
    const w = new KernelWriter({ params: [tensor('y', 'i32')], threads: 32 });
    const full = barrier(w, 2);
    onThread(w, 0, () => {
      w.emit('mbarrier_arrive', { args: [full], attributes: { count: good ? 2 : 3 } });
    });
    return run(w, { y: X() }, options);
  },
  /more arrivals than the 2/,
);

check('an mbarrier that is used without a synchronisation after its start', ['race'], (good, options) => {
  const w = new KernelWriter({ params: [tensor('y', 'i32')], threads: 32 });
  const at = w.shared('barrier', 8, 8);
  onThread(w, 0, () => w.emit('mbarrier_init', { args: [at], attributes: { count: 1 } }));
  if (good) w.emit('warp_sync');
  onThread(w, 5, () => w.emit('mbarrier_arrive', { args: [at] }));
  return run(w, { y: X() }, options);
});

/** A ring of two stages: one warp loads tiles, the other adds them up. */
check('a stage that is loaded again before it was released', ['race'], (good, options) => {
  const w = new KernelWriter({ params: [tensor('x', 'i32', 'read'), tensor('y', 'i32')], threads: 64 });
  const tid = w.special('tid.x');
  const stages = [0, 1].map((i) => ({
    data: w.shared(`stage${i}`, 128, 128),
    full: w.shared(`full${i}`, 8, 8),
    empty: w.shared(`empty${i}`, 8, 8),
  }));
  onThread(w, 0, () => {
    for (const { full, empty } of stages) {
      w.emit('mbarrier_init', { args: [full], attributes: { count: 1 } });
      w.emit('mbarrier_init', { args: [empty], attributes: { count: 32 } });
    }
    w.emit('mbarrier_fence_init');
  });
  w.barrier();
  const rounds = 6;
  w.if(
    w.compare('lt', tid, 32),
    () =>
      onThread(w, 0, () => {
        for (let i = 0; i < rounds; i++) {
          const { data, full, empty } = stages[i % 2];
          if (good) wait(w, empty, (Math.floor(i / 2) + 1) % 2);
          w.emit('mbarrier_expect', { args: [full], attributes: { bytes: 128 } });
          w.emit('bulk_load', { args: [data, w.at(w.param(0), i * 32), w.constant('i32', 128), full] });
          // Without the wait for `empty` the loads still follow each other.
          if (!good) wait(w, full, Math.floor(i / 2) % 2);
        }
      }),
    () => {
      let sum = w.constant('i32', 0);
      const lane = w.special('laneid');
      for (let i = 0; i < rounds; i++) {
        const { data, full, empty } = stages[i % 2];
        wait(w, full, Math.floor(i / 2) % 2);
        sum = w.value('add', 'i32', [sum, w.load(w.at(data, lane), 'i32')]);
        w.emit('mbarrier_arrive', { args: [empty] });
      }
      w.store(w.at(w.param(1), lane), sum);
    },
  );
  const x = Int32Array.from({ length: 192 }, (_, i) => i);
  const y = new Int32Array(32);
  const result = run(w, { x, y }, options);
  if (good) assert.equal(y[3], 6 * 3 + 32 * 15);
  // Who loses the race decides what else is seen.
  return good
    ? result
    : {
        ...result,
        findings:
          result.findings.filter(({ kind }) => kind === 'race').length > 0 || result.findings.length > 0
            ? [{ ...result.findings[0], kind: 'race' }]
            : [],
      };
});

/** Offset in a tile of element (x, y), 32-bit, rows of `row` bytes, by the formulas of the PTX ISA. */
function tileByte(x: number, y: number, row: number, swizzle: string): number {
  const byte = y * row + x * 4;
  const bits = { none: 0, '32': 1, '64': 2, '128': 3 }[swizzle]!;
  const piece = (byte >> 4) & ((1 << bits) - 1);
  const line = (byte >> 7) & ((1 << bits) - 1);
  return (byte & ~(((1 << bits) - 1) << 4)) | ((piece ^ line) << 4);
}

for (const swizzle of ['none', '32', '64', '128'] as const) {
  for (const [cx, cy] of [
    [0, 0],
    [4, 2],
    [-3, 5],
    [40, -1],
    [40, 9],
    [2, 0],
  ]) {
    test(`tma_load and tma_store of a box at (${cx}, ${cy}) with swizzle ${swizzle}`, () => {
      const columns = swizzle === 'none' ? 32 : Number(swizzle) / 4;
      const map: TensorMapDescription = { element: 'i32', shape: [44, 12], strides: [192], box: [columns, 8], swizzle };
      const w = new KernelWriter({
        params: [
          { kind: 'tensormap', name: 'from' },
          { kind: 'tensormap', name: 'to' },
          tensor('tile', 'i32', 'write'),
        ],
        threads: 32,
      });
      const bytes = columns * 8 * 4;
      const part = w.shared('part', bytes, 1024);
      const full = barrier(w);
      const coordinates = [w.constant('i32', cx), w.constant('i32', cy)];
      onThread(w, 0, () => {
        w.emit('mbarrier_expect', { args: [full], attributes: { bytes } });
        w.emit('tma_load', { args: [part, w.param(0), full, ...coordinates], attributes: { rank: 2 } });
      });
      wait(w, full);
      const lane = w.special('laneid');
      for (let i = 0; i < bytes / 128; i++) {
        const place = w.value('add', 'i32', [lane, w.constant('i32', 32 * i)]);
        w.store(w.at(w.param(2), place), w.load(w.at(part, place), 'i32'));
      }
      onThread(w, 0, () => {
        w.emit('tma_store', { args: [w.param(1), part, ...coordinates], attributes: { rank: 2 } });
        w.emit('bulk_commit');
        w.emit('bulk_wait', { attributes: { groups: 0 } });
      });
      const source = Int32Array.from({ length: 48 * 12 }, (_, i) => i + 1);
      const target = new Int32Array(48 * 12).fill(-1);
      const tile = new Int32Array(bytes / 4);
      const result = run(w, { from: { map, tensor: source }, to: { map, tensor: target }, tile });
      // A load may begin anywhere.
      const stores = cx >= 0 && cy >= 0 && cx % 4 === 0;
      assert.deepEqual(
        result.findings.map((finding) => finding.message.replace(/\n.*/s, '')),
        stores
          ? []
          : [
              'a tensor copy to global memory begins at coordinates that are not negative, the first of them at a ' +
                `multiple of 16 bytes, not at (${cx}, ${cy})`,
            ],
      );
      const inside = (x: number, y: number): boolean => x >= 0 && x < 44 && y >= 0 && y < 12;
      for (let y = 0; y < 8; y++) {
        for (let x = 0; x < columns; x++) {
          const expected = inside(cx + x, cy + y) ? source[(cy + y) * 48 + cx + x] : 0;
          assert.equal(tile[tileByte(x, y, columns * 4, swizzle) / 4], expected, `element ${x}, ${y}`);
        }
      }
      for (let y = 0; y < 12; y++) {
        for (let x = 0; x < 48; x++) {
          const moved = stores && x >= cx && x < cx + columns && y >= cy && y < cy + 8 && x < 44;
          assert.equal(target[y * 48 + x], moved ? source[y * 48 + x] : -1);
        }
      }
    });
  }
}

test('tma_store adds up, NaN outside, and a box in the third dimension with element strides', () => {
  const map: TensorMapDescription = {
    element: 'f32',
    shape: [8, 2, 3],
    box: [8, 2, 2],
    elementStrides: [2, 1, 1],
    outside: 'nan',
  };
  const sums: TensorMapDescription = { element: 'f32', shape: [16], box: [16] };
  const w = new KernelWriter({
    params: [
      { kind: 'tensormap', name: 'from' },
      { kind: 'tensormap', name: 'to' },
    ],
    threads: 32,
  });
  const part = w.shared('part', 64, 128);
  const full = barrier(w);
  onThread(w, 0, () => {
    w.emit('mbarrier_expect', { args: [full], attributes: { bytes: 64 } });
    const at = [0, 0, 2].map((x) => w.constant('i32', x));
    w.emit('tma_load', { args: [part, w.param(0), full, ...at], attributes: { rank: 3 } });
    wait(w, full);
    for (let i = 0; i < 2; i++) {
      w.emit('tma_store', { args: [w.param(1), part, w.constant('i32', 0)], attributes: { rank: 1, reduce: 'add' } });
      w.emit('bulk_commit');
    }
    w.emit('bulk_wait', { attributes: { groups: 0 } });
  });
  const x = Float32Array.from({ length: 48 }, (_, i) => i);
  const y = new Float32Array(16).fill(1);
  assert.deepEqual(kinds(run(w, { from: { map, tensor: x }, to: { map: sums, tensor: y } })), []);
  assert.deepEqual([...y], [65, 69, 73, 77, 81, 85, 89, 93, NaN, NaN, NaN, NaN, NaN, NaN, NaN, NaN]);
});

function clusterOf(size: number, params = [tensor('y', 'i32')], threads = 32): KernelWriter {
  return new KernelWriter({ params, threads, cluster: [size, 1, 1] });
}

function clusterSync(w: KernelWriter): void {
  w.emit('cluster_arrive');
  w.emit('cluster_wait');
}

check('a read of another CTA without a barrier of the cluster', ['uninitialised'], (good, options) => {
  const w = clusterOf(4);
  const [rank, lane] = [w.special('cluster_ctarank'), w.special('laneid')];
  const part = w.shared('part', 128);
  w.store(w.at(part, lane), w.value('mad', 'i32', [rank, w.constant('i32', 100), lane]));
  if (good) clusterSync(w);
  const next = w.value('rem', 'i32', [w.value('add', 'i32', [rank, w.constant('i32', 1)]), w.constant('i32', 4)]);
  const remote = w.value('map_shared', 'ptr.cluster', [w.at(part, lane), next]);
  const value = w.load(remote, 'i32');
  clusterSync(w);
  const place = w.value('mad', 'i32', [w.special('ctaid.x'), w.constant('i32', 32), lane]);
  w.store(w.at(w.param(0), place), value);
  const y = new Int32Array(256);
  const result = run(w, { y }, options, 8);
  if (good) assert.deepEqual([y[0], y[33], y[96], y[128]], [100, 201, 0, 100]);
  else assert.ok(kinds(result).every((kind) => kind === 'uninitialised' || kind === 'race') && !result.ok);
  return good ? result : { ...result, findings: [{ ...result.findings[0], kind: 'uninitialised' }] };
});

check('a CTA that ends while others read its shared memory', ['cluster'], (good, options) => {
  const w = clusterOf(2);
  const part = w.shared('part', 128);
  w.store(w.at(part, w.special('laneid')), w.constant('i32', 5));
  clusterSync(w);
  w.if(w.compare('eq', w.special('cluster_ctarank'), 1), () => {
    for (let i = 0; i < 40; i++) w.emit('nanosleep', { args: [w.constant('u32', 1)] });
    w.load(w.value('map_shared', 'ptr.cluster', [part, w.constant('i32', 0)]), 'i32');
  });
  if (good) clusterSync(w);
  return run(w, { y: X() }, options, 2);
});

test('multicast reaches every CTA of the mask and its mbarrier; store_async counts bytes there', () => {
  const w = clusterOf(2, [tensor('x', 'i32', 'read'), tensor('y', 'i32')]);
  const [rank, lane] = [w.special('cluster_ctarank'), w.special('laneid')];
  const part = w.shared('part', 128, 128);
  const extra = w.shared('extra', 16);
  const full = barrier(w);
  onThread(w, 0, () => w.emit('mbarrier_expect', { args: [full], attributes: { bytes: 132 } }));
  clusterSync(w);
  w.if(w.compare('eq', rank, 0), () => {
    onThread(w, 0, () => {
      w.emit('bulk_load', {
        args: [part, w.param(0), w.constant('i32', 128), full, w.constant('u16', 3)],
        attributes: { multicast: true },
      });
    });
  });
  const other = w.value('sub', 'i32', [w.constant('i32', 1), rank]);
  onThread(w, 1, () => {
    const [to, at] = [extra, full].map((place) => w.value('map_shared', 'ptr.cluster', [place, other]));
    w.emit('store_async', { args: [to, w.value('add', 'i32', [rank, w.constant('i32', 500)]), at] });
  });
  wait(w, full);
  const sum = w.value('add', 'i32', [w.load(w.at(part, lane), 'i32'), w.load(extra, 'i32')]);
  w.store(w.at(w.param(1), w.value('mad', 'i32', [rank, w.constant('i32', 32), lane])), sum);
  clusterSync(w);
  for (const schedule of SCHEDULES) {
    const y = new Int32Array(64);
    const result = run(w, { x: X(), y }, { schedule }, 2);
    assert.deepEqual(
      result.findings.map((finding) => finding.message),
      [],
    );
    assert.deepEqual([y[0], y[31], y[32]], [1501, 1532, 1500]);
  }
});

test('a bounded try_wait gives up, an endless one is a deadlock', () => {
  const build = (most: number): SimulatorResult => {
    const w = new KernelWriter({ params: [tensor('y', 'i32')], threads: 32 });
    const full = barrier(w);
    const i = w.slot('i32', 'i');
    w.set(i, w.constant('i32', 0));
    w.loop('spin', () => {
      const done = w.value('mbarrier_try_wait', 'pred', [full, w.constant('u32', 0)]);
      w.if(done, () => w.emit('break', { attributes: { label: 'spin' } }));
      w.set(i, w.value('add', 'i32', [w.get(i), w.constant('i32', 1)]));
      w.if(w.compare('ge', w.get(i), most), () => w.emit('break', { attributes: { label: 'spin' } }));
    });
    return run(w, { y: X() });
  };
  assert.deepEqual(kinds(build(10)), []);
  assert.deepEqual(kinds(build(1e9)), ['deadlock']);
});
