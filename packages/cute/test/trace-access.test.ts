import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fenceBarrierInit, mbarrier } from '../src/atoms/barrier.ts';
import { tmaLoad } from '../src/atoms/tma.ts';
import { compileKernel } from '../src/compile.ts';
import type { KernelIR } from '../src/ir/ir.ts';
import { parseKernel } from '../src/ir/parse.ts';
import { printKernel } from '../src/ir/print.ts';
import { verifyKernel } from '../src/ir/verify.ts';
import { runPasses } from '../src/passes/passes.ts';
import { simulate } from '../src/sim/simulate.ts';
import {
  cachePolicy,
  f32,
  fragment,
  i32,
  idiv,
  kernel,
  pred,
  shared,
  sync,
  tensorMapOf,
  tid,
  u32,
} from '../src/trace/index.ts';
import { counting, run, widths } from './traced.ts';

test('accesses under a fragment of conditions, one for every two elements', () => {
  const ir = kernel(
    { name: 'masked', params: { x: f32.tensor(256), y: f32.tensor(256), n: i32 }, threads: 32 },
    ({ x, y, n }) => {
      'use gpu';
      const first = tid() * 8;
      const inside = fragment(pred, 4).map((_v, i) => first + 2 * i < n);
      const values = x.tile(8, tid()).load({ where: inside, otherwise: -1 });
      y.tile(8, tid()).store(values.map((v) => v + 1));
      x.tile(8, tid()).store(fragment(f32, 8, 7), { where: inside });
    },
  ).trace({});
  assert.deepEqual(new Set(widths(ir, 'load')), new Set([2]));
  const { x, y } = run(ir, () => ({ x: counting(256), y: new Float32Array(256), n: 100 }));
  const below = (i: number): boolean => 2 * Math.floor(i / 2) < 100;
  assert.deepEqual(
    y,
    counting(256).map((v, i) => (below(i) ? v + 1 : 0)),
  );
  assert.deepEqual(
    x,
    counting(256).map((v, i) => (below(i) ? 7 : v)),
  );
});

test('conditions stand for equally many elements each', () => {
  const make = (): unknown =>
    kernel({ name: 'uneven', params: { x: f32.tensor(8) }, threads: 1 }, ({ x }) => {
      'use gpu';
      x.tile(8, 0).load({ where: fragment(pred, 3).map(() => tid() === 0) });
    }).trace({});
  assert.throws(make, /3 conditions do not stand for 8 elements/);
});

test('cache operators and policies are in the PTX, and the simulator passes them by', () => {
  const ir = kernel(
    { name: 'streams', params: { x: f32.tensor(256), y: f32.tensor(256) }, threads: 32 },
    ({ x, y }) => {
      'use gpu';
      const keep = cachePolicy('evict_last', 0.5);
      const values = x.tile(8, tid()).load({ policy: keep });
      y.tile(8, tid()).store(values, { cache: 'cs' });
      x.tile(8, tid()).store(y.tile(8, tid()).load({ cache: 'cg' }), { policy: keep });
    },
  ).trace({});
  const { ptx } = compileKernel(ir, { arch: 'sm_90' }).program;
  assert.match(ptx, /createpolicy\.fractional\.L2::evict_last\.b64 (%\w+), 0f3f000000/);
  assert.match(ptx, /ld\.global\.L2::cache_hint\.v4\.b32 \{.*\}, \[.*\], %\w+;/);
  assert.match(ptx, /st\.global\.cs\.v4\.b32/);
  assert.match(ptx, /ld\.global\.cg\.v4\.b32/);
  assert.match(ptx, /st\.global\.L2::cache_hint\.v4\.b32 \[.*\], \{.*\}, %\w+;/);
  const { y } = run(ir, () => ({ x: counting(256), y: new Float32Array(256) }));
  assert.deepEqual(y, counting(256));
});

test('a cache operator does not go with another order', () => {
  const ir = kernel({ name: 'both', params: { x: f32.tensor(32) }, threads: 32 }, ({ x }) => {
    'use gpu';
    x[tid()] = x.tile(1, tid()).load({ cache: 'cs', order: 'relaxed' })[0];
  }).trace({});
  assert.throws(() => compileKernel(ir, { arch: 'sm_90' }), /a cache operator: it is weak/);
});

/** A box of 32 x 4 through a map that says so; the barrier expects so many bytes, in one piece or two. */
function boxed(expects: readonly number[], under = false): KernelIR {
  return kernel(
    { name: 'boxed', params: { map: tensorMapOf(f32, [32, 4]), y: f32.tensor(1) }, threads: 32 },
    ({ map, y }) => {
      'use gpu';
      const [first, second] = [0, 1].map(() => shared(f32, 128, { align: 128 }));
      const full = mbarrier();
      if (tid() === 0) {
        full.init(1);
        fenceBarrierInit();
        for (const [i, bytes] of expects.entries()) {
          if (i + 1 < expects.length) full.expectOnly(bytes);
          else full.expect(bytes);
        }
        tmaLoad(first, map, [0, 0], full);
        if (under) {
          if (y[0] > 0) tmaLoad(second, map, [0, 4], full);
        } else tmaLoad(second, map, [0, 4], full);
      }
      full.wait(0);
    },
  ).trace({});
}

test('what a barrier expects is what tensor copies of a known box move', () => {
  assert.throws(() => verifyKernel(boxed([512])), /waits for 512 bytes, but the copies to it move 1024/);
  verifyKernel(boxed([1024]));
  verifyKernel(boxed([512, 512]));
  verifyKernel(boxed([1024], true));
  assert.throws(() => tensorMapOf(f32, [0]), /holds no elements/);
  const text = printKernel(boxed([1024]));
  assert.match(text, /param tensormap "map" box 512/);
  assert.equal(printKernel(parseKernel(text)), text);
});

