import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel } from '../src/compile.ts';
import type { KernelIR } from '../src/ir/ir.ts';
import { parseKernel } from '../src/ir/parse.ts';
import { printKernel } from '../src/ir/print.ts';
import { runPasses } from '../src/passes/passes.ts';
import { simulate } from '../src/sim/simulate.ts';
import {
  all,
  any,
  arriveNamed,
  asm,
  atomic,
  atomicUpdate,
  ballot,
  bf16,
  bid,
  bitcast,
  ceilDiv,
  compareAndSwap,
  deviceAssert,
  e4m3,
  elect,
  exp,
  f16,
  f32,
  fma,
  i32,
  i64,
  idiv,
  kernel,
  laneId,
  lanesBelow,
  log,
  max,
  min,
  nanosleep,
  popc,
  printf,
  range,
  select,
  shared,
  shuffleDown,
  shuffleIndex,
  shuffleUp,
  shuffleXor,
  syncAll,
  syncAny,
  syncCount,
  syncNamed,
  tid,
  trap,
  u32,
  u8,
  unroll,
  warpId,
  type AsmModel,
  type Tensor,
} from '../src/trace/index.ts';

/** Runs `one` in 64 threads; what each gives, and what JavaScript expects of each. PTX must come out, too. */
function agrees(one: () => number, expected: (thread: number) => number): void {
  const ir = kernel({ name: 'program', params: { y: f32.tensor(64) }, threads: 64 }, ({ y }) => {
    'use gpu';
    y[tid()] = f32(one());
  }).trace({});
  const y = new Float32Array(64);
  const { findings } = simulate(ir, { grid: [1, 1, 1], args: { y } });
  assert.deepEqual(findings, []);
  assert.deepEqual(
    [...y],
    Array.from(y, (_v, thread) => Math.fround(expected(thread))),
  );
  assert.match(compileKernel(ir, { arch: 'sm_90a' }).program.ptx, /\.visible \.entry program/);
}

const bit = (v: boolean): number => (v ? 1 : 0);

