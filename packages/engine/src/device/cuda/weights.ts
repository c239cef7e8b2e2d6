import type { Checkpoint, CheckpointTensor } from '../../checkpoint/checkpoint.ts';
import { assert } from '../../errors.ts';
import { sizeOf } from '../../model/parameters.ts';
import { ropeAngles } from '../../model/rope.ts';
import type { RopeSpec } from '../../model/spec.ts';
import { buildPlan } from '../../plan/build.ts';
import type { Plan } from '../../plan/plan.ts';
import { ELEMENT_BYTES, type ComputeType, type ElementType } from './convert.ts';
import type { Gpu, GpuRange } from './gpu.ts';
import { GATE_ROWS, matrixGroups, type MatrixFormat } from './matrix-groups.ts';
import { scaleCount, writeCacheScales, writeInputScale, writeScales } from './matrix-scales.ts';
import type { CudaFormats } from './options.ts';
import { rowPieces, storedBytes, type Rows } from './row-pieces.ts';
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
  readonly fp8: NarrowMatrix | undefined;
}

/** What belongs to a matrix of e4m3, all float32. */
export interface NarrowMatrix {
  readonly format: Exclude<MatrixFormat, 'same'>;
  /** [outputs], or [blocks, groups] as `linear_fp8` wants them. */
  readonly scales: GpuRange;
  /** [1]: the scale of what is multiplied with it; undefined: it follows from the values. */
  readonly input: GpuRange | undefined;
}

/** float32 [kvHeads] each: what a layer's keys and values of e4m3 are multiplied by. */
export interface CacheScales {
  readonly keys: GpuRange;
  readonly values: GpuRange;
}

/** A model's weights in a GPU's memory, under the names the plan uses, in the compute type but for matrices of e4m3. */
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

/** Every tensor begins at a multiple of this. */
const ALIGN = 256;
/** What a layer keeps of the tokens before, each with scales of its own where it is kept as e4m3. */
const CACHED = ['keys', 'values'] as const;

/** Bytes that the weights take, without reading one. */
export function weightBytes(checkpoint: Checkpoint, formats: CudaFormats): number {
  return layOut(checkpoint, buildPlan(checkpoint.spec), formats).bytes;
}

/** Weights that have their places, and what is to be read there. */
export interface PlacedWeights {
  readonly weights: CudaWeights;
  /** @param onRead told of bytes of the checkpoint that were read */
  readonly pieces: (sizes: UploadSizes, onRead: (bytes: number) => void) => Piece[];
  /** Bytes of the checkpoint that they come from. */
  readonly stored: number;
}

export interface ReadOptions {
  /** Told of bytes of the checkpoint read so far, and all. */
  readonly onProgress?: ((bytes: number, total: number) => void) | undefined;
  readonly sizes?: UploadSizes | undefined;
  /** Ends the reading, which rejects with its reason. */
  readonly signal?: AbortSignal;
}

