import type { Context } from './context.ts';
import { CudaUsageError } from './errors.ts';
import type { Event } from './event.ts';
import { Graph } from './graph.ts';
import { checkRange, type DeviceRange, type PinnedMemory } from './memory.ts';
import { Out } from './out.ts';
import { Resource } from './resource.ts';
import { NOT_READY } from './results.ts';
import { getWord } from './structs.ts';

const NON_BLOCKING = 1;
/** Only what this thread does can spoil a capture. */
const CAPTURE_THREAD_LOCAL = 1;
const CAPTURE_ACTIVE = 1;

/** A part of pinned memory. */
export interface HostRange {
  readonly memory: PinnedMemory;
  readonly offset: number;
  readonly bytes: number;
}

/**
 * Work of the device that runs in order. Streams do not wait for each other nor for the default stream; events order
 * them. Copies here return before they are done and so take pinned memory, which must stay untouched until then.
 */
export class Stream extends Resource {
  /** `priority`: a lower number goes first; see Context.streamPriorities. */
  constructor(context: Context, options: { priority?: number } = {}) {
    const out = new Out();
    context.run('cuStreamCreateWithPriority', out.data, NON_BLOCKING, options.priority ?? 0);
    super(context, 'stream', out.word);
  }

  /** Waits in this thread until everything in the stream is done. Errors of its kernels come up here. */
  synchronize(): void {
    this.context.run('cuStreamSynchronize', this.handle);
  }

  /** Whether everything in the stream is done. */
  query(): boolean {
    return !this.context.ask(NOT_READY, 'cuStreamQuery', this.handle);
  }

  /** Marks this point of the stream. */
  record(event: Event): void {
    this.context.run('cuEventRecord', event.handle, this.handle);
  }

  /** What follows in the stream waits for what `event` last marked. */
  wait(event: Event): void {
    this.context.run('cuStreamWaitEvent', this.handle, event.handle, 0);
  }

  copyToDevice(target: DeviceRange, source: PinnedMemory | HostRange): void {
    const { memory, offset, bytes } = hostRange(source);
    checkRange(target, 0, bytes);
    this.context.run('cuMemcpyHtoDAsync_v2', target.address, memory.hostAddress(offset, bytes), bytes, this.handle);
  }

  copyToHost(target: PinnedMemory | HostRange, source: DeviceRange): void {
    const { memory, offset, bytes } = hostRange(target);
    checkRange(memory, offset, bytes);
    const size = Math.min(bytes, source.bytes);
    this.context.run('cuMemcpyDtoHAsync_v2', memory.hostAddress(offset, size), source.address, size, this.handle);
  }

  /** Copies all of `source`, also from another device. */
  copy(target: DeviceRange, source: DeviceRange): void {
    checkRange(target, 0, source.bytes);
    const [to, from] = [target.context, source.context];
    if (to.device.id === from.device.id) {
      this.context.run('cuMemcpyDtoDAsync_v2', target.address, source.address, source.bytes, this.handle);
    } else {
      this.context.run(
        'cuMemcpyPeerAsync',
        target.address,
        to.handle,
        source.address,
        from.handle,
        source.bytes,
        this.handle,
      );
    }
  }

  /** Fills `target` with a value of 8, 16 or 32 bits. */
  fill(target: DeviceRange, value: number, bits: 8 | 16 | 32 = 8): void {
    const count = target.bytes / (bits / 8);
    if (!Number.isInteger(count)) {
      throw new CudaUsageError(`memory of ${target.bytes} bytes cannot be filled with values of ${bits} bits`);
    }
    const word = bits === 32 ? value >>> 0 : value & (2 ** bits - 1);
    this.context.run(`cuMemsetD${bits}Async`, target.address, word, count, this.handle);
  }

  /** Whether a capture is going on. */
  get capturing(): boolean {
    const out = new Out();
    this.context.run('cuStreamIsCapturing', this.handle, out.data);
    return out.i32 === CAPTURE_ACTIVE;
  }

  /** Records what `body` puts into this stream as a graph; nothing runs. Ends the capture whatever `body` throws. */
  capture(body: () => void): Graph {
    this.context.run('cuStreamBeginCapture_v2', this.handle, CAPTURE_THREAD_LOCAL);
    const out = new Out();
    try {
      body();
    } catch (error) {
      // An invalidated capture gives an error and no graph here; what went wrong first is what matters.
      const code = this.context.lost ? 1 : this.context.driver.calls.cuStreamEndCapture(this.handle, out.data);
      if (code === 0 && out.word !== 0) this.context.driver.calls.cuGraphDestroy(out.word);
      throw error;
    }
    this.context.run('cuStreamEndCapture', this.handle, out.data);
    return new Graph(this.context, out.word);
  }

  /** While capturing: the node of the last operation put into this stream, for GraphExec.update. */
  lastNode(): number {
    const [status, id, graph, dependencies, count] = [new Out(), new Out(), new Out(), new Out(), new Out()];
    this.context.run(
      'cuStreamGetCaptureInfo_v2',
      this.handle,
      status.data,
      id.data,
      graph.data,
      dependencies.data,
      count.data,
    );
    if (status.i32 !== CAPTURE_ACTIVE || count.word !== 1) {
      throw new CudaUsageError('a stream has a last node only while it is captured and right after an operation');
    }
    return getWord(new DataView(this.context.driver.ffi.view(dependencies.word, 8)), 0);
  }

  protected override release(handle: number): void {
    this.context.run('cuStreamDestroy_v2', handle);
  }
}

function hostRange(range: PinnedMemory | HostRange): HostRange {
  return 'memory' in range ? range : { memory: range, offset: 0, bytes: range.bytes };
}
