import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { test } from 'node:test';
import {
  CompileError,
  Context,
  copyBandwidth,
  CubinCache,
  CudaUnavailableError,
  DeviceMemory,
  encodeTensorMap,
  Event,
  exportEvent,
  exportMemory,
  Kernel,
  listDevices,
  loadDriver,
  measure,
  MemoryPool,
  PinnedMemory,
  Stream,
  versionText,
  type Device,
  type Program,
} from '../src/index.ts';
import { temporaryFolder } from './fake/folder.ts';
import { CLUSTER, ILLEGAL, PDL_FIRST, PDL_SECOND, TENSOR_LOAD, TICK, TILE, VECTOR_ADD } from './kernels.ts';

/** The same objects on a real GPU. Skipped, with the reason, where there is none. */

function find(): { device?: Device; reason?: string } {
  try {
    const [device] = listDevices(loadDriver());
    return device.capability >= 90 ? { device } : { reason: `${device.toString()} is older than Hopper (sm_90)` };
  } catch (error) {
    if (error instanceof CudaUnavailableError) return { reason: error.message };
    throw error;
  }
}

const { device, reason } = find();
const folder = device ? temporaryFolder() : undefined;
process.on('exit', () => folder?.[Symbol.dispose]());

/** A test with a context and a stream, after which nothing may be alive. */
function gpuTest(
  name: string,
  body: (gpu: { context: Context; stream: Stream; load: (program: Program) => Kernel }) => unknown,
): void {
  test(name, { skip: device ? false : reason }, async () => {
    if (!device) return;
    const context = new Context(device);
    const cache = new CubinCache({ directory: folder?.path ?? '' });
    {
      using stream = new Stream(context);
      await body({ context, stream, load: (program) => new Kernel(context, program, { cache }) });
      stream.synchronize();
    }
    assert.deepEqual(context.live(), {});
    context[Symbol.dispose]();
  });
}

