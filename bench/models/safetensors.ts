import { open, type FileHandle } from 'node:fs/promises';

export interface TensorShape {
  readonly name: string;
  readonly shape: readonly number[];
}

/** A safetensors file written tensor by tensor, in the order announced. All tensors have one dtype. */
export class SafetensorsWriter {
  readonly #file: FileHandle;
  /** Of the whole file. */
  readonly #bytes: number;

  private constructor(file: FileHandle, bytes: number) {
    this.#file = file;
    this.#bytes = bytes;
  }

  static async create(
    path: string,
    dtype: 'BF16' | 'F32',
    tensors: readonly TensorShape[],
  ): Promise<SafetensorsWriter> {
    const elementBytes = dtype === 'BF16' ? 2 : 4;
    let end = 0;
    const entries = tensors.map(({ name, shape }) => {
      const begin = end;
      end += elementBytes * shape.reduce((product, size) => product * size, 1);
      return [name, { dtype, shape, data_offsets: [begin, end] }];
    });
    // Older versions of transformers refuse files that do not say who wrote them.
    const json = JSON.stringify({ __metadata__: { format: 'pt' }, ...Object.fromEntries(entries) });
    // Readers map the file: spaces bring the data to a multiple of 8 bytes.
    const header = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    const file = await open(path, 'w');
    await file.write(Buffer.concat([length, header]));
    return new SafetensorsWriter(file, length.length + header.length + end);
  }

  async write(data: Uint16Array | Float32Array): Promise<void> {
    await this.#file.write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }

  /** End it with zeros that take no room, where the file system can. */
  async leaveEmpty(): Promise<void> {
    await this.#file.truncate(this.#bytes);
    await this.close();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}
