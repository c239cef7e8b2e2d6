import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Batch } from '../src/engine/batch.ts';
import { Histories } from '../src/device/cuda/histories.ts';
import { GpuScope } from '../src/device/cuda/scope.ts';
import { StepWords } from '../src/device/cuda/step-words.ts';
import { SimulatedGpu } from './simulated-gpu.ts';

const capacity = { rows: 4, sequences: 2, outputs: 2, pages: 4, groups: 1 };

/** What output 0's sequence in history `slot` says from position `from` on. */
function told(slot: number, from: number, tokens: readonly number[], prompt: number): Batch {
  const batch = new Batch(capacity);
  batch.clear();
  batch.outputs = 1;
  batch.historySlot[0] = slot;
  batch.historyFrom[0] = from;
  batch.historyPrompt[0] = prompt;
  batch.addHistory(Int32Array.from([...new Array<number>(from).fill(0), ...tokens]), from, from + tokens.length);
  batch.historyStart[1] = batch.history;
  return batch;
}

test('a history tells the GPU of each entry that changes, once, and hands on those that have no place there', () => {
  const histories = new Histories(2, 4);
  const block = new StepWords(new SimulatedGpu(), 8);
  const step = (batch: Batch): { changes: number[]; more: number[] } => {
    histories.begin();
    block.begin();
    histories.tell(batch, 0);
    const { at, count } = histories.writeMore(batch.historySlot[0], block);
    const changes = [...histories.changes.subarray(0, 3 * histories.changed)];
    return { changes, more: [...block.words.subarray(at, at + 2 * count)] };
  };
  // Three tokens of the prompt, 7 twice; then the answer 7, 8, 8.
  assert.deepEqual(step(told(1, 0, [7, 5, 7, 7, 8, 8], 3)), { changes: [4, 7, 1, 5, 5, 0, 6, 8, 2], more: [] });
  assert.deepEqual([histories.at(1), histories.resident(1)], [8, 3]);
  assert.deepEqual(step(told(1, 6, [5], 3)), { changes: [5, 5, 1], more: [] });
  // Two tokens at once, one of them twice; the fifth has no place.
  assert.deepEqual(step(told(1, 7, [9, 10, 9], 3)), { changes: [7, 9, 2], more: [10, 1] });
  assert.deepEqual(step(told(1, 10, [10], 3)), { changes: [], more: [10, 2] });
  // Another sequence in the same place begins anew, and disturbs no other.
  assert.deepEqual(step(told(0, 0, [1], 1)), { changes: [0, 1, 0], more: [] });
  assert.deepEqual(step(told(1, 0, [3], 0)), { changes: [4, 3, 1], more: [] });
});

test('a step’s words grow with what they hold, on both sides', () => {
  const gpu = new SimulatedGpu();
  const scope = new GpuScope(gpu);
  const words = new StepWords(scope, 8);
  for (const count of [5, 40, 300, 7]) {
    words.begin();
    const first = words.reserve(3);
    words.words.set([1, 2, 3], first);
    const rest = words.reserve(count);
    for (let i = 0; i < count; i++) words.words[rest + i] = 10 * i;
    words.send(gpu.stream);
    const back = gpu.pinned(4 * words.used);
    gpu.stream.download(back, 0, words.range().slice(0, 4 * words.used));
    const there = new Int32Array(back.buffer);
    assert.deepEqual([...there.subarray(first, first + 3)], [1, 2, 3]);
    assert.deepEqual(
      [...there.subarray(rest, rest + count)],
      Array.from({ length: count }, (_none, i) => 10 * i),
    );
    assert.equal(rest % 4, 0);
  }
  scope.close();
  assert.equal(gpu.used, 0);
});

test('where there is no room to grow, a step’s words stay what they were', () => {
  const gpu = new SimulatedGpu({ bytes: 64 });
  const words = new StepWords(gpu, 8);
  const { used } = gpu;
  words.begin();
  words.reserve(100);
  assert.throws(() => words.send(gpu.stream), /no room/);
  assert.equal(gpu.used, used);
  words.begin();
  words.words[words.reserve(1)] = 7;
  words.send(gpu.stream);
  const back = gpu.pinned(4);
  gpu.stream.download(back, 0, words.range().slice(0, 4));
  assert.equal(new Int32Array(back.buffer)[0], 7);
});
