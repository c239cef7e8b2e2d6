import { SEGMENT_WORDS } from '@rose/kernels';
import { assert, RoseError } from '../../errors.ts';
import { kernelNamed } from './kernels.ts';
import type { Gpu, GpuLaunch, GpuMemory, GpuRange, GpuStream, PinnedBlock } from './gpu.ts';
import { PinnedRing, TURNS } from './pinned-ring.ts';

/** Words that every field begins at a multiple of. */
const ALIGN = 64;

/** A field of a step's numbers on the GPU. */
export interface StateField {
  readonly name: string;
  /** 32-bit words that there is room for. */
  readonly capacity: number;
  /** The least and the greatest number that its words may be: the least does no harm, such as 0 tokens, or no place. */
  readonly least: number;
  readonly greatest: number;
}

interface Placed extends StateField {
  readonly at: number;
}

/**
 * A step's numbers on the GPU: named fields at places that never change, so that launches and graphs know them. The host
 * writes those that a step has into one packed block; `send` copies it over, and a kernel spreads it over the fields.
 *
 * The kernel lets no number through that is out of its field's range (the least takes its place), since others would read
 * beyond their memory by it and the GPU be lost; it notes it in memory of the host, where `check` reads it when the step is done,
 * without asking the driver.
 */
export class StepState<Name extends string> {
  readonly #memory: GpuMemory;
  readonly #fields: ReadonlyMap<Name, Placed>;
  readonly #packed: GpuMemory;
  readonly #ring: PinnedRing;
  /** For each turn, of each segment 1 + the number of a word that was out of its range; else 0. */
  readonly #faults: PinnedBlock;
  readonly #faultWords: Int32Array;
  readonly #faultsOf: readonly GpuRange[];
  readonly #launch: GpuLaunch;
  readonly #header: number;
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
    this.#header = SEGMENT_WORDS * fields.length;
    const words = this.#header + at;
    this.#memory = gpu.alloc(4 * at);
    this.#packed = gpu.alloc(4 * words);
    this.#ring = new PinnedRing(gpu, words);
    const segments = fields.length;
    this.#faults = gpu.pinned(4 * TURNS * segments);
    this.#faultWords = new Int32Array(this.#faults.buffer).fill(0);
    const { range: faults } = this.#faults;
    this.#faultsOf = Array.from({ length: TURNS }, (_, turn) => faults.slice(4 * segments * turn, 4 * segments));
    this.#launch = gpu
      .load(kernelNamed('unpack'), { dims: { words, capacity: at, segments } })
      .prepare({ block: this.#packed, y: this.#memory, faults: this.#faultsOf[0] });
  }

  /** Bytes that the fields take on a GPU. */
  static bytes(fields: readonly StateField[]): number {
    return fields.reduce((sum, { capacity }) => sum + 8 * Math.ceil(capacity / ALIGN) * ALIGN + 4 * SEGMENT_WORDS, 0);
  }

  /** Where a field lies. */
  range(name: Name): GpuRange {
    const { at, capacity } = this.#field(name);
    return this.#memory.slice(4 * at, 4 * capacity);
  }

  /** The step at hand, for `check`. */
  get turn(): number {
    return this.#ring.turn;
  }

  /** Begin a step's block: what was written three steps before is gone. */
  begin(): void {
    this.#ring.next();
    this.#used = this.#header;
    this.#segments = 0;
  }

  /** Room for the first `count` words of a field, to be written before `send`. Valid until the third `begin` from here. */
  words(name: Name, count: number): Int32Array {
    const at = this.#reserve(name, count);
    return this.#ring.block.words.subarray(at, at + count);
  }

  /** Copy what was written to the GPU; what follows in the stream finds it in the fields. */
  send(stream: GpuStream): void {
    const { pinned, words } = this.#ring.block;
    // Segments that this step does not have are empty.
    words.fill(0, SEGMENT_WORDS * this.#segments, this.#header);
    const { turn } = this;
    const segments = this.#fields.size;
    this.#faultWords.fill(0, segments * turn, segments * (turn + 1));
    stream.upload(this.#packed, pinned, 0, 4 * this.#used);
    const across = Math.min(64, Math.max(1, Math.ceil((this.#used - this.#header) / 1024)));
    this.#launch.point('faults', this.#faultsOf[turn]).grid(across, Math.max(1, this.#segments)).run(stream);
  }

  /**
   * Throws RoseError `internal` where a number of the step of this turn, which is done, was out of its range. That is a fault of
   * Rose; the step's results are worth nothing, and the GPU is as it was.
   */
  check(turn: number): void {
    const segments = this.#fields.size;
    for (let s = 0; s < segments; s++) {
      const found = this.#faultWords[turn * segments + s];
      if (found !== 0) throw this.#outOfRange(turn, s, found - 1);
    }
  }

  #outOfRange(turn: number, segment: number, index: number): RoseError {
    const { words } = this.#ring.blockOf(turn);
    const [from, to, , least, greatest] = words.subarray(SEGMENT_WORDS * segment, SEGMENT_WORDS * (segment + 1));
    const [name] = [...this.#fields].find(([, { at }]) => at === to)!;
    return new RoseError(
      'internal',
      `a step's number was out of its range: ${name}[${index}] is ${words[from + index]}, and can be ${least} to ${greatest}; ` +
        'this is a fault of Rose: please report it',
    );
  }

  #reserve(name: Name, count: number): number {
    const { at, capacity, least, greatest } = this.#field(name);
    assert(count <= capacity, `${count} words do not fit the field ${name}, which has ${capacity}`);
    const { words } = this.#ring.block;
    const header = SEGMENT_WORDS * this.#segments++;
    words[header] = this.#used;
    words[header + 1] = at;
    words[header + 2] = count;
    words[header + 3] = least;
    words[header + 4] = greatest;
    this.#used += count;
    return words[header];
  }

  #field(name: Name): Placed {
    const field = this.#fields.get(name);
    assert(field, `a step has no field ${name}`);
    return field;
  }
}
