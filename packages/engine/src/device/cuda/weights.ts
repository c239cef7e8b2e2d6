import type { Checkpoint, CheckpointTensor } from '../../checkpoint/checkpoint.ts';
import { assert } from '../../errors.ts';
import { sizeOf } from '../../model/parameters.ts';
import { ropeAngles } from '../../model/rope.ts';
import type { RopeSpec } from '../../model/spec.ts';
import { buildPlan } from '../../plan/build.ts';
import type { LinearOperation, Plan } from '../../plan/plan.ts';
import type { ComputeType } from './convert.ts';
import { TYPE_BYTES } from './convert.ts';
import type { Gpu, GpuRange } from './gpu.ts';
import type { CudaFormats } from './options.ts';
import { rowPieces, type Rows } from './row-pieces.ts';
import { bytesOf, upload, UPLOAD_SIZES, type Piece, type UploadSizes } from './upload.ts';

export { TYPE_BYTES, type ComputeType } from './convert.ts';

/** A matrix of the plan: the named matrices one under the other, [outputs, inputs]. */
export interface CudaMatrix {
  readonly weight: GpuRange;
  readonly bias: GpuRange | undefined;
  readonly outputs: number;
  readonly inputs: number;
  /** Rows are interleaved by eights, as a gate's epilogue wants them (`interleaveGate`). */
  readonly interleaved: boolean;
}

/** float32 [kvHeads] each: what a layer's keys and values of e4m3 are multiplied by. */
export interface CacheScales {
  readonly keys: GpuRange;
  readonly values: GpuRange;
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
  /** By layer, where keys and values are e4m3. */
  readonly cacheScales: ReadonlyMap<number, CacheScales>;
  free(): void;
}

/** Rows that a gate's epilogue takes together: `interleaveGate`'s. */
const GATE_ROWS = 8;
/** Every tensor begins at a multiple of this. */
const ALIGN = 256;

/** The linear operations whose outputs a gate takes, which the product's epilogue then does. */
export function gatedLinears(plan: Plan): ReadonlySet<LinearOperation> {
  const gated = new Set<LinearOperation>();
  plan.operations.forEach((operation, i) => {
    const next = plan.operations[i + 1];
    if (operation.kind === 'linear' && next?.kind === 'gate' && next.input === operation.output) gated.add(operation);
  });
  return gated;
}

/** Bytes that the weights take, without reading one. */
export function weightBytes(checkpoint: Checkpoint, formats: CudaFormats): number {
  return layOut(checkpoint, buildPlan(checkpoint.spec), formats).bytes;
}

/** Weights that have their places, and what is to be read there. */
export interface PlacedWeights {
  readonly weights: CudaWeights;
  /** @param onRead told of bytes of the checkpoint that were read */
  readonly pieces: (sizes: UploadSizes, onRead: (bytes: number) => void) => Piece[];
}

export interface ReadOptions {
  /** Told of bytes of the checkpoint read so far, and all. */
  readonly onProgress?: ((bytes: number, total: number) => void) | undefined;
  readonly sizes?: UploadSizes | undefined;
  /** Ends the reading, which rejects with its reason. */
  readonly signal?: AbortSignal;
}

/** Read the checkpoint into one block of the GPU's memory, in the compute type. Leaves nothing behind when it throws. */
export async function loadWeights(
  gpu: Gpu,
  checkpoint: Checkpoint,
  plan: Plan,
  formats: CudaFormats,
  { onProgress, sizes = UPLOAD_SIZES, signal }: ReadOptions = {},
): Promise<CudaWeights> {
  const { weights, pieces } = placeWeights(gpu, checkpoint, plan, formats);
  const total = checkpoint.tensors.reduce((sum, { byteLength }) => sum + byteLength, 0);
  let done = 0;
  const onRead = (read: number): void => onProgress?.((done += read), total);
  try {
    await upload(gpu, pieces(sizes, onRead), sizes.slots, signal);
  } catch (error) {
    weights.free();
    throw error;
  }
  return weights;
}

