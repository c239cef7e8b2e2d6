import { RoseError } from '../errors.ts';

/**
 * The header of a safetensors file (https://huggingface.co/docs/safetensors): 8 bytes little-endian length, then JSON
 * `{name: {dtype, shape, data_offsets: [begin, end]}}` with offsets into the data that follows. The same file may come
 * from anywhere, so nothing in it is believed before it is checked.
 */
export interface TensorEntry {
  readonly name: string;
  /** One of `DTYPE_BITS`; Rose computes with fewer (see `CheckpointTensor`). */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Of the first byte, from the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
}

/** Bits of one element, for every dtype of the format (safetensors 0.7, `Dtype`). */
const DTYPE_BITS: ReadonlyMap<string, number> = new Map(
  [
    { bits: 4, dtypes: ['F4'] },
    { bits: 6, dtypes: ['F6_E2M3', 'F6_E3M2'] },
    { bits: 8, dtypes: ['BOOL', 'U8', 'I8', 'F8_E4M3', 'F8_E5M2', 'F8_E8M0', 'F8_E4M3FNUZ', 'F8_E5M2FNUZ'] },
    { bits: 16, dtypes: ['U16', 'I16', 'F16', 'BF16'] },
    { bits: 32, dtypes: ['U32', 'I32', 'F32'] },
    { bits: 64, dtypes: ['U64', 'I64', 'F64', 'C64'] },
  ].flatMap(({ bits, dtypes }) => dtypes.map((dtype): [string, number] => [dtype, bits])),
);

/** The reference implementation's limit; a header of a 1,000-layer model is about 1 MB. */
const MAX_HEADER_BYTES = 100_000_000;
/** Bytes before the header. */
export const LENGTH_BYTES = 8;

/** The header's length in bytes from the file's first 8. Throws a RoseError when it cannot be true. */
export function headerLength(file: string, prefix: Uint8Array, fileBytes: number): number {
  if (fileBytes < LENGTH_BYTES) {
    throw new RoseError('invalid', `${file}: not a safetensors file: it has ${fileBytes} bytes, the header needs 8`);
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset, LENGTH_BYTES).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw new RoseError(
      'invalid',
      `${file}: not a safetensors file, or a damaged one: its header would have ${length} bytes (the limit is ${MAX_HEADER_BYTES})`,
    );
  }
  if (Number(length) > fileBytes - LENGTH_BYTES) {
    throw new RoseError(
      'invalid',
      `${file}: cut short: the header should have ${length} bytes, the whole file has ${fileBytes}. Download it again.`,
    );
  }
  return Number(length);
}

/**
 * Every tensor of a file, in the order of its data. The offsets are sound when this returns: inside the file, in no
 * tensor of another, no byte left over, and as long as shape and dtype say. Throws a RoseError naming file and tensor.
 */
export function parseHeader(file: string, header: Uint8Array, fileBytes: number): TensorEntry[] {
  const json = parseJson(file, header);
  const dataStart = LENGTH_BYTES + header.byteLength;
  const entries: TensorEntry[] = [];
  for (const [name, value] of Object.entries(json)) {
    if (name !== '__metadata__') entries.push(tensorEntry(file, name, value, dataStart));
    else checkMetadata(file, value);
  }
  entries.sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);
  checkCoverage(file, entries, dataStart, fileBytes);
  return entries;
}

function parseJson(file: string, header: Uint8Array): Record<string, unknown> {
  let text: string;
  let json: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(header);
    json = JSON.parse(text);
  } catch (cause) {
    throw new RoseError('invalid', `${file}: the header is not valid JSON in UTF-8`, { cause });
  }
  if (!isObject(json)) throw new RoseError('invalid', `${file}: the header is not a JSON object`);
  const twice = duplicateKey(text);
  if (twice !== undefined) throw new RoseError('invalid', `${file}: the header has the key ${quote(twice)} twice`);
  return json;
}

