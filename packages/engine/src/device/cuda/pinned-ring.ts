import type { Gpu, PinnedBlock } from './gpu.ts';

/** What was sent may still be on its way while the next two are written. */
export const TURNS = 3;

/** A block of 32-bit words in pinned memory. */
export interface WordBlock {
  readonly pinned: PinnedBlock;
  readonly words: Int32Array;
  readonly floats: Float32Array;
}

/** Pinned memory that steps write to in turn. */
export class PinnedRing {
  readonly #gpu: Gpu;
  readonly #blocks: WordBlock[];
  #turn = 0;

  constructor(gpu: Gpu, words: number) {
    this.#gpu = gpu;
    this.#blocks = Array.from({ length: TURNS }, () => blockOf(gpu, words));
  }

  /** The step's own: 0 to TURNS - 1. */
  get turn(): number {
    return this.#turn;
  }

  /** The block of the step at hand. */
  get block(): WordBlock {
    return this.#blocks[this.#turn];
  }

  /** The block of another step, one of the last two. */
  blockOf(turn: number): WordBlock {
    return this.#blocks[turn];
  }

  /** Begin a step: what was written three steps before is gone. */
  next(): void {
    this.#turn = (this.#turn + 1) % TURNS;
  }

  /** Have the block at hand hold at least `words`, and of what it has the first `kept`. */
  grow(words: number, kept: number): void {
    const { block } = this;
    if (words <= block.words.length) return;
    const larger = blockOf(this.#gpu, 2 * words);
    larger.words.set(block.words.subarray(0, kept));
    this.#blocks[this.#turn] = larger;
    block.pinned.free();
  }
}

function blockOf(gpu: Gpu, words: number): WordBlock {
  const pinned = gpu.pinned(4 * words);
  return { pinned, words: new Int32Array(pinned.buffer), floats: new Float32Array(pinned.buffer) };
}
