import { isUtf8 } from 'node:buffer';
import { fromBinary } from '@bufbuild/protobuf';
import {
  InferTensorContentsSchema,
  ModelInferRequestSchema,
  type InferParameter,
  type InferTensorContents,
  type ModelInferRequest,
} from './proto/inference_pb.js';

type Input = ModelInferRequest['inputs'][number];
type Output = ModelInferRequest['outputs'][number];
type Parameters = Record<string, InferParameter>;

/** Wire types (protobuf.dev/programming-guides/encoding). */
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;

/** A message that only the general decoder reads, or refuses. */
const UNUSUAL = new Error('the message is not in the form that clients write');

/**
 * A ModelInferRequest from the wire, as the generated code reads it but some times faster. Clients write messages in one
 * form: known fields of their own wire type, short numbers in as few bytes as they take, each field that is not repeated
 * once. All else is left to the generated code, which also says what is wrong with a broken message.
 * @returns views of the bytes, not copies
 * @throws Error if the bytes are no such message
 */
export function decodeInferRequest(bytes: Uint8Array): ModelInferRequest {
  try {
    return new Reader(bytes).request();
  } catch (error) {
    if (error !== UNUSUAL) throw error;
    return fromBinary(ModelInferRequestSchema, bytes);
  }
}

function contentsOf(bytes: Uint8Array): InferTensorContents {
  try {
    return fromBinary(InferTensorContentsSchema, bytes);
  } catch {
    throw UNUSUAL;
  }
}

/** Reads what stands next. Each method leaves the place behind what it read. */
class Reader {
  readonly #bytes: Uint8Array;
  readonly #text: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#text = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  request(): ModelInferRequest {
    const message: ModelInferRequest = {
      $typeName: 'inference.ModelInferRequest',
      ...{ modelName: '', modelVersion: '', id: '' },
      ...{ parameters: {}, inputs: [], outputs: [], rawInputContents: [] },
    };
    const end = this.#bytes.length;
    while (this.#at < end) {
      switch (this.#bytes[this.#at++]) {
        case (1 << 3) | BYTES:
          message.modelName = this.#string(end);
          break;
        case (2 << 3) | BYTES:
          message.modelVersion = this.#string(end);
          break;
        case (3 << 3) | BYTES:
          message.id = this.#string(end);
          break;
        case (4 << 3) | BYTES:
          this.#parameter(this.#end(end), message.parameters);
          break;
        case (5 << 3) | BYTES:
          message.inputs.push(this.#input(this.#end(end)));
          break;
        case (6 << 3) | BYTES:
          message.outputs.push(this.#output(this.#end(end)));
          break;
        case (7 << 3) | BYTES:
          message.rawInputContents.push(this.#view(this.#end(end)));
          break;
        default:
          throw UNUSUAL;
      }
    }
    return message;
  }

  #input(end: number): Input {
    const input: Input = {
      $typeName: 'inference.ModelInferRequest.InferInputTensor',
      ...{ name: '', datatype: '', shape: [], parameters: {} },
    };
    while (this.#at < end) {
      switch (this.#bytes[this.#at++]) {
        case (1 << 3) | BYTES:
          input.name = this.#string(end);
          break;
        case (2 << 3) | BYTES:
          input.datatype = this.#string(end);
          break;
        case (3 << 3) | BYTES: {
          const last = this.#end(end);
          while (this.#at < last) input.shape.push(BigInt(this.#number(last)));
          break;
        }
        case (3 << 3) | VARINT:
          input.shape.push(BigInt(this.#number(end)));
          break;
        case (4 << 3) | BYTES:
          this.#parameter(this.#end(end), input.parameters);
          break;
        case (5 << 3) | BYTES:
          // Of several the elements of all count.
          if (input.contents !== undefined) throw UNUSUAL;
          input.contents = contentsOf(this.#view(this.#end(end)));
          break;
        default:
          throw UNUSUAL;
      }
    }
    return input;
  }

  #output(end: number): Output {
    const output: Output = {
      $typeName: 'inference.ModelInferRequest.InferRequestedOutputTensor',
      ...{ name: '', parameters: {} },
    };
    while (this.#at < end) {
      const tag = this.#bytes[this.#at++];
      if (tag === ((1 << 3) | BYTES)) output.name = this.#string(end);
      else if (tag === ((2 << 3) | BYTES)) this.#parameter(this.#end(end), output.parameters);
      else throw UNUSUAL;
    }
    return output;
  }

  /** An entry of a map: a key, then a value. */
  #parameter(end: number, parameters: Parameters): void {
    this.#expect((1 << 3) | BYTES, end);
    const key = this.#string(end);
    // Assigning it would set the object's prototype.
    if (key === '__proto__') throw UNUSUAL;
    this.#expect((2 << 3) | BYTES, end);
    if (this.#end(end) !== end) throw UNUSUAL;
    parameters[key] = { $typeName: 'inference.InferParameter', parameterChoice: this.#choice(end) };
    if (this.#at !== end) throw UNUSUAL;
  }

  #choice(end: number): InferParameter['parameterChoice'] {
    if (this.#at >= end) throw UNUSUAL;
    switch (this.#bytes[this.#at++]) {
      case (1 << 3) | VARINT:
        return { case: 'boolParam', value: this.#number(end) !== 0 };
      case (2 << 3) | VARINT:
        return { case: 'int64Param', value: BigInt(this.#number(end)) };
      case (3 << 3) | BYTES:
        return { case: 'stringParam', value: this.#string(end) };
      case (4 << 3) | FIXED64:
        if (end - this.#at !== 8) throw UNUSUAL;
        this.#at = end;
        return { case: 'doubleParam', value: this.#text.readDoubleLE(end - 8) };
      case (5 << 3) | VARINT:
        return { case: 'uint64Param', value: BigInt(this.#number(end)) };
      default:
        throw UNUSUAL;
    }
  }

  #expect(tag: number, end: number): void {
    if (this.#at >= end || this.#bytes[this.#at++] !== tag) throw UNUSUAL;
  }

  /** A length, as the place where what follows ends, which is not behind `end`. */
  #end(end: number): number {
    const length = this.#number(end);
    if (length > end - this.#at) throw UNUSUAL;
    return this.#at + length;
  }

  /** A varint of at most 28 bits. */
  #number(end: number): number {
    const bytes = this.#bytes;
    let value = 0;
    for (let shift = 0; shift < 28 && this.#at < end; shift += 7) {
      const byte = bytes[this.#at++];
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw UNUSUAL;
  }

  #view(end: number): Uint8Array<ArrayBuffer> {
    const { buffer, byteOffset } = this.#bytes;
    const view = new Uint8Array(buffer as ArrayBuffer, byteOffset + this.#at, end - this.#at);
    this.#at = end;
    return view;
  }

  #string(limit: number): string {
    const end = this.#end(limit);
    const start = this.#at;
    this.#at = end;
    let ascii = start;
    while (ascii < end && this.#bytes[ascii] < 0x80) ascii++;
    if (ascii === end) return this.#text.toString('latin1', start, end);
    if (!isUtf8(this.#text.subarray(start, end))) throw UNUSUAL;
    return this.#text.toString('utf8', start, end);
  }
}
