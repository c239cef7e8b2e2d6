import { mmaShape, type AccumulatorElement, type MatrixElement } from '../atoms/mma-shapes.ts';
import { choiceOf, flagOf, textOf } from '../ir/attributes.ts';
import { KernelError } from '../ir/error.ts';
import type { Node } from '../ir/ir.ts';
import { encodeFloat, f16ToF32 } from '../types/numeric.ts';
import { checkWhole } from './barriers.ts';
import { located, locate, type AccessFacts } from './locate.ts';
import type { Warp } from './machine.ts';
import { countBanks } from './metrics.ts';
import { accumulate, ELEMENT_BYTES, unpackElements } from './products.ts';
import type { Handler } from './program.ts';
import { readNumber, type Operand } from './registers.ts';

/** ldmatrix, stmatrix, movmatrix and mma.sync; fragments as in the figures of PTX ISA 9.0. */

export const MATRIX_ELEMENTS: readonly MatrixElement[] = ['f16', 'bf16', 'tf32', 'e4m3', 'e5m2', 'i8', 'u8'];
export const ACCUMULATORS: readonly AccumulatorElement[] = ['f32', 'f16', 'i32'];

const addresses = new Float64Array(32);
const before = new Uint8Array(16);

/** Rows of 8 x 8 matrices of 16 bits: lane i of the warp addresses row i. */
function matrices(node: Node, writes: boolean): Handler {
  if (
    choiceOf(node, 'shape', ['m8n8', 'm16n16', 'm8n16', 'm16n8'], 'm8n8') !== 'm8n8' ||
    node.attributes['source'] !== undefined
  ) {
    throw new KernelError(`${node.op} of shapes of 8 bits (sm_100a) is not simulated`, node.position);
  }
  const transpose = flagOf(node, 'transpose');
  return (_, program) => {
    const address = program.registers.of(node.args[0]);
    const words = (writes ? node.args.slice(1) : node.results).map((value) => program.registers.of(value));
    const facts: AccessFacts = { bytes: 16, align: 16, writes, part: program.allocationOf(node.args[0]) };
    const tile = new Uint16Array(64);
    return (warp) => {
      if (!checkWhole(warp, node)) return;
      const { machine } = warp.cta.cluster;
      const record = machine.shadow.record(warp, node);
      addresses.fill(NaN);
      for (const [j, word] of words.entries()) {
        if (writes) exchange(warp, word, tile, transpose, true);
        for (let row = 0; row < 8; row++) {
          const lane = 8 * j + row;
          const at = readNumber(warp, address, lane);
          const region = locate(warp, lane, address.type, at, facts);
          if (!region) continue;
          const start = located;
          addresses[lane] = at;
          if (!writes) {
            machine.shadow.read(region, start, 16, warp, lane, record, false);
            tile.set(region.halves.subarray(start >>> 1, (start >>> 1) + 8), 8 * row);
            continue;
          }
          before.set(region.bytes.subarray(start, start + 16));
          region.halves.set(tile.subarray(8 * row, 8 * row + 8), start >>> 1);
          machine.shadow.write(region, start, 16, warp, lane, record, false, before);
        }
        if (!writes) exchange(warp, word, tile, transpose, false);
      }
      if (machine.options.report?.banks) countBanks(machine, node, addresses, 16);
    };
  };
}

/** Between a matrix and the register of it that each lane holds. */
function exchange(warp: Warp, word: Operand, tile: Uint16Array, transpose: boolean, toTile: boolean): void {
  for (let lane = 0; lane < 32; lane++) {
    const [row, column] = [lane >> 2, 2 * (lane & 3)];
    const [low, high] = transpose
      ? [8 * column + row, 8 * (column + 1) + row]
      : [8 * row + column, 8 * row + column + 1];
    if (toTile) [tile[low], tile[high]] = [warp.n[word.at + lane], warp.n[word.at + lane] >>> 16];
    else warp.n[word.at + lane] = tile[low] | (tile[high] << 16);
  }
}

const transposeMatrix: Handler = (node, program) => {
  const from = program.registers.of(node.args[0]);
  const to = program.registers.of(node.results[0]);
  const tile = new Uint16Array(64);
  return (warp) => {
    if (!checkWhole(warp, node)) return;
    exchange(warp, from, tile, false, true);
    exchange(warp, to, tile, true, false);
  };
};

