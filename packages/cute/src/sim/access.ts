import { numberOf, textOf } from '../ir/attributes.ts';
import { KernelError } from '../ir/error.ts';
import type { Node } from '../ir/ir.ts';
import { TYPES } from '../types/dtype.ts';
import { combine } from './combine.ts';
import { located, locate, type AccessFacts } from './locate.ts';
import { Meeting } from './clocks.ts';
import type { Warp } from './machine.ts';
import type { MemoryRegion } from './memory.ts';
import { countBanks, countSectors } from './metrics.ts';
import type { Handler } from './program.ts';
import { read, write, type Operand } from './registers.ts';

/** Loads, stores and atomics. */

/** An element from memory into a register. */
export function loadElement(warp: Warp, to: Operand, lane: number, region: MemoryRegion, offset: number): void {
  const at = to.at + lane;
  switch (to.bits) {
    case 8: {
      const byte = region.bytes[offset];
      warp.n[at] = to.type === 'i8' ? (byte << 24) >> 24 : byte;
      return;
    }
    case 16: {
      const half = region.halves[offset >>> 1];
      warp.n[at] = to.type === 'i16' ? (half << 16) >> 16 : half;
      return;
    }
    case 32:
      warp.n[at] = region.words[offset >>> 2];
      return;
    case 64:
      if (to.type === 'ptr.global' || to.type === 'ptr.generic') warp.d[at] = Number(region.longs[offset >>> 3]);
      else warp.Q[at] = region.longs[offset >>> 3];
      return;
    default:
      warp.Q[at] = region.longs[offset >>> 3];
      warp.Q[at + 32] = region.longs[(offset >>> 3) + 1];
  }
}

/** A register into memory. */
export function storeElement(warp: Warp, from: Operand, lane: number, region: MemoryRegion, offset: number): void {
  const at = from.at + lane;
  switch (from.bits) {
    case 8:
      region.bytes[offset] = warp.n[at];
      return;
    case 16:
      region.halves[offset >>> 1] = warp.n[at];
      return;
    case 32:
      region.words[offset >>> 2] = warp.n[at];
      return;
    case 64:
      if (from.type === 'ptr.global' || from.type === 'ptr.generic') region.longs[offset >>> 3] = BigInt(warp.d[at]);
      else region.longs[offset >>> 3] = warp.Q[at];
      return;
    default:
      region.longs[offset >>> 3] = warp.Q[at];
      region.longs[(offset >>> 3) + 1] = warp.Q[at + 32];
  }
}

/** Addresses of the lanes, for measurements; NaN: none. */
const addresses = new Float64Array(32);
const before = new Uint8Array(128);

interface Shape {
  readonly facts: AccessFacts;
  readonly size: number;
  readonly offset: number;
  readonly strong: boolean;
  readonly releases: boolean;
  readonly acquires: boolean;
}

function shapeOf(node: Node, operand: Operand, count: number, program: Parameters<Handler>[1], writes: boolean): Shape {
  const size = TYPES[operand.type].bits / 8;
  if (size < 1) throw new KernelError('predicates are not stored: select a number', node.position);
  const bytes = size * count;
  // The access is split into the widest pieces that `align` allows, so that more than that is not asked for.
  const align = Math.min(numberOf(node, 'align', size), bytes, 16);
  const order = textOf(node, 'order', 'weak');
  return {
    facts: {
      bytes,
      align: align > 0 && (align & (align - 1)) === 0 ? align : size,
      writes,
      part: program.allocationOf(node.args[0]),
    },
    size,
    offset: numberOf(node, 'bytes', 0),
    strong: order !== 'weak' && order !== 'nc',
    releases: order === 'release',
    acquires: order === 'acquire',
  };
}

