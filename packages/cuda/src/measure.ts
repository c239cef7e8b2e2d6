import { Event } from './event.ts';
import type { GraphExec } from './graph.ts';
import { DeviceMemory } from './memory.ts';
import type { Stream } from './stream.ts';

export interface MeasureOptions {
  /** Launches in one graph. Default 20. */
  readonly launches?: number;
  /** Timed replays. Default 15. */
  readonly repeats?: number;
  /** Replays before, which bring clocks and caches to their steady state. Default 3. */
  readonly warmup?: number;
}

export interface Measurement {
  /** Median microseconds of one launch. */
  readonly median: number;
  /** Fastest and slowest replay, as microseconds of one launch. */
  readonly fastest: number;
  readonly slowest: number;
  readonly launches: number;
  readonly repeats: number;
}

/**
 * Times work of the device: `launches` calls of `put` are captured in a graph, which is replayed between two events.
 * A graph keeps the device fed, so that the host's cost does not show; `put(n)` should take other memory for each n
 * (as much in all as several times the level-2 cache), else what is timed is the cache.
 */
export function measure(stream: Stream, put: (n: number) => void, options: MeasureOptions = {}): Measurement {
  const { launches = 20, repeats = 15, warmup = 3 } = options;
  using graph = stream.capture(() => {
    for (let n = 0; n < launches; n++) put(n);
  });
  using exec = graph.instantiate();
  return measureGraph(stream, exec, { launches, repeats, warmup });
}

/** Times replays of a graph that holds `launches` launches. */
export function measureGraph(stream: Stream, exec: GraphExec, options: Required<MeasureOptions>): Measurement {
  const { launches, repeats, warmup } = options;
  using start = new Event(stream.context, { timing: true });
  using end = new Event(stream.context, { timing: true });
  exec.upload(stream);
  for (let n = 0; n < warmup; n++) exec.launch(stream);
  stream.synchronize();
  const times: number[] = [];
  for (let n = 0; n < repeats; n++) {
    stream.record(start);
    exec.launch(stream);
    stream.record(end);
    end.synchronize();
    times.push((end.since(start) * 1000) / launches);
  }
  times.sort((a, b) => a - b);
  return { median: medianOf(times), fastest: times[0], slowest: times[repeats - 1], launches, repeats };
}

/**
 * Bytes a second that a copy from device to device moves, each byte read and written: the practical ceiling of a
 * kernel that is bound by memory. `bytes` a copy, default 256 MiB; four pairs of buffers are rotated.
 */
export function copyBandwidth(stream: Stream, bytes: number = 2 ** 28, options: MeasureOptions = {}): number {
  const pairs = 4;
  using memory = new DeviceMemory(stream.context, 2 * pairs * bytes);
  const part = (at: number): ReturnType<DeviceMemory['slice']> => memory.slice(at * bytes, bytes);
  stream.fill(memory, 1);
  const { median } = measure(stream, (n) => stream.copy(part(2 * (n % pairs)), part(2 * (n % pairs) + 1)), {
    launches: 8,
    ...options,
  });
  return (2 * bytes * 1e6) / median;
}

function medianOf(sorted: readonly number[]): number {
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
