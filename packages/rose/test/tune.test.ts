import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { listDevices, loadDriver, Stream } from '@rose/cuda';
import { bid, compileKernel, f32, kernel, tid } from '@rose/cute';
import {
  combinations,
  defineKernel,
  input,
  KERNELS,
  output,
  parseTuningTable,
  scalar,
  specialise,
  tuningsFor,
  type Choice,
  type Chosen,
  type KernelModule,
  type Space,
  type TunedEntry,
  type TuningTable,
} from '@rose/kernels';
import { fakeContext } from '../../cuda/test/fake/setup.ts';
import { tuneAll } from '../src/commands/tune.ts';
import { CompilerPool } from '../src/kernel/compiler-pool.ts';
import { readShapes } from '../src/kernel/shapes.ts';
import { entryOf, tuneCase, TuningExcluded, type TuningBench } from '../src/kernel/tune.ts';
import { GpuTuningBench } from '../src/kernel/tuning-bench.ts';

/** `rose tune`: the search on a bench that makes times up, the real bench on a driver in TypeScript, and the command. */

const DEVICE = { name: 'NVIDIA Test', arch: 'sm_90a', multiprocessors: 132 };
const folder = mkdtempSync(join(tmpdir(), 'rose-tune-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const TUNING = { threads: [128, 32, 64, 256], turns: [1, 2, 4, 8], order: [1, 2] } as const;

/** y = 2 x. */
const twice = kernel(
  {
    name: 'twice',
    params: { x: f32.tensor('n'), y: f32.tensor('n'), n: f32 },
    threads: (c: { threads: number; turns: number }) => c.threads,
  },
  ({ x, y }, { threads, turns }) => {
    'use gpu';
    for (let turn = 0; turn < turns; turn++) {
      const i = (bid() * turns + turn) * threads + tid();
      if (i < x.shape[0]) y[i] = x[i] * 2;
    }
  },
);

const module: KernelModule = defineKernel({
  name: 'twice',
  summary: 'y = 2 x',
  dims: { n: 'elements' },
  tuning: TUNING,
  // Threads and turns must change together between the two kinds.
  refuse: ({ tuning: { threads, turns } }) =>
    threads === 256 ? (turns < 4 ? '256 threads take 4 turns or more' : undefined) : turns > 4 ? 'too many' : undefined,
  choose: () => ({ threads: 128, turns: 1, order: 2 }),
  tables: { order: ['order'] },
  args: ({ n }) => ({ x: input('f32', [n]), y: output('f32', [n]), n: scalar('f32', n) }),
  trace: ({ dims, tuning: { threads, turns } }) => twice.trace({ dims, threads, turns }),
  grid: ({ dims: { n }, tuning: { threads, turns } }) => [Math.ceil(n / threads / turns), 1, 1],
  reference: ({ x }) => ({ y: x.map((v) => 2 * v) }),
  roofline: ({ n }) => ({ bytes: 8 * n, flops: n }),
  cases: [{ dims: { n: 1000 } }],
});

interface Behaviour {
  readonly us: (tuning: Chosen<Space>) => number;
  readonly bits?: (tuning: Chosen<Space>) => number;
  readonly why?: (tuning: Chosen<Space>) => string | undefined;
}

/** A bench that makes up times; `asked` is what was prepared. */
function bench({ us, bits = () => 7, why = () => undefined }: Behaviour): TuningBench & {
  readonly asked: Chosen<Space>[];
  readonly open: TuningBench['open'];
} {
  const asked: Chosen<Space>[] = [];
  return {
    asked,
    open: () => ({
      ahead: async () => {},
      prepare: ({ tuning }) => {
        asked.push(tuning);
        const reason = why(tuning);
        if (reason !== undefined) throw new TuningExcluded(reason);
        return { outputs: [Uint8Array.of(1, bits(tuning))], time: () => us(tuning) };
      },
      [Symbol.dispose]() {},
    }),
  };
}

/** Fast where threads are `threads` and turns `turns`, slower by each step away from there. */
function best(threads: number, turns: number): Behaviour['us'] {
  const apart = (a: Choice, b: number): number => Math.abs(Math.log2(Number(a) / b));
  return (tuning) => 10 + apart(tuning['threads'], threads) + apart(tuning['turns'], turns);
}

const wanted = { dims: { n: 1000 } };

test('the search finds the fastest, step by step, and leaves the order alone', async () => {
  const fake = bench({ us: best(32, 4) });
  const result = await tuneCase(module, wanted, fake);
  assert.deepEqual(result?.tuning, { threads: 32, turns: 4, order: 2 });
  assert.deepEqual(result.chosen, { threads: 128, turns: 1, order: 2 });
  assert.equal(result.microseconds, 10);
  assert.equal(result.chosenMicroseconds, 14);
  assert.ok(fake.asked.every(({ order }) => order === 2));
  assert.equal(new Set(fake.asked.map((tuning) => JSON.stringify(tuning))).size, fake.asked.length, 'nothing twice');
  assert.deepEqual(entryOf(module, result), {
    key: { n: 1000 },
    tuning: { threads: 32, turns: 4 },
    microseconds: 10,
    chosenMicroseconds: 14,
    dims: { n: 1000 },
  });
});

test('it passes a value that the kernel refuses alone by changing another name with it', async () => {
  const result = await tuneCase(module, wanted, bench({ us: best(256, 8) }));
  assert.deepEqual(result?.tuning, { threads: 256, turns: 8, order: 2 });
});

test('--all tries every combination that the kernel takes', async () => {
  // A valley that no single step leads to.
  const us = ({ threads, turns }: Chosen<Space>): number => (threads === 32 && turns === 4 ? 1 : 10 + Number(turns));
  const fake = bench({ us });
  const walked = await tuneCase(module, wanted, fake);
  assert.deepEqual(walked?.tuning['turns'], 1);
  const all = await tuneCase(module, wanted, fake, { all: true });
  assert.deepEqual(all?.tuning, { threads: 32, turns: 4, order: 2 });
  const allowed = [...combinations(TUNING)].filter(
    (tuning) => tuning['order'] === 2 && module.refuse({ ...wanted, options: {}, tuning }) === undefined,
  );
  assert.equal(all.tried, allowed.length);
});

test('what was fastest for sizes nearby is tried first, so that a valley between does not end the search', async () => {
  const us = ({ threads, turns }: Chosen<Space>): number => (threads === 32 && turns === 4 ? 1 : 10 + Number(turns));
  const entry = (n: number, tuning: Record<string, Choice>): TunedEntry => {
    return { key: { n }, tuning, microseconds: 1, chosenMicroseconds: 2, dims: { n } };
  };
  const fake = bench({ us });
  const known = [
    entry(64, { threads: 64, turns: 2 }),
    entry(2000, { threads: 32, turns: 4 }),
    // Of these the kernel has no such value, refuses both values alone, and takes it with the chosen turns.
    entry(900, { threads: 7, turns: 3 }),
    entry(1100, { threads: 32, turns: 8 }),
  ];
  const result = await tuneCase(module, wanted, fake, { known });
  assert.deepEqual(result?.tuning, { threads: 32, turns: 4, order: 2 });
  assert.deepEqual(fake.asked.slice(0, 4), [
    { threads: 128, turns: 1, order: 2 },
    { threads: 32, turns: 1, order: 2 },
    { threads: 32, turns: 4, order: 2 },
    { threads: 64, turns: 2, order: 2 },
  ]);
});

test('what is faster by less than noise is not taken', async () => {
  const result = await tuneCase(module, wanted, bench({ us: ({ threads }) => (threads === 32 ? 9.95 : 10) }));
  assert.deepEqual(result?.tuning, result?.chosen);
  assert.equal(result?.microseconds, 10);
});

test('a tuning that differs, spills or fails is left out, however fast, and named', async () => {
  const result = await tuneCase(
    module,
    wanted,
    bench({
      us: ({ threads }) => Number(threads),
      bits: ({ threads }) => (threads === 32 ? 8 : 7),
      why: ({ turns }) => (turns === 2 ? 'its threads spill 16 bytes' : undefined),
    }),
  );
  assert.equal(result?.tuning['threads'], 64);
  assert.ok(
    result.excluded.some(
      ({ tuning, why }) => tuning['threads'] === 32 && /other bits than that of the chosen/.test(why),
    ),
  );
  assert.ok(result.excluded.some(({ tuning, why }) => tuning['turns'] === 2 && /spill 16 bytes/.test(why)));
});

test('where the chosen one cannot be used, nothing is', async () => {
  await assert.rejects(tuneCase(module, wanted, bench({ us: () => 1, why: () => 'no' })), TuningExcluded);
});

test('a search that has had enough decides by what it tried; one that is stopped says nothing', async () => {
  for (const state of ['enough', 'stop'] as const) {
    let left = 4;
    const signal = (): 'go' | typeof state => (left-- > 0 ? 'go' : state);
    const result = await tuneCase(module, wanted, bench({ us: best(32, 4) }), { signal });
    if (state === 'stop') assert.equal(result, undefined);
    else assert.ok(result && result.tried < 6);
  }
});

/** Tables after tuning three sizes. */
async function tuneThree(name: string, behaviour: Behaviour, options: object = {}): Promise<[TuningTable, string]> {
  const path = join(folder, name);
  const jobs = [1000, 2000, 3000].map((n) => ({ kernel: 'twice', module, dims: { n } }));
  await tuneAll(jobs, bench(behaviour), DEVICE, { path, ...options });
  const text = readFileSync(path, 'utf8');
  assert.ok(!readdirSync(folder).some((file) => file.endsWith('.tmp')));
  return [parseTuningTable(text, path), text];
}

test('the table has every case; tuning again adds to it and replaces', async () => {
  const [first] = await tuneThree('table.json', { us: best(32, 4) });
  assert.equal(first.kernels['twice'].entries.length, 3);
  const [second] = await tuneThree('table.json', { us: best(64, 4) });
  assert.ok(second.kernels['twice'].entries.every(({ tuning }) => tuning['threads'] === 64));
  const [third] = await tuneThree('table.json', { us: best(32, 4) }, { missing: true });
  assert.deepEqual(third, second);
});

test('Ctrl-C leaves a whole table with what is finished, and its own exit code', async (t) => {
  t.after(() => (process.exitCode = 0));
  let measured = 0;
  const us: Behaviour['us'] = (tuning) => {
    measured += 1;
    if (measured === 30) process.emit('SIGINT', 'SIGINT');
    return best(32, 4)(tuning);
  };
  const [table] = await tuneThree('interrupted.json', { us });
  const { length } = table.kernels['twice'].entries;
  assert.ok(length > 0 && length < 3, `${length} of 3`);
  assert.equal(process.exitCode, 130);
  const [whole] = await tuneThree('interrupted.json', { us }, { missing: true });
  assert.equal(whole.kernels['twice'].entries.length, 3);
  assert.deepEqual(whole.kernels['twice'].entries.slice(0, length), table.kernels['twice'].entries);
});

test('a budget that is used up leaves cases out', async () => {
  const [table] = await tuneThree('budget.json', { us: best(32, 4) }, { budget: 0 });
  assert.deepEqual(table.kernels, {});
});

test('a file of another device, or one that is no table, is not overwritten', async () => {
  const path = join(folder, 'other.json');
  await tuneAll([], bench({ us: () => 1 }), { ...DEVICE, name: 'Another' }, { path });
  const before = readFileSync(path, 'utf8');
  await assert.rejects(
    tuneAll([], bench({ us: () => 1 }), DEVICE, { path }),
    /measured on Another, and this is NVIDIA Test/,
  );
  assert.equal(readFileSync(path, 'utf8'), before);
  writeFileSync(path, '{}');
  await assert.rejects(tuneAll([], bench({ us: () => 1 }), DEVICE, { path }), /is no table of tunings: .* --output/);
  await assert.rejects(
    tuneAll([], bench({ us: () => 1 }), DEVICE, { path: join(path, 'below.json') }),
    /cannot be (read|written)/,
  );
});

/** A GPU of the driver in TypeScript whose `twice` doubles, and takes a time by its threads. */
function fakeGpu(behaviour: { bits?: number; spills?: (ptx: string) => number; fail?: number } = {}) {
  const elements = 1000;
  const setup = fakeContext({
    capability: [9, 0],
    spills: behaviour.spills ?? (() => 0),
    kernels: {
      twice: ({ block, params, memory }) => {
        if (behaviour.fail === block[0]) setup.fake.inject('cuLaunchKernelEx', 1);
        const at = (offset: number): Float32Array => {
          const bytes = memory(Number(params.getBigUint64(offset, true)), 4 * elements);
          return new Float32Array(bytes.buffer, bytes.byteOffset, elements);
        };
        const [x, y] = [at(0), at(8)];
        for (let i = 0; i < elements; i++) y[i] = 2 * x[i];
        if (behaviour.bits === block[0]) y[3] += 1;
        setup.fake.clock += block[0] / 1000;
      },
    },
  });
  const stream = new Stream(setup.context);
  return { ...setup, stream, gpu: { context: setup.context, stream, arch: 'sm_90a', [Symbol.dispose]() {} } };
}

test('on a GPU: every output is compared over poison, kernels are kept, and everything is freed', async () => {
  using folderOfCache = temporaryCache();
  const { gpu, stream, ...setup } = fakeGpu({ bits: 32, spills: (ptx) => (ptx.includes('.reqntid 64,') ? 8 : 0) });
  {
    using place = new GpuTuningBench(gpu);
    const result = await tuneCase(module, wanted, place);
    assert.equal(result?.tuning['threads'], 128);
    const whys = result.excluded.map(({ tuning, why }) => `${String(tuning['threads'])}: ${why}`);
    assert.ok(whys.includes('32: its output has other bits than that of the chosen tuning'), whys.join('\n'));
    assert.ok(whys.includes('64: its threads spill 8 bytes'), whys.join('\n'));
  }
  stream[Symbol.dispose]();
  setup[Symbol.dispose]();
  assert.ok(existsSync(folderOfCache.path));
});

test('threads that cannot compile keep nobody waiting', { skip: hasGpu() && 'this machine has a GPU' }, async () => {
  using pool = new CompilerPool(0, 2);
  const { program } = compileKernel(twice.trace({ dims: { n: 8 }, threads: 32, turns: 1 }), { arch: 'sm_90a' });
  await pool.compile([program, program, program]);
  await pool.compile([program]);
});

/** Compiled kernels go to a folder of this test's. */
function temporaryCache(): Disposable & { readonly path: string } {
  const before = process.env['ROSE_CACHE_DIR'];
  const path = mkdtempSync(join(tmpdir(), 'rose-tune-cache-'));
  process.env['ROSE_CACHE_DIR'] = path;
  return {
    path,
    [Symbol.dispose]() {
      if (before === undefined) delete process.env['ROSE_CACHE_DIR'];
      else process.env['ROSE_CACHE_DIR'] = before;
      rmSync(path, { recursive: true, force: true });
    },
  };
}

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));

