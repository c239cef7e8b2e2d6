import type { Arena, MatrixFormat, PackedMatrix, Program, ScratchNeed, SourceDtype, TileFamily } from './api.ts';
import { quantizedRowBytes } from './commands/quantized.ts';
import { bitsOf, scoreStride, type Scratch, type ThreadArena } from './commands/thread.ts';
import { PANEL, stepBytes } from './kernels/linear.ts';
import { blockBytes, GROUP } from './kernels/quantized.ts';
import { positive } from './invariants.ts';
import { CommandList } from './program.ts';
import type { Team } from './team/team.ts';

const PAGE = 65536;
const LIMIT = 4 * 1024 ** 3;
const ALIGN = 64;
/** Rows of the largest tile of queries. */
const SCORE_ROWS = 4;

export function matrixBytes(outputs: number, inputs: number, format: MatrixFormat): number {
  const panels = Math.ceil(outputs / PANEL);
  if (format === 'int8' || format === 'int4') return panels * Math.ceil(inputs / GROUP) * blockBytes(format);
  return panels * inputs * stepBytes(format);
}

export function scratchBytes(need: ScratchNeed, threads: number): number {
  const { tile, row, scores, quantized } = scratchParts(need);
  return threads * (tile + row + SCORE_ROWS * scores) + quantized;
}

/** Bytes of each part, for one row of scores. */
function scratchParts(need: ScratchNeed): Scratch['reserved'] {
  const aligned = (bytes: number): number => Math.ceil(bytes / ALIGN) * ALIGN;
  return {
    tile: aligned(16 * PANEL * 4),
    row: aligned(4 * need.maxWidth),
    scores: scoreStride(need.maxContext),
    // For either kind of weights: int8's take more.
    quantized: aligned(need.maxRows * quantizedRowBytes(need.maxInputs, 'int8')),
  };
}

/** See the interface. */
export class CpuArena implements Arena {
  readonly memory: WebAssembly.Memory;
  readonly capacity: number;
  #used = ALIGN;
  #dirty = 0;
  readonly #team: Team;
  readonly #number: number;
  readonly #thread: ThreadArena;
  readonly #pack: CommandList;
  #closed = false;

  constructor(
    team: Team,
    module: WebAssembly.Module,
    family: TileFamily,
    bytes: number,
    advise: (memory: WebAssembly.Memory) => void,
  ) {
    if (!(bytes > 0 && bytes <= LIMIT)) throw new RangeError(`an arena of ${bytes} bytes: at most ${LIMIT}`);
    const pages = Math.ceil(bytes / PAGE);
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    advise(this.memory);
    this.capacity = pages * PAGE;
    this.#team = team;
    this.#number = team.addArena(this.memory, module, family);
    this.#thread = team.arena(this.#number);
    this.#pack = new CommandList(team, this.#number);
  }

  get used(): number {
    return this.#used;
  }

  alloc(bytes: number, align: number = ALIGN): number {
    if (!(Number.isInteger(bytes) && bytes >= 0)) throw new RangeError(`${bytes} bytes cannot be allocated`);
    const pointer = Math.ceil(this.#used / align) * align;
    if (pointer + bytes > this.capacity) {
      throw new RangeError(
        `the arena is full: ${bytes} bytes asked for, ${this.capacity - this.#used} of ${this.capacity} left`,
      );
    }
    this.#used = pointer + bytes;
    // Memory comes zeroed; what was given back has to be cleared again.
    if (pointer < this.#dirty) this.u8(pointer, Math.min(bytes, this.#dirty - pointer)).fill(0);
    return pointer;
  }

  release(mark: number): void {
    if (!(mark >= ALIGN && mark <= this.#used)) throw new RangeError(`${mark} is not an earlier value of used`);
    this.#dirty = Math.max(this.#dirty, this.#used);
    this.#used = mark;
  }

  f32(pointer: number, length: number): Float32Array {
    return new Float32Array(this.memory.buffer, pointer, length);
  }

  i32(pointer: number, length: number): Int32Array {
    return new Int32Array(this.memory.buffer, pointer, length);
  }

  u8(pointer: number, length: number): Uint8Array {
    return new Uint8Array(this.memory.buffer, pointer, length);
  }

  matrix(outputs: number, inputs: number, format: MatrixFormat): PackedMatrix {
    positive('outputs', outputs);
    positive('inputs', inputs);
    const bytes = matrixBytes(outputs, inputs, format);
    return { format, outputs, inputs, pointer: this.alloc(bytes), bytes };
  }

  pack(matrix: PackedMatrix, firstRow: number, rows: number, source: number, dtype: SourceDtype): void {
    this.#pack.reset();
    this.#pack.pack(matrix, firstRow, rows, source, dtype);
    this.#pack.run();
  }

  widen(source: number, dtype: SourceDtype, count: number, target: number): void {
    const { buffer } = this.memory;
    const to = new Float32Array(buffer, target, count);
    if (dtype === 'F32') to.set(new Float32Array(buffer, source, count));
    else if (dtype === 'F16') to.set(new Float16Array(buffer, source, count));
    else {
      const words = new Uint16Array(buffer, source, count);
      const bits = new Int32Array(buffer, target, count);
      for (let i = 0; i < count; i++) bits[i] = words[i] << 16;
    }
  }

  reserve(need: ScratchNeed): void {
    const reserved = scratchParts(need);
    const quantized = this.alloc(reserved.quantized);
    const scratch: Scratch[] = [];
    for (let thread = 0; thread < this.#team.threads; thread++) {
      scratch.push({
        tile: this.alloc(reserved.tile),
        row: this.alloc(reserved.row),
        scores: this.alloc(SCORE_ROWS * reserved.scores),
        scoreStride: reserved.scores,
        quantized,
        reserved,
      });
    }
    this.#team.setScratch(this.#number, scratch);
  }

  candidates(
    input: number,
    width: number,
    threshold: number,
    indices: number,
    values: number,
    capacity: number,
  ): number {
    const { kernels, scratch, i32 } = this.#thread;
    kernels['candidates'](input, width, bitsOf(threshold), indices, values, capacity, scratch.tile);
    return i32[scratch.tile >>> 2];
  }

  program(): Program {
    return new CommandList(this.#team, this.#number);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#team.dropArena(this.#number);
  }
}