/** Reads an accumulator fragment's register pair; f16 registers hold two elements. */
export function readSum(
  warp: Warp,
  operands: readonly Operand[],
  d: AccumulatorElement,
  index: number,
  lane: number,
): number {
  if (d === 'f32') return warp.f[operands[index].at + lane];
  if (d === 'i32') return warp.n[operands[index].at + lane];
  return f16ToF32(warp.n[operands[index >> 1].at + lane] >>> (16 * (index & 1)));
}

export function writeSum(
  warp: Warp,
  operands: readonly Operand[],
  d: AccumulatorElement,
  index: number,
  lane: number,
  value: number,
): void {
  if (d === 'f32') warp.f[operands[index].at + lane] = value;
  else if (d === 'i32') warp.n[operands[index].at + lane] = value;
  else {
    const at = operands[index >> 1].at + lane;
    const bits = encodeFloat('f16', value);
    warp.n[at] = index & 1 ? (warp.n[at] & 0xffff) | (bits << 16) : (warp.n[at] & ~0xffff) | bits;
  }
}

/** A's fragment (16 rows) as rows of k numbers. */
export function unpackA(
  warp: Warp,
  words: readonly Operand[],
  element: MatrixElement,
  k: number,
  into: Float64Array,
): void {
  const v = 4 / ELEMENT_BYTES[element];
  for (const [r, word] of words.entries()) {
    for (let lane = 0; lane < 32; lane++) {
      const row = (lane >> 2) + 8 * (r & 1);
      unpackElements(element, warp.n[word.at + lane], into, row * k + (lane & 3) * v + 4 * v * (r >> 1));
    }
  }
}

const multiply: Handler = (node, program) => {
  const shape = textOf(node, 'shape');
  const types = {
    a: choiceOf(node, 'a', MATRIX_ELEMENTS),
    b: choiceOf(node, 'b', MATRIX_ELEMENTS),
    d: choiceOf(node, 'd', ACCUMULATORS),
  };
  const form = mmaShape(shape, types);
  if (!form)
    throw new KernelError(`there is no mma ${shape} of ${types.a} and ${types.b} into ${types.d}`, node.position);
  const { k, registers } = form;
  const operands = node.args.map((value) => program.registers.of(value));
  if (operands.length !== registers.a + registers.b + registers.d) {
    throw new KernelError(
      `mma ${shape} takes ${registers.a} + ${registers.b} + ${registers.d} registers`,
      node.position,
    );
  }
  const wordsA = operands.slice(0, registers.a);
  const wordsB = operands.slice(registers.a, registers.a + registers.b);
  const sums = operands.slice(registers.a + registers.b);
  const results = node.results.map((value) => program.registers.of(value));
  const saturate = flagOf(node, 'saturate');
  const [a, b] = [new Float64Array(16 * k), new Float64Array(8 * k)];
  const v = 4 / ELEMENT_BYTES[types.b];
  return (warp) => {
    if (!checkWhole(warp, node)) return;
    unpackA(warp, wordsA, types.a, k, a);
    for (const [r, word] of wordsB.entries()) {
      for (let lane = 0; lane < 32; lane++) {
        unpackElements(types.b, warp.n[word.at + lane], b, (lane >> 2) * k + (lane & 3) * v + 4 * v * r);
      }
    }
    for (let lane = 0; lane < 32; lane++) {
      for (let i = 0; i < 4; i++) {
        const row = (lane >> 2) + 8 * (i >> 1);
        const column = 2 * (lane & 3) + (i & 1);
        const c = readSum(warp, sums, types.d, i, lane);
        writeSum(warp, results, types.d, i, lane, accumulate(types.d, c, a, row * k, b, column * k, k, saturate));
      }
    }
  };
};

export const MATRIX_HANDLERS: Readonly<Record<string, Handler>> = {
  ldmatrix: (node, program) => matrices(node, false)(node, program),
  stmatrix: (node, program) => matrices(node, true)(node, program),
  movmatrix: transposeMatrix,
  mma: multiply,
};
