import { decodeTcgen05Descriptor, decodeTcgen05Instruction, type Tcgen05Instruction } from '../atoms/descriptors.ts';
import type { AccumulatorElement, MatrixElement } from '../atoms/mma-shapes.ts';
import { TCGEN05_KINDS } from '../atoms/tcgen05-shapes.ts';
import { choiceOf, flagOf } from '../ir/attributes.ts';
import { KernelError } from '../ir/error.ts';
import type { Node } from '../ir/ir.ts';
import { encodeFloat, f16ToF32, f32Bits, f32FromBits } from '../types/numeric.ts';
import { eachLane } from './copies.ts';
import { countLanes, firstLane, type AsyncOperation, type Cta, type Warp } from './machine.ts';
import { arriveWith, barrierAt } from './mbarriers.ts';
import { checkReads, elementOffsets, gather, hold } from './operands.ts';
import { accumulate, ELEMENT_BYTES, unpackElements } from './products.ts';
import type { Handler } from './program.ts';
import { readNumber } from './registers.ts';
import { NOT_YET } from './shadow.ts';
import { TMEM_COLUMNS, type Strip, type TensorAccess } from './tensor-memory.ts';
import { groupOf, laneOf, memoryOf, newAccess } from './tmem.ts';

/** tcgen05's products and copies, and how they tell that they have ended (PTX ISA 9.0, "tcgen05.mma", "tcgen05.commit"). */

const KINDS = ['f16', 'tf32', 'f8f6f4', 'i8'] as const;
const ELEMENTS: readonly string[] = ['f16', 'bf16', 'tf32', 'e4m3', 'e5m2', 'i8', 'u8'];

/** The CTAs that work together: one, or a pair of neighbours in the cluster. */
function partners(warp: Warp, node: Node, group: 1 | 2): readonly Cta[] | undefined {
  const { cta } = warp;
  if (group === 1) return [cta];
  const { ctas } = cta.cluster;
  const first = cta.rank & ~1;
  if (first + 1 < ctas.length) return [ctas[first], ctas[first + 1]];
  warp.report('cluster', `${node.op} of a pair of CTAs needs a cluster of an even number of them, not ${ctas.length}`, [
    warp.placeOf(node, node.op, firstLane(warp.mask)),
  ]);
  return undefined;
}

/**
 * Where row `row` of D lies: the CTA of the pair, the lane, and in which column N's element `n` is. PTX ISA, "Data path
 * layout organization": M of 128 (256 for a pair) takes a lane a row; M of 64 sixteen lanes of each warp's 32; M of 128
 * for a pair has 64 rows a CTA, the two halves of N below each other.
 */
function placeOf(m: number, group: 1 | 2, row: number, half: 0 | 1): { cta: 0 | 1; lane: number } {
  if (group === 1) return { cta: 0, lane: m === 128 ? row : 32 * (row >> 4) + (row & 15) };
  if (m === 256) return { cta: row >= 128 ? 1 : 0, lane: row & 127 };
  return { cta: row >= 64 ? 1 : 0, lane: (row & 63) + 64 * half };
}

interface Product {
  readonly instruction: Required<Tcgen05Instruction>;
  readonly ctas: readonly Cta[];
  /** D's cells, row by row: one strip, or one for each half of N. */
  readonly d: readonly (readonly Strip[])[];
}

/** What the instruction descriptor of a lane asks for; undefined after a finding. */
function productOf(
  warp: Warp,
  node: Node,
  kind: (typeof KINDS)[number],
  bits: number,
  address: number,
): Product | undefined {
  const fail = (problem: string): undefined => {
    warp.report('descriptor', problem, [warp.placeOf(node, node.op, firstLane(warp.mask))]);
    return undefined;
  };
  let instruction: Required<Tcgen05Instruction>;
  try {
    instruction = decodeTcgen05Instruction(kind, bits);
  } catch (error) {
    if (error instanceof RangeError) return fail(`the instruction descriptor is wrong: ${error.message}`);
    throw error;
  }
  const { a, b, m, n } = instruction;
  const group = groupOf(node);
  if (!ELEMENTS.includes(a) || !ELEMENTS.includes(b)) {
    throw new KernelError(`tcgen05_mma of elements of 4 or 6 bits is not simulated`, node.position);
  }
  const known = group === 1 ? [64, 128] : [128, 256];
  if (!known.includes(m))
    return fail(`tcgen05_mma of ${group} CTA${group > 1 ? 's' : ''} has M of ${known.join(' or ')}, not ${m}`);
  const ctas = partners(warp, node, group);
  if (!ctas) return undefined;
  const base = laneOf(address);
  const column = address & 0xffff;
  if (base !== 0 && !(base === 16 && m === 64)) {
    return fail(`D of a tcgen05_mma begins in lane 0 (or 16 where M is 64), not ${base}`);
  }
  const halves = group === 2 && m === 128 ? ([0, 1] as const) : ([0] as const);
  const memories = ctas.map((cta) => memoryOf(cta));
  const d = Array.from({ length: m }, (_, row) =>
    halves.map((half): Strip => {
      const place = placeOf(m, group, row, half);
      return { memory: memories[place.cta], lane: base + place.lane, column, count: n / halves.length };
    }),
  );
  return { instruction, ctas, d };
}

