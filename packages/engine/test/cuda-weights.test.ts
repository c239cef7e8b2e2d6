import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { decode, interleaveGate } from '@rose/kernels';
import type { Checkpoint, CheckpointTensor } from '../src/checkpoint/checkpoint.ts';
import { openCheckpoint } from '../src/checkpoint/open.ts';
import { convert, TYPE_BYTES, type ComputeType } from '../src/device/cuda/convert.ts';
import { CudaDevice } from '../src/device/cuda/device.ts';
import { DriverGpu } from '../src/device/cuda/driver-gpu.ts';
import type { Gpu, GpuRange } from '../src/device/cuda/gpu.ts';
import type { CudaFormats } from '../src/device/cuda/options.ts';
import { loadWeights, weightBytes, type CudaMatrix, type CudaWeights } from '../src/device/cuda/weights.ts';
import { ropeTables } from '../src/model/rope.ts';
import { buildPlan } from '../src/plan/build.ts';
import { SimulatedGpu } from './simulated-gpu.ts';

const root = fileURLToPath(new URL('../../../test/checkpoints/', import.meta.url));

async function bytesOf(gpu: Gpu, range: GpuRange): Promise<Buffer> {
  const host = gpu.pinned(range.bytes);
  gpu.stream.download(host, 0, range);
  await gpu.stream.settled();
  const bytes = Buffer.from(new Uint8Array(host.buffer).slice().buffer);
  host.free();
  return bytes;
}

const formatsOf = (type: ComputeType): CudaFormats => ({ type, cache: type, quantize: false });

/** Matrices that are stored as e4m3 lie there as they are, but for the order of rows, with the scale of each row or block. */
async function checkNarrow(
  gpu: Gpu,
  { weight, fp8, outputs, interleaved }: CudaMatrix,
  parts: readonly CheckpointTensor[],
): Promise<void> {
  const order = interleaved ? interleaveGate(outputs / 2) : Int32Array.from({ length: outputs }, (_, i) => i);
  const stored = await Promise.all(
    parts.map(async ({ fp8: own }) => {
      const bytes = Buffer.alloc(own!.byteLength);
      await own!.read(bytes, 0);
      return bytes;
    }),
  );
  const all = Buffer.concat(stored);
  const width = all.length / outputs;
  const rows = [...order].map((from) => all.subarray(from * width, (from + 1) * width));
  assert.deepEqual(await bytesOf(gpu, weight), Buffer.concat(rows));
  const scales = await Promise.all(
    parts.map(async ({ fp8: own, parameter: { shape } }) => {
      const values = [...(await own!.scales.read())];
      return own!.kind === 'tensor' ? Array<number>(shape[0]).fill(values[0]) : values;
    }),
  );
  const flat = scales.flat();
  const held = await bytesOf(gpu, fp8!.scales);
  assert.deepEqual(
    [...new Float32Array(held.buffer, held.byteOffset, held.length / 4)],
    fp8!.format === 'row' ? [...order].map((from) => flat[from]) : flat,
  );
  assert.equal(fp8!.input !== undefined, parts[0].fp8!.input !== undefined);
  if (fp8!.input === undefined) return;
  const inputs = await Promise.all(parts.map(({ fp8: own }) => own!.input!.read()));
  assert.equal((await bytesOf(gpu, fp8!.input)).readFloatLE(), Math.max(...inputs.map(([value]) => value)));
}

/** What the GPU must hold of tensors one under the other, in the order of rows. */
async function expected(tensors: readonly CheckpointTensor[], type: ComputeType, order?: Int32Array): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for (const tensor of tensors) {
    const source = new Uint8Array(tensor.byteLength);
    await tensor.read(source, 0);
    pieces.push(convert(source, tensor.dtype, type));
  }
  const all = Buffer.concat(pieces);
  if (order === undefined) return all;
  const rowBytes = all.length / order.length;
  return Buffer.concat([...order].map((from) => all.subarray(from * rowBytes, (from + 1) * rowBytes)));
}

