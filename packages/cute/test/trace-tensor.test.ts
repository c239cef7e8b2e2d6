import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatPosition, walk, type KernelIR } from '../src/ir/ir.ts';
import { makeComposedLayout } from '../src/layout/composed.ts';
import { makeLayout } from '../src/layout/layout.ts';
import { Swizzle } from '../src/layout/swizzle.ts';
import { _ } from '../src/layout/tuple.ts';
import { simulate } from '../src/sim/simulate.ts';
import {
  bf16,
  bid,
  compose,
  divisible,
  f32,
  fragment,
  i32,
  kernel,
  laneId,
  mutable,
  range,
  reinterpret,
  rsqrt,
  select,
  shared,
  shuffleXor,
  sync,
  tid,
  u32,
  warpId,
  type Tensor,
} from '../src/trace/index.ts';
import { counting, nodesOf, run, widths } from './traced.ts';

test('adds vectors, threads beyond the end do nothing', () => {
  const add = kernel(
    { name: 'add', params: { x: f32.tensor('N'), y: f32.tensor('N'), z: f32.tensor('N') }, threads: 32 },
    ({ x, y, z }) => {
      'use gpu';
      const i = bid() * 32 + tid();
      if (i >= x.shape[0]) return;
      z[i] = x[i] + y[i];
    },
  );
  const ir = add.trace({});
  assert.deepEqual(
    ir.params.map((param) => [param.name, 'access' in param ? param.access : param.kind]),
    [
      ['x', 'read'],
      ['y', 'read'],
      ['z', 'write'],
      ['N', 'value'],
    ],
  );
  const { z } = run(ir, () => ({ x: counting(40), y: counting(40), z: new Float32Array(40), N: 40 }), 2);
  assert.deepEqual(
    z,
    counting(40).map((v) => 2 * v),
  );
});

test('known dimensions are no parameters', () => {
  const fill = kernel({ name: 'fill', params: { y: f32.tensor('M', 'N') }, threads: 32 }, ({ y }) => {
    'use gpu';
    y(tid(), 1)[0] = y.shape[1];
  });
  assert.deepEqual(
    fill.trace({ dims: { N: 3 } }).params.map(({ name }) => name),
    ['y', 'M'],
  );
  assert.deepEqual(
    fill.trace({ dims: { M: 32, N: 3 } }).params.map(({ name }) => name),
    ['y'],
  );
});

const copyRow = (N: number | string | ReturnType<typeof divisible>, align = 16): KernelIR =>
  kernel(
    {
      name: 'copy',
      params: { x: bf16.tensor(['M', N], { align }), y: bf16.tensor(['M', N], { align }) },
      threads: 32,
    },
    ({ x, y }) => {
      'use gpu';
      const mine = (t: Tensor): Tensor => t.view(() => makeLayout([8, 32])).compose(makeLayout([8, 32]))(_, tid());
      mine(y(bid(), _)).store(mine(x(bid(), _)).load());
    },
  ).trace({});

test('accesses are as wide as layout and alignment prove', () => {
  assert.deepEqual(widths(copyRow(256), 'load'), [8]);
  assert.deepEqual(widths(copyRow(256), 'store'), [8]);
  // A row of 252 elements begins at a multiple of 8 bytes.
  assert.deepEqual(widths(copyRow(252), 'load'), [4, 4]);
  assert.deepEqual(widths(copyRow(255), 'load'), new Array(8).fill(1));
  assert.deepEqual(widths(copyRow('N'), 'load'), new Array(8).fill(1));
  assert.deepEqual(widths(copyRow(divisible('N', 8)), 'load'), [8]);
  assert.deepEqual(widths(copyRow(divisible('N', 2)), 'load'), new Array(4).fill(2));
  assert.deepEqual(widths(copyRow(256, 4), 'load'), new Array(4).fill(2));
});

test('what is known to divide large numbers is true', () => {
  const far = kernel({ name: 'far', params: { y: i32.tensor(2) }, threads: 2 }, ({ y }) => {
    'use gpu';
    y[0] = tid() * (2 ** 30 + 1);
    y[1] = i32(tid() * 3) << 29;
  });
  const ir = far.trace({});
  const divisorOf = (op: string): number => nodesOf(ir, op)[0].results[0].divisor;
  assert.equal((2 ** 30 + 1) % divisorOf('mul'), 0);
  assert.equal((3 * 2 ** 29) % divisorOf('shl'), 0);
});

