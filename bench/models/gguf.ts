import { open, type FileHandle } from 'node:fs/promises';

/** ggml's number formats, by the numbers they have in files (ggml.h, `enum ggml_type`). */
export const ggmlTypes = { F32: 0, Q4_0: 2, Q8_0: 8, BF16: 30 } as const;
export type GgmlType = keyof typeof ggmlTypes;

/** Bytes of one block, and the elements it holds. */
const blocks = {
  F32: { bytes: 4, elements: 1 },
  BF16: { bytes: 2, elements: 1 },
  Q4_0: { bytes: 18, elements: 32 },
  Q8_0: { bytes: 34, elements: 32 },
} as const;

export interface GgufTensor {
  readonly name: string;
  /** Row-major, the fastest dimension last (as safetensors has it; the file has it the other way round). */
  readonly shape: readonly number[];
  readonly type: GgmlType;
}

export type GgufValue =
  | { readonly kind: 'u32' | 'f32'; readonly value: number }
  | { readonly kind: 'bool'; readonly value: boolean }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'strings'; readonly value: readonly string[] }
  | { readonly kind: 'i32s'; readonly value: readonly number[] };

/** Numbers of the value types in files (gguf.h, `enum gguf_type`). */
const U32 = 4;
const I32 = 5;
const F32 = 6;
const BOOL = 7;
const STRING = 8;
const ARRAY = 9;
const VERSION = 3;
const ALIGNMENT = 32;

/**
 * A GGUF file written tensor by tensor, in the order announced. The format is ggml's docs/gguf.md: a header, key-value
 * pairs, tensor descriptions, then the data, each tensor at a multiple of 32 bytes.
 */
export class GgufWriter {
  readonly #file: FileHandle;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  static async create(
    path: string,
    metadata: Readonly<Record<string, GgufValue>>,
    tensors: readonly GgufTensor[],
  ): Promise<GgufWriter> {
    const pairs = Object.entries(metadata);
    const parts = [Buffer.from('GGUF'), u32(VERSION), u64(tensors.length), u64(pairs.length)];
    for (const [key, value] of pairs) parts.push(string(key), encode(value));
    let offset = 0;
    for (const tensor of tensors) {
      const sizes = tensor.shape.toReversed();
      parts.push(string(tensor.name), u32(sizes.length), ...sizes.map(u64), u32(ggmlTypes[tensor.type]), u64(offset));
      offset += padded(bytesOf(tensor));
    }
    const head = Buffer.concat(parts);
    const file = await open(path, 'w');
    await file.write(Buffer.concat([head], padded(head.length)));
    return new GgufWriter(file);
  }

  async write(data: Uint8Array | Uint16Array | Float32Array): Promise<void> {
    await this.#file.write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    const rest = padded(data.byteLength) - data.byteLength;
    if (rest > 0) await this.#file.write(Buffer.alloc(rest));
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

function bytesOf({ shape, type }: GgufTensor): number {
  const { bytes, elements } = blocks[type];
  return (bytes * shape.reduce((product, size) => product * size, 1)) / elements;
}

function padded(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

function encode(value: GgufValue): Buffer {
  switch (value.kind) {
    case 'u32':
      return Buffer.concat([u32(U32), u32(value.value)]);
    case 'f32': {
      const number = Buffer.alloc(4);
      number.writeFloatLE(value.value);
      return Buffer.concat([u32(F32), number]);
    }
    case 'bool':
      return Buffer.concat([u32(BOOL), Buffer.from([value.value ? 1 : 0])]);
    case 'string':
      return Buffer.concat([u32(STRING), string(value.value)]);
    case 'strings':
      return Buffer.concat([u32(ARRAY), u32(STRING), u64(value.value.length), ...value.value.map(string)]);
    case 'i32s':
      return Buffer.concat([
        u32(ARRAY),
        u32(I32),
        u64(value.value.length),
        Buffer.from(Int32Array.from(value.value).buffer),
      ]);
  }
}

function string(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([u64(bytes.length), bytes]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
