import { interleaveGate } from '@rose/kernels';
import type { Checkpoint, CheckpointTensor } from '../../checkpoint/checkpoint.ts';
import { assert } from '../../errors.ts';
import { sizeOf } from '../../model/parameters.ts';
import { ropeTables } from '../../model/rope.ts';
import type { RopeSpec } from '../../model/spec.ts';
import type { LinearOperation, Plan } from '../../plan/plan.ts';
import type { Gpu, GpuMemory, GpuRange } from './gpu.ts';

/** The type that a model's weights and activations have on the GPU. */
export type ComputeType = 'bf16' | 'f16' | 'f32';

export const TYPE_BYTES: Readonly<Record<ComputeType, number>> = { bf16: 2, f16: 2, f32: 4 };

/** A matrix of the plan: the named matrices one under the other, [outputs, inputs]. */
export interface CudaMatrix {
  readonly weight: GpuRange;
  readonly bias: GpuRange | undefined;
  readonly outputs: number;
  readonly inputs: number;
  /** Rows are interleaved by eights, as a gate's epilogue wants them (`interleaveGate`). */
  readonly interleaved: boolean;
}

/** A model's weights in a GPU's memory, under the names the plan uses, all in the compute type. */
export interface CudaWeights {
  readonly type: ComputeType;
  readonly bytes: number;
  /** By the plan's weight names joined with `+`. */
  readonly matrices: ReadonlyMap<string, CudaMatrix>;
  /** [rows, width] */
  readonly tables: ReadonlyMap<string, GpuRange>;
  readonly vectors: ReadonlyMap<string, GpuRange>;
  /** For each RoPE (its JSON): float32 [positions, 2, dim / 2], cosines before sines. */
  readonly ropes: ReadonlyMap<string, GpuRange>;
  free(): void;
}

/** The linear operations whose outputs a gate takes, which the product's epilogue then does. */
export function gatedLinears(plan: Plan): ReadonlySet<LinearOperation> {
  const gated = new Set<LinearOperation>();
  plan.operations.forEach((operation, i) => {
    const next = plan.operations[i + 1];
    if (operation.kind === 'linear' && next?.kind === 'gate' && next.input === operation.output) gated.add(operation);
  });
  return gated;
}

/** Every matrix of the plan with the tensors it is made of. */
function matrixGroups(checkpoint: Checkpoint, plan: Plan) {
  const byName = new Map(checkpoint.tensors.map((tensor) => [tensor.parameter.name, tensor]));
  const gated = gatedLinears(plan);
  return plan.operations
    .filter((operation) => operation.kind === 'linear')
    .map((operation) => ({
      key: operation.weights.join('+'),
      // A tied output matrix is the table of token embeddings, which has no `.weight` of its own.
      tensors: operation.weights.map((name) => byName.get(`${name}.weight`) ?? byName.get(name)!),
      biases: operation.bias ? operation.weights.map((name) => byName.get(`${name}.bias`)!) : [],
      interleaved: gated.has(operation),
    }));
}

/** Bytes that the weights take, without reading one. */
export function weightBytes(checkpoint: Checkpoint, type: ComputeType): number {
  const tensors = checkpoint.tensors.reduce(
    (sum, { parameter }) => sum + align(TYPE_BYTES[type] * sizeOf(parameter)),
    0,
  );
  return tensors + ropesOf(checkpoint).reduce((sum, rope) => sum + align(ropeBytes(checkpoint, rope)), 0);
}

