import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { GpuMemory } from '../src/device/cuda/gpu.ts';
import { kernelNamed } from '../src/device/cuda/kernels.ts';
import { SimulatedGpu } from './simulated-gpu.ts';

const [HEADS, HEAD] = [2, 32];
const WIDTH = HEADS * HEAD;
const LENGTHS = [20, 1, 9];
const ROWS = LENGTHS.reduce((sum, length) => sum + length, 0);
/** What an encoder's graphs have behind the batch's rows and sequences. */
const PADDED = { rows: ROWS + 6, sequences: LENGTHS.length + 3, longest: 256 };

/**
 * The kernels that see sequences, launched for more rows and sequences than there are, as an encoder's graphs do. Memory behind
 * the rows is NaN. Models in the simulator have heads that are too small for the tensor cores.
 */
describe('sequences behind the last one', () => {
  const gpu = new SimulatedGpu();
  const bf16 = (rows: number, filled: number, seed: number): GpuMemory => {
    const memory = gpu.alloc(2 * rows * WIDTH);
    const words = new Uint16Array(filled * WIDTH);
    let state = seed;
    for (let i = 0; i < words.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      // Numbers of either sign from 1/4 to 1.
      words[i] = ((state >>> 16) & 0x8000) | (0x3e80 + ((state >>> 8) & 0xff));
    }
    const pinned = gpu.pinned(words.byteLength);
    new Uint16Array(pinned.buffer).set(words);
    gpu.stream.upload(memory, pinned, 0, words.byteLength);
    return memory;
  };
  const ints = (list: readonly number[]): GpuMemory => {
    const memory = gpu.alloc(4 * list.length);
    const pinned = gpu.pinned(memory.bytes);
    new Int32Array(pinned.buffer).set(list);
    gpu.stream.upload(memory, pinned, 0, memory.bytes);
    return memory;
  };
  const words = (memory: GpuMemory): Uint16Array => {
    const pinned = gpu.pinned(memory.bytes);
    gpu.stream.download(pinned, 0, memory);
    return new Uint16Array(pinned.buffer);
  };
  const startsOf = (sequences: number): number[] => {
    const starts = [0];
    for (let s = 0; s < sequences; s++) starts.push(starts[s] + (LENGTHS[s] ?? 0));
    return starts;
  };

  for (const name of ['attention_prefill_wgmma', 'attention_prefill', 'attention_rows']) {
    test(`${name}: no bit of the others changes, and no row behind them is written`, () => {
      const run = (rows: number, sequences: number, longest: number): Uint16Array => {
        const y = gpu.alloc(2 * rows * WIDTH);
        const starts = ints(startsOf(sequences));
        const kernel = gpu.load(kernelNamed(name), {
          dims: { sequences: 1, tokens: 1, longest: 1, shortest: 1, qHeads: HEADS, kvHeads: HEADS, head: HEAD },
          options: { type: 'bf16', layout: 'rows', mask: 'bidirectional' },
        });
        const launch = kernel.prepare({
          ...{ q: bf16(rows, ROWS, 1), keys: bf16(rows, ROWS, 2), values: bf16(rows, ROWS, 3) },
          ...{ starts, rowStarts: starts, lengths: ints(Array.from({ length: sequences }, (_, s) => LENGTHS[s] ?? 0)) },
          ...{ scale: HEAD ** -0.5, y },
        });
        launch.grid(...kernel.gridFor({ tokens: longest, sequences })).run(gpu.stream);
        return words(y);
      };
      const right = run(ROWS, LENGTHS.length, Math.max(...LENGTHS));
      assert.ok(
        right.every((word) => (word & 0x7fff) < 0x7f80),
        'finite',
      );
      const padded = run(PADDED.rows, PADDED.sequences, PADDED.longest);
      assert.deepEqual(padded.subarray(0, right.length), right);
      assert.ok(padded.subarray(right.length).every((word) => word === 0xffff));
    });
  }

  for (const kind of ['mean', 'mean_sqrt', 'cls', 'last', 'max']) {
    test(`pool ${kind}: no bit of the others changes`, () => {
      const run = (rows: number, sequences: number): Uint16Array => {
        const y = gpu.alloc(4 * sequences * WIDTH);
        const kernel = gpu.load(kernelNamed('pool'), {
          dims: { sequences, rows, columns: WIDTH },
          options: { kind, type: 'bf16', output: 'f32' },
        });
        kernel
          .prepare({ x: bf16(rows, ROWS, 4), rowStart: ints(startsOf(sequences)), y, sequences })
          .grid(...kernel.gridFor({ sequences }))
          .run(gpu.stream);
        return words(y);
      };
      const right = run(ROWS, LENGTHS.length);
      assert.deepEqual(run(PADDED.rows, PADDED.sequences).subarray(0, right.length), right);
    });
  }
});
