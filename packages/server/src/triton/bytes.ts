/** Elements of BYTES as they travel: each with its length in front, four bytes, little-endian. */
export function joinBytes(elements: readonly Uint8Array[]): Buffer {
  const size = elements.reduce((sum, { length }) => sum + 4 + length, 0);
  const joined = Buffer.allocUnsafe(size);
  let at = 0;
  for (const element of elements) {
    at = joined.writeUInt32LE(element.length, at);
    joined.set(element, at);
    at += element.length;
  }
  return joined;
}

/**
 * The elements of joined bytes, as views.
 * @param onIncomplete called where an element ends beyond the bytes, with the number of those before it
 */
export function splitBytes(bytes: Uint8Array, onIncomplete: (elements: number) => never): Uint8Array[] {
  const elements: Uint8Array[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length;) {
    const start = at + 4;
    const end = start <= bytes.length ? start + view.getUint32(at, true) : Infinity;
    if (end > bytes.length) onIncomplete(elements.length);
    elements.push(bytes.subarray(start, end));
    at = end;
  }
  return elements;
}

/**
 * From here on a tensor goes between sockets and threads in memory of its own; a smaller one is copied with its message,
 * which is faster. That memory is no SharedArrayBuffer: V8 does not count those, so that gigabytes of them lie about until it
 * collects for another reason, and each comes as fresh pages from the system.
 */
export const LARGE_BYTES: number = 16 * 1024;

/**
 * Give the memory of bytes back now that nobody reads any more. Left to the garbage collector, buffers of a megabyte have
 * it collect the server's whole heap every few dozen requests. Old views of the memory are empty from then on: it never
 * stands as another's under them.
 */
export function freeBytes({ buffer }: Uint8Array): void {
  // Tensors may share it.
  if (buffer instanceof ArrayBuffer && !buffer.detached) buffer.transfer(0);
}
