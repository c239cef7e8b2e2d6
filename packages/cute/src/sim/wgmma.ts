import { decodeWgmmaDescriptor } from '../atoms/descriptors.ts';
import { wgmmaShape, type MatrixElement } from '../atoms/mma-shapes.ts';
import { choiceOf, flagOf, numberOf, textOf } from '../ir/attributes.ts';
import { KernelError } from '../ir/error.ts';
import type { Node } from '../ir/ir.ts';
import { checkWhole } from './barriers.ts';
import { firstLane, type Cta } from './machine.ts';
import type { PendingProduct } from './warp-state.ts';
import { ACCUMULATORS, MATRIX_ELEMENTS, readSum, unpackA, writeSum } from './matrix.ts';
import { checkReads, elementOffsets, gather, hold } from './operands.ts';
import { accumulate, accumulateNarrow, exponentsOf } from './products.ts';
import type { Handler } from './program.ts';
import type { Operand } from './registers.ts';

/** wgmma: products are computed when somebody waits for them (PTX ISA 9.0, "wgmma"). */

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
    else {
      const part = { name: 'A', element: types.a, mnMajor: transposeA, first: row, rows: 16, k };
      offsetsA = elementOffsets(warp, node, warp.cta, decodeWgmmaDescriptor(warp.Q[operands[0].at + lane]), part);
    }
    const partB = { name: 'B', element: types.b, mnMajor: transposeB, first: 0, rows: n, k };
    const offsetsB = elementOffsets(warp, node, warp.cta, decodeWgmmaDescriptor(warp.Q[descriptorB.at + lane]), partB);
    if (!offsetsB || !(offsetsA ?? fragment)) return;
    if (offsetsA) checkReads(warp, warp.cta, offsetsA, types.a, record);
    checkReads(warp, warp.cta, offsetsB, types.b, record);
    const newest = shadow.newest;
    for (const id of slots) state.pinned.set(id, node);
    const release = hold(warp, node, warp.cta, offsetsA ? [offsetsA, offsetsB] : [offsetsB]);
    state.products.push({
      node,
      slots,
      complete: () => {
        release();
        const a = fragment ?? gather(warp, node, warp.cta, offsetsA!, types.a, newest);
        const b = gather(warp, node, warp.cta, offsetsB, types.b, newest);
        const sign = signA * signB;
        if (sign < 0) for (let i = 0; i < a.length; i++) a[i] = -a[i];
        const sumOf = summing(types, a, b, k, saturate);
        for (let each = 0; each < 32; each++) {
          for (let i = 0; i < elements; i++) {
            const r = (each >> 2) + 8 * ((i >> 1) & 1);
            const column = 2 * (each & 3) + (i & 1) + 8 * (i >> 2);
            const c = scaled ? readSum(warp, sums, types.d, i, each) : 0;
            writeSum(warp, sums, types.d, i, each, sumOf(c, r * k, column * k));
          }
        }
        for (const id of slots) warp.assigned[id] |= warp.valid;
      },
    });
    for (const id of slots) warp.assigned[id] |= warp.valid;
  };
};

/** c plus the products of the rows that begin at `row` in a and at `column` in b. */
function summing(
  types: Parameters<typeof wgmmaShape>[1],
  a: Float64Array,
  b: Float64Array,
  k: number,
  saturate: boolean,
): (c: number, row: number, column: number) => number {
  if (!isFloat8(types.a) || !isFloat8(types.b) || types.d !== 'f32') {
    return (c, row, column) => accumulate(types.d, c, a, row, b, column, k, saturate);
  }
  const exponents = { a: exponentsOf(types.a, a), b: exponentsOf(types.b, b) };
  return (c, row, column) =>
    accumulateNarrow(
      c,
      { values: a, exponents: exponents.a, at: row },
      { values: b, exponents: exponents.b, at: column },
      k,
    );
}

function isFloat8(element: MatrixElement): element is 'e4m3' | 'e5m2' {
  return element === 'e4m3' || element === 'e5m2';
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
