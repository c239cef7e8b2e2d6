import { tmemCell, tmemRegisters, TMEM_SHAPES } from '../atoms/tcgen05-shapes.ts';
import { choiceOf, flagOf, numberOf } from '../ir/attributes.ts';
import { KernelError } from '../ir/error.ts';
import type { Node } from '../ir/ir.ts';
import { checkWhole } from './barriers.ts';
import { Clock } from './clocks.ts';
import { located, locate } from './locate.ts';
import { firstLane, type Cta, type Warp } from './machine.ts';
import type { Handler, Step } from './program.ts';
import { readNumber, type Operand } from './registers.ts';
import { TensorMemory, TMEM_COLUMNS, type Strip, type TensorAccess, type TensorKind } from './tensor-memory.ts';

/** Tensor memory's allocation, loads, stores, waits and fences (PTX ISA 9.0, "tcgen05.alloc", "tcgen05.ld", "tcgen05.fence"). */

export function groupOf(node: Node): 1 | 2 {
  const group = numberOf(node, 'cta_group', 1);
  if (group !== 1 && group !== 2) throw new KernelError(`cta_group is 1 or 2, not ${group}`, node.position);
  return group;
}

export function laneOf(address: number): number {
  return address >>> 16;
}

export function memoryOf(cta: Cta): TensorMemory {
  return (cta.tensorMemory ??= new TensorMemory());
}

export function newAccess(kind: TensorKind, warp: Warp, node: Node, lane: number, form: string): TensorAccess {
  return { kind, node, warp, lane, form, counter: warp.counter, waited: false, settled: undefined, reads: [] };
}

function columnsOf(node: Node): number {
  const columns = numberOf(node, 'columns');
  if (columns < 32 || columns > TMEM_COLUMNS || !Number.isInteger(Math.log2(columns))) {
    throw new KernelError(
      `tensor memory is allocated in powers of two from 32 to 512 columns, not ${columns}`,
      node.position,
    );
  }
  return columns;
}

const allocate: Handler = (node, program) => {
  const columns = columnsOf(node);
  const to = program.registers.of(node.args[0]);
  return (warp) => {
    if (!checkWhole(warp, node)) return;
    const lane = firstLane(warp.mask);
    const memory = memoryOf(warp.cta);
    if (memory.relinquished) {
      warp.report(
        'tensor-memory',
        'tensor memory is allocated after the CTA gave up the right to: tmemRelinquish last',
      );
    }
    const region = locate(warp, lane, to.type, readNumber(warp, to, lane), { bytes: 4, align: 4, writes: true });
    if (!region) return;
    const at = located;
    const take = (): boolean => {
      const start = memory.allocate(columns, warp, node);
      if (start === undefined) return false;
      const { shadow } = warp.cta.cluster.machine;
      const before = region.bytes.slice(at, at + 4);
      region.words[at >>> 2] = start;
      shadow.write(region, at, 4, warp, lane, shadow.record(warp, node), false, before);
      return true;
    };
    if (take()) return;
    let taken = false;
    warp.wait = {
      node,
      what: () => `${columns} columns of tensor memory side by side; others of the CTA hold them`,
      ready: () => (taken ||= take()),
    };
  };
};

const free: Handler = (node, program) => {
  const columns = columnsOf(node);
  const from = program.registers.of(node.args[0]);
  return (warp) => {
    if (!checkWhole(warp, node)) return;
    const lane = firstLane(warp.mask);
    const address = readNumber(warp, from, lane);
    const problem =
      laneOf(address) === 0
        ? memoryOf(warp.cta).free(address & 0xffff, columns, newAccess('free', warp, node, lane, ''))
        : `tensor memory is freed by the address that its allocation gave, not lane ${laneOf(address)} of it`;
    if (problem !== undefined) warp.report('tensor-memory', problem);
    warp.cta.cluster.machine.progress++;
  };
};

const relinquish: Handler = (node) => (warp) => {
  if (checkWhole(warp, node)) memoryOf(warp.cta).relinquished = warp;
};

/** The cells of each register and lane: two columns to a register where 16 bits are packed. */
function cellsOf(node: Node, registers: number): (lane: number, register: number) => { lane: number; column: number } {
  const shape = choiceOf(node, 'shape', TMEM_SHAPES);
  let expected: number;
  try {
    expected = tmemRegisters(shape, numberOf(node, 'repeat'));
  } catch (error) {
    throw new KernelError(error instanceof RangeError ? error.message : String(error), node.position);
  }
  if (expected !== registers) {
    throw new KernelError(`${node.op} ${shape} moves ${expected} registers, not ${registers}`, node.position);
  }
  const half = shape === '16x32bx2' ? numberOf(node, 'half_offset') : 0;
  // Two neighbouring columns of a packed access hold 16 bits each; the distance of two halves counts columns.
  const columns = flagOf(node, node.op === 'tcgen05_load' ? 'pack' : 'unpack') ? 2 : 1;
  return (lane, register) => {
    const cell = tmemCell(shape, lane, register);
    const shift = shape === '16x32bx2' && lane >= 16 ? half : 0;
    return { lane: cell.lane, column: columns * cell.column + shift };
  };
}