/** Read the checkpoint into one block of the GPU's memory, in the compute type, or matrices as e4m3. Leaves nothing behind when it throws. */
export async function loadWeights(
  gpu: Gpu,
  checkpoint: Checkpoint,
  plan: Plan,
  formats: CudaFormats,
  { onProgress, sizes = UPLOAD_SIZES, signal }: ReadOptions = {},
): Promise<CudaWeights> {
  const { weights, pieces, stored: total } = placeWeights(gpu, checkpoint, plan, formats);
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
  const { bytes, tensors, ropes, scales } = layOut(checkpoint, plan, formats);
  const block = gpu.alloc(bytes);
  const range = ({ offset, bytes }: Place): GpuRange => block.slice(offset, bytes);
  const placed = new Map([...tensors, ...scales].map((place) => [place.key, range(place)]));
  const at = (key: string): GpuRange => {
    const found = placed.get(key);
    assert(found, `no place for ${key}`);
    return found;
  };
  const byKind = (kind: 'table' | 'vector'): Map<string, GpuRange> =>
    new Map(tensors.filter((tensor) => tensor.kind === kind).map(({ key }) => [key, at(key)]));
  const matrices = new Map(
    matrixGroups(checkpoint, plan, formats).map(
      ({ key, shared, biases, outputs, inputs, interleaved, format, stored }): [string, CudaMatrix] => {
        const bias = biases.length > 0 ? at(biasKey(key)) : undefined;
        const input = stored ? at(inputKey(key)) : undefined;
        const fp8 = format === 'same' ? undefined : { format, scales: at(scalesKey(key)), input };
        return [key, { weight: at(shared ?? key), bias, outputs, inputs, interleaved, fp8 }];
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
        checkpoint.spec.blocks.flatMap((_block, layer): [number, CacheScales][] => {
          const [keys, values] = CACHED.map((kind) => placed.get(cacheKey(layer, kind)));
          return keys && values ? [[layer, { keys, values }]] : [];
        }),
      ),
      free: () => block.free(),
    },
    pieces: (sizes, onRead) => {
      const pieces = tensors.flatMap(({ key, rows, to, ...place }) =>
        rowPieces(rows, range(place), { to, sizes, onRead, scales: placed.get(scalesKey(key)) }),
      );
      const angles = ropes.flatMap((rope) => anglePieces(rope.rope, range(rope), sizes));
      const written = scales.flatMap((place) => (place.write ? [floatPiece(range(place), place.write)] : []));
      return evenly(pieces, [...angles, ...written]);
    },
    stored: tensors.reduce((sum, { rows, to }) => sum + storedBytes(rows, to), 0),
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
  /** How it is held. */
  readonly to: ElementType;
}

/** Scales, float32. */
interface PlacedScales extends Place {
  readonly key: string;
  /** undefined: they come about as the weights come. */
  readonly write: ((slot: Float32Array) => Promise<void>) | undefined;
}

interface Layout {
  readonly bytes: number;
  readonly tensors: readonly PlacedTensor[];
  readonly ropes: readonly (Place & { readonly rope: RopeSpec })[];
  /** Of matrices, of what is multiplied with them, and of each layer's keys and values. */
  readonly scales: readonly PlacedScales[];
}

/** Where everything goes, in the order in which the plan uses it: tables, matrices with their biases, vectors, RoPE. */
function layOut(checkpoint: Checkpoint, plan: Plan, formats: CudaFormats): Layout {
  const { type, cache } = formats;
  let bytes = 0;
  const place = (size: number): Place => {
    const offset = bytes;
    bytes += Math.ceil(size / ALIGN) * ALIGN;
    return { offset, bytes: size };
  };
  const tensors: PlacedTensor[] = [];
  const taken = new Set<CheckpointTensor>();
  const scales: PlacedScales[] = [];
  const putScales = (key: string, count: number, write: PlacedScales['write']): void => {
    scales.push({ key, write, ...place(4 * count) });
  };
  const put = (
    key: string,
    kind: PlacedTensor['kind'],
    parts: readonly CheckpointTensor[],
    interleave = 0,
    to: ElementType = type,
  ): void => {
    const size = parts.reduce((sum, { parameter }) => sum + sizeOf(parameter), 0);
    tensors.push({ key, kind, rows: { parts, interleave }, to, ...place(ELEMENT_BYTES[to] * size) });
    for (const part of parts) taken.add(part);
  };
  for (const tensor of checkpoint.tensors) {
    if (tensor.parameter.kind === 'table') put(tensor.parameter.name, 'table', [tensor]);
  }
  for (const group of matrixGroups(checkpoint, plan, formats)) {
    const { key, parts, biases, shared, interleaved, format } = group;
    const interleave = interleaved ? GATE_ROWS : 0;
    if (shared === undefined) put(key, 'matrix', parts, interleave, format === 'same' ? type : 'e4m3');
    if (format !== 'same') {
      const known = parts[0].fp8 !== undefined;
      putScales(scalesKey(key), scaleCount(group), known ? (slot) => writeScales(group, slot) : undefined);
      if (group.stored) putScales(inputKey(key), 1, (slot) => writeInputScale(group, slot));
    }
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
  if (cache === 'fp8') {
    for (const [layer, { mixer }] of blocks.entries()) {
      const stored = checkpoint.cacheScales.get(layer);
      for (const kind of CACHED) {
        putScales(cacheKey(layer, kind), mixer.kvHeads, (slot) => writeCacheScales(stored?.[kind], slot));
      }
    }
  }
  return { bytes, tensors, ropes, scales };
}

const biasKey = (group: string): string => `bias of ${group}`;
const scalesKey = (group: string): string => `scales of ${group}`;
const inputKey = (group: string): string => `input scale of ${group}`;
const cacheKey = (layer: number, kind: (typeof CACHED)[number]): string => `scales of ${kind} of ${layer}`;

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

function floatPiece(target: GpuRange, write: (slot: Float32Array) => Promise<void>): Piece {
  const elements = target.bytes / 4;
  const read = (slot: Uint8Array<ArrayBuffer>): Promise<void> => {
    return write(new Float32Array(slot.buffer, slot.byteOffset, elements));
  };
  return { elements, from: 'f32', to: 'f32', target, read };
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