/** Starts an operation of the tensor cores; those of one warp run one after the other. */
function start(access: TensorAccess, run: () => void): void {
  const { warp, node, lane } = access;
  const { tensor } = warp.state;
  const before = tensor.last;
  const operation: AsyncOperation = {
    ...{ node, warp, lane, done: false, intoShared: false },
    ready: () => before === undefined || before.done,
    complete: run,
  };
  tensor.last = operation;
  tensor.uncommitted.push(access);
  warp.cta.cluster.operations.push(operation);
}

function readSum(d: AccumulatorElement, word: number): number {
  if (d === 'f32') return f32FromBits(word >>> 0);
  return d === 'i32' ? word : f16ToF32(word & 0xffff);
}

function sumBits(d: AccumulatorElement, value: number): number {
  if (d === 'f32') return f32Bits(value) | 0;
  return d === 'i32' ? value : encodeFloat('f16', value);
}

/** A's rows in tensor memory: elements packed into columns, a lane a row as D has them. */
function stripsOfA(product: Product, node: Node, address: number, k: number): Strip[] {
  const { instruction, ctas } = product;
  const { m, a } = instruction;
  const group = groupOf(node);
  if (group === 2 && m === 128) {
    throw new KernelError('tcgen05_mma of a pair with M of 128 and A in tensor memory is not simulated', node.position);
  }
  const count = (k * ELEMENT_BYTES[a as MatrixElement]) / 4;
  return Array.from({ length: m }, (_, row) => {
    const place = placeOf(m, group, row, 0);
    return { memory: memoryOf(ctas[place.cta]), lane: laneOf(address) + place.lane, column: address & 0xffff, count };
  });
}

const multiply: Handler = (node, program) => {
  const kind = choiceOf(node, 'kind', Object.keys(TCGEN05_KINDS) as (keyof typeof TCGEN05_KINDS)[]);
  const simulated = KINDS.find((each) => each === kind);
  if (!simulated) throw new KernelError(`tcgen05_mma of kind ${kind} (block scales) is not simulated`, node.position);
  const { k } = TCGEN05_KINDS[simulated];
  const [toD, fromA, fromB, code, accumulates] = node.args.map((value) => program.registers.of(value));
  const inTensorMemory = flagOf(node, 'a_tmem');
  return (warp) => {
    const lane = firstLane(warp.mask);
    if (countLanes(warp.mask) > 1) {
      warp.report(
        'tensor-memory',
        `one thread starts a tcgen05_mma, and ${countLanes(warp.mask)} of a warp do: put it under elect() or one thread's branch`,
      );
    }
    const product = productOf(warp, node, simulated, readNumber(warp, code, lane) >>> 0, readNumber(warp, toD, lane));
    if (!product) return;
    const { instruction, ctas, d } = product;
    const { m, n } = instruction;
    const adds = warp.n[accumulates.at + lane] !== 0;
    const access = newAccess('mma', warp, node, lane, `${kind} ${m} ${n} ${ctas.length}`);
    const strips = d.flat();
    const fromTensor = inTensorMemory ? stripsOfA(product, node, readNumber(warp, fromA, lane), k) : [];
    if (![...strips, ...fromTensor].every((strip) => strip.memory.owns(strip, access))) return;

    const { shadow } = warp.cta.cluster.machine;
    const record = shadow.record(warp, node, false, { component: warp.cta.tensorCores, counter: NOT_YET });
    access.reads.push(record);
    const [elementA, elementB] = [instruction.a as MatrixElement, instruction.b as MatrixElement];
    /** Each CTA of a pair has its rows of A and of B, at the same places. */
    const share = (bits: bigint, name: 'A' | 'B', rows: number): Int32Array[] | undefined => {
      const descriptor = decodeTcgen05Descriptor(bits);
      if (descriptor.absoluteLeading) {
        throw new KernelError('descriptors with an absolute leading offset are not simulated', node.position);
      }
      const [element, mnMajor] = name === 'A' ? [elementA, instruction.transposeA] : [elementB, instruction.transposeB];
      const part = { name, element, mnMajor, first: 0, rows, k };
      const tiles = ctas.map((cta) => elementOffsets(warp, node, cta, descriptor, part));
      return tiles.every((tile) => tile !== undefined) ? tiles : undefined;
    };
    const tilesA = inTensorMemory ? [] : share(warp.Q[fromA.at + lane], 'A', m / ctas.length);
    const tilesB = share(warp.Q[fromB.at + lane], 'B', n / ctas.length);
    if (!tilesA || !tilesB) return;
    const releases = ctas.map((cta, i) => {
      const held = inTensorMemory ? [tilesB[i]] : [tilesA[i], tilesB[i]];
      if (!inTensorMemory) checkReads(warp, cta, tilesA[i], elementA, record);
      checkReads(warp, cta, tilesB[i], elementB, record);
      return hold(warp, node, cta, held);
    });
    for (const strip of fromTensor) strip.memory.check(strip, access, false);
    for (const strip of strips) strip.memory.check(strip, access, true, adds);
    for (const [memory, stamp] of stampsOf(access, ctas)) {
      for (const strip of fromTensor) if (strip.memory === memory) memory.mark(strip, stamp, false);
      for (const strip of strips) if (strip.memory === memory) memory.mark(strip, stamp, true);
    }
    const newest = shadow.newest;
    start(access, () => {
      for (const release of releases) release();
      const a = inTensorMemory
        ? gatherTensor(fromTensor, elementA, k)
        : joined(ctas.map((cta, i) => gather(warp, node, cta, tilesA[i], elementA, newest)));
      const b = joined(ctas.map((cta, i) => gather(warp, node, cta, tilesB[i], elementB, newest)));
      if (instruction.negateA !== instruction.negateB) for (let i = 0; i < a.length; i++) a[i] = -a[i];
      for (const [row, parts] of d.entries()) {
        let column = 0;
        for (const { memory, lane: at, column: first, count } of parts) {
          for (let i = at * TMEM_COLUMNS + first; i < at * TMEM_COLUMNS + first + count; i++, column++) {
            const c = adds ? readSum(instruction.d, memory.words[i]) : 0;
            const sum = accumulate(instruction.d, c, a, row * k, b, column * k, k, instruction.saturate);
            memory.words[i] = sumBits(instruction.d, sum);
          }
        }
      }
    });
  };
};