/** Take the block of memory and say where in it everything goes. Nothing is read. */
export function placeWeights(gpu: Gpu, checkpoint: Checkpoint, plan: Plan, formats: CudaFormats): PlacedWeights {
  const { type } = formats;
  const { bytes, tensors, ropes, cacheScales } = layOut(checkpoint, plan, formats);
  const block = gpu.alloc(bytes);
  const range = ({ offset, bytes }: Place): GpuRange => block.slice(offset, bytes);
  const placed = new Map(tensors.map((tensor) => [tensor.key, range(tensor)]));
  const at = (key: string): GpuRange => {
    const found = placed.get(key);
    assert(found, `no place for ${key}`);
    return found;
  };
  const byKind = (kind: 'table' | 'vector'): Map<string, GpuRange> =>
    new Map(tensors.filter((tensor) => tensor.kind === kind).map(({ key }) => [key, at(key)]));
  const matrices = new Map(
    matrixGroups(checkpoint, plan).map(
      ({ key, shared, biases, outputs, inputs, interleaved }): [string, CudaMatrix] => {
        const bias = biases.length > 0 ? at(biasKey(key)) : undefined;
        return [key, { weight: at(shared ?? key), bias, outputs, inputs, interleaved }];
      },
    ),
  );
  return {
    weights: {
      type,
      bytes,
      matrices,
      tables: byKind('table'),
      vectors: byKind('vector'),
      ropes: new Map(ropes.map((rope) => [JSON.stringify(rope.rope), range(rope)])),
      cacheScales: new Map(
        cacheScales.map((place) => {
          const both = range(place);
          const half = place.bytes / 2;
          return [place.layer, { keys: both.slice(0, half), values: both.slice(half) }];
        }),
      ),
      free: () => block.free(),
    },
    pieces: (sizes, onRead) => {
      const pieces = tensors.flatMap((tensor) => rowPieces(tensor.rows, range(tensor), { to: type, sizes, onRead }));
      const angles = ropes.flatMap((rope) => anglePieces(rope.rope, range(rope), sizes));
      const scales = cacheScales.map((place) => onePiece(range(place)));
      return evenly(pieces, [...angles, ...scales]);
    },
  };
}

interface Place {
  /** From the beginning of the weights' block. */
  readonly offset: number;
  readonly bytes: number;
}

interface PlacedTensor extends Place {
  readonly key: string;
  readonly kind: 'matrix' | 'table' | 'vector';
  readonly rows: Rows;
}

interface Layout {
  readonly bytes: number;
  readonly tensors: readonly PlacedTensor[];
  readonly ropes: readonly (Place & { readonly rope: RopeSpec })[];
  /** Those of a layer's keys, then of its values; none but with keys and values of e4m3. */
  readonly cacheScales: readonly (Place & { readonly layer: number })[];
}

/** Where everything goes, in the order in which the plan uses it: tables, matrices with their biases, vectors, RoPE. */
function layOut(checkpoint: Checkpoint, plan: Plan, { type, cache }: CudaFormats): Layout {
  let bytes = 0;
  const place = (size: number): Place => {
    const offset = bytes;
    bytes += Math.ceil(size / ALIGN) * ALIGN;
    return { offset, bytes: size };
  };
  const tensors: PlacedTensor[] = [];
  const taken = new Set<CheckpointTensor>();
  const put = (key: string, kind: PlacedTensor['kind'], parts: readonly CheckpointTensor[], interleave = 0): void => {
    const size = parts.reduce((sum, { parameter }) => sum + sizeOf(parameter), 0);
    tensors.push({ key, kind, rows: { parts, interleave }, ...place(TYPE_BYTES[type] * size) });
    for (const part of parts) taken.add(part);
  };
  for (const tensor of checkpoint.tensors) {
    if (tensor.parameter.kind === 'table') put(tensor.parameter.name, 'table', [tensor]);
  }
  for (const { key, parts, biases, shared, interleaved } of matrixGroups(checkpoint, plan)) {
    const interleave = interleaved ? GATE_ROWS : 0;
    if (shared === undefined) put(key, 'matrix', parts, interleave);
    if (biases.length > 0) put(biasKey(key), 'matrix', biases, interleave);
  }
  for (const tensor of checkpoint.tensors) {
    if (taken.has(tensor)) continue;
    assert(tensor.parameter.kind === 'vector', `no operation uses ${tensor.parameter.name}`);
    put(tensor.parameter.name, 'vector', [tensor]);
  }
  const { blocks, contextLength } = checkpoint.spec;
  const distinct = new Map(blocks.flatMap(({ mixer: { rope } }) => (rope ? [[JSON.stringify(rope), rope]] : [])));
  const ropes = [...distinct.values()].map((rope) => ({ rope, ...place(4 * contextLength * rope.dim) }));
  const cacheScales =
    cache === 'fp8' ? blocks.map(({ mixer }, layer) => ({ layer, ...place(2 * 4 * mixer.kvHeads) })) : [];
  return { bytes, tensors, ropes, cacheScales };
}