test('a divisor that a dimension does not have is refused', () => {
  const copy = kernel({ name: 'copy', params: { x: f32.tensor(divisible('N', 8)) }, threads: 32 }, ({ x }) => {
    'use gpu';
    x[0] = 1;
  });
  assert.throws(() => copy.trace({ dims: { N: 12 } }), /N .* 12, which is no multiple of 8/);
});

test('offsets in global memory have 64 bits', () => {
  const scatter = kernel({ name: 'scatter', params: { y: f32.tensor('M', 'N') }, threads: 32 }, ({ y }) => {
    'use gpu';
    y(bid(), tid())[0] = 1;
  });
  const [product] = nodesOf(scatter.trace({}), 'mul');
  assert.equal(product.results[0].type, 'i64');
  // With a known stride the address's own product has 64 bits.
  const known = scatter.trace({ dims: { N: 3 } });
  assert.deepEqual(nodesOf(known, 'mul'), []);
  assert.deepEqual(
    nodesOf(known, 'ptr_add').map((node) => node.attributes.scale),
    [12, 4],
  );
});

test('slices, elements by number and by coordinate agree', () => {
  const gather = kernel(
    { name: 'gather', params: { x: f32.tensor(4, 6), y: f32.tensor(5, 8) }, threads: 8 },
    ({ x, y }) => {
      'use gpu';
      const i = tid() % 4;
      const j = tid() % 6;
      const put = (row: number, v: number): void => {
        y(row, tid())[0] = v;
      };
      put(0, x(i, j)[0]);
      put(1, x(i, _)[j]);
      put(2, x(_, j)[i]);
      // First mode fastest.
      put(3, x[i + 4 * j]);
      put(4, x.compose(makeLayout([2, 2, 6]))(i % 2, i >> 1, j)[0]);
    },
  );
  const { y } = run(gather.trace({}), () => ({ x: counting(24), y: new Float32Array(40) }));
  const expected = Array.from({ length: 40 }, (_v, k) => 6 * ((k % 8) % 4) + ((k % 8) % 6));
  assert.deepEqual([...(y as Float32Array)], expected);
});

test('tiles and partitions', () => {
  const tiled = kernel(
    { name: 'tiled', params: { x: f32.tensor(8, 16), y: f32.tensor(8, 16) }, threads: 32 },
    ({ x, y }) => {
      'use gpu';
      const threads = makeLayout([4, 8], [8, 1]);
      for (let row = 0; row < 2; row++) {
        const from = x.tile([4, 16], [row, 0]).partition(threads, tid());
        y.tile([4, 16], [1 - row, 0])
          .partition(threads, tid())
          .store(from.load());
      }
    },
  );
  const { y } = run(tiled.trace({}), () => ({ x: counting(128), y: new Float32Array(128) }));
  assert.deepEqual(
    y,
    counting(128).map((_v, i) => (i + 64) % 128),
  );
});

test('conditions of loads and stores', () => {
  const guarded = kernel(
    { name: 'guarded', params: { x: f32.tensor(40), y: f32.tensor(40) }, threads: 16 },
    ({ x, y }) => {
      'use gpu';
      const mine = (t: Tensor<f32>): Tensor<f32> => t.view(() => makeLayout([4, 16]))(_, tid());
      const where = tid() < 10;
      const v = mine(x).load({ where, otherwise: 7 });
      mine(y).store(
        v.map((e) => e + 1),
        { where },
      );
      mine(y).store(v, { where: false });
    },
  );
  const ir = guarded.trace({});
  assert.deepEqual(widths(ir, 'load'), [4]);
  const { y } = run(ir, () => ({ x: counting(40), y: new Float32Array(40) }));
  assert.deepEqual(
    y,
    counting(40).map((v) => v + 1),
  );
});