const load: Handler = (node, program) => {
  const address = program.registers.of(node.args[0]);
  const results = node.results.map((value) => program.registers.of(value));
  const { facts, size, offset, strong, acquires } = shapeOf(node, results[0], results.length, program, false);
  return (warp) => {
    const { mask } = warp;
    const { machine } = warp.cta.cluster;
    const from = warp[address.view] as Float64Array | Uint32Array;
    const record = machine.shadow.record(warp, node, strong);
    const measured = machine.options.report !== undefined;
    if (measured) addresses.fill(NaN);
    for (let lane = 0; lane < 32; lane++) {
      if (((mask >>> lane) & 1) === 0) continue;
      const at = from[address.at + lane] + offset;
      const region = locate(warp, lane, address.type, at, facts);
      if (!region) {
        for (const to of results) write(warp, to, lane, to.view === 'q' || to.view === 'Q' ? 0n : 0);
        continue;
      }
      const start = located;
      if (measured) addresses[lane] = at;
      machine.shadow.read(region, start, facts.bytes, warp, lane, record, strong);
      for (let i = 0; i < results.length; i++) loadElement(warp, results[i], lane, region, start + i * size);
      if (strong) acquireAt(warp, region, start, acquires);
    }
    if (measured) measure(warp, node, address.type, facts.bytes);
    if (strong) warp.sliced = true;
  };
};

const store: Handler = (node, program) => {
  const count = numberOf(node, 'count', 1);
  const address = program.registers.of(node.args[0]);
  const values = node.args.slice(1, 1 + count).map((value) => program.registers.of(value));
  if (values.length !== count || count < 1) {
    throw new KernelError(`store of ${count} values has ${values.length}`, node.position);
  }
  const { facts, size, offset, strong, releases } = shapeOf(node, values[0], count, program, true);
  return (warp) => {
    const { mask } = warp;
    const { machine } = warp.cta.cluster;
    const to = warp[address.view] as Float64Array | Uint32Array;
    const record = machine.shadow.record(warp, node, strong);
    const measured = machine.options.report !== undefined;
    if (measured) addresses.fill(NaN);
    const published = strong ? release(warp, mask, releases) : undefined;
    for (let lane = 0; lane < 32; lane++) {
      if (((mask >>> lane) & 1) === 0) continue;
      const at = to[address.at + lane] + offset;
      const region = locate(warp, lane, address.type, at, facts);
      if (!region) continue;
      const start = located;
      if (measured) addresses[lane] = at;
      if (region.writes) for (let i = 0; i < facts.bytes; i++) before[i] = region.bytes[start + i];
      for (let i = 0; i < count; i++) storeElement(warp, values[i], lane, region, start + i * size);
      machine.shadow.write(region, start, facts.bytes, warp, lane, record, strong, before);
      if (published) publishAt(warp, region, start, published);
    }
    if (measured) measure(warp, node, address.type, facts.bytes);
  };
};

function measure(warp: Warp, node: Node, type: string, bytes: number): void {
  const { report } = warp.cta.cluster.machine.options;
  if (type === 'ptr.shared') {
    if (report?.banks) countBanks(warp.cta.cluster.machine, node, addresses, bytes);
  } else if (report?.coalescing) countSectors(warp.cta.cluster.machine, node, addresses, bytes);
}

/** What a strong write hands over: all before it if it releases, else what came before the last fence. */
function release(warp: Warp, mask: number, releases: boolean): Meeting | undefined {
  if (!releases) {
    warp.cta.cluster.machine.progress++;
    return warp.state.published;
  }
  const meeting = new Meeting(warp.cta.cluster.components);
  warp.release(meeting, mask);
  return meeting;
}

function publishAt(warp: Warp, region: MemoryRegion, offset: number, meeting: Meeting): void {
  const { cluster } = warp.cta;
  const handover = cluster.openHandover(region, offset);
  const known = handover.get(cluster);
  if (known) known.join(meeting);
  else {
    const copy = new Meeting(cluster.components);
    copy.join(meeting);
    handover.set(cluster, copy);
  }
}

/** A strong read takes over what was released at the place: at once if it acquires, else at the next fence. */
function acquireAt(warp: Warp, region: MemoryRegion, offset: number, acquires: boolean): void {
  const handover = warp.cta.cluster.handoverAt(region, offset);
  if (!handover) return;
  if (acquires) warp.acquireFrom(handover);
  else warp.state.seen.add(handover);
}

