import { assert } from '../../errors.ts';
import type { RowKind } from '../../plan/plan.ts';
import type { Gpu, GpuMemory, GpuRange } from './gpu.ts';

const ALIGN = 256;

/** Rows of a buffer: those of the plan, or one. */
export type BufferRows = RowKind | 'once';

/** A matrix [rows, width] that lives during one step. */
export interface CudaBuffer {
  readonly name: string;
  readonly rows: BufferRows;
  readonly width: number;
  /** Bytes of an element. */
  readonly element: number;
}

/** The buffers of a step, in one piece of memory. */
export class Buffers {
  readonly #memory: GpuMemory;
  readonly #placed: ReadonlyMap<string, CudaBuffer & { readonly range: GpuRange }>;

  constructor(gpu: Gpu, buffers: readonly CudaBuffer[], rowsOf: Readonly<Record<BufferRows, number>>) {
    this.#memory = gpu.alloc(Buffers.bytes(buffers, rowsOf));
    let at = 0;
    this.#placed = new Map(
      buffers.map((buffer) => {
        const bytes = bytesOf(buffer, rowsOf);
        const range = this.#memory.slice(at, bytes);
        at += align(bytes);
        return [buffer.name, { ...buffer, range }];
      }),
    );
  }

  static bytes(buffers: readonly CudaBuffer[], rowsOf: Readonly<Record<BufferRows, number>>): number {
    return buffers.reduce((sum, buffer) => sum + align(bytesOf(buffer, rowsOf)), 0);
  }

  range(name: string): GpuRange {
    return this.#buffer(name).range;
  }

  kind(name: string): BufferRows {
    return this.#buffer(name).rows;
  }

  width(name: string): number {
    return this.#buffer(name).width;
  }

  /** Bytes of an element. */
  element(name: string): number {
    return this.#buffer(name).element;
  }

  #buffer(name: string): CudaBuffer & { readonly range: GpuRange } {
    const buffer = this.#placed.get(name);
    assert(buffer, `there is no buffer '${name}'`);
    return buffer;
  }
}

function bytesOf({ rows, width, element }: CudaBuffer, rowsOf: Readonly<Record<BufferRows, number>>): number {
  return rowsOf[rows] * width * element;
}

function align(bytes: number): number {
  return Math.ceil(bytes / ALIGN) * ALIGN;
}
