import type { Context } from './context.ts';
import { CudaUsageError } from './errors.ts';
import { DeviceMemory, PinnedMemory } from './memory.ts';
import { setWord } from './structs.ts';

/** What a kernel needs to know of a ring: a block of device memory with these fields (byte offsets). */
export const RING_CONTROL = {
  bytes: 32,
  /** u32: tickets drawn so far. Writers add 1 atomically. */
  cursor: 0,
  /** u32: number of slots minus 1; slots are a power of two. */
  mask: 4,
  /** u32: bytes of a slot, a multiple of 16. */
  slotBytes: 8,
  /** u64: address of slot 0. */
  slots: 16,
} as const;

/** Bytes at the start of a slot that hold its stamp; the message follows. */
const STAMP = 4;

/**
 * Messages from kernels to the host (printf, assertions) that survive the death of the device: slots in pinned memory
 * that the device writes and the host reads at any time, also after a sticky error.
 *
 * A writer draws a ticket (`atom.global.add.u32` on the cursor), writes its message to slot `ticket & mask` behind the
 * first four bytes, and then stamps it: `st.release.sys.u32 [slot], ticket + 1`. The cursor lies in device memory,
 * where atomics always are; the slots are plain stores. Writers never wait: whoever is a whole ring ahead of the host
 * overwrites, and the host counts what it lost. A slot is a message; what a message holds is the writer's affair.
 */
export class MappedRing implements Disposable {
  /** Passed to the kernel: its address is all the kernel needs. */
  readonly control: DeviceMemory;
  readonly slots: number;
  readonly slotBytes: number;
  /** Messages that were overwritten before the host read them. */
  lost: number = 0;
  readonly #memory: PinnedMemory;
  readonly #words: Int32Array;
  #next = 0;
  #hasControl = false;

  constructor(context: Context, options: { slots?: number; slotBytes?: number } = {}) {
    const { slots = 1024, slotBytes = 64 } = options;
    if (slots < 1 || (slots & (slots - 1)) !== 0)
      throw new CudaUsageError(`a ring of ${slots} slots: it must be a power of two`);
    if (slotBytes < 16 || slotBytes % 16 !== 0) {
      throw new CudaUsageError(`slots of ${slotBytes} bytes: the size must be a positive multiple of 16`);
    }
    this.slots = slots;
    this.slotBytes = slotBytes;
    this.#memory = new PinnedMemory(context, slots * slotBytes);
    this.#words = new Int32Array(this.#memory.buffer).fill(0);
    try {
      this.control = new DeviceMemory(context, RING_CONTROL.bytes);
      this.#hasControl = true;
      const fields = new DataView(new ArrayBuffer(RING_CONTROL.bytes));
      fields.setUint32(RING_CONTROL.mask, slots - 1, true);
      fields.setUint32(RING_CONTROL.slotBytes, slotBytes, true);
      setWord(fields, RING_CONTROL.slots, this.#memory.address);
      this.control.write(fields);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Gives `visit` every complete message since the last call, in the order of tickets; `message` is a copy without the
   * stamp. Stops at the first that is not complete. `final`: nobody writes any more (the kernel is done or dead), so
   * gaps that dying threads left are passed over.
   */
  drain(visit: (message: DataView, ticket: number) => void, options: { final?: boolean } = {}): number {
    let given = 0;
    let ticket = this.#next;
    for (let gaps = 0; gaps < this.slots;) {
      const slot = (ticket & (this.slots - 1)) * (this.slotBytes / 4);
      const stamp = Atomics.load(this.#words, slot);
      // A multiple of the number of slots: 0 where the message is there, below where it is not written yet.
      const ahead = stamp === 0 ? -this.slots : (stamp - (ticket + 1)) | 0;
      if (ahead > 0) {
        // A later round was here: only the tickets less than a round before it can be left.
        const skipped = ahead - this.slots + 1;
        this.lost += skipped;
        ticket = this.#next = (ticket + skipped) >>> 0;
      } else if (ahead < 0) {
        if (!options.final) break;
        gaps += 1;
        ticket = (ticket + 1) >>> 0;
      } else {
        const message = this.#copy(slot);
        // A writer a round ahead may have written into it meanwhile; then the stamp says so when it is looked at again.
        if (Atomics.load(this.#words, slot) !== stamp) continue;
        visit(message, ticket);
        given += 1;
        gaps = 0;
        ticket = this.#next = (ticket + 1) >>> 0;
      }
    }
    return given;
  }

  #copy(slot: number): DataView {
    const start = slot * 4 + STAMP;
    return new DataView(this.#words.buffer.slice(start, start + this.slotBytes - STAMP));
  }

  [Symbol.dispose](): void {
    if (this.#hasControl) this.control[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
  }
}