function tensorEntry(file: string, name: string, value: unknown, dataStart: number): TensorEntry {
  const fail = (what: string): never => {
    throw new RoseError('invalid', `${file}: tensor ${quote(name)}: ${what}`);
  };
  if (!isObject(value)) return fail('its header entry is not an object');
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string') return fail('its dtype is missing');
  const bits = DTYPE_BITS.get(dtype);
  if (bits === undefined) return fail(`unknown dtype ${quote(dtype)}`);
  if (!Array.isArray(shape) || !shape.every(isSize)) return fail('its shape is not a list of sizes');
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    return fail('its data_offsets are not two positions in the file');
  }
  const [begin, end] = offsets;
  if (end < begin) return fail(`its data ends (${end}) before it begins (${begin})`);
  const byteLength = end - begin;
  const expected = shapeBytes(shape, bits);
  if (expected !== BigInt(byteLength)) {
    const means = expected === undefined ? 'no whole number of bytes' : `${expected} bytes`;
    return fail(`shape [${shape.join(', ')}] of ${dtype} is ${means}, its data has ${byteLength}`);
  }
  return { name, dtype, shape, offset: dataStart + begin, byteLength };
}

/** Exact for any shape: a product beyond 2^53 must not be rounded into one that happens to fit. */
function shapeBytes(shape: readonly number[], bits: number): bigint | undefined {
  const total = shape.reduce((product, extent) => product * BigInt(extent), BigInt(bits));
  return total % 8n === 0n ? total / 8n : undefined;
}

/** Data must be laid without overlap and without holes, to the file's last byte. Entries are sorted by offset. */
function checkCoverage(file: string, entries: readonly TensorEntry[], dataStart: number, fileBytes: number): void {
  let end = dataStart;
  for (const [i, entry] of entries.entries()) {
    const at = `${file}: tensor ${quote(entry.name)}`;
    if (entry.offset < end) {
      throw new RoseError('invalid', `${at}: its data overlaps that of ${quote(entries[i - 1].name)}`);
    }
    if (entry.offset > end) {
      throw new RoseError('invalid', `${at}: ${entry.offset - end} bytes before its data belong to no tensor`);
    }
    end = entry.offset + entry.byteLength;
    if (end > fileBytes) {
      throw new RoseError(
        'invalid',
        `${at}: its data ends at byte ${end}, the file at ${fileBytes}: cut short. Download it again.`,
      );
    }
  }
  if (end !== fileBytes) {
    throw new RoseError('invalid', `${file}: the last ${fileBytes - end} bytes belong to no tensor`);
  }
}

function checkMetadata(file: string, value: unknown): void {
  if (!isObject(value) || !Object.values(value).every((text) => typeof text === 'string')) {
    throw new RoseError('invalid', `${file}: __metadata__ is not an object of strings`);
  }
}

/**
 * The first key that some object of a valid JSON text has twice; JSON.parse would silently keep the last. Written as a
 * loop with its own list of levels, so that neither deep nesting nor a long string can exhaust the stack.
 */
function duplicateKey(text: string): string | undefined {
  const levels: (Set<string> | undefined)[] = [];
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === '{') levels.push(new Set());
    else if (char === '[') levels.push(undefined);
    else if (char === '}' || char === ']') levels.pop();
    else if (char === '"') {
      const end = stringEnd(text, at);
      let next = end;
      while (next < text.length && text.charCodeAt(next) <= 0x20) next++;
      if (text[next] === ':') {
        const key: string = JSON.parse(text.slice(at, end));
        const keys = levels.at(-1);
        if (keys?.has(key)) return key;
        keys?.add(key);
      }
      at = end - 1;
    }
  }
  return undefined;
}

/** Index after the closing quote of the JSON string that opens at `start`. */
function stringEnd(text: string, start: number): number {
  for (let at = start + 1; ; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === '"') return at + 1;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && !Object.is(value, -0);
}

/** A name from the file for a message: escaped, and not longer than a person reads. */
function quote(name: string): string {
  return JSON.stringify(name.length > 120 ? `${name.slice(0, 117)}...` : name);
}
