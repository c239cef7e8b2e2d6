import { formatPosition, type Position } from '../ir/ir.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import { decodeFloat } from '../types/numeric.ts';

/**
 * What kernels print, and which assertion failed, reaches the host through a buffer in mapped host memory, whose device
 * address is the kernel's last parameter. A kernel that neither prints nor asserts has no such parameter.
 *
 * The buffer, in 32-bit little-endian words:
 *
 *     0      words that records have asked for so far; threads add to it atomically
 *     1      capacity: words from word 4 on
 *     2, 3   zero
 *     4...   records
 *
 * A record:
 *
 *     0      number of its site, plus 1; written last, so that 0 means that it is not complete
 *     1..3   the CTA's x, y, z
 *     4      the thread's x | y << 10 | z << 20
 *     5...   the values: one word each, two (low first) for 64 bits; less than 32 bits in the low bits; predicates 0 or 1
 *
 * A record that does not fit is dropped, while word 0 still counts it. The host sets the words 0 and from 4 on to zero
 * and word 1 to the capacity before a launch, and decodes after it. A failed assertion writes its record, makes it
 * visible to the host, and traps.
 */
export interface PrintSite {
  readonly kind: 'print' | 'assert';
  /** Text with one `{}` for each value; an assertion's message. */
  readonly format: string;
  readonly types: readonly TypeName[];
  readonly position: Position;
}

/** Words of the buffer before the first record, and of a record before its values. */
export const RING_HEADER_WORDS = 4;
export const RECORD_HEADER_WORDS = 5;

/** Words that a value takes in a record. */
export function wordsOf(type: TypeName): number {
  return TYPES[type].bits === 64 ? 2 : 1;
}

export interface PrintRecord {
  readonly site: PrintSite;
  readonly block: readonly [number, number, number];
  readonly thread: readonly [number, number, number];
  readonly values: readonly (number | bigint | boolean | readonly number[])[];
  /** The format with its values filled in. */
  readonly text: string;
}

export interface DecodedRing {
  readonly records: readonly PrintRecord[];
  /** Whether records were dropped because the buffer was full. */
  readonly overflowed: boolean;
}

/**
 * Reads a buffer that a kernel with these sites wrote.
 *
 * @param bytes the whole buffer, header included.
 * @throws RangeError where the buffer was not written by this kernel.
 */
export function decodeRing(bytes: Uint8Array, sites: readonly PrintSite[]): DecodedRing {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const word = (at: number): number => view.getUint32(4 * at, true);
  const capacity = word(1);
  if (4 * (RING_HEADER_WORDS + capacity) > bytes.length) {
    throw new RangeError(`the print buffer of ${bytes.length} bytes says it holds ${capacity} words`);
  }
  const asked = word(0);
  const end = RING_HEADER_WORDS + Math.min(asked, capacity);
  const records: PrintRecord[] = [];
  for (let at = RING_HEADER_WORDS; at < end && word(at) !== 0;) {
    const site = sites[word(at) - 1];
    if (!site) throw new RangeError(`the print buffer names site ${word(at) - 1}, the kernel has ${sites.length}`);
    const place = word(at + 4);
    let next = at + RECORD_HEADER_WORDS;
    const values = site.types.map((type) => {
      const value = decodeValue(view, 4 * next, type);
      next += wordsOf(type);
      return value;
    });
    records.push({
      site,
      block: [word(at + 1), word(at + 2), word(at + 3)],
      thread: [place & 1023, (place >> 10) & 1023, place >>> 20],
      values,
      text: formatText(site.format, values),
    });
    at = next;
  }
  return { records, overflowed: asked > capacity };
}

/** One record as a line for people: where it comes from, which thread, and the text. */
export function describeRecord(record: PrintRecord): string {
  const who = `block ${record.block.join(',')} thread ${record.thread.join(',')}`;
  const what = record.site.kind === 'assert' ? `assertion failed: ${record.text}` : record.text;
  return `${formatPosition(record.site.position)} [${who}] ${what}`;
}

type Decoded = PrintRecord['values'][number];

function formatText(format: string, values: readonly Decoded[]): string {
  let next = 0;
  return format.replaceAll('{}', () => {
    const value = values[next++];
    return Array.isArray(value) ? `(${value.join(', ')})` : String(value);
  });
}

function decodeValue(view: DataView, at: number, type: TypeName): Decoded {
  const { kind, bits, element, lanes } = TYPES[type];
  if (kind === 'p') return view.getUint32(at, true) !== 0;
  if (kind === 'v') {
    const step = bits / 8 / lanes!;
    return Array.from({ length: lanes! }, (_, i) => Number(decodeValue(view, at + i * step, element!)));
  }
  switch (type) {
    case 'f64':
      return view.getFloat64(at, true);
    case 'f32':
    case 'tf32':
      return view.getFloat32(at, true);
    case 'f16':
    case 'bf16':
      return decodeFloat(type, view.getUint16(at, true));
    case 'e4m3':
    case 'e5m2':
      return decodeFloat(type, view.getUint8(at));
    default:
  }
  if (bits === 64) return kind === 'i' ? view.getBigInt64(at, true) : view.getBigUint64(at, true);
  const raw = view.getUint32(at, true);
  return kind === 'i' ? (raw << (32 - bits)) >> (32 - bits) : bits === 32 ? raw : raw & ((1 << bits) - 1);
}