/** Loads and stores: `move` for every lane and register, with the cell's place and whether it is the upper half of a word. */
function access(node: Node, kind: 'load' | 'store', address: Operand, values: readonly Operand[]): Step {
  const packed = flagOf(node, kind === 'load' ? 'pack' : 'unpack');
  const cell = cellsOf(node, values.length);
  const rows = node.attributes['shape'] === '32x32b' ? 32 : 16;
  return (warp) => {
    if (!checkWhole(warp, node)) return;
    const first = firstLane(warp.mask);
    const base = readNumber(warp, address, first);
    for (let lane = first; lane < 32; lane++) {
      if (readNumber(warp, address, lane) === base || ((warp.mask >>> lane) & 1) === 0) continue;
      warp.report('tensor-memory', `all lanes of a warp give ${node.op} the same address`, [warp.place(node.op, lane)]);
      return;
    }
    const mine = 32 * (warp.index % 4);
    const start = laneOf(base);
    if (start !== mine && !(rows === 16 && start === mine + 16)) {
      warp.report(
        'tensor-memory',
        `warp ${warp.index} reaches lanes ${mine} to ${mine + 31} of tensor memory only, and ${node.op} begins at lane ${start}`,
      );
      return;
    }
    const memory = memoryOf(warp.cta);
    const made = newAccess(kind, warp, node, first, '');
    const stamp = memory.note(made);
    const writes = kind === 'store';
    const stripOf = (lane: number, register: number): Strip => {
      const place = cell(lane, register);
      const column = (base & 0xffff) + place.column;
      return { memory, lane: start + place.lane, column, count: packed ? 2 : 1 };
    };
    const words: [at: number, word: number][] = [];
    for (let register = 0; register < values.length; register++) {
      for (let lane = 0; lane < 32; lane++) {
        const strip = stripOf(lane, register);
        if (!memory.owns(strip, made)) return;
        memory.check(strip, made, writes);
        memory.mark(strip, stamp, writes);
        const at = strip.lane * TMEM_COLUMNS + strip.column;
        const register32 = values[register].at + lane;
        if (!writes) {
          const word = packed ? (memory.words[at] & 0xffff) | (memory.words[at + 1] << 16) : memory.words[at];
          words.push([register32, word]);
          warp.n[register32] = UNREAD;
          continue;
        }
        const word = warp.n[register32];
        memory.words[at] = packed ? word & 0xffff : word;
        if (packed) memory.words[at + 1] = word >>> 16;
      }
    }
    const { tensor } = warp.state;
    if (writes) tensor.stores.push(made);
    else tensor.loads.push({ access: made, deliver: () => words.forEach(([at, word]) => (warp.n[at] = word)) });
  };
}

/** What the registers of a load hold until the warp has waited: whoever looks too early sees nothing useful. */
const UNREAD = 0x7fedbeef;

const wait: Handler = (node) => {
  const direction = choiceOf(node, 'direction', ['load', 'store']);
  return (warp) => {
    if (!checkWhole(warp, node)) return;
    const { tensor } = warp.state;
    const done = direction === 'load' ? tensor.loads.map((load) => load.access) : tensor.stores;
    for (const each of done) {
      each.waited = true;
      each.counter = warp.counter;
    }
    if (direction === 'load') {
      for (const { deliver } of tensor.loads) deliver();
      tensor.loads = [];
    } else tensor.stores = [];
  };
};

const fence: Handler = (node) => {
  const before = choiceOf(node, 'when', ['before_thread_sync', 'after_thread_sync']) === 'before_thread_sync';
  return (warp) => {
    const { meeting, state } = warp;
    if (before) {
      meeting.tensorClock.add(warp.component, -1, warp.counter);
      warp.counter++;
    } else if (meeting.tensor) {
      state.tensor.visible ??= new Clock(meeting.before.all.length);
      state.tensor.visible.join(meeting.tensor);
    }
  };
};

/** What an ended CTA left in tensor memory. */
export function checkTensorMemory(cta: Cta): void {
  for (const warp of cta.warps) {
    const [open] = warp.state.tensor.uncommitted;
    if (open) {
      warp.report(
        'async-not-drained',
        `a thread ended before its ${open.node.op}: tcgen05Commit it, and wait for that`,
        [warp.placeOf(open.node, open.node.op, open.lane)],
      );
    }
  }
  for (const known of cta.tensorMemory?.allocations ?? []) {
    if (!known) continue;
    known.warp.report('tensor-memory', `${known.columns} columns of tensor memory were not freed: tmemFree them`, [
      known.warp.placeOf(known.node, known.node.op, 0),
    ]);
  }
}

export const TMEM_HANDLERS: Readonly<Record<string, Handler>> = {
  tcgen05_alloc: allocate,
  tcgen05_dealloc: free,
  tcgen05_relinquish: relinquish,
  tcgen05_load: (node, program) =>
    access(
      node,
      'load',
      program.registers.of(node.args[0]),
      node.results.map((value) => program.registers.of(value)),
    ),
  tcgen05_store: (node, program) =>
    access(
      node,
      'store',
      program.registers.of(node.args[0]),
      node.args.slice(1).map((value) => program.registers.of(value)),
    ),
  tcgen05_wait: wait,
  tcgen05_fence: fence,
};
