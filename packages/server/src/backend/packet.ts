import { joinBytes, LARGE_BYTES, splitBytes } from '../triton/bytes.ts';
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
 * What goes from one thread to another in one message: numbers one after the other, and behind them the bytes of all small
 * tensors in one piece. Objects would be written and read with the names of their members, every number of a list by itself,
 * and every array of bytes costs about as much as a small request.
 */
export interface Packet {
  /** Numbers in double precision, then small tensors, each where eight bytes are aligned. */
  readonly data: ArrayBuffer;
  /** How many numbers there are. */
  readonly count: number;
  /** What is no number, at the places that numbers name. */
  readonly values: readonly unknown[];
  /** Large tensors: each has memory of its own that goes to the reader (see `transfersOf`), or memory that threads share. */
  readonly large: readonly Uint8Array[];
}

const ALIGNMENT = 8;
/** Arrays of so many bytes have no buffer in V8 before they are asked for it, which costs more than their copy. */
const ON_HEAP_BYTES = 64;
/** In the place of a value that is undefined. */
const NOTHING = -1;

const DATATYPES: readonly string[] = [...Object.keys(TYPED_ARRAYS), 'BYTES'];
const COMMON_WORDS: readonly string[] = ['', ...DATATYPES];

/** Words that packets of a model's requests and responses consist of. A text costs many times what its number does. */
export function wordsOf({ input = [], output = [] }: ModelConfig): string[] {
  return [...COMMON_WORDS, ...[...input, ...output].map(({ name }) => name)];
}

const givenAway = new WeakSet<ArrayBufferView>();

/** Have an array's memory, which nothing else lies in, handed over when a packet takes the array, if it is large. */
export function giveAway(array: ArrayBufferView): void {
  givenAway.add(array);
}

/** What a message with the packet hands over: its writer has it no longer. */
export function transfersOf({ large }: Packet): ArrayBuffer[] {
  const own = large.flatMap(({ buffer }) => (buffer instanceof ArrayBuffer ? buffer : []));
  // Tensors of one body may share its memory.
  return own.length < 2 ? own : [...new Set(own)];
}

/** Where a packet is gathered; every thread has one, used from one turn of its event loop to the next. */
export class PacketWriter {
  readonly #codes: ReadonlyMap<string, number>;
  #numbers: Float64Array = new Float64Array(512);
  #count = 0;
  #values: unknown[] = [];
  #large: Uint8Array[] = [];
  /** What was taken over from arrays for this packet. */
  readonly #sent: Map<ArrayBufferView, Uint8Array> = new Map();
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(4096);
  #used = 0;
  /** Of all of `#bytes`, by the classes of arrays. */
  readonly #views: Map<TypedArrayClass, TypedArray> = new Map();

  /** @param words that the reader knows, too */
  constructor(words: readonly string[] = COMMON_WORDS) {
    this.#codes = new Map(words.map((word, i) => [word, i]));
  }

