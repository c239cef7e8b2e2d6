import { joinBytes, splitBytes } from '../triton/bytes.ts';
import type { Tensor } from '../triton/tensor.ts';
import type { DataType, ModelConfig, Tensor as TypedTensor } from './api.ts';
import { isElementType, TYPED_ARRAYS, type TypedArray, type TypedArrayClass } from './elements.ts';

/** A tensor between threads. */
export interface WireTensor {
  readonly name: string;
  readonly datatype: DataType;
  readonly shape: readonly number[];
  /** Elements at a place that their type allows; BYTES as in a binary request: each with its length in front. */
  readonly data: Uint8Array;
}

/**
 * What goes from one thread to another in one message: values one after the other, and the bytes of all small tensors
 * in one piece. Objects would be written and read with the names of their members, and every array of bytes costs about
 * as much as a small request.
 */
export interface Packet {
  readonly values: readonly unknown[];
  /** Small tensors, each where eight bytes are aligned. */
  readonly bytes: Uint8Array;
  /** Views of shared memory, from `SHARED_BYTES` on; they are not copied. */
  readonly shared: readonly Uint8Array[];
}

/** From here on tensors are handed over in shared memory; smaller ones are copied with their message, which is faster. */
const SHARED_BYTES = 16 * 1024;
const ALIGNMENT = 8;
/** Arrays of so many bytes have no buffer in V8 before they are asked for it, which costs more than their copy. */
const ON_HEAP_BYTES = 64;

const DATATYPES: readonly string[] = [...Object.keys(TYPED_ARRAYS), 'BYTES'];

/** Words that packets of a model's requests and responses consist of. A text costs many times what its number does. */
export function wordsOf({ input = [], output = [] }: ModelConfig): string[] {
  return [...DATATYPES, ...[...input, ...output].map(({ name }) => name)];
}

/** Where small tensors of a packet are gathered; every thread has one, used from one turn of its event loop to the next. */
export class PacketWriter {
  readonly #codes: ReadonlyMap<string, number>;
  #values: unknown[] = [];
  #shared: Uint8Array[] = [];
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(4096);
  #used = 0;
  /** Of all of `#bytes`, by the classes of arrays. */
  readonly #views: Map<TypedArrayClass, TypedArray> = new Map();

  /** @param words that the reader knows, too */
  constructor(words: readonly string[] = DATATYPES) {
    this.#codes = new Map(words.map((word, i) => [word, i]));
  }

  add(...values: readonly unknown[]): void {
    for (const value of values) this.#values.push(value);
  }

  /** A text that is likely among the known words. */
  addWord(word: string): void {
    this.#values.push(this.#codes.get(word) ?? word);
  }

  /**
   * Write something whole or not at all.
   * @throws what `write` throws; then nothing of it is left
   */
  whole(write: () => void): void {
    const [values, shared, used] = [this.#values.length, this.#shared.length, this.#used];
    try {
      write();
    } catch (error) {
      this.#values.length = values;
      this.#shared.length = shared;
      this.#used = used;
      throw error;
    }
  }

  /** A tensor of a request or a response. */
  addTensor(tensor: Tensor): void {
    const { name, datatype, shape } = tensor;
    const bytes = tensor.datatype === 'BYTES' ? joinBytes(tensor.data) : tensor.data;
    this.#add(name, datatype, shape, bytes, bytes.byteOffset % elementSize(datatype) === 0);
  }

  /** A tensor that a model made. Its bytes are copied now, unless they lie in shared memory. */
  addTyped(name: string, { datatype, shape, data }: TypedTensor): void {
    if (datatype !== 'BYTES' && data.byteLength <= ON_HEAP_BYTES && data instanceof TYPED_ARRAYS[datatype]) {
      this.#addHead(name, datatype, shape);
      const at = this.#room(data.byteLength);
      this.#viewOf(TYPED_ARRAYS[datatype]).set(data as never, at / data.BYTES_PER_ELEMENT);
      return;
    }
    const bytes =
      datatype === 'BYTES' ? joinBytes(data) : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    this.#add(name, datatype, shape, bytes, true);
  }

  /** What was written so far; the next packet is empty. */
  take(): Packet {
    const packet = { values: this.#values, bytes: this.#bytes.slice(0, this.#used), shared: this.#shared };
    this.#values = [];
    this.#shared = [];
    this.#used = 0;
    return packet;
  }

  #add(name: string, datatype: DataType, shape: readonly number[], bytes: Uint8Array, aligned: boolean): void {
    const { length } = bytes;
    this.#addHead(name, datatype, shape);
    if (aligned && bytes.buffer instanceof SharedArrayBuffer) {
      this.#values.push(-1);
      this.#shared.push(bytes);
    } else if (length >= SHARED_BYTES) {
      const copy = new Uint8Array(new SharedArrayBuffer(length));
      copy.set(bytes);
      this.#values.push(-1);
      this.#shared.push(copy);
    } else {
      const at = this.#room(length);
      this.#bytes.set(bytes, at);
    }
  }

  #addHead(name: string, datatype: DataType, shape: readonly number[]): void {
    this.addWord(name);
    this.addWord(datatype);
    this.#values.push(shape.length);
    for (const dim of shape) this.#values.push(dim);
  }

