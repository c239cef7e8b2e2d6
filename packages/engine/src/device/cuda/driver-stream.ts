import { setImmediate } from 'node:timers';
import { CudaError, DeviceLostError, Event, Stream, type Context, type GraphExec } from '@rose/cuda';
import { RoseError } from '../../errors.ts';
import type { Pinned, Range } from './driver-memory.ts';
import type { GpuGraph, GpuRange, GpuStream, PinnedBlock } from './gpu.ts';

/** CUDA's code for a kernel that does not end. */
const LAUNCH_TIMEOUT = 702;
/** Work that takes longer hangs. */
const DEADLINE_MS = 30_000;
/** A model that is closed waits no longer for what it has under way. */
const CLOSE_MS = 10_000;
/** Nobody changes it: to sleep on. */
const NAP = new Int32Array(new SharedArrayBuffer(4));

interface Waiting {
  readonly event: Event;
  readonly until: number;
  readonly deadlineMs: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** A stream of NVIDIA's driver. */
export class DriverStream implements GpuStream {
  readonly stream: Stream;
  readonly #context: Context;
  readonly #waiting: Waiting[] = [];
  readonly #events: Event[] = [];

  constructor(context: Context) {
    this.#context = context;
    this.stream = new Stream(context);
  }

  upload(target: GpuRange, source: PinnedBlock, offset: number, bytes: number): void {
    const { memory } = source as Pinned;
    this.stream.copyToDevice(target as Range, { memory, offset, bytes });
  }

  download(target: PinnedBlock, offset: number, source: GpuRange): void {
    const { memory } = target as Pinned;
    this.stream.copyToHost({ memory, offset, bytes: source.bytes }, source as Range);
  }

  copy(target: GpuRange, source: GpuRange): void {
    this.stream.copy(target as Range, source as Range);
  }

  fill(target: GpuRange, byte: number): void {
    this.stream.fill(target as Range, byte);
  }

  capture(body: () => void): GpuGraph {
    using graph = this.stream.capture(body);
    const exec = graph.instantiate();
    exec.upload(this.stream);
    return new DriverGraph(exec);
  }

  waitFor(other: GpuStream): void {
    const event = this.#events.pop() ?? new Event(this.#context);
    (other as DriverStream).stream.record(event);
    this.stream.wait(event);
    // The wait holds what was recorded: the event can be used again.
    this.#events.push(event);
  }

  settled(deadlineMs: number = DEADLINE_MS): Promise<void> {
    return new Promise((resolve, reject) => {
      try {
        const event = this.#events.pop() ?? new Event(this.#context);
        this.stream.record(event);
        this.#waiting.push({ event, until: performance.now() + deadlineMs, deadlineMs, resolve, reject });
        if (this.#waiting.length === 1) setImmediate(this.#poll);
      } catch (error) {
        reject(plain(error));
      }
    });
  }

  synchronize(deadlineMs: number = CLOSE_MS): void {
    const until = performance.now() + deadlineMs;
    // The driver's own wait has no end.
    while (!this.stream.query()) {
      if (performance.now() > until) throw this.#hangs('cuStreamQuery', deadlineMs);
      Atomics.wait(NAP, 0, 0, 1);
    }
  }

  free(): void {
    for (const event of this.#events.splice(0)) event[Symbol.dispose]();
    this.stream[Symbol.dispose]();
  }

  /** Asked between whatever else the thread does: waiting in the driver would hold the thread, a timer is too slow. */
  readonly #poll = (): void => {
    const waiting = this.#waiting;
    try {
      while (waiting.length > 0 && waiting[0].event.query()) {
        const { event, resolve } = waiting.shift()!;
        this.#events.push(event);
        resolve();
      }
      if (waiting.length > 0 && performance.now() > waiting[0].until) {
        throw this.#hangs('cuEventQuery', waiting[0].deadlineMs);
      }
    } catch (error) {
      for (const { reject } of waiting.splice(0)) reject(plain(error));
    }
    if (waiting.length > 0) setImmediate(this.#poll);
  };

  /** Nothing more may be asked of the driver, which would wait for what does not end. */
  #hangs(call: string, deadlineMs: number): CudaError {
    const error = new CudaError(call, LAUNCH_TIMEOUT, `: no end after ${deadlineMs / 1000} s`);
    this.#context.lost = error;
    return error;
  }
}

class DriverGraph implements GpuGraph {
  readonly #exec: GraphExec;

  constructor(exec: GraphExec) {
    this.#exec = exec;
  }

  run(stream: GpuStream): void {
    this.#exec.launch((stream as DriverStream).stream);
  }

  free(): void {
    this.#exec[Symbol.dispose]();
  }
}

/** An error of the driver as the engine tells it to clients. */
function plain(error: unknown): Error {
  if (!(error instanceof CudaError) && !(error instanceof DeviceLostError)) return error as Error;
  return new RoseError('internal', error.message, { cause: error });
}