function rose(...args: string[]): { status: number | null; stderr: string } {
  const flags = ['--disable-warning=ExperimentalWarning', '--conditions=development'];
  return spawnSync(process.execPath, [...flags, main, 'tune', ...args], { encoding: 'utf8' });
}

let written = 0;
function shapes(list: unknown): string {
  const path = join(folder, `shapes-${(written += 1)}.json`);
  writeFileSync(path, typeof list === 'string' ? list : JSON.stringify(list));
  return path;
}

test('a list of shapes gives each value with each of the others', () => {
  const path = shapes([
    { kernel: 'linear', dims: { rows: [1, 2], columns: 8 }, options: { leaves: [1, 8], bias: true } },
  ]);
  assert.deepEqual(
    readShapes(path).map(({ dims, options }) => [dims['rows'], options?.['leaves'], options?.['bias']]),
    [
      [1, 1, true],
      [2, 1, true],
      [1, 8, true],
      [2, 8, true],
    ],
  );
  for (const [list, why] of [
    ['{', /no list of shapes can be read/],
    [{}, /is a JSON array/],
    [[3], /shape 1 is no object/],
    [[{ dims: {} }], /shape 1 names no kernel/],
    [[{ kernel: 'linear' }], /shape 1 needs dims/],
    [[{ kernel: 'linear', dims: {}, tuning: {} }], /shape 1 has tuning; there are kernel, dims, options/],
  ] as const) {
    assert.throws(() => readShapes(shapes(list)), why);
  }
});