test('the simulator refuses a tensor map with another box than the kernel relies on', () => {
  const tensor = new Float32Array(32 * 8);
  const args = { map: { map: { element: 'f32', shape: [32, 8], box: [32, 8] } as const, tensor }, y: tensor };
  assert.throws(
    () => simulate(boxed([1024]), { grid: [1, 1, 1], args }),
    /has 1024 bytes, and the kernel relies on 512/,
  );
});

test('the simulator refuses numbers that a parameter cannot hold', () => {
  const of = (type: typeof i32 | typeof u32): KernelIR =>
    kernel({ name: 'numbers', params: { y: i32.tensor(1), n: type }, threads: 1 }, ({ y, n }) => {
      'use gpu';
      y[0] = i32(n);
    }).trace({});
  const give = (ir: KernelIR, n: number | bigint): Int32Array => {
    const y = new Int32Array(1);
    assert.deepEqual(simulate(ir, { grid: [1, 1, 1], args: { y, n } }).findings, []);
    return y;
  };
  assert.equal(give(of(i32), -5)[0], -5);
  assert.equal(give(of(u32), 2 ** 32 - 1)[0], -1);
  for (const [type, n] of [
    [i32, 1.5],
    [i32, 2 ** 31],
    [u32, -1],
    [i32, Number.NaN],
    [u32, 1n << 40n],
  ] as const) {
    assert.throws(() => give(of(type), n), /parameter n is a [iu]32, which .* is not/);
  }
});

test('the simulator refuses more shared memory than there is', () => {
  const ir = kernel({ name: 'vast', params: { y: i32.tensor(1) }, threads: 1 }, ({ y }) => {
    'use gpu';
    const s = shared(i32, 60_000);
    s[tid()] = 1;
    y[0] = s[tid()];
  }).trace({});
  const args = { y: new Int32Array(1) };
  for (const one of [ir, runPasses(ir)]) {
    assert.throws(
      () => simulate(one, { grid: [1, 1, 1], args }),
      /takes 240000 bytes of shared memory.*of 240000, is made here\n {2}at .*trace-access/,
    );
  }
});

test('pieces of shared memory that share their place are counted once by the simulator', () => {
  const ir = kernel({ name: 'shares', params: { y: i32.tensor(1) }, threads: 1 }, ({ y }) => {
    'use gpu';
    const first = shared(i32, 40_000);
    first[tid()] = 1;
    const one = first[tid()];
    sync();
    const second = shared(i32, 40_000);
    second[tid()] = one;
    y[0] = second[tid()];
  }).trace({});
  const y = new Int32Array(1);
  assert.deepEqual(simulate(ir, { grid: [1, 1, 1], args: { y } }).findings, []);
  assert.equal(y[0], 1);
});

test('the simulator refuses what the verifier does', () => {
  const ir = kernel({ name: 'uneven', params: { y: i32.tensor(1) }, threads: 32 }, ({ y }) => {
    'use gpu';
    if (tid() < 10) sync();
    y[0] = 1;
  }).trace({});
  const launch = { grid: [1, 1, 1], args: { y: new Int32Array(1) } } as const;
  assert.throws(() => simulate(ir, launch), /barrier is executed by a whole warp together.*\n {2}at .*trace-access/);
  const { findings } = simulate(ir, { ...launch, options: { checks: { verify: false } } });
  assert.equal(findings[0].kind, 'barrier-divergence');
});

test('the simulator finds integers that are divided by 0, where they are', () => {
  const make = (body: (a: i32, b: i32) => i32): KernelIR =>
    kernel({ name: 'divides', params: { y: i32.tensor(32) }, threads: 32 }, ({ y }) => {
      'use gpu';
      y[tid()] = body(i32(100), tid() - 5);
    }).trace({});
  const run32 = (ir: KernelIR): string[] =>
    simulate(ir, { grid: [1, 1, 1], args: { y: new Int32Array(32) } }).findings.map(({ message }) => message);
  const found = run32(make((a, b) => idiv(a, b)));
  assert.equal(found.length, 1);
  assert.match(found[0], /i32 is divided by 0.*quotient by thread \(5, 0, 0\).*trace-access\.test\.ts:\d+/s);
  const rest = make((a, b) => {
    'use gpu';
    return a % b;
  });
  assert.match(run32(rest)[0], /remainder/);
  const asks = make((a, b) => {
    'use gpu';
    return b === 0 ? 0 : idiv(a, b);
  });
  assert.deepEqual([run32(asks), run32(runPasses(asks))], [[], []]);
});

test('what concerns a whole kernel has its line, and shared memory without a name that of its making', () => {
  const of = (threads: number): KernelIR =>
    kernel({ name: 'wide', params: { y: f32.tensor(8) }, threads }, ({ y }) => {
      'use gpu';
      y[0] = shared(f32, 8)[tid()];
    }).trace({});
  const launch = { grid: [1, 1, 1], args: { y: new Float32Array(8) } } as const;
  for (const work of [() => verifyKernel(of(1025)), () => simulate(of(1025), launch)]) {
    assert.throws(work, /a CTA has 1 to 1024.*\n {2}at .*trace-access\.test\.ts:\d+/);
  }
  assert.throws(() => of(1.5), /threads of kernel wide is 1\.5: .*\n {2}at .*trace-access\.test\.ts:\d+/);
  assert.match(simulate(of(1), launch).findings[0].message, /shared "f32 of line \d+" \+ 0 is read before/);
});