/** `atomic` and `reduce`: lanes one after the other. */
function atomic(hasResult: boolean): Handler {
  return (node, program) => {
    const address = program.registers.of(node.args[0]);
    const name = textOf(node, 'function');
    const count = hasResult ? 1 : numberOf(node, 'count', 1);
    const operands = node.args.slice(1).map((value) => program.registers.of(value));
    const result = hasResult && node.results[0] ? program.registers.of(node.results[0]) : undefined;
    const { type } = node.args[1];
    const size = TYPES[type].bits / 8;
    const facts: AccessFacts = {
      bytes: size * count,
      align: size * count,
      writes: true,
      part: program.allocationOf(node.args[0]),
    };
    const offset = numberOf(node, 'bytes', 0);
    const order = textOf(node, 'order', 'relaxed');
    const [releases, acquires] = ['release', 'acquire'].map((half) => order === half || order === 'acq_rel');
    return (warp) => {
      const { machine } = warp.cta.cluster;
      const from = warp[address.view] as Float64Array | Uint32Array;
      const record = machine.shadow.record(warp, node, true);
      const published = release(warp, warp.mask, releases);
      for (let lane = 0; lane < 32; lane++) {
        if (((warp.mask >>> lane) & 1) === 0) continue;
        const region = locate(warp, lane, address.type, from[address.at + lane] + offset, facts);
        if (!region) continue;
        const start = located;
        machine.shadow.read(region, start, facts.bytes, warp, lane, record, true);
        for (let i = 0; i < facts.bytes; i++) before[i] = region.bytes[start + i];
        for (let i = 0; i < count; i++) {
          const old = elementAt(region, start + i * size, type);
          const operand = read(warp, operands[i], lane);
          const next =
            name === 'cas'
              ? sameBits(type, old, operand)
                ? read(warp, operands[1], lane)
                : old
              : combine(node, name, type, old, operand);
          putElement(region, start + i * size, type, next);
          if (result) write(warp, result, lane, old);
        }
        machine.shadow.write(region, start, facts.bytes, warp, lane, record, true, before);
        if (hasResult) acquireAt(warp, region, start, acquires);
        if (published) publishAt(warp, region, start, published);
      }
      warp.sliced = true;
    };
  };
}

const scratch = new DataView(new ArrayBuffer(16));

function sameBits(type: Operand['type'], left: number | bigint, right: number | bigint): boolean {
  if (type !== 'f32' && type !== 'f64') return left === right;
  scratch.setFloat64(0, left as number);
  scratch.setFloat64(8, right as number);
  return scratch.getBigUint64(0) === scratch.getBigUint64(8);
}

/** An element of memory as lanes hold it. */
export function elementAt(region: MemoryRegion, offset: number, type: Operand['type']): number | bigint {
  const view = new DataView(region.bytes.buffer);
  switch (type) {
    case 'f32':
    case 'tf32':
      return view.getFloat32(offset, true);
    case 'f64':
      return view.getFloat64(offset, true);
    case 'i64':
      return view.getBigInt64(offset, true);
    case 'u64':
    case 'b64':
      return view.getBigUint64(offset, true);
    case 'u32':
      return view.getUint32(offset, true);
    case 'i8':
      return view.getInt8(offset);
    case 'i16':
      return view.getInt16(offset, true);
    case 'b128':
      return view.getBigUint64(offset, true) | (view.getBigUint64(offset + 8, true) << 64n);
    default: {
      const { bits } = TYPES[type];
      return bits === 8
        ? region.bytes[offset]
        : bits === 16
          ? view.getUint16(offset, true)
          : view.getInt32(offset, true);
    }
  }
}

export function putElement(region: MemoryRegion, offset: number, type: Operand['type'], value: number | bigint): void {
  const view = new DataView(region.bytes.buffer);
  if (typeof value === 'bigint') {
    view.setBigUint64(offset, BigInt.asUintN(64, value), true);
    if (type === 'b128') view.setBigUint64(offset + 8, value >> 64n, true);
  } else if (type === 'f32' || type === 'tf32') view.setFloat32(offset, value, true);
  else if (type === 'f64') view.setFloat64(offset, value, true);
  else if (TYPES[type].bits === 8) region.bytes[offset] = value;
  else if (TYPES[type].bits === 16) view.setUint16(offset, value, true);
  else view.setInt32(offset, value, true);
}

export const ACCESS_HANDLERS: Readonly<Record<string, Handler>> = {
  load,
  store,
  atomic: atomic(true),
  reduce: atomic(false),
  prefetch: () => () => {},
};
