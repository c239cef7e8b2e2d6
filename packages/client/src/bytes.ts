/** In a body each element of BYTES is its length, 4 bytes little-endian, and then itself. */
const LENGTH_BYTES = 4;

export function joinElements(elements: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(elements.reduce((sum, { length }) => sum + LENGTH_BYTES + length, 0));
  const view = new DataView(joined.buffer);
  let at = 0;
  for (const element of elements) {
    view.setUint32(at, element.length, true);
    joined.set(element, at + LENGTH_BYTES);
    at += LENGTH_BYTES + element.length;
  }
  return joined;
}

/**
 * The elements, as views of the bytes.
 * @throws RangeError where one ends beyond them
 */
export function splitElements(bytes: Uint8Array): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const elements: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const start = at + LENGTH_BYTES;
    const end = start <= bytes.length ? start + view.getUint32(at, true) : Infinity;
    if (end > bytes.length) throw new RangeError(`element ${elements.length} ends beyond the ${bytes.length} bytes`);
    elements.push(bytes.subarray(start, end));
    at = end;
  }
  return elements;
}
