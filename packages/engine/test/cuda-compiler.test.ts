import assert from 'node:assert/strict';
import { setImmediate } from 'node:timers/promises';
import { test } from 'node:test';
import { CompileError, layoutParameters, makeImage, type Image, type Program } from '@rose/cuda';
import { compileKernel } from '@rose/cute';
import { specialise, type KernelCase } from '@rose/kernels';
import { fakeContext } from '../../cuda/test/fake/setup.ts';
import { CompilerPool, type CompilerThread, type LibraryKernel } from '../src/device/cuda/compiler-pool.ts';
import { WorkerThread } from '../src/device/cuda/compiler-thread.ts';
import { DriverKernels } from '../src/device/cuda/driver-kernels.ts';
import { kernelNamed } from '../src/device/cuda/kernels.ts';
import { sourceVersion } from '../src/device/cuda/programs.ts';
import { withOwnCaches } from './own-caches.ts';

const NEVER = new AbortController().signal;

/** A program that is told from others by its PTX. */
function programOf(ptx: string): Program {
  return { name: 'k', ptx, ...layoutParameters([]), sharedBytes: 0, threads: [32, 1, 1] };
}

function imageOf({ ptx }: Program): Image {
  return { cubin: Buffer.from(ptx), kernels: [], log: '', cached: false };
}

/** A kernel whose program has this PTX. */
function kernel(name: string, ptx: string): LibraryKernel {
  return { name, specialisation: { dims: {}, options: { ptx }, tuning: {} } };
}

/** Threads whose jobs end when the test says so. */
class Workshop {
  /** Jobs under way: `trace NAME` or `compile PTX`. */
  readonly open = new Map<string, (error?: Error) => void>();
  /** All that were begun, in their order. */
  readonly begun: string[] = [];
  started = 0;
  closed = 0;

  readonly start = (): CompilerThread => {
    this.started++;
    return {
      trace: ({ name, specialisation }) =>
        this.#job(`trace ${name}`, () => programOf(String(specialisation.options.ptx))),
      compile: (program) => this.#job(`compile ${program.ptx}`, () => imageOf(program)),
      close: async () => void this.closed++,
    };
  };

  /** End a job that is under way, and let what follows begin. */
  async end(job: string, error?: Error): Promise<void> {
    const settle = this.open.get(job);
    assert.ok(settle, `${job} is not under way: ${[...this.open.keys()].join(', ')}`);
    this.open.delete(job);
    settle(error);
    await setImmediate();
  }

  #job<T>(name: string, make: () => T): Promise<T> {
    this.begun.push(name);
    return new Promise((resolve, reject) => {
      this.open.set(name, (error) => (error === undefined ? resolve(make()) : reject(error)));
    });
  }
}

interface Run {
  readonly shop: Workshop;
  readonly programs: string[];
  readonly images: string[];
  readonly ended: Promise<number>;
}

function run(threads: number, programs: string[], kernels: LibraryKernel[], signal = NEVER, there: string[] = []): Run {
  const shop = new Workshop();
  const made: Pick<Run, 'programs' | 'images'> = { programs: [], images: [] };
  const ended = new CompilerPool(shop.start, threads).run(
    {
      programs: programs.map(programOf),
      kernels,
      isThere: (ptx) => there.includes(ptx),
      onProgram: (index, { ptx }) => (made.programs[index] = ptx),
      onImage: ({ ptx }) => void made.images.push(ptx),
    },
    signal,
  );
  ended.catch(() => {});
  return { shop, ...made, ended };
}

test('each program is compiled once, as soon as there is a thread, before more is traced', async () => {
  const list = [kernel('a', 'one'), kernel('b', 'one'), kernel('c', 'two'), kernel('d', 'there')];
  const { shop, programs, images, ended } = run(2, ['kept'], list, NEVER, ['there']);
  assert.deepEqual([...shop.open.keys()], ['compile kept', 'trace a']);
  await shop.end('trace a');
  await shop.end('compile kept');
  assert.deepEqual([...shop.open.keys()], ['compile one', 'trace b']);
  await shop.end('trace b');
  await shop.end('trace c');
  // The other thread has nothing to do until tracing finds more.
  await shop.end('compile one');
  assert.deepEqual([...shop.open.keys()], ['compile two', 'trace d']);
  await shop.end('trace d');
  await shop.end('compile two');
  assert.equal(await ended, 2);
  assert.deepEqual(programs, ['one', 'one', 'two', 'there']);
  assert.deepEqual(images, ['kept', 'one', 'two']);
  assert.deepEqual([shop.started, shop.closed], [2, 2]);
});

test('there are no more threads than work', async () => {
  const { shop, ended } = run(8, ['one'], []);
  await shop.end('compile one');
  assert.equal(await ended, 1);
  assert.equal(shop.started, 1);
});

test('the error is that of the first in the order of the list, whichever comes first in time', async () => {
  const { shop, ended } = run(2, [], [kernel('a', 'one'), kernel('b', 'two'), kernel('c', 'three')]);
  await shop.end('trace b', new Error('b'));
  assert.deepEqual([...shop.open.keys()], ['trace a'], 'c is behind one that failed');
  await shop.end('trace a');
  await shop.end('compile one', new Error('a'));
  await assert.rejects(ended, /^Error: a$/);
  assert.equal(shop.closed, 2);
});