test('options of an access go to its node', () => {
  const streamed = kernel(
    { name: 'streamed', params: { x: f32.tensor(128), y: f32.tensor(128) }, threads: 32 },
    ({ x, y }) => {
      'use gpu';
      const mine = (t: Tensor<f32>): Tensor<f32> => t.view(() => makeLayout([4, 32]))(_, tid());
      mine(y).store(mine(x).load({ order: 'nc', l1: 'no_allocate', prefetch: 128 }), { vector: 2, l1: 'evict_first' });
    },
  ).trace({});
  const [load] = nodesOf(streamed, 'load');
  const { order, l1, prefetch, align } = load.attributes;
  assert.deepEqual({ order, l1, prefetch, align }, { order: 'nc', l1: 'no_allocate', prefetch: 128, align: 16 });
  assert.deepEqual(widths(streamed, 'store'), [2, 2]);
  assert.throws(
    () =>
      kernel({ name: 'wide', params: { x: f32.tensor(128, 3) }, threads: 32 }, ({ x }) => {
        'use gpu';
        x(tid(), _).load({ vector: 4 });
      }).trace({}),
    /accesses of 4 elements are not proved/,
  );
});

test('shared memory, also swizzled', () => {
  const turn = kernel(
    { name: 'turn', params: { x: f32.tensor(32, 8), y: f32.tensor(8, 32) }, threads: 32 },
    ({ x, y }) => {
      'use gpu';
      const tile = shared(f32, makeComposedLayout(new Swizzle(2, 2, 3), 0, makeLayout([8, 32], [1, 8])));
      tile(_, tid()).store(x(tid(), _).load());
      sync();
      for (let row = 0; row < 8; row++) y(row, tid())[0] = tile(row, tid())[0];
    },
  );
  const ir = turn.trace({});
  assert.equal(ir.shared[0].bytes, 1024);
  const { y } = run(ir, () => ({ x: counting(256), y: new Float32Array(256) }));
  assert.deepEqual(
    [...(y as Float32Array)],
    Array.from({ length: 256 }, (_v, i) => (i % 32) * 8 + Math.floor(i / 32)),
  );
});

test('a missing barrier is found, with the lines of both accesses', () => {
  const race = kernel({ name: 'race', params: { y: f32.tensor(64) }, threads: 64 }, ({ y }) => {
    'use gpu';
    const part = shared(f32, 64);
    part[tid()] = f32(tid());
    y[tid()] = part[63 - tid()];
  });
  const { findings } = simulate(race.trace({}), { grid: [1, 1, 1], args: { y: new Float32Array(64) } });
  const found = findings.find(({ kind }) => kind === 'race');
  assert.match(found?.message ?? 'no race', /trace-tensor\.test\.ts:\d+:\d+[^]*trace-tensor\.test\.ts:\d+:\d+/);
});

test('memory as another type', () => {
  const bits = kernel({ name: 'bits', params: { x: f32.tensor(64), y: u32.tensor(64) }, threads: 32 }, ({ x, y }) => {
    'use gpu';
    const words = reinterpret(x, 'u32');
    y[tid()] = words[tid()] >> 16;
    y[tid() + 32] = u32(reinterpret(x, 'u16')[2 * tid() + 1]);
  });
  const { y } = run(bits.trace({}), () => ({ x: counting(64), y: new Uint32Array(64) }));
  const upper = new Uint32Array(counting(32).buffer).map((v) => v >>> 16);
  assert.deepEqual([...(y as Uint32Array)], [...upper, ...upper]);
});

test('rows are normalised: loops of the device, helpers, shared memory and shuffles together', () => {
  const ir = rmsnorm.trace({ threads: 64, dims: { N: 512 } });
  assert.deepEqual([...new Set(widths(ir, 'store').filter((count) => count !== 1))], [8]);
  const bits = (v: number): number => new Uint32Array(Float32Array.of(v).buffer)[0] >>> 16;
  const rows = 3;
  const x = Float32Array.from({ length: rows * 512 }, (_v, i) => ((i * 37) % 64) / 16 - 2);
  const result = run(
    ir,
    () => ({
      x: Uint16Array.from(x, bits),
      w: Uint16Array.from(new Float32Array(512).fill(2), bits),
      y: new Uint16Array(rows * 512),
      eps: 0,
      M: rows,
    }),
    2,
  );
  const y = new Float32Array(Uint32Array.from(result.y as Uint16Array, (v) => v << 16).buffer);
  for (let row = 0; row < rows; row++) {
    const own = x.subarray(row * 512, (row + 1) * 512);
    const scale = 2 / Math.sqrt(own.reduce((sum, v) => sum + v * v, 0) / 512);
    for (const [i, v] of own.entries()) assert.ok(Math.abs(y[row * 512 + i] - v * scale) <= Math.abs(v * scale) / 128);
  }
});