/** The access's number in the tensor memory of each CTA. */
function stampsOf(access: TensorAccess, ctas: readonly Cta[]): [ReturnType<typeof memoryOf>, number][] {
  return ctas.map((cta) => [memoryOf(cta), memoryOf(cta).note(access)]);
}

function joined(parts: readonly Float64Array[]): Float64Array {
  if (parts.length === 1) return parts[0];
  const out = new Float64Array(parts[0].length + parts[1].length);
  out.set(parts[0]);
  out.set(parts[1], parts[0].length);
  return out;
}

function gatherTensor(strips: readonly Strip[], element: MatrixElement, k: number): Float64Array {
  const out = new Float64Array(strips.length * k);
  const perWord = 4 / ELEMENT_BYTES[element];
  for (const [row, { memory, lane, column, count }] of strips.entries()) {
    for (let i = 0; i < count; i++) {
      unpackElements(element, memory.words[lane * TMEM_COLUMNS + column + i], out, row * k + i * perWord);
    }
  }
  return out;
}

/** Rows of shared memory, bytes of each, and to which lanes row r goes. */
const COPIES: Readonly<Record<string, { rows: number; bytes: number; lanes: (row: number) => number[] }>> = {
  '128x256b': { rows: 128, bytes: 32, lanes: (row) => [row] },
  '128x128b': { rows: 128, bytes: 16, lanes: (row) => [row] },
  '64x128b warpx2::02_13': { rows: 64, bytes: 16, lanes: (row) => [row, row + 64] },
  '64x128b warpx2::01_23': {
    rows: 64,
    bytes: 16,
    lanes: (row) => [(row % 32) + 64 * (row >> 5), (row % 32) + 64 * (row >> 5) + 32],
  },
  '32x128b warpx4': { rows: 32, bytes: 16, lanes: (row) => [row, row + 32, row + 64, row + 96] },
};