/** Everything that was loaded, held against the checkpoint's tensors. */
async function check(gpu: Gpu, checkpoint: Checkpoint, weights: CudaWeights): Promise<void> {
  const { type } = weights;
  const byName = new Map(checkpoint.tensors.map((tensor) => [tensor.parameter.name, tensor]));
  const seen = new Set<CheckpointTensor>();
  const see = (name: string): CheckpointTensor => {
    const tensor = byName.get(name)!;
    seen.add(tensor);
    return tensor;
  };
  for (const operation of buildPlan(checkpoint.spec).operations) {
    if (operation.kind !== 'linear') continue;
    const matrix = weights.matrices.get(operation.weights.join('+'))!;
    const parts = operation.weights.map((name) => see(byName.has(name) ? name : `${name}.weight`));
    const order = matrix.interleaved ? interleaveGate(matrix.outputs / 2) : undefined;
    if (matrix.fp8 === undefined) {
      assert.deepEqual(await bytesOf(gpu, matrix.weight), await expected(parts, type, order), operation.weights.join());
      assert.equal(matrix.weight.bytes, matrix.outputs * matrix.inputs * TYPE_BYTES[type]);
    } else await checkNarrow(gpu, matrix, parts);
    assert.equal(matrix.fp8 !== undefined, type !== 'f32' && parts[0].fp8 !== undefined);
    assert.equal(matrix.bias !== undefined, operation.bias);
    if (matrix.bias === undefined) continue;
    const biases = operation.weights.map((name) => see(`${name}.bias`));
    assert.deepEqual(await bytesOf(gpu, matrix.bias), await expected(biases, type, order));
  }
  for (const [name, range] of [...weights.tables, ...weights.vectors]) {
    assert.deepEqual(await bytesOf(gpu, range), await expected([see(name)], type), name);
  }
  assert.equal(seen.size, checkpoint.tensors.length);
  for (const { mixer } of checkpoint.spec.blocks) {
    if (mixer.rope === undefined) continue;
    const { cos, sin } = ropeTables(mixer.rope, checkpoint.spec.contextLength);
    const half = mixer.rope.dim / 2;
    const table = await bytesOf(gpu, weights.ropes.get(JSON.stringify(mixer.rope))!);
    const at = new Float32Array(table.buffer, table.byteOffset, table.length / 4);
    assert.equal(at.length, 2 * cos.length);
    for (let i = 0; i < at.length; i++) {
      const [row, column] = [Math.floor(i / (2 * half)), i % (2 * half)];
      const want = column < half ? cos[row * half + column] : sin[row * half + column - half];
      if (at[i] !== want) assert.equal(at[i], want, `position ${row}, ${column}`);
    }
  }
}

const names = readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isDirectory());
for (const { name } of names) {
  test(`${name} in a GPU's memory, in every compute type`, async () => {
    const checkpoint = await openCheckpoint(join(root, name));
    try {
      for (const type of ['bf16', 'f16', 'f32'] as const) {
        const gpu = new SimulatedGpu();
        const told: number[][] = [];
        const plan = buildPlan(checkpoint.spec);
        const weights = await loadWeights(gpu, checkpoint, plan, formatsOf(type), {
          onProgress: (...progress) => void told.push(progress),
        });
        await check(gpu, checkpoint, weights);
        const total = checkpoint.tensors.reduce((sum, { byteLength, fp8 }) => {
          return sum + (fp8 === undefined || type === 'f32' ? byteLength : fp8.byteLength);
        }, 0);
        assert.deepEqual(told.at(-1), [total, total]);
        assert.equal(gpu.used, weights.bytes);
        assert.equal(weights.bytes, weightBytes(checkpoint, formatsOf(type)));
        weights.free();
        assert.equal(gpu.used, 0);
      }
    } finally {
      await checkpoint.close();
    }
  });
}

/** Pieces of a few rows, all of which the GPU converts. */
const SMALL = { slotBytes: 4096, slots: 3, gpuConverts: 0 };

for (const [name, type] of [
  ['llama-mha-f32', 'bf16'],
  ['llama-mqa-f16', 'f32'],
  ['qwen3-mixed', 'f16'],
  ['qwen2', 'bf16'],
  ['llama-odd-sizes', 'f16'],
  ['llama-fp8-channel', 'f16'],
] as const) {
  test(`${name} in many small pieces, converted to ${type} by the GPU`, async () => {
    const checkpoint = await openCheckpoint(join(root, name));
    try {
      const gpu = new SimulatedGpu();
      const weights = await loadWeights(gpu, checkpoint, buildPlan(checkpoint.spec), formatsOf(type), { sizes: SMALL });
      assert.equal((gpu.launches.get('cast') ?? 0) > 10, name !== 'qwen2');
      await check(gpu, checkpoint, weights);
      assert.equal(gpu.used, weights.bytes);
    } finally {
      await checkpoint.close();
    }
  });
}

