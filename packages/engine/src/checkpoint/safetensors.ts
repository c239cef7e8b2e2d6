import { open, stat, type FileHandle } from 'node:fs/promises';
import { RoseError } from '../errors.ts';
import { headerLength, LENGTH_BYTES, parseHeader, type TensorEntry } from './header.ts';

/** Node refuses reads of 2 GiB and more in one call. */
const MAX_READ = 1 << 30;
/** Places that the system reads into at a time (IOV_MAX). */
const MAX_PLACES = 1024;

/** An opened safetensors file whose header has been checked. */
export interface SafetensorsFile {
  readonly path: string;
  /** In the order of their data. */
  readonly tensors: readonly TensorEntry[];
  /**
   * Read the bytes of a tensor from `offset` on into the targets, one after the other, which may view shared memory.
   * Reads may run side by side. Throws a RoseError naming the tensor if the file ends early.
   */
  read(tensor: TensorEntry, targets: readonly Uint8Array[], offset: number): Promise<void>;
  close(): Promise<void>;
}

/** Open a file and check its header; reads no weights. Throws a RoseError naming the file, and leaves nothing open. */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  const file = await openRegularFile(path);
  try {
    const { size } = await file.stat();
    const prefix = new Uint8Array(LENGTH_BYTES);
    if (size >= LENGTH_BYTES) await readFully(file, [prefix], 0, path);
    const header = new Uint8Array(headerLength(path, prefix, size));
    await readFully(file, [header], LENGTH_BYTES, path);
    const tensors = parseHeader(path, header, size);
    return {
      path,
      tensors,
      close: () => file.close(),
      async read(tensor, targets, offset) {
        const bytes = targets.reduce((sum, { byteLength }) => sum + byteLength, 0);
        if (!(offset >= 0 && offset + bytes <= tensor.byteLength)) {
          throw new RoseError('internal', `${path}: tensor "${tensor.name}": a read past its end was asked for`);
        }
        await readFully(file, targets, tensor.offset + offset, `${path}: tensor "${tensor.name}"`);
      },
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Anything but a regular file is refused before it is opened: opening a pipe would wait for ever. */
async function openRegularFile(path: string): Promise<FileHandle> {
  try {
    const found = await stat(path);
    if (!found.isFile()) throw new RoseError('invalid', `${path}: not a regular file`);
    return await open(path, 'r');
  } catch (error) {
    if (error instanceof RoseError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new RoseError('not_found', `${path}: no such file`);
    throw new RoseError('invalid', `${path}: cannot be opened (${code})`, { cause: error });
  }
}

async function readFully(
  file: FileHandle,
  targets: readonly Uint8Array[],
  position: number,
  what: string,
): Promise<void> {
  // Where the next byte goes: a read may bring less than was asked for.
  let [index, inside, at] = [0, 0, position];
  const left = (): number => targets.slice(index).reduce((sum, { byteLength }) => sum + byteLength, 0) - inside;
  while (index < targets.length) {
    const first = targets[index].subarray(inside, inside + MAX_READ);
    if (first.byteLength === 0) {
      [index, inside] = [index + 1, 0];
      continue;
    }
    let bytesRead: number;
    try {
      const more = targets.slice(index + 1, index + MAX_PLACES);
      const whole = more.length > 0 && first.byteLength < MAX_READ;
      ({ bytesRead } = await (whole ? file.readv([first, ...more], at) : file.read(first, 0, first.byteLength, at)));
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      throw new RoseError('invalid', `${what}: cannot be read (${code})`, { cause });
    }
    if (bytesRead === 0) {
      throw new RoseError('invalid', `${what}: the file ended ${left()} bytes early: it was cut short while in use`);
    }
    at += bytesRead;
    inside += bytesRead;
    while (index < targets.length && inside >= targets[index].byteLength) inside -= targets[index++].byteLength;
  }
}
