import { mmaShape, type AccumulatorElement, type MatrixElement } from '../atoms/mma-shapes.ts';
import { UNPACKED_FORMATS } from '../atoms/tcgen05-shapes.ts';
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

/** Rows of all matrices have 16 bytes in shared memory. */
const ROW = 16;

interface MatrixShape {
  readonly rows: number;
  /** Registers of a lane for one matrix. */
  readonly words: number;
  /** Where the bytes of the registers lie: for word w, lane l, byte b at 4 * (32 * w + l) + b, an offset into the rows. */
  readonly places: Uint8Array;
}

function matrixShape(rows: number, words: number, place: (lane: number, at: number) => [number, number]): MatrixShape {
  const places = Uint8Array.from({ length: 128 * words }, (_none, i) => {
    const [row, column] = place((i >> 2) & 31, 4 * (i >> 7) + (i & 3));
    return ROW * row + column;
  });
  return { rows, words, places };
}

/**
 * PTX ISA 9.0, figures of ldmatrix and stmatrix; those of 8 bits are transposed by pairs of rows, as CuTe's layouts of
 * SM100_U8x4_STSM_T and SM100_U8x8_LDSM_T have it.
 */
const SHAPES = {
  m8n8: matrixShape(8, 1, (lane, at) => [lane >> 2, 4 * (lane & 3) + at]),
  'm8n8 transposed': matrixShape(8, 1, (lane, at) => [2 * (lane & 3) + (at >> 1), 2 * (lane >> 2) + (at & 1)]),
  m8n16: matrixShape(8, 1, (lane, at) => [lane >> 2, 4 * (lane & 3) + at]),
  'm16n8 transposed': matrixShape(8, 1, (lane, at) => [2 * (lane & 3) + (at & 1), (lane >> 2) + 8 * (at >> 1)]),
  'm16n16 transposed': matrixShape(16, 2, (lane, at) => [
    4 * (lane & 3) + 2 * (at >> 2) + (at & 1),
    (lane >> 2) + 8 * ((at >> 1) & 1),
  ]),
} as const;

/** Matrices of rows of 16 bytes: lane i of the warp addresses row i of all of them, one below the other. */
function matrices(node: Node, writes: boolean): Handler {
  const name = `${choiceOf(node, 'shape', ['m8n8', 'm16n16', 'm8n16', 'm16n8'], 'm8n8')}${flagOf(node, 'transpose') ? ' transposed' : ''}`;
  if (!(name in SHAPES)) throw new KernelError(`there is no ${node.op} of ${name} matrices`, node.position);
  const { rows, words, places } = SHAPES[name as keyof typeof SHAPES];
  const source = node.attributes['source'];
  const bits = source === undefined ? 8 : choiceOf(node, 'source', UNPACKED_FORMATS) === 'b4x16_p64' ? 4 : 6;
  return (_, program) => {
    const address = program.registers.of(node.args[0]);
    const registers = (writes ? node.args.slice(1) : node.results).map((value) => program.registers.of(value));
    const facts: AccessFacts = { bytes: ROW, align: ROW, writes, part: program.allocationOf(node.args[0]) };
    const tile = new Uint8Array(ROW * rows);
    return (warp) => {
      if (!checkWhole(warp, node)) return;
      const { machine } = warp.cta.cluster;
      const record = machine.shadow.record(warp, node);
      addresses.fill(NaN);
      for (let first = 0; first < registers.length; first += words) {
        const own = registers.slice(first, first + words);
        if (writes) gather(warp, own, places, tile);
        for (let row = 0; row < rows; row++) {
          const lane = (first / words) * rows + row;
          const at = readNumber(warp, address, lane);
          const region = locate(warp, lane, address.type, at, facts);
          if (!region) continue;
          const start = located;
          addresses[lane] = at;
          const bytes = region.bytes.subarray(start, start + ROW);
          if (!writes) {
            machine.shadow.read(region, start, ROW, warp, lane, record, false);
            tile.set(bits === 8 ? bytes : unpacked(bytes, bits), ROW * row);
            continue;
          }
          before.set(bytes);
          bytes.set(tile.subarray(ROW * row, ROW * (row + 1)));
          machine.shadow.write(region, start, ROW, warp, lane, record, false, before);
        }
        if (!writes) scatter(warp, own, places, tile);
      }
      if (machine.options.report?.banks) countBanks(machine, node, addresses, ROW);
    };
  };
}

/** 16 elements of fewer bits from the beginning of a row, each in the low bits of a byte. */
function unpacked(row: Uint8Array, bits: number): Uint8Array {
  return Uint8Array.from({ length: ROW }, (_none, i) => {
    const at = bits * i;
    const pair = row[at >> 3] | ((row[(at >> 3) + 1] ?? 0) << 8);
    return (pair >> (at & 7)) & (2 ** bits - 1);
  });
}

/** From the registers that hold a matrix to its rows. */
function gather(warp: Warp, words: readonly Operand[], places: Uint8Array, tile: Uint8Array): void {
  for (const [w, word] of words.entries()) {
    for (let lane = 0; lane < 32; lane++) {
      const at = 4 * (32 * w + lane);
      const value = warp.n[word.at + lane];
      tile[places[at]] = value;
      tile[places[at + 1]] = value >> 8;
      tile[places[at + 2]] = value >> 16;
      tile[places[at + 3]] = value >> 24;
    }
  }
}

/** From the rows of a matrix to the registers that hold it. */
function scatter(warp: Warp, words: readonly Operand[], places: Uint8Array, tile: Uint8Array): void {
  for (const [w, word] of words.entries()) {
    for (let lane = 0; lane < 32; lane++) {
      const at = 4 * (32 * w + lane);
      const low = tile[places[at]] | (tile[places[at + 1]] << 8);
      warp.n[word.at + lane] = low | (tile[places[at + 2]] << 16) | (tile[places[at + 3]] << 24);
    }
  }
}

const transposeMatrix: Handler = (node, program) => {
  const from = [program.registers.of(node.args[0])];
  const to = [program.registers.of(node.results[0])];
  const tile = new Uint8Array(8 * ROW);
  return (warp) => {
    if (!checkWhole(warp, node)) return;
    gather(warp, from, SHAPES.m8n8.places, tile);
    scatter(warp, to, SHAPES['m8n8 transposed'].places, tile);
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
