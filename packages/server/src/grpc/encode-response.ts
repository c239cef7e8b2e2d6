import type { ParameterValue } from '../triton/model.ts';

/** What a ModelInferResponse says. */
export interface InferAnswer {
  readonly modelName: string;
  readonly modelVersion: string;
  readonly id: string;
  readonly parameters: ReadonlyMap<string, ParameterValue>;
  readonly outputs: readonly { readonly name: string; readonly datatype: string; readonly shape: readonly number[] }[];
  /** A tensor's bytes for each output; none where they lie in shared memory. */
  readonly rawOutputContents: readonly Uint8Array[];
}

/** What a ModelStreamInferResponse says. */
export interface StreamAnswer {
  /** Empty: the request went well. */
  readonly errorMessage: string;
  readonly inferResponse: InferAnswer;
}

/** Wire types (protobuf.dev/programming-guides/encoding). */
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;

/**
 * A ModelInferResponse for the wire, byte for byte what the generated code makes of it, but for the order of parameters.
 * @param head bytes in front of it that are left free
 */
export function encodeInferResponse(answer: InferAnswer, head: number = 0): Buffer {
  const writer = new Writer(head + roomOf(answer));
  infer(writer, answer);
  writer.at -= head;
  return writer.taken();
}

/** A ModelStreamInferResponse for the wire, byte for byte what the generated code makes of it, but for the order of parameters. */
export function encodeStreamInferResponse({ errorMessage, inferResponse }: StreamAnswer): Buffer {
  const writer = new Writer(roomOf(inferResponse) + roomOfText(errorMessage) + FIELD);
  const end = writer.at;
  infer(writer, inferResponse);
  writer.head(2, end);
  if (errorMessage !== '') writer.string(1, errorMessage);
  return writer.taken();
}

/** Fields in descending order, for a writer that goes backwards. */
function infer(writer: Writer, answer: InferAnswer): void {
  const { rawOutputContents: raw, outputs } = answer;
  for (let i = raw.length - 1; i >= 0; i--) writer.bytes(6, raw[i]);
  for (let i = outputs.length - 1; i >= 0; i--) {
    const { name, datatype, shape } = outputs[i];
    const end = writer.at;
    if (shape.length > 0) {
      for (let d = shape.length - 1; d >= 0; d--) writer.integer(shape[d]);
      writer.head(3, end);
    }
    if (datatype !== '') writer.string(2, datatype);
    if (name !== '') writer.string(1, name);
    writer.head(5, end);
  }
  if (answer.parameters.size > 0) {
    for (const [name, value] of [...answer.parameters].toReversed()) {
      const end = writer.at;
      parameter(writer, value);
      writer.head(2, end);
      writer.string(1, name);
      writer.head(4, end);
    }
  }
  if (answer.id !== '') writer.string(3, answer.id);
  if (answer.modelVersion !== '') writer.string(2, answer.modelVersion);
  if (answer.modelName !== '') writer.string(1, answer.modelName);
}

/** An InferParameter's only field. Integers that a double does not hold come as such. */
function parameter(writer: Writer, value: ParameterValue): void {
  if (typeof value === 'boolean') {
    writer.varint(Number(value));
    writer.tag(1, VARINT);
  } else if (typeof value === 'string') writer.string(3, value);
  else if (typeof value === 'number' && !Number.isSafeInteger(value)) {
    writer.double(value);
    writer.tag(4, FIXED64);
  } else {
    writer.integer(value);
    writer.tag(value < 2n ** 63n ? 2 : 5, VARINT);
  }
}

/** A tag of one byte and the longest length. */
const FIELD = 6;
/** A varint of 64 bits. */
const INTEGER = 10;

function roomOfText(text: string): number {
  return FIELD + 3 * text.length;
}

/** Bytes that a message takes at most. */
function roomOf({ modelName, modelVersion, id, parameters, outputs, rawOutputContents }: InferAnswer): number {
  let room = roomOfText(modelName) + roomOfText(modelVersion) + roomOfText(id);
  for (const [name, value] of parameters) {
    room += 2 * FIELD + roomOfText(name) + (typeof value === 'string' ? roomOfText(value) : 1 + INTEGER);
  }
  for (const { name, datatype, shape } of outputs) {
    room += roomOfText(name) + roomOfText(datatype) + 2 * FIELD + INTEGER * shape.length;
  }
  for (const bytes of rawOutputContents) room += FIELD + bytes.length;
  return room;
}

/** Writes from the end to the beginning: a message's length is known when its head is written. */
class Writer {
  readonly #buffer: Buffer;
  /** Where what was written last begins. */
  at: number;

  constructor(room: number) {
    this.#buffer = Buffer.allocUnsafe(room);
    this.at = room;
  }

  taken(): Buffer {
    return this.#buffer.subarray(this.at);
  }

  tag(field: number, wireType: number): void {
    this.#buffer[--this.at] = (field << 3) | wireType;
  }

  /** The head of a field that reaches to `end`. */
  head(field: number, end: number): void {
    this.varint(end - this.at);
    this.tag(field, BYTES);
  }

  bytes(field: number, bytes: Uint8Array): void {
    const end = this.at;
    this.at -= bytes.length;
    this.#buffer.set(bytes, this.at);
    this.head(field, end);
  }

  string(field: number, text: string): void {
    const end = this.at;
    let at = end;
    let left = text.length;
    while (left > 0) {
      const code = text.charCodeAt(left - 1);
      if (code > 0x7f) break;
      this.#buffer[--at] = code;
      left--;
    }
    if (left > 0) {
      at = end - Buffer.byteLength(text);
      this.#buffer.write(text, at);
    }
    this.at = at;
    this.head(field, end);
  }

  double(value: number): void {
    this.at -= 8;
    this.#buffer.writeDoubleLE(value, this.at);
  }

  /**
   * @param value an integer from -2^63 to 2^64 - 1
   * @throws RangeError at others, which the wire has no place for
   */
  integer(value: number | bigint): void {
    if (typeof value === 'number' && value >= 0) return this.varint(value);
    if (value < -(2n ** 63n) || value >= 2n ** 64n) throw new RangeError(`${value} has no place in 64 bits`);
    const bits = BigInt.asUintN(64, BigInt(value));
    let rest = bits >> 7n;
    let size = 1;
    for (; rest > 0n; rest >>= 7n) size++;
    this.at -= size;
    rest = bits;
    for (let i = 0; i < size; i++, rest >>= 7n) {
      this.#buffer[this.at + i] = Number(rest & 0x7fn) | (i < size - 1 ? 0x80 : 0);
    }
  }

  /** @param value an integer from 0 to 2^53 - 1 */
  varint(value: number): void {
    if (value < 0x80) {
      this.#buffer[--this.at] = value;
      return;
    }
    let size = 1;
    for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) size++;
    this.at -= size;
    let rest = value;
    for (let i = 0; i < size; i++) {
      this.#buffer[this.at + i] = (rest % 0x80) | (i < size - 1 ? 0x80 : 0);
      rest = Math.floor(rest / 0x80);
    }
  }
}
