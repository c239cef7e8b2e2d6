import type { CheckpointTensor } from '../../checkpoint/checkpoint.ts';
import { sizeOf } from '../../model/parameters.ts';
import { convert, typeOf, TYPE_BYTES, type ComputeType } from './convert.ts';
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
  readonly to: ComputeType;
  readonly sizes: UploadSizes;
  /** Told of the bytes of each read. */
  readonly onRead: (bytes: number) => void;
}

/** Elements of a piece: what fits a slot in the wider of its two types. */
function mostElements(from: ComputeType, { to, sizes }: Way): number {
  return sizes.slotBytes / Math.max(TYPE_BYTES[from], TYPE_BYTES[to]);
}

function stacked({ parts }: Rows, target: GpuRange, way: Way): Piece[] {
  const { to, sizes, onRead } = way;
  const pieces: Piece[] = [];
  let at = 0;
  for (const tensor of parts) {
    const stored = typeOf(tensor.dtype);
    const all = sizeOf(tensor.parameter);
    const begin = at;
    at += all * TYPE_BYTES[to];
    const here = stored !== to && (tensor.byteLength < sizes.gpuConverts || begin % 16 !== 0);
    const most = mostElements(stored, way);
    for (let first = 0; first < all; first += most) {
      const elements = Math.min(most, all - first);
      const offset = first * TYPE_BYTES[stored];
      pieces.push({
        elements,
        from: here ? to : stored,
        to,
        target: target.slice(begin + first * TYPE_BYTES[to], elements * TYPE_BYTES[to]),
        async read(slot) {
          if (!here) await tensor.read(slot, offset);
          else slot.set(await converted(tensor, offset, elements * TYPE_BYTES[stored], to));
          onRead(elements * TYPE_BYTES[stored]);
        },
      });
    }
  }
  return pieces;
}

/** A piece has as many rows of the one as of the other: whole blocks of `interleave` rows. */
function interleaved({ parts, interleave }: Rows, target: GpuRange, way: Way): Piece[] {
  const { to, sizes, onRead } = way;
  const [one, other] = parts;
  const rows = one.parameter.shape[0];
  const width = sizeOf(one.parameter) / rows;
  const same = typeOf(one.dtype) === typeOf(other.dtype);
  const stored = typeOf(one.dtype);
  const block = interleave * width;
  const here = !same || (stored !== to && (one.byteLength < sizes.gpuConverts || (block * TYPE_BYTES[to]) % 16 !== 0));
  const from = here ? to : stored;
  const blocks = Math.max(1, Math.floor(mostElements(from, way) / (2 * block)));
  const pieces: Piece[] = [];
  for (let first = 0; first < rows / interleave; first += blocks) {
    const count = Math.min(blocks, rows / interleave - first);
    const elements = 2 * count * block;
    pieces.push({
      elements,
      from,
      to,
      target: target.slice(2 * first * block * TYPE_BYTES[to], elements * TYPE_BYTES[to]),
      async read(slot) {
        const size = block * TYPE_BYTES[from];
        const read = async (tensor: CheckpointTensor, turn: number): Promise<void> => {
          const places = Array.from({ length: count }, (_, i) =>
            slot.subarray((2 * i + turn) * size, (2 * i + turn + 1) * size),
          );
          const element = TYPE_BYTES[typeOf(tensor.dtype)];
          const [offset, bytes] = [first * block * element, count * block * element];
          if (!here) await tensor.scatter(places, offset);
          else {
            const values = await converted(tensor, offset, bytes, to);
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
