import { decodeWgmmaDescriptor, type MatrixDescriptor } from '../atoms/descriptors.ts';
import { wgmmaShape, type MatrixElement } from '../atoms/mma-shapes.ts';
import { choiceOf, flagOf, numberOf, textOf } from '../ir/attributes.ts';
import { KernelError } from '../ir/error.ts';
import type { Node } from '../ir/ir.ts';
import { checkWhole } from './barriers.ts';
import { firstLane, type Cta, type PendingProduct, type Warp } from './machine.ts';
import { ACCUMULATORS, MATRIX_ELEMENTS, readSum, unpackA, writeSum } from './matrix.ts';
import { SHARED_BASE, type PendingRange } from './memory.ts';
import { accumulate, decodeElement, ELEMENT_BYTES } from './products.ts';
import type { Handler } from './program.ts';
import type { Operand } from './registers.ts';

/** wgmma: descriptors become addresses, products are computed when somebody waits for them (PTX ISA 9.0, "wgmma"). */

type Decoded = MatrixDescriptor & { readonly address: number; readonly baseOffset: number };

/** Byte of element (row, k) from the descriptor's start, before the swizzle. See `atoms/smem-descriptor.ts`. */
function offsetOf(
  { leading, stride, swizzle }: Decoded,
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
function exchanged(address: number, { swizzle, baseOffset }: Decoded): number {
  const mask = { none: 0, '32': 1, '64': 3, '128': 7 }[swizzle];
  return address ^ ((((address >>> 7) - baseOffset) & 7 & mask) << 4);
}

/** Offsets in shared memory of the elements of an operand's tile, row by row; undefined after a finding. */
function elementOffsets(
  warp: Warp,
  node: Node,
  bits: bigint,
  element: MatrixElement,
  mnMajor: boolean,
  name: string,
  first: number,
  rows: number,
  k: number,
): Int32Array | undefined {
  const descriptor = decodeWgmmaDescriptor(bits);
  const bytes = ELEMENT_BYTES[element];
  const { shared } = warp.cta;
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
          [warp.placeOf(node, 'wgmma', 0)],
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
function checkReads(warp: Warp, offsets: Int32Array, bytes: number, record: number): void {
  const { shadow } = warp.cta.cluster.machine;
  for (let i = 0; i < offsets.length;) {
    const start = offsets[i];
    let end = start + bytes;
    for (i++; i < offsets.length && offsets[i] === end; i++) end += bytes;
    shadow.engineRead(warp.cta.shared, start, end - start, warp, 0, record);
  }
}

function gather(warp: Warp, node: Node, offsets: Int32Array, element: MatrixElement, record: number): Float64Array {
  const { shared } = warp.cta;
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
      'a wgmma still read shared memory when it was written: wgmma_wait before it is used again',
      [warp.placeOf(node, 'wgmma', 0), change],
    );
  }
  return out;
}

const issue: Handler = (node, program) => {
  const types = {
    a: choiceOf(node, 'a', MATRIX_ELEMENTS),
    b: choiceOf(node, 'b', MATRIX_ELEMENTS),
    d: choiceOf(node, 'd', ACCUMULATORS),
  };
  const n = Number(/^m64n(\d+)k\d+$/.exec(textOf(node, 'shape'))?.[1]);
  const { k, registers } = shapeOf(node, n, types);
  const inRegisters = flagOf(node, 'a_registers');
  const operands = node.args.map((value) => program.registers.of(value));
  const [scale, descriptorB] = [operands[operands.length - 1], operands[operands.length - 2]];
  const sums: Operand[] = node.slots.map((slot) => program.registers.slot(slot));
  const slots = node.slots.map(({ id }) => id);
  if (sums.length !== registers.d)
    throw new KernelError(`wgmma of N = ${n} has ${registers.d} accumulators, not ${sums.length}`, node.position);
  const signA = flagOf(node, 'negate_a') ? -1 : 1;
  const signB = flagOf(node, 'negate_b') ? -1 : 1;
  const [transposeA, transposeB] = [flagOf(node, 'transpose_a'), flagOf(node, 'transpose_b')];
  const saturate = flagOf(node, 'saturate');
  const elements = (64 * n) / 128;
  return (warp) => {
    if (!checkWhole(warp, node)) return;
    const { state } = warp;
    const lane = firstLane(warp.mask);
    state.productCount++;
    const dirty = node.slots.find(({ id }) => state.dirty.has(id));
    if (dirty) {
      warp.report(
        'wgmma',
        `accumulator ${dirty.name} was written and no wgmma_fence stands between that and the wgmma`,
      );
    }
    const scaled = warp.n[scale.at + lane] !== 0;
    const unset = node.slots.find(({ id }) => (warp.assigned[id] & warp.mask) !== warp.mask);
    if (scaled && unset) warp.report('uninitialised', `accumulator ${unset.name} is added to before it was set`);
    const { shadow } = warp.cta.cluster.machine;
    const record = shadow.record(warp, node);
    const row = 16 * (warp.index % 4);
    let fragment: Float64Array | undefined;
    let offsetsA: Int32Array | undefined;
    if (inRegisters) unpackA(warp, operands.slice(0, 4), types.a, k, (fragment = new Float64Array(16 * k)));
    else offsetsA = elementOffsets(warp, node, warp.Q[operands[0].at + lane], types.a, transposeA, 'A', row, 16, k);
    const offsetsB = elementOffsets(warp, node, warp.Q[descriptorB.at + lane], types.b, transposeB, 'B', 0, n, k);
    if (!offsetsB || !(offsetsA ?? fragment)) return;
    if (offsetsA) checkReads(warp, offsetsA, ELEMENT_BYTES[types.a], record);
    checkReads(warp, offsetsB, ELEMENT_BYTES[types.b], record);
    const newest = shadow.newest;
    for (const id of slots) state.pinned.set(id, node);
    const release = hold(warp, node, offsetsA ? [offsetsA, offsetsB] : [offsetsB]);
    state.products.push({
      node,
      slots,
      complete: () => {
        release();
        const a = fragment ?? gather(warp, node, offsetsA!, types.a, newest);
        const b = gather(warp, node, offsetsB, types.b, newest);
        const sign = signA * signB;
        if (sign < 0) for (let i = 0; i < a.length; i++) a[i] = -a[i];
        for (let each = 0; each < 32; each++) {
          for (let i = 0; i < elements; i++) {
            const r = (each >> 2) + 8 * ((i >> 1) & 1);
            const column = 2 * (each & 3) + (i & 1) + 8 * (i >> 2);
            const c = scaled ? readSum(warp, sums, types.d, i, each) : 0;
            writeSum(warp, sums, types.d, i, each, accumulate(types.d, c, a, r * k, b, column * k, k, saturate));
          }
        }
        for (const id of slots) warp.assigned[id] |= warp.valid;
      },
    });
    for (const id of slots) warp.assigned[id] |= warp.valid;
  };
};