test('what is under way when it is ended is waited for, and told; nothing more is begun', async () => {
  const stop = new AbortController();
  const { shop, images, ended } = run(2, ['one', 'two', 'three'], [], stop.signal);
  stop.abort(new Error('closed'));
  await shop.end('compile two');
  assert.equal(shop.closed, 0);
  await shop.end('compile one');
  await assert.rejects(ended, /closed/);
  assert.deepEqual([images, shop.begun.length, shop.closed], [['two', 'one'], 2, 2]);
});

test('a worker thread traces as this one does, and its errors are what they were', async () => {
  const thread = new WorkerThread({ ordinal: 99, arch: 'sm_90a', version: sourceVersion() });
  const module = kernelNamed('rmsnorm');
  const specialisation = specialise(module, { dims: { rows: 4, columns: 1024 } });
  const program = await thread.trace({ name: 'rmsnorm', specialisation });
  assert.deepEqual(program, compileKernel(module.trace(specialisation), { arch: 'sm_90a' }).program);
  // There is no such GPU, or no driver at all.
  await assert.rejects(thread.compile(program));
  await assert.rejects(thread.trace({ name: 'none', specialisation }), /no kernel none/);
  await thread.close();
  await assert.rejects(thread.trace({ name: 'rmsnorm', specialisation }), /a thread that compiles kernels ended with/);
});

const NAMES = ['rmsnorm', 'cast', 'normalize'] as const;

function wanted(name: (typeof NAMES)[number], columns: number, rows = 8): { name: string; wanted: KernelCase } {
  const dims = name === 'cast' ? { count: columns } : { rows, columns };
  return { name, wanted: { dims, ...(name === 'cast' && { options: { from: 'f32', to: 'bf16' } }) } };
}

/** Kernels on a driver in TypeScript, compiled by threads that are none. */
async function withKernels(
  body: (
    kernels: DriverKernels,
    setup: ReturnType<typeof fakeContext>,
    made: string[],
    fail: { on?: string },
  ) => Promise<void>,
): Promise<void> {
  await withOwnCaches(async () => {
    using setup = fakeContext({ kernels: Object.fromEntries(NAMES.map((name) => [name, () => undefined])) });
    const { context } = setup;
    const made: string[] = [];
    const fail: { on?: string } = {};
    const start = (): CompilerThread => ({
      trace: async ({ name, specialisation }) =>
        compileKernel(kernelNamed(name).trace(specialisation), { arch: 'sm_90a' }).program,
      compile: async (program) => {
        if (program.name === fail.on) throw new CompileError(`kernel ${program.name}`, program.ptx, 'ptxas fatal : no');
        made.push(program.name);
        return makeImage(context, program, { cache: false });
      },
      close: async () => {},
    });
    const home = { context, arch: 'sm_90a', multiprocessors: 4, sharedBytes: 232_448 };
    await body(new DriverKernels(home, { find: () => undefined } as never, start), setup, made, fail);
  });
}

test('what was loaded side by side is there, and goes with its last user', async () => {
  await withKernels(async (kernels, { context }, made) => {
    const list = [wanted('rmsnorm', 128), wanted('rmsnorm', 128, 16), wanted('normalize', 64)];
    const asked = list.map(({ name, wanted: one }) => ({ module: kernelNamed(name), wanted: one }));
    const loaded = await kernels.loadAll(asked, NEVER);
    // Rows are a parameter: two of the three are one program.
    assert.deepEqual([loaded.compiled, loaded.kernels.length, context.live().module], [2, 3, 2]);
    const again = asked.map((one) => kernels.load(one));
    assert.deepEqual(again, loaded.kernels);
    assert.deepEqual([made, context.live().module], [['rmsnorm', 'normalize'], 2]);
    for (const one of loaded.kernels) one.free();
    assert.equal(context.live().module, 2);
    again[0].free();
    assert.equal(context.live().module, 2);
    for (const one of again.slice(1)) one.free();
    assert.deepEqual(context.live(), {});
  });
});

test('when one does not compile, or it is ended, nothing stays loaded', async () => {
  await withKernels(async (kernels, { context }, made, fail) => {
    const asked = [wanted('normalize', 32), wanted('rmsnorm', 96), wanted('cast', 4096)].map((one) => {
      return { module: kernelNamed(one.name), wanted: one.wanted };
    });
    fail.on = 'rmsnorm';
    await assert.rejects(kernels.loadAll(asked, NEVER), /kernel rmsnorm does not compile/);
    assert.deepEqual(context.live(), {});
    const stop = new AbortController();
    delete fail.on;
    const ended = kernels.loadAll(asked, stop.signal);
    stop.abort(new Error('the model is closed'));
    await assert.rejects(ended, /the model is closed/);
    assert.deepEqual(context.live(), {});
    made.length = 0;
    for (const one of (await kernels.loadAll(asked, NEVER)).kernels) one.free();
    assert.equal(made.length, 3);
  });
});