const CASES: Readonly<Record<string, readonly [run: () => number, expected: (thread: number) => number]>> = {
  shuffles: [
    () => {
      'use gpu';
      const t = tid();
      return shuffleXor(t, 3) + 100 * shuffleIndex(t, 5) + shuffleUp(t, 1) - shuffleDown(t, 1);
    },
    (t) => {
      const base = t & 32;
      const up = (t & 31) === 0 ? t : t - 1;
      const down = (t & 31) === 31 ? t : t + 1;
      return (t ^ 3) + 100 * (base + 5) + up - down;
    },
  ],
  votes: [
    () => {
      'use gpu';
      const t = tid();
      const count = popc(ballot(t % 3 === 0));
      return i32(count) + 100 * select(all(t < 32), 1, 0) + 1000 * select(any(t === 40), 1, 0);
    },
    (t) => 11 + 100 * bit(t < 32) + 1000 * bit(t >= 32),
  ],
  'barriers that combine': [
    () => {
      'use gpu';
      const t = tid();
      const count = i32(syncCount(t < 10));
      return count + 100 * select(syncAll(t < 64), 1, 0) + 1000 * select(syncAny(t === 99), 1, 0);
    },
    () => 110,
  ],
  'named barriers': [
    () => {
      'use gpu';
      const part = shared(i32, 32);
      let v = i32(0);
      if (warpId() === 0) {
        part[laneId()] = laneId() * 2;
        arriveNamed(3, 64);
      } else {
        syncNamed(3, 64);
        v = part[laneId()];
      }
      return v;
    },
    (t) => (t < 32 ? 0 : (t - 32) * 2),
  ],
  'one of a warp': [
    () => {
      'use gpu';
      const chosen = select(elect(), 1, 0);
      return popc(ballot(chosen === 1)) + popc(lanesBelow()) * 10;
    },
    (t) => 1 + 10 * (t & 31),
  ],
  'numbers that are unrolled': [
    () => {
      'use gpu';
      let sum = tid();
      for (const k of unroll(2, 8, 2)) sum += k * tid();
      for (const k of unroll(3)) sum -= k;
      return sum;
    },
    (t) => t + 12 * t - 3,
  ],
  'integer quotients': [
    () => {
      'use gpu';
      return idiv(tid(), 7) * 100 + ceilDiv(tid(), 7) + idiv(0 - tid(), 4) + ceilDiv(9, 2);
    },
    (t) => Math.trunc(t / 7) * 100 + Math.ceil(t / 7) - Math.trunc(t / 4) + 5,
  ],
  conversions: [
    () => {
      'use gpu';
      const t = tid();
      const a = f32(bf16(f32(t) / 3));
      const b = i32(f32(t) * 1.7);
      const c = f32(i32(i64(t) * 3));
      const d = f32(u32(u8(t + 250)));
      return a + f32(b) * 1000 + c + d + f32(e4m3(f32(t))) + f32(f16(0.1));
    },
    (t) => {
      const half = (v: number): number => Math.f16round(v);
      const brain = (v: number): number => {
        const bits = new Uint32Array(Float32Array.of(v).buffer)[0];
        const rounded = bits + 0x7fff + ((bits >>> 16) & 1);
        return new Float32Array(Uint32Array.of(rounded & 0xffff0000).buffer)[0];
      };
      const eight = (v: number): number => {
        const step = v < 16 ? 1 : v < 32 ? 2 : 4;
        const n = v / step;
        const down = Math.floor(n);
        const near = n - down > 0.5 || (n - down === 0.5 && down % 2 === 1) ? down + 1 : down;
        return near * step;
      };
      const r = Math.fround;
      const parts = [r(Math.trunc(r(t * r(1.7))) * 1000), t * 3, (t + 250) & 255, eight(t), half(0.1)];
      return parts.reduce((sum, v) => r(sum + v), brain(r(t / 3)));
    },
  ],
  'bits and extrema': [
    () => {
      'use gpu';
      const t = tid();
      return i32(bitcast(u32, f32(t)) >>> 23) + max(t, 5) * 2 - min(t, 9) + fma(t, 3, 1) - i32(t >>> 1);
    },
    (t) =>
      (new Uint32Array(Float32Array.of(t).buffer)[0] >>> 23) +
      Math.max(t, 5) * 2 -
      Math.min(t, 9) +
      t * 3 +
      1 -
      (t >>> 1),
  ],
};

for (const [name, [run, expected]] of Object.entries(CASES)) {
  test(`${name} compute what their descriptions say`, () => agrees(run, expected));
}

test('exp and log are near', () => {
  const ir = kernel({ name: 'near', params: { y: f32.tensor(64) }, threads: 64 }, ({ y }) => {
    'use gpu';
    y[tid()] = log(exp(f32(tid()) / 8)) * 8;
  }).trace({});
  const y = new Float32Array(64);
  simulate(ir, { grid: [1, 1, 1], args: { y } });
  for (const [t, v] of y.entries()) assert.ok(Math.abs(v - t) < 1e-4);
});

test('atomic operations', () => {
  const ir = kernel({ name: 'count', params: { y: i32.tensor(4), old: i32.tensor(64) }, threads: 32 }, ({ y, old }) => {
    'use gpu';
    const at = (i: number): Tensor<i32> => y(i);
    old[bid() * 32 + tid()] = atomic(at(0), 'add', 1);
    atomicUpdate(at(1), 'max', tid() + bid());
    compareAndSwap(at(2), 0, 7, { order: 'acq_rel', scope: 'sys' });
  }).trace({});
  const y = new Int32Array(4);
  const old = new Int32Array(64);
  assert.deepEqual(simulate(ir, { grid: [2, 1, 1], args: { y, old } }).findings, []);
  assert.deepEqual([...y], [64, 32, 7, 0]);
  assert.deepEqual(
    [...old].sort((a, b) => a - b),
    Array.from({ length: 64 }, (_v, i) => i),
  );
  const { ptx } = compileKernel(ir, { arch: 'sm_90a' }).program;
  assert.match(ptx, /atom\.relaxed\.gpu\.[a-z.]*add/);
  assert.match(ptx, /atom\.acq_rel\.sys\.[a-z.]*cas/);
  assert.throws(
    () =>
      kernel({ name: 'float', params: { y: f32.tensor(1) }, threads: 32 }, (args) => {
        'use gpu';
        atomic(args.y(0), 'max', 1);
      }).trace({}),
    /an atomic max works on integers, not on f32/,
  );
});