test('without a GPU there is one sentence and an exit code', { skip: hasGpu() && 'this machine has a GPU' }, () => {
  const { status, stderr } = rose('rmsnorm', '--output', join(folder, 'none.json'));
  assert.equal(status, 5);
  assert.match(stderr, /^rose: No NVIDIA driver was found[^\n]*\n$/);
  assert.ok(!existsSync(join(folder, 'none.json')));
});

function hasGpu(): boolean {
  try {
    return listDevices(loadDriver()).length > 0;
  } catch {
    return false;
  }
}

test('what a person gets wrong is told in a sentence, before a GPU is looked for', () => {
  for (const [args, why] of [
    [['attention_rows'], /attention_rows has nothing to tune/],
    [['linear', 'linear_mma', '--set', 'rows=1'], /--set gives the sizes of one kernel/],
    [
      ['--shapes', shapes([{ kernel: 'linear', dims: { rows: 1, columns: 8 } }])],
      /kernel linear: size depth is undefined/,
    ],
  ] as const) {
    const { status, stderr } = rose(...args);
    assert.equal(status, 2, `${args.join(' ')}: ${stderr}`);
    assert.match(stderr, why);
    assert.doesNotMatch(stderr, /\n\s+at /);
  }
});

const SHAPES = fileURLToPath(new URL('../../../bench/tune/', import.meta.url));
for (const file of readdirSync(SHAPES)) {
  test(`${file}: every case gets an entry, --missing finds them all, and kernels are given them`, async (t) => {
    const shapes = readShapes(join(SHAPES, file));
    const byName = new Map(KERNELS.map((kernel) => [kernel.name, kernel]));
    const jobs = shapes.map((shape) => ({ ...shape, module: byName.get(shape.kernel)! }));
    const path = join(folder, `tuned-${file}`);
    // Times without sense: what a kernel chooses is hardly ever the fastest.
    const us = (tuning: Chosen<Space>): number =>
      100 + [...JSON.stringify(tuning)].reduce((sum, letter) => (31 * sum + letter.charCodeAt(0)) % 101, 7);
    const fake = bench({ us });
    const options = { path, missing: true };
    await tuneAll(jobs, fake, DEVICE, options);
    const tried = fake.asked.length;
    assert.ok(tried > jobs.length);
    await tuneAll(jobs, fake, DEVICE, options);
    assert.equal(fake.asked.length, tried, 'nothing is missing any more');

    const warnings = t.mock.method(process, 'emitWarning', () => {});
    process.env['ROSE_TUNE_TABLE'] = path;
    t.after(() => delete process.env['ROSE_TUNE_TABLE']);
    const tunings = tuningsFor(DEVICE, { directory: folder });
    let others = 0;
    for (const { module: kernel, kernel: _, ...shape } of jobs) {
      const known = JSON.stringify(specialise(kernel, shape, tunings).tuning);
      if (known !== JSON.stringify(specialise(kernel, shape).tuning)) others++;
    }
    assert.ok(others > jobs.length / 2, `${others} of ${jobs.length} cases have a tuning of the table`);
    assert.deepEqual(warnings.mock.calls, []);
  });
}
