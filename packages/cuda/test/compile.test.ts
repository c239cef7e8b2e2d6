import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { test } from 'node:test';
import {
  architectureOf,
  chooseAssembler,
  CompileError,
  compile,
  CubinCache,
  DriverAssembler,
  Kernel,
  keptImage,
  makeImage,
  PtxasAssembler,
  type Program,
} from '../src/index.ts';
import { fakeContext } from './fake/setup.ts';
import { temporaryFolder } from './fake/folder.ts';
import { ALL, VECTOR_ADD } from './kernels.ts';

const BROKEN = VECTOR_ADD.ptx.replace('add.rn.f32', 'add.bogus.f32');

function isLocated(error: unknown): boolean {
  assert.ok(error instanceof CompileError);
  const [first] = error.diagnostics;
  assert.deepEqual(first.place, { file: 'kernels/vector-add.ts', line: 12, column: 7 });
  assert.match(first.ptxText ?? '', /^add\.bogus\.f32/);
  assert.match(
    error.message,
    /^kernel vector_add does not compile:\n {2}kernels\/vector-add\.ts:12:7: error: .*\(PTX line \d+: add\.bogus\.f32/,
  );
  return true;
}

test('the driver compiles, and its log becomes located errors and resources', () => {
  using setup = fakeContext();
  const assembler = new DriverAssembler(setup.context);
  const { cubin, kernels } = assembler.assemble('vector_add', VECTOR_ADD.ptx, 'sm_90a', {
    maxRegisters: 64,
    lineInfo: false,
  });
  assert.ok(cubin.length > 0);
  assert.deepEqual(kernels, [
    { name: 'vector_add', registers: 24, stackBytes: 8, spillStoreBytes: 4, spillLoadBytes: 12 },
  ]);
  assert.throws(() => assembler.assemble('vector_add', BROKEN, 'sm_90a'), isLocated);
  setup.fake.inject('cuLinkComplete', 2);
  assert.throws(
    () => assembler.assemble('vector_add', VECTOR_ADD.ptx, 'sm_90a'),
    /cuLinkComplete failed with CUDA_ERROR_OUT_OF_MEMORY .* for kernel vector_add/,
  );
});

test('a place is of the same function, or there is none', () => {
  const lines = ['.file 1 "a.ts"', '.entry one() {', '.loc 1 3 4', 'ret;', '}', '.entry two() {', 'bogus;', '}'];
  const { diagnostics } = new CompileError(
    'k',
    lines.join('\n'),
    'ptxas x.ptx, line 7; error   : no\nptxas x.ptx, line 4; warning : hm\nptxas fatal   : aborted',
  );
  assert.deepEqual(diagnostics, [
    { severity: 'error', message: 'no', ptxLine: 7, ptxText: 'bogus;' },
    { severity: 'warning', message: 'hm', ptxLine: 4, ptxText: 'ret;', place: { file: 'a.ts', line: 3, column: 4 } },
  ]);
  assert.match(
    new CompileError('k', '', 'ptxas fatal   : Unresolved extern function').message,
    /error: Unresolved extern/,
  );
  assert.match(new CompileError('k', '', '').message, /gives no reason/);
});

test('the architecture is the PTX’s where it is bound to one, else the device’s', () => {
  assert.equal(architectureOf('.version 8.0\n.target sm_90a\n', 90), 'sm_90a');
  assert.equal(architectureOf('.target sm_80', 90), 'sm_90');
  assert.equal(architectureOf('', 100), 'sm_100');
});

test('a kernel is compiled once and comes from the cache after that', () => {
  using folder = temporaryFolder();
  using setup = fakeContext({ kernels: { vector_add: () => undefined } });
  const { context, fake } = setup;
  const cache = new CubinCache({ directory: folder.path });
  const assembler = new DriverAssembler(context);
  for (const cached of [false, true]) {
    using kernel = new Kernel(context, VECTOR_ADD, { cache, assembler });
    assert.equal(kernel.cached, cached);
    assert.equal(kernel.resources?.registers, 24);
    assert.throws(() => kernel.prepare().set('z', 1), /has no parameter z: it has x, y, out, n/);
  }
  assert.equal(fake.counts.get('cuLinkCreate_v2'), 1);
  const different: [Program, object][] = [
    [{ ...VECTOR_ADD, ptx: `${VECTOR_ADD.ptx}\n` }, {}],
    [VECTOR_ADD, { maxRegisters: 32 }],
    [VECTOR_ADD, { lineInfo: false }],
    [VECTOR_ADD, { optimization: 1 }],
    [{ ...VECTOR_ADD, maxRegisters: 33 }, {}],
  ];
  for (const [program, options] of different) {
    assert.equal(compile(context, program, { ...options, cache, assembler }).cached, false);
    assert.equal(compile(context, program, { ...options, cache, assembler }).cached, true);
  }
  assert.equal(compile(context, VECTOR_ADD, { cache: false, assembler }).cached, false);
  assert.throws(() => new Kernel(context, { ...VECTOR_ADD, name: 'other' }, { cache, assembler }), /NOT_FOUND/);
});

test('a program that moves registers between warpgroups is compiled whole, where the driver keeps it', () => {
  using folder = temporaryFolder();
  using setup = fakeContext({ kernels: { vector_add: () => undefined } });
  const { context, fake } = setup;
  const options = { cache: new CubinCache({ directory: folder.path }), assembler: new DriverAssembler(context) };
  const ptx = VECTOR_ADD.ptx.replace(/^(\s*add\.rn\.f32)/m, '  setmaxnreg.inc.sync.aligned.u32 232;\n$1');
  assert.notEqual(ptx, VECTOR_ADD.ptx);
  const program = { ...VECTOR_ADD, ptx };
  assert.equal(keptImage(context, program, options), undefined);
  for (const cached of [false, true]) {
    using kernel = new Kernel(context, program, options);
    // That the driver keeps it is what the cache knows of it.
    assert.equal(kernel.cached, cached);
    assert.equal(keptImage(context, program, options)?.cubin.length, 0);
    assert.equal(kernel.resources?.registers, 24);
  }
  assert.equal(fake.counts.get('cuLinkCreate_v2') ?? 0, 0);
  const broken = BROKEN.replace(/^(\s*add\.bogus)/m, '  // setmaxnreg\n$1');
  assert.throws(
    () => new Kernel(context, { ...VECTOR_ADD, ptx: broken }, options),
    (error) => isLocated(error),
  );
  fake.inject('cuModuleLoadDataEx', 2);
  assert.throws(
    () => new Kernel(context, { ...VECTOR_ADD, ptx }, options),
    /cuModuleLoadDataEx failed with CUDA_ERROR_OUT_OF_MEMORY .* for kernel vector_add/,
  );
});

test('what another thread compiled is taken as it is: an image, or a module that it gave away', () => {
  using folder = temporaryFolder();
  using setup = fakeContext({ kernels: { vector_add: () => undefined } });
  using other = fakeContext({ kernels: { vector_add: () => undefined } });
  const { context, fake } = setup;
  const options = { cache: new CubinCache({ directory: folder.path }), assembler: new DriverAssembler(context) };
  const loads = (): number => fake.counts.get('cuModuleLoadDataEx') ?? 0;
  const image = makeImage(other.context, VECTOR_ADD, { cache: false, assembler: new DriverAssembler(other.context) });
  new Kernel(context, VECTOR_ADD, options, image)[Symbol.dispose]();
  assert.deepEqual([fake.counts.get('cuLinkCreate_v2') ?? 0, loads()], [0, 1]);
  const ptx = VECTOR_ADD.ptx.replace(/^(\s*add\.rn\.f32)/m, '  setmaxnreg.inc.sync.aligned.u32 232;\n$1');
  const whole = makeImage(context, { ...VECTOR_ADD, ptx }, options);
  assert.ok(whole.loaded !== undefined && !whole.cached);
  assert.deepEqual(context.live(), {}, 'it was given away');
  assert.equal(loads(), 2);
  using kernel = new Kernel(context, { ...VECTOR_ADD, ptx }, options, whole);
  assert.equal(loads(), 2);
  assert.equal(kernel.resources?.registers, 24);
  assert.deepEqual(context.live(), { module: 1 });
  assert.equal(keptImage(context, { ...VECTOR_ADD, ptx }, options)?.cached, true);
});

const ptxas = [
  process.env.ROSE_PTXAS,
  ...(process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, 'ptxas')),
].find((path) => path !== undefined && existsSync(path));

