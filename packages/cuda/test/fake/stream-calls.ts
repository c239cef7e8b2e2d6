import type { FakeCalls, FakeDriver } from './driver.ts';
import { FakeFault } from './memory.ts';

export interface FakeNode {
  kind: 'kernel' | 'other';
  run: () => void;
  /** For kernels: what the node was captured with. */
  kernel?: { function: number; grid: readonly number[] };
}

interface FakeGraph {
  readonly nodes: { handle: number; node: FakeNode }[];
}

export interface FakeStream {
  capture: FakeGraph | undefined;
}

interface FakeEvent {
  time: number;
  readonly flags: number;
}

/** Runs work now, or keeps it where the stream is captured. The default stream is 0. */
export function enqueue(fake: FakeDriver, stream: number, run: () => void, kernel?: FakeNode['kernel']): number {
  if (fake.context === 0) return 201;
  const target = stream === 0 ? undefined : fake.get<FakeStream>('stream', stream);
  if (target?.capture) {
    const node: FakeNode = { kind: kernel ? 'kernel' : 'other', run, ...(kernel ? { kernel } : {}) };
    target.capture.nodes.push({ handle: fake.name('node', node), node });
  } else run();
  return fake.sticky;
}

/** Streams, events and graphs. */
export function streamCalls(fake: FakeDriver): FakeCalls {
  const check = (stream: number): void => {
    if (stream !== 0) fake.get<FakeStream>('stream', stream);
  };
  return {
    cuStreamCreateWithPriority: (out, flags) => {
      if (flags !== 1) throw new FakeFault('streams must not wait for the default stream');
      fake.putWord(out, fake.create<FakeStream>('stream', { capture: undefined }));
      return undefined;
    },
    cuStreamDestroy_v2: (stream) => void fake.destroy('stream', stream),
    cuStreamSynchronize: (stream) => check(stream),
    cuStreamQuery: (stream) => check(stream),
    cuStreamWaitEvent: (stream, event) => {
      check(stream);
      fake.get<FakeEvent>('event', event);
      return undefined;
    },
    cuStreamBeginCapture_v2: (handle) => {
      const stream = fake.get<FakeStream>('stream', handle);
      if (stream.capture) return 401;
      stream.capture = { nodes: [] };
      return undefined;
    },
    cuStreamEndCapture: (handle, out) => {
      const stream = fake.get<FakeStream>('stream', handle);
      if (!stream.capture) return 401;
      fake.putWord(out, fake.create('graph', stream.capture));
      stream.capture = undefined;
      return undefined;
    },
    cuStreamIsCapturing: (handle, out) => {
      fake.putI32(out, fake.get<FakeStream>('stream', handle).capture ? 1 : 0);
      return undefined;
    },
    cuStreamGetCaptureInfo_v2: (handle, status, _id, _graph, dependencies, count) => {
      const { capture } = fake.get<FakeStream>('stream', handle);
      fake.putI32(status, capture ? 1 : 0);
      const last = capture?.nodes.at(-1);
      const list = new DataView(new ArrayBuffer(8));
      if (last) fake.putWord(list, last.handle);
      fake.putWord(dependencies, fake.address(list));
      fake.putWord(count, last ? 1 : 0);
      return undefined;
    },

    cuEventCreate: (out, flags) => {
      if (flags & 4 && !(flags & 2)) return 1;
      fake.putWord(out, fake.create<FakeEvent>('event', { time: -1, flags }));
      return undefined;
    },
    cuEventDestroy_v2: (event) => void fake.destroy('event', event),
    cuEventRecord: (event, stream) =>
      enqueue(fake, stream, () => {
        fake.get<FakeEvent>('event', event).time = fake.clock += 0.25;
      }),
    cuEventSynchronize: (event) => void fake.get('event', event),
    cuEventQuery: (event) => void fake.get('event', event),
    cuEventElapsedTime: (out, start, end) => {
      const [a, b] = [fake.get<FakeEvent>('event', start), fake.get<FakeEvent>('event', end)];
      if ((a.flags | b.flags) & 2 || a.time < 0 || b.time < 0) return 400;
      fake.memory.hostView(out, 4).setFloat32(0, b.time - a.time, true);
      return undefined;
    },
    cuIpcGetEventHandle: (out, event) => {
      if (!(fake.get<FakeEvent>('event', event).flags & 4)) return 1;
      const handle = fake.memory.host(out, 64).fill(0);
      new DataView(handle.buffer, handle.byteOffset).setFloat64(0, event, true);
      return undefined;
    },
    cuIpcOpenEventHandle: (out, handle) => {
      const event = new DataView(handle.buffer, handle.byteOffset).getFloat64(0, true);
      fake.putWord(out, fake.create('event', fake.get<FakeEvent>('event', event)));
      return undefined;
    },

    cuGraphDestroy: (graph) => void fake.destroy('graph', graph),
    cuGraphGetNodes: (handle, nodes, count) => {
      const graph = fake.get<FakeGraph>('graph', handle);
      if (nodes !== null) {
        const view = fake.memory.hostView(nodes, 8 * graph.nodes.length);
        for (const [at, node] of graph.nodes.entries()) {
          view.setBigUint64(8 * at, BigInt(node.handle), true);
        }
      }
      fake.putWord(count, graph.nodes.length);
      return undefined;
    },
    cuGraphNodeGetType: (node, out) => {
      fake.putI32(out, fake.get<FakeNode>('node', node).kind === 'kernel' ? 0 : 1);
      return undefined;
    },
    cuGraphInstantiateWithFlags: (out, graph) => {
      const nodes = fake
        .get<FakeGraph>('graph', graph)
        .nodes.map(({ handle, node }) => ({ handle, node: { ...node } }));
      fake.putWord(out, fake.create<FakeGraph>('executable graph', { nodes }));
      return undefined;
    },
    cuGraphExecDestroy: (graph) => void fake.destroy('executable graph', graph),
    cuGraphUpload: (graph, stream) => {
      check(stream);
      fake.get('executable graph', graph);
      return undefined;
    },
    cuGraphLaunch: (graph, stream) => {
      check(stream);
      for (const { node } of fake.get<FakeGraph>('executable graph', graph).nodes) node.run();
      return fake.sticky;
    },
  };
}

/** The node of an executable graph that was made from `node`. */
export function nodeOf(fake: FakeDriver, graph: number, node: number): FakeNode {
  const found = fake.get<FakeGraph>('executable graph', graph).nodes.find(({ handle }) => handle === node);
  if (!found) throw new FakeFault('this node is not of the graph');
  return found.node;
}
