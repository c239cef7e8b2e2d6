import type { Gpu, GpuMemory, GpuRange, GpuStream } from './gpu.ts';
import { PinnedRing } from './pinned-ring.ts';

/** Pieces begin at multiples of so many words: 16 bytes. */
const ALIGN = 4;

/** Words that each step sends to the GPU in one copy, as many as it has; there is room for as many as a step ever had. */
export class StepWords {
  readonly #gpu: Gpu;
  #memory: GpuMemory;
  readonly #ring: PinnedRing;
  #used = 0;

  constructor(gpu: Gpu, words: number) {
    this.#gpu = gpu;
    this.#memory = gpu.alloc(4 * words);
    this.#ring = new PinnedRing(gpu, words);
  }

  get words(): Int32Array {
    return this.#ring.block.words;
  }

  get floats(): Float32Array {
    return this.#ring.block.floats;
  }

  /** Words that were reserved in this step. */
  get used(): number {
    return this.#used;
  }

  /** Begin a step. */
  begin(): void {
    this.#ring.next();
    this.#used = 0;
  }

  /** Room for `count` words; gives the first one's number. `words` and `floats` may be others afterwards. */
  reserve(count: number): number {
    const at = this.#used;
    this.#used += Math.ceil(count / ALIGN) * ALIGN;
    this.#ring.grow(this.#used, at);
    return at;
  }

  /** Copy words from number `from` on to the GPU. */
  send(stream: GpuStream, from = 0): void {
    if (4 * this.#used > this.#memory.bytes) {
      // Steps under way read the old one, which is less than half as large: it stays until the model goes.
      this.#memory = this.#gpu.alloc(8 * this.#used);
    }
    if (this.#used > from) {
      const { pinned } = this.#ring.block;
      stream.upload(this.#memory.slice(4 * from, 4 * (this.#used - from)), pinned, 4 * from, 4 * (this.#used - from));
    }
  }

  /** Where they are after `send`. */
  range(at = 0): GpuRange {
    return this.#memory.slice(4 * at);
  }
}