interface MatrixGroup {
  readonly key: string;
  /** [outputs, inputs] each. */
  readonly parts: readonly CheckpointTensor[];
  readonly biases: readonly CheckpointTensor[];
  /** The table that is this matrix, too. */
  readonly shared: string | undefined;
  readonly outputs: number;
  readonly inputs: number;
  readonly interleaved: boolean;
}

/** Every matrix of the plan with the tensors it is made of. */
function matrixGroups(checkpoint: Checkpoint, plan: Plan): MatrixGroup[] {
  const byName = new Map(checkpoint.tensors.map((tensor) => [tensor.parameter.name, tensor]));
  const gated = gatedLinears(plan);
  return plan.operations
    .filter((operation) => operation.kind === 'linear')
    .map((operation) => {
      // A tied output matrix is the table of token embeddings, which has no `.weight` of its own.
      const parts = operation.weights.map((name) => byName.get(`${name}.weight`) ?? byName.get(name)!);
      const [{ parameter }] = parts;
      return {
        key: operation.weights.join('+'),
        parts,
        biases: operation.bias ? operation.weights.map((name) => byName.get(`${name}.bias`)!) : [],
        shared: parameter.kind === 'table' ? parameter.name : undefined,
        outputs: parts.reduce((sum, part) => sum + part.parameter.shape[0], 0),
        inputs: parameter.shape[1],
        interleaved: gated.has(operation) && parameter.shape[0] % GATE_ROWS === 0,
      };
    });
}

function biasKey(group: string): string {
  return `bias of ${group}`;
}

/** The angles' cosines and sines, computed as pieces come to be sent. */
function anglePieces(rope: RopeSpec, target: GpuRange, { slotBytes }: UploadSizes): Piece[] {
  const rowBytes = 4 * rope.dim;
  // A computation holds the thread up, which starts all reads.
  const most = Math.max(1, Math.floor(slotBytes / 16 / rowBytes));
  const positions = target.bytes / rowBytes;
  return Array.from({ length: Math.ceil(positions / most) }, (_, i): Piece => {
    const first = i * most;
    const count = Math.min(most, positions - first);
    const piece = { elements: count * rope.dim, from: 'f32', to: 'f32' } as const;
    return {
      ...piece,
      target: target.slice(first * rowBytes, bytesOf(piece)),
      read: (slot) => ropeAngles(rope, first, new Float32Array(slot.buffer, slot.byteOffset, piece.elements)),
    };
  });
}

/** Ones: what checkpoints say of keys' and values' scales is nothing, or nothing that is read. */
function onePiece(target: GpuRange): Piece {
  const read = (slot: Uint8Array<ArrayBuffer>): void => {
    new Float32Array(slot.buffer, slot.byteOffset, target.bytes / 4).fill(1);
  };
  return { elements: target.bytes / 4, from: 'f32', to: 'f32', target, read };
}

/** Two lists as one, each in its order, the second spread over the first. */
function evenly<T>(many: readonly T[], few: readonly T[]): T[] {
  const all: T[] = [];
  let taken = 0;
  for (const [i, each] of many.entries()) {
    all.push(each);
    const due = Math.floor(((i + 1) * few.length) / many.length);
    while (taken < due) all.push(few[taken++]);
  }
  return [...all, ...few.slice(taken)];
}
