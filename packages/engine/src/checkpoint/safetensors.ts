import { open, stat, type FileHandle } from 'node:fs/promises';
import { RoseError } from '../errors.ts';
import { headerLength, LENGTH_BYTES, parseHeader, type TensorEntry } from './header.ts';

/** Node refuses reads of 2 GiB and more in one call. */
const MAX_READ = 1 << 30;

/** An opened safetensors file whose header has been checked. */
export interface SafetensorsFile {
  readonly path: string;
  /** In the order of their data. */
  readonly tensors: readonly TensorEntry[];
  /**
   * Read bytes [offset, offset + target.byteLength) of a tensor into `target`, which may view shared memory. Reads may
   * run side by side. Throws a RoseError naming the tensor if the file ends early.
   */
  read(tensor: TensorEntry, target: Uint8Array, offset: number): Promise<void>;
  close(): Promise<void>;
}

/** Open a file and check its header; reads no weights. Throws a RoseError naming the file, and leaves nothing open. */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  const file = await openRegularFile(path);
  try {
    const { size } = await file.stat();
    const prefix = new Uint8Array(LENGTH_BYTES);
    if (size >= LENGTH_BYTES) await readFully(file, prefix, 0, path);
    const header = new Uint8Array(headerLength(path, prefix, size));
    await readFully(file, header, LENGTH_BYTES, path);
    const tensors = parseHeader(path, header, size);
    return {
      path,
      tensors,
      close: () => file.close(),
      async read(tensor, target, offset) {
        if (!(offset >= 0 && offset + target.byteLength <= tensor.byteLength)) {
          throw new RoseError('internal', `${path}: tensor "${tensor.name}": a read past its end was asked for`);
        }
        await readFully(file, target, tensor.offset + offset, `${path}: tensor "${tensor.name}"`);
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

async function readFully(file: FileHandle, target: Uint8Array, position: number, what: string): Promise<void> {
  let done = 0;
  while (done < target.byteLength) {
    const length = Math.min(target.byteLength - done, MAX_READ);
    let bytesRead: number;
    try {
      ({ bytesRead } = await file.read(target, done, length, position + done));
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      throw new RoseError('invalid', `${what}: cannot be read (${code})`, { cause });
    }
    if (bytesRead === 0) {
      const missing = target.byteLength - done;
      throw new RoseError('invalid', `${what}: the file ended ${missing} bytes early: it was cut short while in use`);
    }
    done += bytesRead;
  }
}
