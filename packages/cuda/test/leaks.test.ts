import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  Context,
  CubinCache,
  CudaError,
  Device,
  DeviceMemory,
  Driver,
  DriverAssembler,
  enablePeerAccess,
  encodeTensorMap,
  Event,
  exportEvent,
  exportMemory,
  importEvent,
  ImportedMemory,
  Kernel,
  MemoryPool,
  PinnedMemory,
  Stream,
} from '../src/index.ts';
import { FakeDriver } from './fake/driver.ts';
import { temporaryFolder } from './fake/folder.ts';
import { VECTOR_ADD } from './kernels.ts';

/** Uses everything there is once, as a program would: with `using`. */
function useEverything(driver: Driver, cache: CubinCache): void {
  using context = new Context(new Device(driver, 0));
  using peer = new Context(new Device(driver, 1));
  using access = enablePeerAccess(context, peer);
  using stream = new Stream(context);
  using memory = new DeviceMemory(context, 4096);
  using host = new PinnedMemory(context, 4096);
  using pool = new MemoryPool(context);
  pool.allowAccess(peer);
  using pooled = pool.allocate(64, stream);
  using event = new Event(context, { interprocess: true });
  using opened = importEvent(context, exportEvent(event));
  using imported = new ImportedMemory(context, exportMemory(memory), 4096);
  using kernel = new Kernel(context, VECTOR_ADD, { cache, assembler: new DriverAssembler(context) });
  encodeTensorMap(context, { element: 'f32', memory, shape: [32, 4], box: [32, 4] });
  const launch = kernel.prepare().grid(1).args({ x: memory, y: pooled, out: imported, n: 4 });
  launch.launch(stream);
  using graph = stream.capture(() => {
    stream.copyToDevice(memory, host);
    launch.launch(stream);
    stream.lastNode();
    stream.copyToHost(host, memory);
  });
  using exec = graph.instantiate();
  exec.upload(stream);
  exec.launch(stream);
  exec.update(graph.nodes()[1], launch);
  stream.record(opened);
  stream.wait(event);
  stream.fill(memory, 0);
  void access;
  stream.synchronize();
}

/** Calls that free: where the driver refuses one of them, what it keeps is not ours to free any more. */
const FREES = /Destroy|Free|Release|Unload|Close|Disable|SetCurrent/;

test('whatever call of the driver fails, nothing is left behind', () => {
  using folder = temporaryFolder();
  const run = (failing: number): { fake: FakeDriver; error: unknown; calls: string[] } => {
    const fake = new FakeDriver({ devices: 2, kernels: { vector_add: () => undefined } });
    const driver = new Driver(fake);
    const calls: string[] = [];
    fake.onCall = (name) => {
      calls.push(name);
      return calls.length - 1 === failing && !FREES.test(name) ? 2 : 0;
    };
    try {
      // Nothing is ever in the cache: its directory is a new one each time.
      useEverything(driver, new CubinCache({ directory: `${folder.path}/${failing}` }));
      return { fake, error: undefined, calls };
    } catch (error) {
      return { fake, error, calls };
    }
  };
  const whole = run(-1);
  assert.equal(whole.error, undefined);
  assert.deepEqual(whole.fake.live(), {});
  assert.ok(whole.calls.length > 70);
  for (const [at, name] of whole.calls.entries()) {
    const { fake, error } = run(at);
    if (FREES.test(name)) assert.equal(error, undefined);
    else assert.ok(error instanceof CudaError && error.call === name, `${name}: ${String(error)}`);
    assert.deepEqual(fake.live(), {}, `after call ${at}, ${name}`);
    assert.deepEqual(fake.faults, [], `after call ${at}, ${name}`);
  }
});
