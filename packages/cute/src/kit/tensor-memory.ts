import { loadFrom, moved, result, sharedBytes, typed, type Int } from '../atoms/record.ts';
import {
  tcgen05Fence,
  tmemAllocate,
  tmemFree,
  tmemLoad,
  tmemRelinquish,
  tmemStore,
  tmemWait,
  type GroupOption,
} from '../atoms/tcgen05.ts';
import { TMEM_LANE } from '../atoms/tmem-copies.ts';
import type { Value } from '../ir/ir.ts';

/** Rows of sums that a warp has as mma holds them, and columns of them that one register of a load has beside another. */
const ROWS = 16;
const BLOCK = 8;

/**
 * Columns of tensor memory (sm_100a) that a CTA has for the whole kernel: 128 lanes of float32 sums, of which the four
 * warps of a warpgroup reach 32 each.
 *
 * One warp calls `allocate`; then all threads meet in `sync`, or in `clusterSync` where two CTAs work together (`group` 2),
 * and each calls `open`. In the end all meet again behind `close`, and the same warp calls `free`.
 */
export class TensorMemory {
  private readonly columns: number;
  private readonly options: GroupOption;
  private readonly place: Value;
  private start: Value | undefined;

  /** @param columns at least so many: the power of two from 32 to 512 that has them is allocated */
  constructor(columns: number, options: GroupOption = {}) {
    if (columns > 512) throw new RangeError(`tensor memory has 512 columns, not ${columns}`);
    this.columns = Math.max(32, 2 ** Math.ceil(Math.log2(columns)));
    this.options = options;
    this.place = sharedBytes('tensor_memory', 4, 4, 'u32');
  }

  allocate(): void {
    tmemAllocate(this.place, this.columns, this.options);
    tmemRelinquish(this.options);
    tcgen05Fence('before_thread_sync');
  }

  open(): void {
    tcgen05Fence('after_thread_sync');
    this.start = loadFrom(this.place, 'ptr.tmem') as unknown as Value;
  }

  /** Where a column begins, in a lane. */
  at(column: Int, lane: Int = 0): Value {
    if (!this.start) throw new TypeError('tensor memory has an address behind open()');
    return moved(moved(this.start, column, 1), lane, TMEM_LANE);
  }

  /**
   * Sums of sixteen lanes as mma and wgmma hold theirs: four of each 8 columns, rows 0 and 8, two neighbouring columns each.
   * They are there when it returns.
   *
   * @param lane the first: a multiple of 16 among the warp's own
   * @param columns 8 times a power of two
   */
  load(column: Int, lane: Int, columns: number): Int[] {
    const words = tmemLoad(this.at(column, lane), { shape: '16x256b', repeat: columns / BLOCK });
    tmemWait('load');
    return words.map((word) => result('bitcast', 'f32', { args: [typed(word, 'b32')] }));
  }

  /** Puts sums where `load` with the same numbers finds them. */
  store(column: Int, lane: Int, sums: readonly Int[]): void {
    const repeat = (sums.length * 32) / (ROWS * BLOCK);
    tmemStore(this.at(column, lane), sums, { shape: '16x256b', repeat });
    tmemWait('store');
  }

  close(): void {
    tcgen05Fence('before_thread_sync');
  }

  free(): void {
    tmemFree(this.at(0), this.columns, this.options);
  }
}
