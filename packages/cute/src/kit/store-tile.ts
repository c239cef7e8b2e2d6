import { bulkCommit, bulkWait } from '../atoms/async-copy.ts';
import { fenceAsync } from '../atoms/barrier.ts';
import { stmatrix } from '../atoms/matrix.ts';
import type { Value } from '../ir/ir.ts';
import { addressIn, combine, compare, emit, moved, sharedBytes, special, when } from '../atoms/record.ts';
import type { Int, Place, TensorMap } from '../atoms/record.ts';
import { tmaStore } from '../atoms/tma.ts';
import { packWord } from './words.ts';

/** Rows of a warp's part of a tile, and columns of one store: 128 bytes of 16-bit elements. */
export const STORE_ROWS = 16;
export const STORE_COLUMNS = 64;
const PITCH = 128;
const BUFFER = STORE_ROWS * PITCH;
/** Bytes of a warp's two buffers. */
export const STORE_BYTES: number = 2 * BUFFER;

/** A tensor that gets some of the columns of the whole. */
export interface StoreTarget {
  readonly map: TensorMap;
  /** The column of the whole that is the tensor's first, a multiple of STORE_COLUMNS, and how many it has. */
  readonly first: number;
  readonly columns: number;
}

/**
 * Stores accumulators of 16-bit outputs by TMA: each warp lays 16 rows by 64 columns into shared memory with stmatrix,
 * in the 128-byte swizzle, and one lane starts the copy. Warps do not wait for each other; two buffers a warp let one be
 * filled while the other is read. The tensor map has boxes of 64 x 16 and leaves out what lies outside of the tensor.
 */
export class WarpStore {
  private readonly buffers: Value;
  private readonly pitch: number;
  private readonly type: 'bf16' | 'f16';
  private next = 0;

  /**
   * @param warps of the CTA, from warp 0 on, that may store
   * @param memory shared memory that each warp uses for something else, too, until it calls `begin`: where it begins
   *   (aligned to 1024 bytes), and from one warp's part to the next at least STORE_BYTES; absent: memory of its own
   */
  constructor(warps: number, type: 'bf16' | 'f16', memory?: { readonly place: Place; readonly pitch: number }) {
    this.buffers = memory
      ? addressIn(memory.place, ['ptr.shared'])
      : sharedBytes('store', warps * STORE_BYTES, 1024, type);
    this.pitch = memory?.pitch ?? STORE_BYTES;
    this.type = type;
  }

  /** Before the stores of a tile, and before the buffers serve as something else: the stores so far have read them. */
  begin(): void {
    this.next = 0;
    bulkWait(0, { read: true });
    emit('warp_sync', { attributes: { mask: 0xffffffff } });
  }

  /**
   * The warp stores its 16 rows of 64 columns.
   *
   * @param values of the thread in float32, as mma and wgmma hold them: four of each 8 columns, eight times
   * @param warp number of the warp among those that store
   * @param targets one tensor, or several side by side, of which one has the first of these columns
   * @param column, row of the first element in the whole; the column is a multiple of STORE_COLUMNS
   * @throws RangeError for tensors that do not begin at such a multiple: a copy to a negative coordinate is an illegal
   *   instruction on the H100, so that no box can lie over the beginning of a tensor
   */
  store(targets: readonly StoreTarget[], values: readonly Int[], warp: Int, column: Int, row: Int): void {
    const odd = targets.find(({ first }) => first % STORE_COLUMNS !== 0);
    if (odd)
      throw new RangeError(`a tensor that begins at column ${odd.first} is not stored by boxes of ${STORE_COLUMNS}`);
    const lane = special('laneid');
    const turn = this.next++;
    const buffer = moved(moved(this.buffers, warp, this.pitch), turn % 2, BUFFER);
    if (turn >= 2) {
      // The copy before the last one has read this buffer.
      bulkWait(1, { read: true });
      emit('warp_sync', { attributes: { mask: 0xffffffff } });
    }
    layRows(buffer, values, this.type);
    fenceAsync('shared');
    emit('warp_sync', { attributes: { mask: 0xffffffff } });
    when(compare('eq', lane, 0), () => {
      for (const { map, first, columns } of targets) {
        const copy = (): void => tmaStore(map, [combine('sub', column, first), row], buffer);
        if (targets.length === 1) copy();
        else when(compare('lt', column, first + columns), () => when(compare('ge', column, first), copy));
      }
    });
    // Every lane counts groups, so that the wait needs no condition; those of the others are empty.
    bulkCommit();
  }

  /** Waits until all stores of this warp have ended; before the CTA ends. */
  drain(): void {
    bulkWait(0);
  }
}

/**
 * Stores accumulators of 16-bit outputs where rows end inside of a tile, so that TMA cannot: each warp lays 16 rows by up
 * to 64 columns into shared memory with stmatrix, in the 128-byte swizzle, and its lanes take them from there by pieces of
 * 16 bytes, eight of them a row, so that whole lines are written. Warps do not wait for each other.
 */
export class WarpRows {
  private readonly buffers: Value;
  private readonly type: 'bf16' | 'f16';

  /** @param warps of the CTA, from warp 0 on, that may store */
  constructor(warps: number, type: 'bf16' | 'f16') {
    this.buffers = sharedBytes('rows', warps * BUFFER, 1024, type);
    this.type = type;
  }

  /**
   * @param values of the thread in float32, as mma and wgmma hold them: four of each 8 columns, for a multiple of 16 of them
   * @param warp number of the warp among those that store
   * @param put stores a piece of 8 columns, where it is inside: its row among the 16, its number, where it is now
   */
  store(values: readonly Int[], warp: Int, put: (row: Int, piece: Int, from: Value) => void): void {
    const buffer = moved(this.buffers, warp, BUFFER);
    layRows(buffer, values, this.type);
    emit('warp_sync', { attributes: { mask: 0xffffffff } });
    const lane = special('laneid');
    const pieces = values.length / 4;
    const piece = combine('and', lane, pieces - 1);
    for (let first = 0; first < STORE_ROWS; first += 32 / pieces) {
      const row = combine('add', combine('shr', lane, Math.log2(pieces)), first);
      const at = combine('xor', piece, combine('and', row, 7));
      put(row, piece, moved(moved(buffer, row, PITCH), at, 16));
    }
    // The next rows are laid when all lanes have read these.
    emit('warp_sync', { attributes: { mask: 0xffffffff } });
  }
}

/** A warp lays its sums of 16 rows into a buffer: rows of 128 bytes, whose pieces of 16 bytes are swizzled. */
function layRows(buffer: Value, values: readonly Int[], type: 'bf16' | 'f16'): void {
  // Lane l addresses row l % 8 of matrix l / 8: rows 0 and 8 of 8 columns, then of the next 8.
  const lane = special('laneid');
  const inside = combine('and', lane, 7);
  const half = combine('and', combine('shr', lane, 3), 1);
  const piece = combine('shr', lane, 4);
  const line = moved(moved(buffer, inside, PITCH), half, 8 * PITCH);
  for (let block = 0; block < values.length / 4; block += 2) {
    const words = [0, 2, 4, 6].map((v) => packWord(values[4 * block + v], values[4 * block + v + 1], type));
    const at = combine('xor', combine('add', piece, block), inside);
    stmatrix(moved(line, at, 16), words);
  }
}