/** Nobody writes what the tensor cores read, from the first to the last byte, until they have; returns their end. */
function hold(warp: Warp, node: Node, tiles: readonly Int32Array[]): () => void {
  const { pending } = warp.cta.shared;
  const ranges = tiles.map((offsets): PendingRange => {
    let [start, end] = [offsets[0], offsets[0]];
    for (const offset of offsets) [start, end] = [Math.min(start, offset), Math.max(end, offset)];
    return { start, end: end + 1, writes: false, node, warp, lane: 0 };
  });
  pending.push(...ranges);
  return () => {
    for (const range of ranges) pending.splice(pending.indexOf(range), 1);
  };
}

function shapeOf(node: Node, n: number, types: Parameters<typeof wgmmaShape>[1]): ReturnType<typeof wgmmaShape> {
  try {
    return wgmmaShape(n, types);
  } catch (error) {
    throw new KernelError(error instanceof RangeError ? error.message : String(error), node.position);
  }
}

const wait: Handler = (node) => {
  const keep = numberOf(node, 'groups', 0);
  return (warp) => {
    if (!checkWhole(warp, node)) return;
    const { state } = warp;
    const done = state.productGroups.splice(0, Math.max(0, state.productGroups.length - keep)).flat();
    for (const product of done) product.complete();
    const running: PendingProduct[] = [...state.products, ...state.productGroups.flat()];
    for (const { slots } of done) {
      for (const id of slots) if (!running.some((product) => product.slots.includes(id))) state.pinned.delete(id);
    }
  };
};

/** The four warps of a group execute the same products and agree about their registers. */
export function checkWarpgroups(cta: Cta): void {
  for (let first = 0; first < cta.warps.length; first += 4) {
    const group = cta.warps.slice(first, first + 4);
    const [leader] = group;
    const other = group.find(({ state }) => state.productCount !== leader.state.productCount);
    if (other || (leader.state.productCount > 0 && group.length < 4)) {
      leader.report('wgmma', 'not all four warps of a warpgroup executed the same wgmma', [
        {
          what: `${leader.state.productCount} wgmma by a warp, ${other?.state.productCount ?? 0} by another`,
          position: undefined,
          thread: leader.thread(0),
          cta: cta.id,
        },
      ]);
    }
    const uneven = group.find(({ state }) => state.registers !== leader.state.registers);
    const node = uneven?.state.registerNode ?? leader.state.registerNode;
    if (!node || !(uneven || group.length < 4)) continue;
    leader.report(
      'registers',
      'set_max_registers must be executed by all four warps of a warpgroup, with the same count',
      [leader.placeOf(node, 'set_max_registers', 0)],
    );
  }
}

export const WGMMA_HANDLERS: Readonly<Record<string, Handler>> = {
  wgmma: issue,
  wgmma_fence: (node) => (warp) => {
    if (checkWhole(warp, node)) warp.state.dirty.clear();
  },
  wgmma_commit: (node) => (warp) => {
    if (!checkWhole(warp, node)) return;
    warp.state.productGroups.push(warp.state.products);
    warp.state.products = [];
  },
  wgmma_wait: wait,
};