gpuTest('the device is described', ({ context }) => {
  const { name, uuid, capability, memoryBytes, pciBusId } = context.device;
  console.log(
    `${name}, ${uuid}, ${pciBusId}, sm_${capability}, ${(memoryBytes / 2 ** 30).toFixed(1)} GiB, CUDA ${versionText(context.driver.version)}`,
  );
  assert.match(uuid, /^GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  assert.match(pciBusId, /^[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:/);
  assert.ok(context.device.attribute('multiprocessors') > 1);
  const { free, total } = context.memory();
  assert.ok(free > 0 && free <= total && total <= memoryBytes * 1.01);
});

gpuTest('memory is written, copied, filled and read by every path', ({ context, stream }) => {
  const bytes = 1 << 20;
  using a = new DeviceMemory(context, bytes);
  using b = new DeviceMemory(context, bytes);
  using host = new PinnedMemory(context, 2 * bytes);
  using pool = new MemoryPool(context, { releaseThreshold: 0 });
  const source = Uint8Array.from({ length: bytes }, (_, at) => at * 31);
  a.write(source);
  stream.copy(b, a);
  using c = pool.allocate(bytes, stream);
  stream.copy(c, b);
  stream.fill(c.slice(0, 16), 0x01020304, 32);
  stream.fill(c.slice(16, 8), 0xabcd, 16);
  stream.fill(c.slice(24, 8), 0xee);
  stream.copyToHost({ memory: host, offset: bytes, bytes }, c);
  stream.synchronize();
  const got = new Uint8Array(host.buffer, bytes);
  assert.deepEqual([...got.subarray(0, 4)], [4, 3, 2, 1]);
  assert.deepEqual([...got.subarray(16, 18)], [0xcd, 0xab]);
  assert.deepEqual(got.subarray(24, 32), new Uint8Array(8).fill(0xee));
  assert.deepEqual(got.subarray(32), source.subarray(32));
  new Uint8Array(host.buffer).set([9, 8, 7]);
  stream.copyToDevice(a, { memory: host, offset: 0, bytes: 3 });
  stream.synchronize();
  const back = new Uint8Array(4);
  a.read(back);
  assert.deepEqual([...back], [9, 8, 7, source[3]]);
  assert.ok(pool.usage().used >= bytes);
});

gpuTest('vector addition, compiled by the driver and then from the cache', ({ context, stream, load }) => {
  const n = 100_003;
  using x = new DeviceMemory(context, 4 * n);
  using y = new DeviceMemory(context, 4 * n);
  using out = new DeviceMemory(context, 4 * n);
  const values = Float32Array.from({ length: n }, (_, at) => at / 7);
  x.write(values);
  y.write(values.map((value) => value * 0.5));
  for (const cached of [false, true]) {
    const before = performance.now();
    using kernel = load(VECTOR_ADD);
    console.log(
      `vector_add ${cached ? 'from the cache' : 'compiled'} in ${(performance.now() - before).toFixed(2)} ms`,
    );
    assert.equal(kernel.cached, cached);
    assert.equal(kernel.resources?.name, 'vector_add');
    const { registers, localBytes, binaryVersion } = kernel.function.facts();
    assert.equal(kernel.resources?.registers, registers);
    assert.equal(localBytes, 0);
    assert.equal(binaryVersion, context.device.capability);
    assert.ok(kernel.function.occupancy(256) >= 4);
    stream.fill(out, 0);
    kernel
      .prepare()
      .grid(Math.ceil(n / 256))
      .args({ x, y, out, n })
      .launch(stream);
    stream.synchronize();
    const got = new Float32Array(n);
    out.read(got);
    assert.ok(got.every((value, at) => value === Math.fround(values[at] + Math.fround(values[at] * 0.5))));
  }
});

gpuTest('PTX that does not compile names its source line', ({ load }) => {
  const ptx = VECTOR_ADD.ptx.replace('add.rn.f32', 'add.bogus.f32');
  assert.throws(
    () => load({ ...VECTOR_ADD, ptx }),
    (error) => {
      assert.ok(error instanceof CompileError);
      console.log(error.message);
      assert.deepEqual(error.diagnostics[0].place, { file: 'kernels/vector-add.ts', line: 12, column: 7 });
      return true;
    },
  );
});

gpuTest('a cluster reads its neighbours’ shared memory', ({ context, stream, load }) => {
  using kernel = load(CLUSTER);
  using out = new DeviceMemory(context, 4 * 8);
  const launch = kernel.prepare().grid(8).args({ out });
  assert.ok(launch.activeClusters() > 0);
  launch.launch(stream);
  stream.synchronize();
  const got = new Uint32Array(8);
  out.read(got);
  assert.deepEqual([...got], [17, 27, 37, 7, 57, 67, 77, 47]);
});

gpuTest('a programmatic pair keeps its order, alone and in a graph', ({ context, stream, load }) => {
  using first = load(PDL_FIRST);
  using second = load(PDL_SECOND);
  using x = new DeviceMemory(context, 4);
  using out = new DeviceMemory(context, 4);
  const put = (): void => {
    stream.fill(x, 0);
    first.prepare().grid(1).args({ x }).launch(stream);
    second.prepare().grid(1).args({ x, out }).launch(stream);
  };
  const check = (): void => {
    stream.synchronize();
    const got = new Uint32Array(1);
    out.read(got);
    assert.equal(got[0], 42);
    out.write(new Uint32Array(1));
  };
  put();
  check();
  using graph = stream.capture(put);
  using exec = graph.instantiate();
  exec.launch(stream);
  check();
});

gpuTest('the tensor copy engine loads a tile, and zeros outside of the tensor', ({ context, stream, load }) => {
  const [rows, columns] = [20, 128];
  using matrix = new DeviceMemory(context, 2 * rows * columns);
  using out = new DeviceMemory(context, 2 * TILE.rows * TILE.columns);
  const values = Float16Array.from({ length: rows * columns }, (_, at) => at % 1999);
  matrix.write(values);
  const map = encodeTensorMap(context, {
    element: 'f16',
    memory: matrix,
    shape: [columns, rows],
    box: [TILE.columns, TILE.rows],
  });
  using kernel = load(TENSOR_LOAD);
  kernel.prepare().grid(1).args({ map, out, column: 64, row: 16 }).launch(stream);
  stream.synchronize();
  const got = new Float16Array(TILE.rows * TILE.columns);
  out.read(got);
  for (let row = 0; row < TILE.rows; row++) {
    for (let column = 0; column < TILE.columns; column++) {
      const expected = 16 + row < rows ? values[(16 + row) * columns + 64 + column] : 0;
      assert.equal(got[row * TILE.columns + column], expected, `row ${row}, column ${column}`);
    }
  }
});

gpuTest('a graph of 300 launches replays, and its nodes take new arguments', ({ context, stream, load }) => {
  using kernel = load(TICK);
  using x = new DeviceMemory(context, 4);
  const read = (): number => {
    const got = new Uint32Array(1);
    x.read(got);
    return got[0];
  };
  const launch = kernel.prepare().grid(1).args({ x, by: 1 });
  x.write(new Uint32Array(1));
  let last = 0;
  using graph = stream.capture(() => {
    for (let n = 0; n < 300; n++) launch.launch(stream);
    last = stream.lastNode();
  });
  assert.equal(read(), 0);
  assert.equal(graph.nodes().length, 300);
  assert.ok(graph.isKernel(last));
  assert.equal(graph.kernel(last).function, kernel.function.handle);
  using exec = graph.instantiate();
  exec.launch(stream);
  stream.synchronize();
  assert.equal(read(), 300);
  exec.update(last, launch.set('by', 1000));
  exec.launch(stream);
  stream.synchronize();
  assert.equal(read(), 300 + 1299);
});

gpuTest('what launches cost is printed', ({ context, stream, load }) => {
  using kernel = load(TICK);
  using x = new DeviceMemory(context, 4);
  x.write(new Uint32Array(1));
  const launch = kernel.prepare().grid(1).args({ x, by: 1 });
  const host: number[] = [];
  for (let repeat = 0; repeat < 20; repeat++) {
    const before = performance.now();
    for (let n = 0; n < 200; n++) launch.launch(stream);
    host.push(((performance.now() - before) * 1000) / 200);
    stream.synchronize();
  }
  host.sort((a, b) => a - b);
  console.log(`host cost of a prepared launch: median ${host[10].toFixed(2)} us, fastest ${host[0].toFixed(2)} us`);
  const { median } = measure(stream, () => launch.launch(stream), { launches: 300 });
  console.log(`a launch of a replayed graph of 300: ${median.toFixed(2)} us`);
  console.log(`copy from device to device: ${(copyBandwidth(stream) / 1e12).toFixed(2)} TB/s`);
  assert.ok(median > 0);
});

/** Runs code in another process with this package as `cuda` and the kernels as `kernels`, and gives what it printed. */
function inAnotherProcess(code: string, ...values: string[]): Promise<string> {
  const url = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);
  const whole = `const cuda = await import(${url('../src/index.ts')}); const kernels = await import(${url('./kernels.ts')});
    const context = new cuda.Context(cuda.listDevices(cuda.loadDriver())[0]); ${code}`;
  const child = spawn(process.execPath, ['--conditions=development', '--input-type=module', '-e', whole, ...values], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, signal) =>
      status === 0 ? resolve(text) : reject(new Error(`the other process ended with ${status ?? signal}: ${text}`)),
    );
  });
}