const rmsnorm = kernel(
  {
    name: 'rmsnorm',
    params: { x: bf16.tensor('M', 'N'), w: bf16.tensor('N'), y: bf16.tensor('M', 'N'), eps: f32 },
    threads: ({ threads }: { threads: number }) => threads,
  },
  ({ x, w, y, eps }, { threads }: { threads: number }) => {
    'use gpu';
    const vec = 8;
    const tv = makeLayout([threads, [vec, w.size / (threads * vec)]], [vec, [1, threads * vec]]);
    const mine = (row: Tensor<bf16>): Tensor<bf16> => compose(row, tv)(tid(), _);
    const ws = mine(w).load().to(f32);
    for (const row of range(bid(), x.shape[0], 2)) {
      const xs = mine(x(row, _)).load().to(f32);
      let ss = f32(0);
      for (let i = 0; i < xs.length; i++) ss += xs[i] * xs[i];
      const r = rsqrt(blockSum(ss, threads) / w.size + eps);
      mine(y(row, _)).store(xs.map((v, i) => v * r * ws[i]).to(bf16));
    }
  },
);

function blockSum(own: f32, threads: number): f32 {
  'use gpu';
  let v = own;
  for (let o = 16; o > 0; o >>= 1) v += shuffleXor(v, o);
  if (threads === 32) return v;
  const part = shared(f32, threads / 32);
  if (laneId() === 0) part[warpId()] = v;
  sync();
  let s = part[0];
  for (let i = 1; i < threads / 32; i++) s += part[i];
  sync();
  return s;
}

test('nodes know line, column, function and the calls around it', () => {
  const ir = rmsnorm.trace({ threads: 64, dims: { N: 512 } });
  const [shuffle] = nodesOf(ir, 'shuffle');
  assert.match(
    formatPosition(shuffle.position),
    /trace-tensor\.test\.ts:\d+:\d+ \(called at .*trace-tensor\.test\.ts:\d+:\d+\)$/,
  );
  assert.equal(shuffle.position.name, 'blockSum');
  const lines = new Set<number>();
  walk(ir.body, (node) => lines.add(node.position.line));
  assert.ok(lines.size > 12);
});

test('variables that need no register slot have none', () => {
  const ir = kernel({ name: 'sums', params: { y: f32.tensor(4) }, threads: 32 }, ({ y }) => {
    'use gpu';
    let sum = f32(0);
    for (let i = 0; i < 4; i++) sum += y[i];
    const part = fragment(f32, 2, 1);
    part[0] = sum;
    for (const k of range(3)) y[k] = part[0] + part[1];
    let other = f32(1);
    other += sum;
    if (tid() === 3) y[0] = other;
  }).trace({});
  assert.deepEqual(
    nodesOf(ir, 'slot').map((node) => node.slots[0].name),
    ['i'],
  );
});

test('registers that several functions change', () => {
  const ir = kernel({ name: 'ring', params: { y: i32.tensor(32) }, threads: 32 }, ({ y }) => {
    'use gpu';
    const state = mutable({ stage: i32(0), phase: i32(0) });
    const next = (): void => {
      state.stage += 1;
      if (state.stage === 3) {
        state.stage = 0;
        state.phase ^= 1;
      }
    };
    for (const _k of range(tid())) next();
    y[tid()] = state.stage + 10 * select(state.phase === 1, 1, 0);
  }).trace({});
  const { y } = run(ir, () => ({ y: new Int32Array(32) }));
  assert.deepEqual(
    [...(y as Int32Array)],
    Array.from({ length: 32 }, (_v, i) => (i % 3) + 10 * (Math.floor(i / 3) % 2)),
  );
});
