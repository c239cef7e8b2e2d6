import { assert } from '../../errors.ts';
import { kernelNamed } from './kernels.ts';
import type { Gpu, GpuLaunch, GpuMemory, GpuRange, GpuStream, PinnedBlock } from './gpu.ts';

/** A step's block may still be on its way while the next two are written. */
const BLOCKS = 3;
/** Words that every field begins at a multiple of. */
const ALIGN = 64;

/** A field of a step's numbers on the GPU. */
export interface StateField {
  readonly name: string;
  /** 32-bit words that there is room for. */
  readonly capacity: number;
}

interface Placed extends StateField {
  readonly at: number;
}

/**
 * A step's numbers on the GPU: named fields at places that never change, so that launches and graphs know them. The host
 * writes those that a step has into one packed block; `send` copies it over, and a kernel spreads it over the fields.
 */
export class StepState<Name extends string> {
  readonly #memory: GpuMemory;
  readonly #fields: ReadonlyMap<Name, Placed>;
  readonly #packed: GpuMemory;
  readonly #blocks: readonly {
    readonly pinned: PinnedBlock;
    readonly words: Int32Array;
  }[];
  readonly #launch: GpuLaunch;
  readonly #header: number;
  #turn = 0;
  #used = 0;
  #segments = 0;

  constructor(gpu: Gpu, fields: readonly (StateField & { readonly name: Name })[]) {
    let at = 0;
    const placed = fields.map((field): [Name, Placed] => {
      const place = { ...field, at };
      at += Math.ceil(field.capacity / ALIGN) * ALIGN;
      return [field.name, place];
    });
    this.#fields = new Map(placed);
    this.#header = 3 * fields.length;
    const words = this.#header + at;
    this.#memory = gpu.alloc(4 * at);
    this.#packed = gpu.alloc(4 * words);
    this.#blocks = Array.from({ length: BLOCKS }, () => {
      const pinned = gpu.pinned(4 * words);
      return { pinned, words: new Int32Array(pinned.buffer) };
    });
    const dims = { words, capacity: at, segments: fields.length };
    this.#launch = gpu.load(kernelNamed('unpack'), { dims }).prepare({ block: this.#packed, y: this.#memory });
  }

  /** Bytes that the fields take on a GPU. */
  static bytes(fields: readonly StateField[]): number {
    return fields.reduce((sum, { capacity }) => sum + 8 * Math.ceil(capacity / ALIGN) * ALIGN + 12, 0);
  }

  /** Where a field lies. */
  range(name: Name): GpuRange {
    const { at, capacity } = this.#field(name);
    return this.#memory.slice(4 * at, 4 * capacity);
  }

  /** Begin a step's block: what was written three steps before is gone. */
  begin(): void {
    this.#turn = (this.#turn + 1) % BLOCKS;
    this.#used = this.#header;
    this.#segments = 0;
  }

  /** Room for the first `count` words of a field, to be written before `send`. Valid until the third `begin` from here. */
  words(name: Name, count: number): Int32Array {
    const at = this.#reserve(name, count);
    return this.#blocks[this.#turn].words.subarray(at, at + count);
  }

  /** Copy what was written to the GPU; what follows in the stream finds it in the fields. */
  send(stream: GpuStream): void {
    const { pinned, words } = this.#blocks[this.#turn];
    // Segments that this step does not have are empty.
    words.fill(0, 3 * this.#segments, this.#header);
    stream.upload(this.#packed, pinned, 0, 4 * this.#used);
    const across = Math.min(64, Math.max(1, Math.ceil((this.#used - this.#header) / 1024)));
    this.#launch.grid(across, Math.max(1, this.#segments)).run(stream);
  }

  #reserve(name: Name, count: number): number {
    const { at, capacity } = this.#field(name);
    assert(count <= capacity, `${count} words do not fit the field ${name}, which has ${capacity}`);
    const { words } = this.#blocks[this.#turn];
    const header = 3 * this.#segments++;
    words[header] = this.#used;
    words[header + 1] = at;
    words[header + 2] = count;
    this.#used += count;
    return words[header];
  }

  #field(name: Name): Placed {
    const field = this.#fields.get(name);
    assert(field, `a step has no field ${name}`);
    return field;
  }
}
