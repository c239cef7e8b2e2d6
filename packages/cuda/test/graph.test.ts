import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  copyBandwidth,
  DeviceMemory,
  Event,
  exportEvent,
  exportMemory,
  importEvent,
  ImportedMemory,
  enablePeerAccess,
  Context,
  Device,
  layoutParameters,
  measure,
  MemoryPool,
  Module,
  PreparedLaunch,
  Stream,
  type LaunchFacts,
} from '../src/index.ts';
import { fakeContext, fakeImage } from './fake/setup.ts';
import type { FakeKernel } from './fake/module-calls.ts';

const FACTS: LaunchFacts = {
  ...layoutParameters([
    { name: 'x', kind: 'pointer' },
    { name: 'by', kind: 'u32' },
  ]),
  sharedBytes: 0,
  threads: [1, 1, 1],
};

/** Adds `by` to the first word of x, as often as the grid has CTAs. */
const increment: FakeKernel = ({ grid, params, memory }) => {
  const bytes = memory(Number(params.getBigUint64(0, true)), 4);
  new Uint32Array(bytes.buffer, bytes.byteOffset, 1)[0] += params.getUint32(8, true) * grid[0];
};

test('captured work runs with the graph, and a node takes new arguments', () => {
  using setup = fakeContext({ kernels: { increment } });
  const { context } = setup;
  using module = new Module(context, fakeImage('increment'));
  using stream = new Stream(context);
  using x = new DeviceMemory(context, 4);
  const read = (): number => {
    const word = new Uint32Array(1);
    x.read(word);
    return word[0];
  };
  x.write(new Uint32Array(1));
  const launch = new PreparedLaunch(module.function('increment'), FACTS).grid(1).args({ x, by: 1 });
  let last = 0;
  using graph = stream.capture(() => {
    assert.ok(stream.capturing);
    stream.fill(x, 0);
    for (let n = 0; n < 300; n++) launch.launch(stream);
    last = stream.lastNode();
    launch.set('by', 1000);
  });
  assert.equal(read(), 0, 'nothing ran while capturing');
  assert.equal(graph.nodes().length, 301);
  assert.equal(graph.nodes().at(-1), last);
  assert.ok(graph.isKernel(last) && !graph.isKernel(graph.nodes()[0]));
  assert.deepEqual(graph.kernel(last), { function: launch.function.handle, grid: [1, 1, 1] });
  using exec = graph.instantiate();
  exec.upload(stream);
  exec.launch(stream);
  assert.equal(read(), 300, 'the arguments are those of the time of capture');
  exec.update(last, launch.grid(3).set('by', 7));
  exec.launch(stream);
  assert.equal(read(), 299 + 21);
  assert.throws(() => stream.lastNode(), /only while it is captured/);
});

test('an error while capturing ends the capture and leaves no graph', () => {
  using setup = fakeContext();
  using stream = new Stream(setup.context);
  using x = new DeviceMemory(setup.context, 4);
  assert.throws(
    () =>
      stream.capture(() => {
        stream.fill(x, 1);
        throw new Error('mine');
      }),
    /mine/,
  );
  assert.equal(stream.capturing, false);
  setup.fake.inject('cuStreamEndCapture', 901);
  assert.throws(() => stream.capture(() => stream.fill(x, 1)), /STREAM_CAPTURE_INVALIDATED/);
  using other = new Stream(setup.context);
  using again = other.capture(() => undefined);
  assert.deepEqual(again.nodes(), []);
});

test('timing captures rotated launches and gives medians of one launch', () => {
  using setup = fakeContext();
  using stream = new Stream(setup.context);
  using x = new DeviceMemory(setup.context, 16);
  const turns: number[] = [];
  const result = measure(
    stream,
    (n) => {
      turns.push(n);
      stream.fill(x, n);
    },
    { launches: 5, repeats: 3, warmup: 2 },
  );
  assert.deepEqual(turns, [0, 1, 2, 3, 4]);
  // The fake's clock ticks a quarter of a millisecond for every recording.
  assert.deepEqual(result, { median: 50, fastest: 50, slowest: 50, launches: 5, repeats: 3 });
  assert.equal(setup.fake.counts.get('cuGraphLaunch'), 5);
  assert.equal(copyBandwidth(stream, 1024), (2 * 1024 * 8) / 250e-6);
});

test('memory and events cross to other processes by handles', () => {
  using setup = fakeContext();
  const { context } = setup;
  using memory = new DeviceMemory(context, 16);
  using event = new Event(context, { interprocess: true });
  {
    using there = new ImportedMemory(context, exportMemory(memory), 16);
    there.write(new Uint8Array([5]), 3);
    using signal = importEvent(context, exportEvent(event));
    assert.ok(signal.query());
  }
  const back = new Uint8Array(1);
  memory.read(back, 3);
  assert.equal(back[0], 5);
  using local = new Event(context);
  assert.throws(() => exportEvent(local), /INVALID_VALUE/);
  assert.throws(() => new ImportedMemory(context, new Uint8Array(8), 16), /has 64 bytes, not 8/);
  assert.throws(() => new ImportedMemory(context, exportMemory(memory), 17), /has 16 bytes, fewer than the 17/);
});

test('peers reach each other until it is undone; what others enabled stays', () => {
  using setup = fakeContext({ devices: 2 });
  const { context, fake, driver } = setup;
  using peer = new Context(new Device(driver, 1));
  const access = enablePeerAccess(context, peer);
  const again = enablePeerAccess(context, peer);
  again[Symbol.dispose]();
  assert.equal(fake.peers.size, 1);
  access[Symbol.dispose]();
  access[Symbol.dispose]();
  assert.equal(fake.peers.size, 0);
  using pool = new MemoryPool(context);
  pool.allowAccess(peer);
  using here = new DeviceMemory(context, 8);
  using there = new DeviceMemory(peer, 8);
  using stream = new Stream(context);
  here.write(new Uint8Array(8).fill(3));
  stream.copy(there, here);
  const back = new Uint8Array(1);
  there.read(back);
  assert.equal(back[0], 3);
  assert.equal(fake.counts.get('cuMemcpyPeerAsync'), 1);
});
