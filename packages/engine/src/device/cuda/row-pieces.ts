import type { CheckpointTensor } from '../../checkpoint/checkpoint.ts';
import { sizeOf } from '../../model/parameters.ts';
import { assert } from '../../errors.ts';
import { convert, ELEMENT_BYTES, typeOf, type ComputeType, type ElementType } from './convert.ts';
import type { GpuRange } from './gpu.ts';
import type { Piece, UploadSizes } from './upload.ts';

/** Tensors of a checkpoint as one: their rows one under the other, or those of two in turns. */
export interface Rows {
  readonly parts: readonly CheckpointTensor[];
  /** 0: one part after the other. Otherwise so many rows of the first part, as many of the second, and so on. */
  readonly interleave: number;
}

/** What reads the rows and sends them to `target`, in parts that fit a slot of the ring. */
export function rowPieces(rows: Rows, target: GpuRange, way: Way): Piece[] {
  return rows.interleave === 0 ? stacked(rows, target, way) : interleaved(rows, target, way);
}

/** How rows get to the GPU. */
export interface Way {
  readonly to: ElementType;
  readonly sizes: UploadSizes;
  /** Told of the bytes of each read. */
  readonly onRead: (bytes: number) => void;
  /** float32 [rows]: where the scales of rows go that the GPU brings to e4m3. */
  readonly scales?: GpuRange | undefined;
}

/** Bytes that are read of the rows. */
export function storedBytes({ parts }: Rows, to: ElementType): number {
  return parts.reduce((sum, tensor) => sum + sourceOf(tensor, to).byteLength, 0);
}

/** A tensor as it is read: e4m3 as it lies in the file where that is how it is held. */
interface Source extends Pick<CheckpointTensor, 'byteLength' | 'read' | 'scatter'> {
  readonly type: ElementType;
}

function sourceOf(tensor: CheckpointTensor, to: ElementType): Source {
  const { fp8, dtype, byteLength } = tensor;
  const from = to === 'e4m3' && fp8 !== undefined ? fp8 : tensor;
  return {
    type: from === fp8 ? 'e4m3' : typeOf(dtype),
    byteLength: from === fp8 ? fp8.byteLength : byteLength,
    read: (target, offset) => from.read(target, offset),
    scatter: (targets, offset) => from.scatter(targets, offset),
  };
}

/** Elements of a piece: what fits a slot in the wider of its two types. */
function mostElements(from: ElementType, { to, sizes }: Way): number {
  return sizes.slotBytes / Math.max(ELEMENT_BYTES[from], ELEMENT_BYTES[to]);
}

/** Whether the GPU has to find scales, for which it needs whole rows. */
function quantises(from: ElementType, { to }: Way): boolean {
  return to === 'e4m3' && from !== 'e4m3';
}

function stacked({ parts }: Rows, target: GpuRange, way: Way): Piece[] {
  const { to, sizes, onRead } = way;
  const pieces: Piece[] = [];
  let at = 0;
  let row = 0;
  for (const tensor of parts) {
    const source = sourceOf(tensor, to);
    const stored = source.type;
    const all = sizeOf(tensor.parameter);
    const width = all / tensor.parameter.shape[0];
    const begin = at;
    const firstRow = row;
    at += all * ELEMENT_BYTES[to];
    row += tensor.parameter.shape[0];
    const narrows = quantises(stored, way);
    const here = !narrows && stored !== to && (source.byteLength < sizes.gpuConverts || begin % 16 !== 0);
    const most = narrows
      ? Math.max(1, Math.floor(mostElements(stored, way) / width)) * width
      : mostElements(stored, way);
    for (let first = 0; first < all; first += most) {
      const elements = Math.min(most, all - first);
      const offset = first * ELEMENT_BYTES[stored];
      pieces.push({
        elements,
        from: here ? to : stored,
        to,
        target: target.slice(begin + first * ELEMENT_BYTES[to], elements * ELEMENT_BYTES[to]),
        ...(narrows && { rows: rowsOf(way, firstRow + first / width, elements / width, width) }),
        async read(slot) {
          if (!here) await source.read(slot, offset);
          else slot.set(await converted(tensor, offset, elements * ELEMENT_BYTES[stored], to as ComputeType));
          onRead(elements * ELEMENT_BYTES[stored]);
        },
      });
    }
  }
  return pieces;
}

/** A piece has as many rows of the one as of the other: whole blocks of `interleave` rows. */
function interleaved({ parts, interleave }: Rows, target: GpuRange, way: Way): Piece[] {
  const { to, sizes, onRead } = way;
  const [one, other] = parts.map((tensor) => sourceOf(tensor, to));
  const rows = parts[0].parameter.shape[0];
  const width = sizeOf(parts[0].parameter) / rows;
  const same = one.type === other.type;
  const block = interleave * width;
  const narrows = quantises(one.type, way) || quantises(other.type, way);
  const few = one.byteLength < sizes.gpuConverts || (block * ELEMENT_BYTES[to]) % 16 !== 0;
  const here = !same || (!narrows && one.type !== to && few);
  // The CPU rounds to no 8 bits: of two types it makes float32, of which the GPU makes e4m3.
  const common: ComputeType = to === 'e4m3' ? 'f32' : to;
  const from = here ? common : one.type;
  const blocks = Math.max(1, Math.floor(mostElements(from, way) / (2 * block)));
  const pieces: Piece[] = [];
  for (let first = 0; first < rows / interleave; first += blocks) {
    const count = Math.min(blocks, rows / interleave - first);
    const elements = 2 * count * block;
    pieces.push({
      elements,
      from,
      to,
      target: target.slice(2 * first * block * ELEMENT_BYTES[to], elements * ELEMENT_BYTES[to]),
      ...(narrows && { rows: rowsOf(way, 2 * first * interleave, 2 * count * interleave, width) }),
      async read(slot) {
        const size = block * ELEMENT_BYTES[from];
        const read = async (source: Source, turn: number): Promise<void> => {
          const places = Array.from({ length: count }, (_, i) =>
            slot.subarray((2 * i + turn) * size, (2 * i + turn + 1) * size),
          );
          const element = ELEMENT_BYTES[source.type];
          const [offset, bytes] = [first * block * element, count * block * element];
          if (!here) await source.scatter(places, offset);
          else {
            const values = await converted(parts[turn], offset, bytes, common);
            for (const [i, place] of places.entries()) place.set(values.subarray(i * size, (i + 1) * size));
          }
          onRead(bytes);
        };
        const both = [read(one, 0), read(other, 1)];
        // The slot is not let go of while one of them still writes to it.
        await Promise.allSettled(both);
        await Promise.all(both);
      },
    });
  }
  return pieces;
}

function rowsOf({ scales }: Way, first: number, count: number, width: number): NonNullable<Piece['rows']> {
  assert(scales, 'rows that are brought to e4m3 have scales');
  return { width, scales: scales.slice(4 * first, 4 * count) };
}

async function converted(
  tensor: CheckpointTensor,
  offset: number,
  bytes: number,
  to: ComputeType,
): Promise<Uint8Array> {
  const source = new Uint8Array(bytes);
  await tensor.read(source, offset);
  return convert(source, tensor.dtype, to);
}
