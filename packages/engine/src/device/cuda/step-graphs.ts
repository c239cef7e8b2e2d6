import type { GpuGraph, GpuStream } from './gpu.ts';

/** Graphs that are kept; the one that was not run for longest goes first. */
const MOST_GRAPHS = 96;
/** Keys that are remembered. */
const MOST_SEEN = 4096;

/** The captured launches of steps, by what these depend on. */
export class StepGraphs {
  readonly #stream: GpuStream;
  readonly #graphs = new Map<string, GpuGraph>();
  readonly #seen = new Set<string>();
  #on: boolean;

  /** @param on whether steps run from graphs at all; both ways come to the same bits */
  constructor(stream: GpuStream, on: boolean) {
    this.#stream = stream;
    this.#on = on;
  }

  get on(): boolean {
    return this.#on;
  }

  /**
   * The graph of a key, captured when it is first wanted; undefined where the driver cannot make it, and from then on.
   * @param body launches a step
   */
  get(key: string, body: () => void): GpuGraph | undefined {
    let graph = this.#graphs.get(key);
    if (graph === undefined) {
      try {
        graph = this.#stream.capture(body);
      } catch (error) {
        // Launched one by one the step comes to the same bits; a GPU that is lost says so there.
        process.emitWarning(`steps are launched one by one from now on: ${(error as Error).message}`);
        this.#on = false;
        return undefined;
      }
      if (this.#graphs.size === MOST_GRAPHS) {
        const [oldest, unused] = this.#graphs.entries().next().value!;
        this.#graphs.delete(oldest);
        unused.free();
      }
    } else this.#graphs.delete(key);
    // The order of a map is that of its last insertions.
    this.#graphs.set(key, graph);
    return graph;
  }

  /** The same for keys of which there are many: one that comes for the first time may never come again. */
  getSecond(key: string, body: () => void): GpuGraph | undefined {
    if (this.#seen.has(key)) return this.get(key, body);
    if (this.#seen.size === MOST_SEEN) this.#seen.clear();
    this.#seen.add(key);
    return undefined;
  }

  free(): void {
    for (const graph of this.#graphs.values()) graph.free();
  }
}