test('PTX as it is', () => {
  const ir: KernelIR = kernel({ name: 'raw', params: { y: u32.tensor(32) }, threads: 32 }, ({ y }) => {
    'use gpu';
    const [sum] = asm('add.u32 $0, $1, $2;', [u32], [u32(tid()), u32(5)], { effect: 'pure' });
    y[tid()] = u32(sum);
    asm('membar.sys;', [], []);
    nanosleep(20);
    if (tid() === 99) trap();
  }).trace({});
  const { ptx } = compileKernel(ir, { arch: 'sm_90a' }).program;
  assert.match(ptx, /add\.u32 %\w+, %\w+, %\w+;/);
  assert.match(ptx, /membar\.sys;/);
  assert.match(ptx, /nanosleep/);
  assert.match(ptx, /trap;/);
});

test('prints and checks on the device', () => {
  const ir = kernel({ name: 'checked', params: { n: i32 }, threads: 32 }, ({ n }) => {
    'use gpu';
    for (const k of range(n)) printf('thread {} round {} of {}', tid(), k, 2.5);
    deviceAssert(tid() < 31, 'the last thread is too far');
  }).trace({});
  const { findings } = simulate(ir, { grid: [1, 1, 1], args: { n: 1 } });
  assert.deepEqual(
    findings.map(({ kind }) => kind),
    ['assert'],
  );
  assert.match(findings[0].message, /the last thread is too far[^]*trace-threads\.test\.ts:\d+/);
});

const WRONG: Readonly<Record<string, readonly [run: () => void, message: RegExp]>> = {
  'a barrier of another number': [() => syncNamed(16, 64), /a number from 0 to 15, not 16/],
  'a barrier of broken warps': [() => arriveNamed(1, 48), /whole warps, a multiple of 32, not 48/],
  'bounds that only the device knows': [() => void [...unroll(tid())], /bounds known at compile time: use range/],
};

for (const [name, [run, message]] of Object.entries(WRONG)) {
  test(`refuses ${name}`, () => {
    const wrong = kernel({ name: 'wrong', params: {}, threads: 64 }, () => {
      'use gpu';
      run();
    });
    assert.throws(() => wrong.trace({}), message);
  });
}

test('inline PTX with a model is simulated; without one, or with a wrong one, it is refused', () => {
  const make = (model?: AsmModel): KernelIR =>
    kernel({ name: 'modelled', params: { y: u32.tensor(64) }, threads: 64 }, ({ y }) => {
      'use gpu';
      const options = { effect: 'pure', ...(model ? { model } : {}) } as const;
      const [sum] = asm('add.u32 $0, $1, $2;', [u32], [u32(tid()), u32(0xfffffff0)], options);
      y[tid()] = u32(sum);
    }).trace({});
  const y = new Uint32Array(64);
  const args = { grid: [1, 1, 1] as const, args: { y } };
  const right = make((a, b) => Number(a) + Number(b));
  assert.deepEqual(simulate(runPasses(right), args).findings, []);
  assert.deepEqual(
    [...y],
    Array.from({ length: 64 }, (_v, i) => (i + 0xfffffff0) >>> 0),
  );
  assert.equal(parseKernel(printKernel(right)).body.length, right.body.length);
  assert.throws(() => simulate(make(), args), /only with a model/);
  assert.throws(
    () =>
      simulate(
        make(() => [1, 2]),
        args,
      ),
    /gives 2 results, not 1/,
  );
  assert.throws(
    () =>
      kernel({ name: 'writes', params: { y: u32.tensor(1) }, threads: 1 }, () => {
        'use gpu';
        asm('st.global.u32 [$0], $1;', [], [u32(tid())], { effect: 'write', model: () => {} });
      }).trace({}),
    /computes with registers/,
  );
});
