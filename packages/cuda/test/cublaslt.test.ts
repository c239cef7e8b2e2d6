import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  Context,
  CublasLt,
  CublasLtError,
  CudaUnavailableError,
  CudaUsageError,
  DeviceMemory,
  listDevices,
  loadDriver,
  openCublasLt,
  Stream,
} from '../src/index.ts';
import { FakeCublasLt } from './fake/cublaslt.ts';
import { fakeContext } from './fake/setup.ts';

const SHAPE = { m: 3, n: 16, k: 32, input: 'bf16', output: 'bf16' } as const;

test('a row-major product is the transposed product of column-major matrices', () => {
  using setup = fakeContext();
  const { context } = setup;
  const fake = new FakeCublasLt();
  {
    using stream = new Stream(context);
    using library = new CublasLt(context, fake);
    assert.equal(library.version, 130100);
    using product = library.product(SHAPE);
    using x = new DeviceMemory(context, 3 * 32 * 2);
    using w = new DeviceMemory(context, 16 * 32 * 2);
    using y = new DeviceMemory(context, 3 * 16 * 2);
    using workspace = new DeviceMemory(context, product.workspaceBytes);
    product.run(stream, { x, w, y, workspace });
    const [call] = fake.products;
    assert.deepEqual([call.x, call.w, call.y], [x.address, w.address, y.address]);
    assert.deepEqual(call.layouts, [
      [32, 16, 32],
      [32, 3, 32],
      [16, 3, 16],
    ]);
    assert.deepEqual([...call.attributes], [[3, 1]]);
    assert.deepEqual([call.workspace, call.workspaceBytes, call.stream], [workspace.address, 4096, stream.handle]);
  }
  assert.equal(fake.alive.size, 0);
});

test('fp8 takes a scale for each operand', () => {
  using setup = fakeContext();
  const { context } = setup;
  const fake = new FakeCublasLt();
  fake.workspaceBytes = 0;
  using stream = new Stream(context);
  using library = new CublasLt(context, fake);
  using product = library.product({ ...SHAPE, input: 'e4m3', fastAccumulation: true });
  using all = new DeviceMemory(context, 4096);
  const operands = { x: all, w: all, y: all };
  assert.throws(() => product.run(stream, operands), { name: 'CudaUsageError', message: /wScale .* 4 bytes/ });
  product.run(stream, { ...operands, xScale: all.slice(256, 4), wScale: all.slice(512, 4) });
  assert.deepEqual(
    [...fake.products[0].attributes],
    [
      [3, 1],
      [25, 1],
      [17, all.address + 512],
      [18, all.address + 256],
    ],
  );
});

test('fp8 with scales of blocks names their kinds and takes as many', () => {
  using setup = fakeContext();
  const { context } = setup;
  const fake = new FakeCublasLt();
  fake.workspaceBytes = 0;
  using stream = new Stream(context);
  using library = new CublasLt(context, fake);
  using product = library.product({ m: 3, n: 144, k: 256, input: 'e4m3', output: 'bf16', scales: 'block' });
  using all = new DeviceMemory(context, 65536);
  const operands = { x: all, w: all, y: all };
  const [wScale, xScale] = [all.slice(256, 4 * 2 * 2), all.slice(512, 4 * 2 * 3)];
  const refused = { name: 'CudaUsageError', message: /xScale .* 24 bytes/ };
  assert.throws(() => product.run(stream, { ...operands, wScale, xScale: all.slice(512, 20) }), refused);
  product.run(stream, { ...operands, wScale, xScale });
  assert.deepEqual(
    [...fake.products[0].attributes],
    [
      [3, 1],
      [31, 5],
      [32, 4],
      [17, wScale.address],
      [18, xScale.address],
    ],
  );
});

test('what is too small, missing or impossible is refused in words, and nothing leaks', () => {
  using setup = fakeContext();
  const { context } = setup;
  const fake = new FakeCublasLt();
  {
    using stream = new Stream(context);
    using library = new CublasLt(context, fake);
    assert.throws(() => library.product({ ...SHAPE, k: 0 }), CudaUsageError);
    using product = library.product(SHAPE);
    using small = new DeviceMemory(context, 64);
    using all = new DeviceMemory(context, 4096);
    const operands = { x: all, w: all, y: all, workspace: all };
    assert.throws(() => product.run(stream, { ...operands, y: small }), /y of a matrix product takes 96 bytes/);
    assert.throws(() => product.run(stream, { x: all, w: all, y: all }), /workspace .* 4096 bytes, and 0 are given/);
    fake.injected.set('cublasLtMatmul', 13);
    assert.throws(() => product.run(stream, operands), { name: 'CublasLtError', message: /EXECUTION_FAILED/ });
    fake.algorithms = 0;
    assert.throws(() => library.product(SHAPE), /NOT_SUPPORTED: .* \(y\[3, 16\] = x\[3, 32\] · w\[16, 32\]\^T, bf16/);
    for (const name of ['cublasLtMatrixLayoutCreate', 'cublasLtMatmulDescSetAttribute'] as const) {
      fake.injected.set(name, 3);
      assert.throws(() => library.product(SHAPE), CublasLtError);
    }
  }
  assert.equal(fake.alive.size, 0);
  fake.without.add('cublasLtMatmul');
  assert.throws(() => new CublasLt(context, fake), { name: 'CudaUnavailableError', message: /lacks cublasLtMatmul/ });
});

test('a machine without the library says so in one sentence', (t) => {
  const before = process.env.ROSE_CUBLASLT;
  t.after(() => {
    if (before === undefined) delete process.env.ROSE_CUBLASLT;
    else process.env.ROSE_CUBLASLT = before;
  });
  process.env.ROSE_CUBLASLT = '/nowhere/libcublasLt.so';
  assert.throws(openCublasLt, { name: 'CudaUnavailableError', message: /^cuBLASLt was not found .*ROSE_CUBLASLT\.$/ });
});

function whyNot(): string | false {
  try {
    listDevices(loadDriver());
    openCublasLt();
    return false;
  } catch (error) {
    if (error instanceof CudaUnavailableError) return error.message;
    throw error;
  }
}

test('the real library multiplies', { skip: whyNot() }, () => {
  using context = new Context(listDevices(loadDriver())[0]);
  using stream = new Stream(context);
  using library = new CublasLt(context);
  const [m, n, k] = [33, 64, 128];
  const random = (count: number): Float32Array<ArrayBuffer> =>
    Float32Array.from({ length: count }, (_, i) => Math.sin(i * 1.7 + count));
  const [hostX, hostW] = [random(m * k), random(n * k)];
  using product = library.product({ m, n, k, input: 'f32', output: 'f32' });
  using x = new DeviceMemory(context, hostX.byteLength);
  using w = new DeviceMemory(context, hostW.byteLength);
  using y = new DeviceMemory(context, m * n * 4);
  using workspace = new DeviceMemory(context, Math.max(product.workspaceBytes, 256));
  x.write(hostX);
  w.write(hostW);
  stream.fill(y, 0xff);
  product.run(stream, { x, w, y, workspace });
  stream.synchronize();
  const got = new Float32Array(m * n);
  y.read(got);
  for (let row = 0; row < m; row++) {
    for (let column = 0; column < n; column++) {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += hostX[row * k + i] * hostW[column * k + i];
      // Float32 sums of 128 products below 1: 128 roundings of at most 2^-24 · 128.
      assert.ok(Math.abs(got[row * n + column] - sum) < 128 * 128 * 2 ** -24, `y[${row}, ${column}]`);
    }
  }
});
