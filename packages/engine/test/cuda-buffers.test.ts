import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, test } from 'node:test';
import { openCheckpoint } from '../src/checkpoint/open.ts';
import { placeBuffers, type BufferPlan, type CudaBuffer } from '../src/device/cuda/buffers.ts';
import { headOf, resultOf, type FusedOperation } from '../src/device/cuda/fuse.ts';
import { ATTENTION_COUNTERS, usesOf } from '../src/device/cuda/lifetimes.ts';
import { planCudaMemory } from '../src/device/cuda/memory.ts';
import type { ModelSpec } from '../src/model/spec.ts';
import { buildPlan } from '../src/plan/build.ts';
import { SimulatedGpu } from './simulated-gpu.ts';

const CHECKPOINTS = fileURLToPath(new URL('../../../test/checkpoints/', import.meta.url));
const names = readdirSync(CHECKPOINTS, { withFileTypes: true }).flatMap((entry) =>
  entry.isDirectory() ? [entry.name] : [],
);

describe('places of buffers', () => {
  for (const name of names) {
    test(`of ${name}: whatever is read is still there`, async () => {
      const checkpoint = await openCheckpoint(`${CHECKPOINTS}${name}`);
      const { spec } = checkpoint;
      const plan = buildPlan(spec);
      const options = { quantize: undefined, cacheDtype: undefined, maxSequences: 6, maxRows: 64 };
      const { buffers, operations } = planCudaMemory(
        new SimulatedGpu(),
        checkpoint,
        plan,
        { type: 'bf16', cache: 'bf16', quantize: false },
        options,
      );
      await checkpoint.close();
      // It alone waits for what wrote a step's lists, which those behind it may read early (packages/kernels/test/early.test.ts).
      assert.equal(operations[0].kind, 'embed');
      const head = headOf(operations);
      // Two steps, the second of which finds what the first one left; the head runs three times in each.
      const step = [...operations, ...operations.slice(head), ...operations.slice(head)];
      runOver(buffers, [...step, ...step], spec, resultOf(plan));
      const apart = buffers.placed.reduce((sum, { bytes }) => sum + bytes, 0);
      assert.ok(buffers.bytes < apart, `${buffers.bytes} bytes instead of ${apart}: no place is shared`);
    });
  }

  test('of random lifetimes: nobody writes over what lives', () => {
    let state = 1;
    const random = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    for (let round = 0; round < 200; round++) {
      const buffers = Array.from({ length: 1 + random(12) }, (_, i): CudaBuffer => {
        return { name: `b${i}`, rows: 'once', width: 1 + random(3000), element: 2 };
      });
      const live = Array.from({ length: 1 + random(20) }, () => {
        return new Set(buffers.filter(() => random(3) === 0).map(({ name }) => name));
      });
      const rowsOf = { tokens: 1, outputs: 1, sequences: 1, once: 1 };
      const { bytes, placed } = placeBuffers(buffers, rowsOf, live);
      for (const own of placed) {
        assert.ok(own.offset % 256 === 0 && own.offset + own.bytes <= bytes);
        for (const other of placed) {
          const together = own !== other && live.some((names) => names.has(own.name) && names.has(other.name));
          if (together) assert.ok(own.offset + own.bytes <= other.offset || other.offset + other.bytes <= own.offset);
        }
      }
    }
  });
});

/** Goes through operations with a memory that knows who wrote each of its bytes last. */
function runOver(
  { bytes, placed }: BufferPlan,
  operations: readonly FusedOperation[],
  spec: ModelSpec,
  result: string,
) {
  const owners: Uint16Array = new Uint16Array(bytes);
  const numberOf = (name: string): number => placed.findIndex((buffer) => buffer.name === name);
  const bytesOf = (name: string): Uint16Array => {
    const number = numberOf(name);
    assert.ok(number >= 0, `there is no place for ${name}`);
    const { offset, bytes: size } = placed[number];
    return owners.subarray(offset, offset + size);
  };
  const check = (name: string, reader: string): void => {
    const number = numberOf(name) + 1;
    assert.ok(
      bytesOf(name).every((owner) => owner === number),
      `${reader} reads ${name}, where something else lies`,
    );
  };
  const write = (name: string): void => void bytesOf(name).fill(numberOf(name) + 1);
  const counts = numberOf(ATTENTION_COUNTERS) >= 0;
  if (counts) write(ATTENTION_COUNTERS);
  for (const operation of operations) {
    const { reads, writes } = usesOf(operation, spec);
    for (const name of reads) check(name, operation.kind);
    for (const name of writes) write(name);
    // What is read and what is written lie apart: rows are not all done at one time.
    for (const name of reads) check(name, operation.kind);
    if (counts) check(ATTENTION_COUNTERS, operation.kind);
  }
  check(result, 'the host');
}