for (const [name, type] of [
  ['qwen3', 'bf16'],
  ['llama-mha-f32', 'f16'],
] as const) {
  test(`${name} in many small pieces, brought to e4m3 by the GPU, each row by its largest magnitude`, async () => {
    const checkpoint = await openCheckpoint(join(root, name));
    const gpu = new SimulatedGpu();
    const byName = new Map(checkpoint.tensors.map((tensor) => [tensor.parameter.name, tensor]));
    const formats = { type, cache: type, quantize: true } as const;
    const weights = await loadWeights(gpu, checkpoint, buildPlan(checkpoint.spec), formats, { sizes: SMALL });
    let narrow = 0;
    for (const [key, { weight, fp8, outputs, inputs, interleaved }] of weights.matrices) {
      assert.equal(fp8 !== undefined, key.startsWith('blocks.'), key);
      if (fp8 === undefined) continue;
      narrow++;
      const parts = key.split('+').map((part) => byName.get(`${part}.weight`)!);
      const order = interleaved ? interleaveGate(outputs / 2) : undefined;
      const wide = decode('f32', await expected(parts, 'f32', order));
      const held = decode('e4m3', await bytesOf(gpu, weight));
      const scales = decode('f32', await bytesOf(gpu, fp8.scales));
      for (let row = 0; row < outputs; row++) {
        const own = wide.subarray(row * inputs, (row + 1) * inputs);
        const largest = Math.max(...own.map(Math.abs));
        assert.ok(Math.abs(scales[row] * 448 - largest) <= 2 ** -22 * largest, `${key}: scale of row ${row}`);
        for (const [i, value] of own.entries()) {
          // Half of the distance of neighbours: 2^-4 of a number, or of the smallest that is not subnormal.
          const most = Math.max(Math.abs(value), 2 ** -6 * scales[row]) * 2 ** -4 * 1.001;
          assert.ok(Math.abs(held[row * inputs + i] * scales[row] - value) <= most, `${key}: row ${row}, ${i}`);
        }
      }
    }
    assert.equal(narrow, 4 * checkpoint.spec.blocks.length);
    assert.equal(weights.bytes, weightBytes(checkpoint, formats));
    assert.ok(gpu.launches.get('quantise')! > 10);
    await checkpoint.close();
  });
}

test('a read that fails ends the load with its error, and nothing of it stays', async () => {
  const checkpoint = await openCheckpoint(join(root, 'qwen2'));
  let reads = 0;
  let open = 0;
  const tensors = checkpoint.tensors.map((tensor): CheckpointTensor => {
    const counted =
      <T>(read: (target: T, offset: number) => Promise<void>) =>
      async (target: T, offset: number): Promise<void> => {
        open++;
        if (++reads === 20) throw new Error('the disk is gone');
        await read(target, offset);
        open--;
      };
    return {
      ...tensor,
      read: counted((target: Uint8Array, at) => tensor.read(target, at)),
      scatter: counted((targets: readonly Uint8Array[], at) => tensor.scatter(targets, at)),
    };
  });
  const gpu = new SimulatedGpu();
  const load = loadWeights(gpu, { ...checkpoint, tensors }, buildPlan(checkpoint.spec), formatsOf('bf16'), {
    sizes: SMALL,
  });
  await assert.rejects(load, /the disk is gone/);
  assert.equal(gpu.used, 0);
  // All but the one that failed had ended.
  assert.equal(open, 1);
  await checkpoint.close();
});

test('every checkpoint on a GPU, converted by the CPU and by the GPU', { skip: !CudaDevice.present() }, async () => {
  const gpu = DriverGpu.open(0);
  for (const { name } of names) {
    const checkpoint = await openCheckpoint(join(root, name));
    for (const type of ['bf16', 'f16', 'f32'] as const) {
      for (const sizes of [undefined, SMALL]) {
        const weights = await loadWeights(gpu, checkpoint, buildPlan(checkpoint.spec), formatsOf(type), { sizes });
        await check(gpu, checkpoint, weights);
        weights.free();
      }
    }
    await checkpoint.close();
  }
  gpu.close();
});
