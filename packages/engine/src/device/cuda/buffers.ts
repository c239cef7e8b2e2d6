import { assert } from '../../errors.ts';
import type { RowKind } from '../../plan/plan.ts';
import type { Gpu, GpuRange } from './gpu.ts';

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

/** Where buffers lie in one piece of memory of so many bytes. */
export interface BufferPlan {
  readonly bytes: number;
  readonly placed: readonly (CudaBuffer & { readonly offset: number; readonly bytes: number })[];
}

/**
 * Places for buffers: those that are live at one time (`liveBuffers`) lie apart, others may share. The largest takes its
 * place first, each the lowest that is free.
 */
export function placeBuffers(
  buffers: readonly CudaBuffer[],
  rowsOf: Readonly<Record<BufferRows, number>>,
  live: readonly ReadonlySet<string>[],
): BufferPlan {
  const sized = buffers.map((buffer) => ({ ...buffer, bytes: rowsOf[buffer.rows] * buffer.width * buffer.element }));
  const placed: ((typeof sized)[number] & { readonly offset: number })[] = [];
  for (const buffer of sized.toSorted((a, b) => b.bytes - a.bytes)) {
    const beside = new Set(live.filter((names) => names.has(buffer.name)).flatMap((names) => [...names]));
    let offset = 0;
    for (const other of placed.filter(({ name }) => beside.has(name)).toSorted((a, b) => a.offset - b.offset)) {
      if (other.offset >= offset + buffer.bytes) break;
      offset = Math.max(offset, align(other.offset + other.bytes));
    }
    placed.push({ ...buffer, offset });
  }
  return { bytes: placed.reduce((end, { offset, bytes }) => Math.max(end, align(offset + bytes)), 0), placed };
}

/** The buffers of a step, in one piece of memory. */
export class Buffers {
  readonly #placed: ReadonlyMap<string, CudaBuffer & { readonly range: GpuRange }>;

  constructor(gpu: Gpu, { bytes, placed }: BufferPlan) {
    const memory = gpu.alloc(bytes);
    this.#placed = new Map(
      placed.map((buffer) => [buffer.name, { ...buffer, range: memory.slice(buffer.offset, buffer.bytes) }]),
    );
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

function align(bytes: number): number {
  return Math.ceil(bytes / ALIGN) * ALIGN;
}