  add(number: number): void {
    if (this.#count === this.#numbers.length) {
      const more = new Float64Array(2 * this.#count);
      more.set(this.#numbers);
      this.#numbers = more;
    }
    this.#numbers[this.#count++] = number;
  }

  /** Anything that can be cloned; undefined costs no more than a number. */
  addValue(value: unknown): void {
    this.add(value === undefined ? NOTHING : this.#values.push(value) - 1);
  }

  /** A text that is likely among the known words. */
  addWord(word: string): void {
    const code = this.#codes.get(word);
    // Below `NOTHING`, so that the reader knows it from a code.
    this.add(code ?? -1 - this.#values.push(word));
  }

  /**
   * Write something whole or not at all.
   * @throws what `write` throws; then nothing of it is left
   */
  whole(write: () => void): void {
    const [count, values, large, used] = [this.#count, this.#values.length, this.#large.length, this.#used];
    try {
      write();
    } catch (error) {
      this.#count = count;
      this.#values.length = values;
      this.#large.length = large;
      this.#used = used;
      throw error;
    }
  }

  /**
   * A tensor of a request or a response.
   * @param give the memory that its bytes lie in may be handed over where it is large; the tensor is empty then
   */
  addTensor(tensor: Tensor, give = false): void {
    const { name, datatype, shape } = tensor;
    this.#addHead(name, datatype, shape);
    if (tensor.datatype === 'BYTES') this.#addBytes(joinBytes(tensor.data), true, false);
    else this.#addBytes(tensor.data, tensor.data.byteOffset % elementSize(datatype) === 0, give);
  }

  /** A tensor that a model made. Its bytes are copied now, unless they lie in shared memory. */
  addTyped(name: string, { datatype, shape, data }: TypedTensor): void {
    this.#addHead(name, datatype, shape);
    if (datatype === 'BYTES') {
      this.#addBytes(joinBytes(data), true, false);
    } else if (data.byteLength <= ON_HEAP_BYTES && data instanceof TYPED_ARRAYS[datatype]) {
      const at = this.#room(data.byteLength);
      this.#viewOf(TYPED_ARRAYS[datatype]).set(data as never, at / data.BYTES_PER_ELEMENT);
    } else {
      const sent = this.#sent.get(data);
      // Of an array that went with this packet already there is a copy in it.
      if (sent !== undefined) this.#addBytes(sent, true, false);
      else if (givenAway.has(data) && data.byteLength >= LARGE_BYTES) this.#addBytes(this.#takeOver(data), true, true);
      else this.#addBytes(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), true, false);
    }
  }

  /** At once, so that the model writes into it no more, and nothing else takes it, too. */
  #takeOver(data: ArrayBufferView): Uint8Array {
    const { buffer, byteOffset, byteLength } = data;
    if (buffer instanceof SharedArrayBuffer) return new Uint8Array(buffer, byteOffset, byteLength);
    const own = new Uint8Array(buffer.transfer(), byteOffset, byteLength);
    this.#sent.set(data, own);
    return own;
  }

  /** What was written so far; the next packet is empty. */
  take(): Packet {
    const at = this.#count * ALIGNMENT;
    const data = new Uint8Array(at + this.#used);
    new Float64Array(data.buffer, 0, this.#count).set(this.#numbers.subarray(0, this.#count));
    data.set(this.#bytes.subarray(0, this.#used), at);
    const packet = { data: data.buffer, count: this.#count, values: this.#values, large: this.#large };
    if (this.#values.length > 0) this.#values = [];
    if (this.#large.length > 0) this.#large = [];
    this.#sent.clear();
    this.#count = 0;
    this.#used = 0;
    return packet;
  }

  #addHead(name: string, datatype: DataType, shape: readonly number[]): void {
    this.addWord(name);
    this.addWord(datatype);
    this.add(shape.length);
    for (const dim of shape) this.add(dim);
  }

  /** @param aligned whether elements can be read where they are */
  #addBytes(bytes: Uint8Array, aligned: boolean, give: boolean): void {
    const { length, buffer } = bytes;
    // Of small buffers that many share, as Node.js has them, nobody owns the memory.
    const given = give && length >= LARGE_BYTES;
    if (aligned && (given || buffer instanceof SharedArrayBuffer)) {
      this.add(NOTHING);
      this.#large.push(bytes);
    } else if (length >= LARGE_BYTES) {
      const copy = new Uint8Array(Buffer.allocUnsafeSlow(length).buffer);
      copy.set(bytes);
      this.add(NOTHING);
      this.#large.push(copy);
    } else {
      const at = this.#room(length);
      this.#bytes.set(bytes, at);
    }
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
    this.add(at);
    this.add(length);
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
  readonly #numbers: Float64Array;
  readonly #words: readonly string[];
  #next = 0;
  #nextLarge = 0;

  /** @param words those of the writer */
  constructor(packet: Packet, words: readonly string[] = COMMON_WORDS) {
    // Anything may be posted by a model's code.
    if (!(packet.data instanceof ArrayBuffer)) throw new TypeError('it has no packet');
    this.#packet = packet;
    this.#numbers = new Float64Array(packet.data, 0, packet.count);
    this.#words = words;
  }

  number(): number {
    return this.#numbers[this.#next++];
  }

  value<T>(): T {
    const place = this.number();
    return (place === NOTHING ? undefined : this.#packet.values[place]) as T;
  }

  word(): string {
    const code = this.number();
    return code < 0 ? (this.#packet.values[-2 - code] as string) : this.#words[code];
  }

  /** Its bytes are a view of what came. */
  tensor(): WireTensor {
    const name = this.word();
    const datatype = this.word() as DataType;
    const rank = this.number();
    const shape: number[] = [];
    for (let i = 0; i < rank; i++) shape.push(this.number());
    const at = this.number();
    if (at === NOTHING) return { name, datatype, shape, data: this.#packet.large[this.#nextLarge++] };
    const { data, count } = this.#packet;
    return { name, datatype, shape, data: new Uint8Array(data, count * ALIGNMENT + at, this.number()) };
  }

  tensors(): WireTensor[] {
    return this.list(() => this.tensor());
  }

  /** So many things, their number in front. */
  list<T>(read: () => T): T[] {
    const count = this.number();
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