gpuTest('another process writes this one’s memory and records its event', async ({ context, stream }) => {
  using memory = new DeviceMemory(context, 1 << 21);
  using event = new Event(context, { interprocess: true });
  memory.write(new Uint8Array(1 << 21));
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
  await inAnotherProcess(
    `{
      using memory = new cuda.ImportedMemory(context, Buffer.from(process.argv[1], 'hex'), 1 << 21);
      using event = cuda.importEvent(context, Buffer.from(process.argv[2], 'hex'));
      using stream = new cuda.Stream(context);
      stream.fill(memory.slice(4, 8), 7, 32);
      stream.record(event);
      stream.synchronize();
    }
    context[Symbol.dispose]();`,
    hex(exportMemory(memory)),
    hex(exportEvent(event)),
  );
  stream.wait(event);
  stream.synchronize();
  const got = new Uint32Array(4);
  memory.read(got);
  assert.deepEqual([...got], [0, 7, 7, 0]);
});

gpuTest('an illegal address ends the device for its process, and each later call says so', async () => {
  const text = await inAnotherProcess(
    `const stream = new cuda.Stream(context);
    const kernel = new cuda.Kernel(context, kernels.ILLEGAL, { cache: false });
    kernel.prepare().grid(1).launch(stream);
    const said = [];
    const attempt = (call) => { try { call(); said.push(null); } catch (error) { said.push([error.name, error.sticky, error.message]); } };
    attempt(() => stream.synchronize());
    attempt(() => new cuda.DeviceMemory(context, 16));
    attempt(() => context.synchronize());
    kernel[Symbol.dispose]();
    context[Symbol.dispose]();
    process.stdout.write(JSON.stringify(said));`,
  );
  const [first, second, third] = JSON.parse(text) as [string, boolean, string][];
  console.log(first[2]);
  assert.deepEqual(first.slice(0, 2), ['CudaError', true]);
  assert.match(first[2], /cuStreamSynchronize failed with CUDA_ERROR_ILLEGAL_ADDRESS on GPU 0/);
  assert.equal(second[0], 'DeviceLostError');
  assert.match(second[2], /^cuMemAlloc_v2 .*not called: GPU 0 .*unusable since cuStreamSynchronize failed/);
  assert.equal(third[0], 'DeviceLostError');
  assert.equal(ILLEGAL.name, 'illegal');
});