  /** Where the next small tensor's bytes go. */
  #room(length: number): number {
    const at = Math.ceil(this.#used / ALIGNMENT) * ALIGNMENT;
    if (at + length > this.#bytes.length) {
      const larger = new Uint8Array(2 * ALIGNMENT * Math.ceil((at + length) / ALIGNMENT));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#views.clear();
    }
    this.#used = at + length;
    this.#values.push(at, length);
    return at;
  }

  #viewOf(type: TypedArrayClass): TypedArray {
    let view = this.#views.get(type);
    if (view === undefined) {
      view = new type(this.#bytes.buffer);
      this.#views.set(type, view);
    }
    return view;
  }
}

/** Reads a packet in the order in which it was written. */
export class PacketReader {
  readonly #packet: Packet;
  readonly #words: readonly string[];
  #next = 0;
  #nextShared = 0;

  /** @param words those of the writer */
  constructor(packet: Packet, words: readonly string[] = DATATYPES) {
    this.#packet = packet;
    this.#words = words;
  }

  value<T>(): T {
    return this.#packet.values[this.#next++] as T;
  }

  word(): string {
    const value = this.value<string | number>();
    return typeof value === 'number' ? this.#words[value] : value;
  }

  /** Its bytes are a view of what came. */
  tensor(): WireTensor {
    const name = this.word();
    const datatype = this.word() as DataType;
    const rank = this.value<number>();
    const shape: number[] = [];
    for (let i = 0; i < rank; i++) shape.push(this.value());
    const at = this.value<number>();
    if (at < 0) return { name, datatype, shape, data: this.#packet.shared[this.#nextShared++] };
    const { buffer, byteOffset } = this.#packet.bytes;
    return { name, datatype, shape, data: new Uint8Array(buffer, byteOffset + at, this.value<number>()) };
  }

  tensors(): WireTensor[] {
    return this.list(() => this.tensor());
  }

  /** So many things, their number in front. */
  list<T>(read: () => T): T[] {
    const count = this.value<number>();
    const items: T[] = [];
    for (let i = 0; i < count; i++) items.push(read());
    return items;
  }
}

/** A tensor for a model: its array is a view of what came. */
export function typedOf({ datatype, shape, data }: WireTensor): TypedTensor {
  if (!isElementType(datatype)) return { datatype, shape, data: splitBytes(data, incomplete) };
  const type = TYPED_ARRAYS[datatype];
  return {
    datatype,
    shape,
    data: new type(data.buffer, data.byteOffset, data.byteLength / type.BYTES_PER_ELEMENT),
  } as unknown as TypedTensor;
}

function elementSize(datatype: DataType): number {
  return isElementType(datatype) ? TYPED_ARRAYS[datatype].BYTES_PER_ELEMENT : 1;
}

/** Bytes were checked where they came in. */
function incomplete(): never {
  throw new Error('a tensor of BYTES was cut off between two threads');
}
