import type { Gpu, GpuMemory, GpuRange, GpuStream, PinnedBlock } from './gpu.ts';

/** What was sent may still be on its way while the next two steps are written. */
const BLOCKS = 3;
/** Pieces begin at multiples of so many words: 16 bytes. */
const ALIGN = 4;

interface Block {
  readonly pinned: PinnedBlock;
  readonly words: Int32Array;
  readonly floats: Float32Array;
}

/** Words that each step sends to the GPU in one copy, as many as it has; there is room for as many as a step ever had. */
export class StepWords {
  readonly #gpu: Gpu;
  #memory: GpuMemory;
  readonly #blocks: Block[];
  #turn = 0;
  #used = 0;

  constructor(gpu: Gpu, words: number) {
    this.#gpu = gpu;
    this.#memory = gpu.alloc(4 * words);
    this.#blocks = Array.from({ length: BLOCKS }, () => blockOf(gpu, words));
  }

  get words(): Int32Array {
    return this.#blocks[this.#turn].words;
  }

  get floats(): Float32Array {
    return this.#blocks[this.#turn].floats;
  }

  /** Words that were reserved in this step. */
  get used(): number {
    return this.#used;
  }

  /** Begin a step. */
  begin(): void {
    this.#turn = (this.#turn + 1) % BLOCKS;
    this.#used = 0;
  }

  /** Room for `count` words; gives the first one's number. `words` and `floats` may be others afterwards. */
  reserve(count: number): number {
    const at = this.#used;
    this.#used += Math.ceil(count / ALIGN) * ALIGN;
    const block = this.#blocks[this.#turn];
    if (this.#used > block.words.length) {
      const larger = blockOf(this.#gpu, 2 * this.#used);
      larger.words.set(block.words.subarray(0, at));
      this.#blocks[this.#turn] = larger;
      block.pinned.free();
    }
    return at;
  }

  /** Copy words from number `from` on to the GPU. */
  send(stream: GpuStream, from = 0): void {
    if (4 * this.#used > this.#memory.bytes) {
      // Steps under way read the old one, which is less than half as large: it stays until the model goes.
      this.#memory = this.#gpu.alloc(8 * this.#used);
    }
    if (this.#used > from) {
      const { pinned } = this.#blocks[this.#turn];
      stream.upload(this.#memory.slice(4 * from, 4 * (this.#used - from)), pinned, 4 * from, 4 * (this.#used - from));
    }
  }

  /** Where they are after `send`. */
  range(at = 0): GpuRange {
    return this.#memory.slice(4 * at);
  }
}

function blockOf(gpu: Gpu, words: number): Block {
  const pinned = gpu.pinned(4 * words);
  return { pinned, words: new Int32Array(pinned.buffer), floats: new Float32Array(pinned.buffer) };
}