test(
  'ptxas compiles with the same result and the same errors',
  { skip: ptxas ? false : 'no ptxas (set ROSE_PTXAS)' },
  () => {
    const assembler = new PtxasAssembler(ptxas ?? '');
    assert.match(assembler.identity, /^ptxas \d+\.\d+/);
    const { cubin, kernels } = assembler.assemble('vector_add', VECTOR_ADD.ptx, 'sm_90a');
    assert.equal(Buffer.from(cubin.subarray(1, 4)).toString(), 'ELF');
    assert.equal(kernels[0].name, 'vector_add');
    assert.ok(kernels[0].registers > 0 && kernels[0].spillStoreBytes === 0);
    for (const { name, ptx } of ALL) assert.equal(assembler.assemble(name, ptx, 'sm_90a').kernels[0].name, name);
    assert.throws(() => assembler.assemble('vector_add', BROKEN, 'sm_90a'), isLocated);
  },
);

test('a ptxas that is not there is named', () => {
  assert.throws(
    () => new PtxasAssembler('no-such-ptxas'),
    /ptxas cannot be run \(no-such-ptxas\): .*correct ROSE_PTXAS/,
  );
});

test('what is in the environment chooses the assembler', () => {
  using setup = fakeContext();
  const before = process.env.ROSE_PTXAS;
  try {
    process.env.ROSE_PTXAS = 'no-such-ptxas';
    assert.throws(() => chooseAssembler(setup.context), /no-such-ptxas/);
    delete process.env.ROSE_PTXAS;
    assert.equal(chooseAssembler(setup.context).identity, 'driver 13000');
  } finally {
    if (before === undefined) delete process.env.ROSE_PTXAS;
    else process.env.ROSE_PTXAS = before;
  }
});
