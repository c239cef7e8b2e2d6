import { kernelNamed } from './kernels.ts';
import type { Gpu, GpuLaunch, GpuRange, GpuStream, PinnedBlock } from './gpu.ts';
import { ELEMENT_BYTES, type ElementType } from './convert.ts';
import { GpuScope } from './scope.ts';

/** What goes to the GPU in one copy. */
export interface Piece {
  readonly elements: number;
  /** Their type as they are copied; where it is not the target's, the GPU converts them. */
  readonly from: ElementType;
  readonly to: ElementType;
  /** Its first element's address is a multiple of 16 bytes where the GPU converts. */
  readonly target: GpuRange;
  /** Whole rows of which the GPU makes e4m3, and where their scales go: float32, one for each. */
  readonly rows?: { readonly width: number; readonly scales: GpuRange };
  /** Write all elements to `slot`, which has just their bytes. */
  read(slot: Uint8Array<ArrayBuffer>): Promise<void> | void;
}

export interface UploadSizes {
  /** Bytes of a piece at most. */
  readonly slotBytes: number;
  /** Pieces under way. */
  readonly slots: number;
  /** Tensors of fewer bytes are converted by the CPU. */
  readonly gpuConverts: number;
}

/**
 * Pieces are large enough that calls cost nothing beside copies. The system reads as many at a time as libuv has threads;
 * as many again wait to be copied, so that neither waits for the other. More pinned memory takes longer to be had (about
 * half a millisecond a MiB) than it saves. A launch takes longer than to convert a vector.
 */
export const UPLOAD_SIZES: UploadSizes = { slotBytes: 4 * 1024 ** 2, slots: 32, gpuConverts: 256 * 1024 };

/**
 * Send pieces to the GPU through a ring of pinned memory: while some are read, others are copied, in a stream of their
 * own. When it throws, nothing is under way any more.
 * @param most slots of the ring
 * @param signal ends it
 */
export async function upload(gpu: Gpu, pieces: readonly Piece[], most: number, signal?: AbortSignal): Promise<void> {
  const slotBytes = Math.ceil(Math.max(1, ...pieces.map(bytesOf)) / 256) * 256;
  const slots = Math.min(most, pieces.length);
  if (slots === 0) return;
  const converts = pieces.some(({ from, to }) => from !== to);
  const scope = new GpuScope(gpu);
  const stream = gpu.newStream();
  const failures: unknown[] = [];
  const stop = (): void => void failures.push(signal?.reason);
  signal?.addEventListener('abort', stop);
  if (signal?.aborted === true) stop();
  let next = 0;
  const work = async (slot: Slot): Promise<void> => {
    try {
      while (failures.length === 0 && next < pieces.length) await slot.send(pieces[next++]);
    } catch (error) {
      failures.push(error);
    }
  };
  try {
    const ring = scope.pinned(slots * slotBytes);
    const staging = converts ? scope.alloc(slots * slotBytes) : undefined;
    await Promise.all(
      Array.from({ length: slots }, (_, i) => work(new Slot(gpu, stream, ring, staging, i * slotBytes, slotBytes))),
    );
  } finally {
    signal?.removeEventListener('abort', stop);
    scope.close();
    stream.free();
  }
  if (failures.length > 0) throw failures[0];
}

/** A place of the ring, and of the memory on the GPU from where elements are converted. */
class Slot {
  readonly #gpu: Gpu;
  readonly #stream: GpuStream;
  readonly #ring: PinnedBlock;
  readonly #offset: number;
  readonly #staging: GpuRange | undefined;
  readonly #bytes: number;
  /** By the types from and to, and the width of rows. */
  readonly #launches = new Map<string, GpuLaunch>();

  constructor(
    gpu: Gpu,
    stream: GpuStream,
    ring: PinnedBlock,
    staging: GpuRange | undefined,
    offset: number,
    bytes: number,
  ) {
    this.#gpu = gpu;
    this.#stream = stream;
    this.#ring = ring;
    this.#offset = offset;
    this.#staging = staging?.slice(offset, bytes);
    this.#bytes = bytes;
  }

  /** Resolves when the slot is free for the next piece. */
  async send(piece: Piece): Promise<void> {
    const bytes = bytesOf(piece);
    await piece.read(new Uint8Array(this.#ring.buffer, this.#offset, bytes));
    if (piece.from === piece.to) this.#stream.upload(piece.target, this.#ring, this.#offset, bytes);
    else {
      this.#stream.upload(this.#staging!.slice(0, bytes), this.#ring, this.#offset, bytes);
      if (piece.rows === undefined) this.#cast(piece);
      else this.#quantise(piece, piece.rows);
    }
    await this.#stream.settled();
  }

  #cast({ from, to, target, elements }: Piece): void {
    const key = `${from} ${to}`;
    const count = Math.floor(this.#bytes / ELEMENT_BYTES[from]);
    const kernel = this.#gpu.load(kernelNamed('cast'), { dims: { count }, options: { from, to } });
    let launch = this.#launches.get(key);
    if (launch === undefined) {
      launch = kernel.prepare({ x: this.#staging!, y: target, count: elements });
      this.#launches.set(key, launch);
    }
    launch
      .point('y', target)
      .set('count', elements)
      .grid(...kernel.gridFor({ count: elements }))
      .run(this.#stream);
  }

  #quantise({ from, target, elements }: Piece, { width, scales }: NonNullable<Piece['rows']>): void {
    const key = `${from} rows of ${width}`;
    const most = Math.floor(this.#bytes / ELEMENT_BYTES[from] / width);
    const rows = elements / width;
    const wanted = { dims: { rows: most, columns: width }, options: { scales: 'row', type: from } };
    const kernel = this.#gpu.load(kernelNamed('quantise'), wanted);
    let launch = this.#launches.get(key);
    if (launch === undefined) {
      launch = kernel.prepare({ x: this.#staging!, y: target, scales, rows });
      this.#launches.set(key, launch);
    }
    launch
      .point('y', target)
      .point('scales', scales)
      .set('rows', rows)
      .grid(...kernel.gridFor({ rows }))
      .run(this.#stream);
  }
}

export function bytesOf({ elements, from }: Pick<Piece, 'elements' | 'from'>): number {
  return elements * ELEMENT_BYTES[from];
}
