import type { MatrixDescriptor } from '../atoms/descriptors.ts';
import type { MatrixElement } from '../atoms/mma-shapes.ts';
import type { Node } from '../ir/ir.ts';
import type { Cta, Warp } from './machine.ts';
import { SHARED_BASE } from './memory.ts';
import type { PendingRange } from './pending.ts';
import { decodeElement, ELEMENT_BYTES } from './products.ts';

/**
 * What the tensor cores read of shared memory: descriptors become addresses, with the checks of the async proxy's reads.
 * Source: PTX ISA 9.0, "Matrix descriptor format", "Strides" and "Canonical layouts".
 */

export type OperandDescriptor = MatrixDescriptor & { readonly address: number; readonly baseOffset: number };

/** A tile of an operand, rows (of M or N) times K. */
export interface OperandPart {
  readonly name: string;
  readonly element: MatrixElement;
  /** The rows lie side by side in memory instead of K. */
  readonly mnMajor: boolean;
  readonly first: number;
  readonly rows: number;
  readonly k: number;
}

/** Byte of element (row, k) from the descriptor's start, before the swizzle. See `atoms/smem-descriptor.ts`. */
export function offsetOf(
  { leading, stride, swizzle }: OperandDescriptor,
  bytes: number,
  mnMajor: boolean,
  row: number,
  k: number,
): number {
  const vector = 16 / bytes;
  if (!mnMajor) {
    if (swizzle === 'none')
      return (row % 8) * 16 + (row >> 3) * stride + (k % vector) * bytes + Math.floor(k / vector) * leading;
    return (row % 8) * Number(swizzle) + (row >> 3) * stride + k * bytes;
  }
  if (swizzle === 'none')
    return (row % vector) * bytes + Math.floor(row / vector) * stride + (k % 8) * 16 + (k >> 3) * leading;
  const span = Number(swizzle);
  const pitch = span / bytes;
  return (row % pitch) * bytes + Math.floor(row / pitch) * leading + (k % 8) * span + (k >> 3) * stride;
}

/** Bits of an address that a swizzle exchanges. The pattern begins where the base offset says. */
export function exchanged(address: number, { swizzle, baseOffset }: OperandDescriptor): number {
  const mask = { none: 0, '32': 1, '64': 3, '128': 7 }[swizzle];
  return address ^ ((((address >>> 7) - baseOffset) & 7 & mask) << 4);
}

/**
 * Offsets of a tile's elements in a CTA's shared memory, row by row; undefined after a finding.
 */
export function elementOffsets(
  warp: Warp,
  node: Node,
  { shared }: Cta,
  descriptor: OperandDescriptor,
  { name, element, mnMajor, first, rows, k }: OperandPart,
): Int32Array | undefined {
  const bytes = ELEMENT_BYTES[element];
  const out = new Int32Array(rows * k);
  let part = shared.partAt(descriptor.address - SHARED_BASE);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < k; i++) {
      const address = exchanged(descriptor.address + offsetOf(descriptor, bytes, mnMajor, first + row, i), descriptor);
      const offset = address - SHARED_BASE;
      if (!part || offset < part.offset || offset + bytes > part.offset + part.bytes) part = shared.partAt(offset);
      if (!part) {
        warp.report(
          'descriptor',
          `the descriptor of ${name} (start ${descriptor.address - SHARED_BASE} of shared memory, leading ${descriptor.leading}, stride ${descriptor.stride}, ` +
            `swizzle ${descriptor.swizzle}) puts element (${first + row}, ${i}) outside of all allocations`,
          [warp.placeOf(node, node.op, 0)],
          name,
        );
        return undefined;
      }
      out[row * k + i] = offset;
    }
  }
  return out;
}

/** Checks of the async proxy's reads, in pieces that lie side by side. */
export function checkReads(
  warp: Warp,
  { shared }: Cta,
  offsets: Int32Array,
  element: MatrixElement,
  record: number,
): void {
  const bytes = ELEMENT_BYTES[element];
  const { shadow } = warp.cta.cluster.machine;
  for (let i = 0; i < offsets.length;) {
    const start = offsets[i];
    let end = start + bytes;
    for (i++; i < offsets.length && offsets[i] === end; i++) end += bytes;
    shadow.engineRead(shared, start, end - start, warp, 0, record);
  }
}

/** The numbers of a tile; `record` is the newest access when the product was started: nobody may have written since. */
export function gather(
  warp: Warp,
  node: Node,
  { shared }: Cta,
  offsets: Int32Array,
  element: MatrixElement,
  record: number,
): Float64Array {
  const { shadow } = warp.cta.cluster.machine;
  const bytes = ELEMENT_BYTES[element];
  const out = new Float64Array(offsets.length);
  let reported = false;
  for (let i = 0; i < offsets.length; i++) {
    const at = offsets[i];
    const bits = bytes === 1 ? shared.bytes[at] : bytes === 2 ? shared.halves[at >>> 1] : shared.words[at >>> 2];
    out[i] = decodeElement(element, bits);
    if (reported) continue;
    const change = shadow.changedSince(shared, at, 1, record);
    if (!change) continue;
    reported = true;
    warp.report(
      'async-pending',
      `a ${node.op} still read shared memory when it was written: wait for it before the memory is used again`,
      [warp.placeOf(node, node.op, 0), change],
    );
  }
  return out;
}

/** Nobody writes what the tensor cores read, from the first to the last byte, until they have; returns their end. */
export function hold(warp: Warp, node: Node, { shared: { pending } }: Cta, tiles: readonly Int32Array[]): () => void {
  const ranges = tiles.map((offsets): PendingRange => {
    let [start, end] = [offsets[0], offsets[0]];
    for (const offset of offsets) [start, end] = [Math.min(start, offset), Math.max(end, offset)];
    return { start, end: end + 1, writes: false, node, warp, lane: 0 };
  });
  for (const range of ranges) pending.add(range);
  return () => {
    for (const range of ranges) pending.remove(range);
  };
}