/** `tcgen05.cp`: rows of a K-major tile into lanes; for a pair each CTA copies its own. */
const copy: Handler = (node, program) => {
  const name = `${String(node.attributes['shape'])} ${String(node.attributes['multicast'] ?? '')}`.trim();
  const form = COPIES[name];
  if (!form || node.attributes['source'] !== undefined) {
    const unpacks = node.attributes['source'] === undefined ? '' : ' that unpacks';
    throw new KernelError(`tcgen05_copy ${name}${unpacks} is not simulated`, node.position);
  }
  const [to, from] = node.args.map((value) => program.registers.of(value));
  const part = { name: 'the source', element: 'u8', mnMajor: false, first: 0, rows: form.rows, k: form.bytes } as const;
  return eachLane((warp, lane) => {
    const ctas = partners(warp, node, groupOf(node));
    if (!ctas) return;
    const access = newAccess('copy', warp, node, lane, name);
    const address = readNumber(warp, to, lane);
    const [base, column] = [laneOf(address), address & 0xffff];
    const strips = ctas.map((cta) =>
      Array.from({ length: form.rows }, (_, row) =>
        form.lanes(row).map((at): Strip => ({ memory: memoryOf(cta), lane: base + at, column, count: form.bytes / 4 })),
      ),
    );
    if (!strips.flat(2).every((strip) => strip.memory.owns(strip, access))) return;
    const { shadow } = warp.cta.cluster.machine;
    const record = shadow.record(warp, node, false, { component: warp.cta.tensorCores, counter: NOT_YET });
    access.reads.push(record);
    const descriptor = decodeTcgen05Descriptor(warp.Q[from.at + lane]);
    const tiles = ctas.map((cta) => elementOffsets(warp, node, cta, descriptor, part));
    if (!tiles.every((tile) => tile !== undefined)) return;
    const releases = ctas.map((cta, i) => {
      checkReads(warp, cta, tiles[i], 'u8', record);
      return hold(warp, node, cta, [tiles[i]]);
    });
    for (const [i, [memory, stamp]] of stampsOf(access, ctas).entries()) {
      for (const strip of strips[i].flat()) {
        memory.check(strip, access, true);
        memory.mark(strip, stamp, true);
      }
    }
    const newest = shadow.newest;
    start(access, () => {
      for (const release of releases) release();
      for (const [i, cta] of ctas.entries()) {
        const bytes = Uint8Array.from(gather(warp, node, cta, tiles[i], 'u8', newest));
        const words = new Int32Array(bytes.buffer);
        for (const [row, lanes] of strips[i].entries()) {
          const line = words.subarray((row * form.bytes) / 4, ((row + 1) * form.bytes) / 4);
          for (const { memory, lane: at } of lanes) memory.words.set(line, at * TMEM_COLUMNS + column);
        }
      }
    });
  });
};

/** The barrier gets an arrival when the products and copies that this thread started have ended. */
const commit: Handler = (node, program) => {
  const [barrier, mask] = node.args.map((value) => program.registers.of(value));
  if (barrier.type === 'ptr.generic') {
    throw new KernelError(
      'tcgen05_commit to a generic address is not simulated: take the address in shared memory',
      node.position,
    );
  }
  return eachLane((warp, lane) => {
    const state = barrierAt(warp, lane, barrier, node);
    if (!state) return;
    const { cta, state: mine } = warp;
    const { ctas } = cta.cluster;
    const bits = mask ? readNumber(warp, mask, lane) : undefined;
    const targets =
      bits === undefined
        ? [state]
        : ctas.filter((_, rank) => (bits >>> rank) & 1).map((each) => each.mbarriers.get(state.offset));
    if (bits !== undefined && (bits >>> ctas.length !== 0 || targets.some((target) => !target))) {
      warp.report(
        'cluster',
        `tcgen05_commit to CTAs 0x${bits.toString(16)}: not all of them are in the cluster and have an mbarrier at that place`,
        [warp.place(node.op, lane)],
      );
    }
    const covered = mine.tensor.uncommitted.filter((access) => access.lane === lane);
    mine.tensor.uncommitted = mine.tensor.uncommitted.filter((access) => access.lane !== lane);
    const before = mine.tensor.last;
    // The products came behind the copies that this thread had waited for, and so does whoever hears of them.
    const copies = ctas.map(({ engine }) => ({ engine, counter: warp.meeting.before.all[engine] }));
    const operation: AsyncOperation = {
      ...{ node, warp, lane, done: false, intoShared: false },
      ready: () => before === undefined || before.done,
      complete: () => {
        const counter = ++cta.tensorCounter;
        for (const access of covered) {
          access.settled = counter;
          for (const record of access.reads) cta.cluster.machine.shadow.settle(record, counter);
        }
        for (const target of targets) {
          if (!target) continue;
          arriveWith(target, warp, lane, node, 1, () => {
            target.meeting.before.add(cta.tensorCores, -1, counter);
            target.meeting.tensorClock.add(cta.tensorCores, -1, counter);
            for (const { engine, counter: ended } of copies) target.meeting.before.add(engine, -1, ended);
          });
        }
      },
    };
    mine.tensor.last = operation;
    cta.cluster.operations.push(operation);
  });
};

export const TCGEN05_HANDLERS: Readonly<Record<string, Handler>> = {
  tcgen05_mma: multiply,
  tcgen05_copy: copy,
  tcgen05_commit: commit,
};