/** Read the checkpoint into the GPU's memory. Leaves nothing behind when it throws. */
export async function loadWeights(
  gpu: Gpu,
  checkpoint: Checkpoint,
  plan: Plan,
  type: ComputeType,
  onProgress?: (bytes: number, total: number) => void,
): Promise<CudaWeights> {
  const blocks: GpuMemory[] = [];
  const free = (): void => {
    for (const block of blocks.splice(0)) block.free();
  };
  let bytes = 0;
  let done = 0;
  const total = checkpoint.tensors.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const alloc = (size: number): GpuMemory => {
    const block = gpu.alloc(align(size));
    blocks.push(block);
    bytes += align(size);
    return block;
  };
  const put = (target: GpuRange, data: Uint8Array): void => {
    const staging = gpu.pinned(data.length);
    new Uint8Array(staging.buffer).set(data);
    gpu.stream.upload(target, staging, 0, data.length);
    gpu.stream.synchronize();
    staging.free();
  };
  const read = async (tensor: CheckpointTensor): Promise<Uint8Array> => {
    const source = new Uint8Array(tensor.byteLength);
    await tensor.read(source, 0);
    done += tensor.byteLength;
    onProgress?.(done, total);
    return convert(source, tensor.dtype, type);
  };
  try {
    const matrices = new Map<string, CudaMatrix>();
    const tables = new Map<string, GpuRange>();
    const vectors = new Map<string, GpuRange>();
    const taken = new Set<CheckpointTensor>();
    for (const tensor of checkpoint.tensors) {
      if (tensor.parameter.kind !== 'table') continue;
      const data = await read(tensor);
      const block = alloc(data.length);
      put(block, data);
      tables.set(tensor.parameter.name, block.slice(0, data.length));
      taken.add(tensor);
    }
    for (const { key, tensors, biases, interleaved } of matrixGroups(checkpoint, plan)) {
      const inputs = tensors[0].parameter.shape[1];
      const outputs = tensors.reduce((sum, { parameter }) => sum + parameter.shape[0], 0);
      const [only] = tensors;
      const shared = taken.has(only) ? tables.get(only.parameter.name) : undefined;
      let weight = shared;
      const order = interleaved ? interleaveGate(outputs / 2) : undefined;
      if (weight === undefined) {
        const data = joined(await Promise.all(tensors.map(read)), order, inputs * TYPE_BYTES[type]);
        weight = alloc(data.length).slice(0, data.length);
        put(weight, data);
      }
      let bias: GpuRange | undefined;
      if (biases.length > 0) {
        const data = joined(await Promise.all(biases.map(read)), order, TYPE_BYTES[type]);
        bias = alloc(data.length).slice(0, data.length);
        put(bias, data);
      }
      for (const tensor of [...tensors, ...biases]) taken.add(tensor);
      matrices.set(key, { weight, bias, outputs, inputs, interleaved });
    }
    for (const tensor of checkpoint.tensors) {
      if (taken.has(tensor)) continue;
      assert(tensor.parameter.kind === 'vector', `no operation uses ${tensor.parameter.name}`);
      const data = await read(tensor);
      const block = alloc(data.length);
      put(block, data);
      vectors.set(tensor.parameter.name, block.slice(0, data.length));
    }
    const ropes = new Map<string, GpuRange>();
    for (const rope of ropesOf(checkpoint)) {
      const size = ropeBytes(checkpoint, rope);
      const block = alloc(size);
      put(block, angles(rope, checkpoint.spec.contextLength));
      ropes.set(JSON.stringify(rope), block.slice(0, size));
    }
    return { type, bytes, matrices, tables, vectors, ropes, free };
  } catch (error) {
    free();
    throw error;
  }
}

/** Pieces one under the other, their rows in another order where there is one. */
function joined(pieces: readonly Uint8Array[], order: Int32Array | undefined, rowBytes: number): Uint8Array {
  const all = Buffer.concat(pieces);
  if (order === undefined) return all;
  const sorted = new Uint8Array(all.length);
  order.forEach((from, to) => sorted.set(all.subarray(from * rowBytes, (from + 1) * rowBytes), to * rowBytes));
  return sorted;
}

function ropesOf({ spec }: Checkpoint): RopeSpec[] {
  const ropes = new Map(spec.blocks.flatMap(({ mixer: { rope } }) => (rope ? [[JSON.stringify(rope), rope]] : [])));
  return [...ropes.values()] as RopeSpec[];
}

function ropeBytes({ spec }: Checkpoint, { dim }: RopeSpec): number {
  return 4 * spec.contextLength * dim;
}

function angles(rope: RopeSpec, positions: number): Uint8Array {
  const { cos, sin } = ropeTables(rope, positions);
  const half = rope.dim / 2;
  const table = new Float32Array(positions * rope.dim);
  for (let position = 0; position < positions; position++) {
    table.set(cos.subarray(position * half, (position + 1) * half), position * rope.dim);
    table.set(sin.subarray(position * half, (position + 1) * half), position * rope.dim + half);
  }
  return new Uint8Array(table.buffer);
}

function align(bytes: number): number {
  return Math.ceil(bytes / 256) * 256;
}

/** Elements in the compute type, rounded to nearest even where it has fewer bits. */
function convert(source: Uint8Array, from: CheckpointTensor['dtype'], to: ComputeType): Uint8Array {
  if (from === { bf16: 'BF16', f16: 'F16', f32: 'F32' }[to]) return source;
  const count = source.length / (from === 'F32' ? 4 : 2);
  const values = new Float32Array(count);
  if (from === 'F32') values.set(new Float32Array(source.buffer, source.byteOffset, count));
  else if (from === 'F16') values.set(new Float16Array(source.buffer, source.byteOffset, count));
  else {
    const words = new Uint16Array(source.buffer, source.byteOffset, count);
    const bits = new Uint32Array(values.buffer);
    for (let i = 0; i < count; i++) bits[i] = words[i] << 16;
  }
  if (to === 'f32') return new Uint8Array(values.buffer);
  if (to === 'f16') return new Uint8Array(new Float16Array(values).buffer);
  const bits = new Uint32Array(values.buffer);
  const words = new Uint16Array(count);
  for (let i = 0; i < count; i++) {
    const word = bits[i];
    words[i] = (word & 0x7fffffff) > 0x7f800000 ? 0x7fff : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return new Uint8Array(words.buffer);
}
