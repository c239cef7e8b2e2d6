import { TENSORMAP_FIELDS } from '../atoms/bulk-forms.ts';
import { choiceOf, numberOf } from '../ir/attributes.ts';
import { KernelError } from '../ir/error.ts';
import type { Node } from '../ir/ir.ts';
import { checkWhole } from './barriers.ts';
import { eachLane } from './copies.ts';
import { hex, located, locate, MAP_WINDOW } from './locate.ts';
import { firstLane, type Warp } from './machine.ts';
import { decodeMap, fieldOf, MAP_BYTES } from './map-bytes.ts';
import { GLOBAL_WINDOW, type MemoryRegion } from './memory.ts';
import type { Handler } from './program.ts';
import { read, readNumber, type Operand } from './registers.ts';
import { tensorMapState, type TensorMapState } from './tensor-maps.ts';

/** Tensor maps that a kernel changes: replace, publish, acquire (PTX ISA 9.0, "tensormap.replace", "tensormap.cp_fenceproxy"). */

/** The map that an address means, as a tensor copy sees it; undefined after a finding. */
export function mapAt(warp: Warp, lane: number, operand: Operand, node: Node): TensorMapState | undefined {
  const { machine } = warp.cta.cluster;
  const address = readNumber(warp, operand, lane);
  if (address >= MAP_WINDOW) {
    const map = machine.maps[(address - MAP_WINDOW) / MAP_BYTES];
    if (!map) fail(warp, lane, node, `${node.op} takes the address of a tensor map, and ${hex(address)} is none`);
    return map;
  }
  const facts = { bytes: MAP_BYTES, align: 64, writes: false };
  const region = locate(warp, lane, 'ptr.global', address, facts);
  if (!region) return undefined;
  const at = located;
  if (!known(warp, lane, node, region, at)) return undefined;
  const decoded = decodeMap(region.bytes.subarray(at, at + MAP_BYTES));
  if (!decoded) {
    return fail(
      warp,
      lane,
      node,
      `${region.describe(at)} holds no tensor map: copy one that is a parameter, e.g. with tensorMapCopy`,
    );
  }
  const window = Math.floor(decoded.address / GLOBAL_WINDOW);
  const tensor = machine.globals[window - 1];
  if (!tensor) return fail(warp, lane, node, `the tensor map's tensor at ${hex(decoded.address)} lies in no tensor`);
  try {
    return tensorMapState(region.describe(at), decoded.map, tensor, decoded.address - window * GLOBAL_WINDOW);
  } catch (error) {
    if (error instanceof KernelError) return fail(warp, lane, node, error.message);
    throw error;
  }
}

function fail(warp: Warp, lane: number, node: Node, problem: string): undefined {
  warp.report('tensor-map', problem, [warp.placeOf(node, node.op, lane)]);
  return undefined;
}

/** Whether the thread may rely on a map that was written by the kernel: published, and acquired by it since. */
function known(warp: Warp, lane: number, node: Node, region: MemoryRegion, at: number): boolean {
  const stamps = region.writes?.subarray(at, at + MAP_BYTES);
  if (!stamps || stamps.every((stamp) => stamp === 0)) return true;
  const address = region.base + at;
  const published = warp.cta.cluster.machine.published.get(address);
  if (published === undefined || stamps.some((stamp) => stamp >>> 5 !== published)) {
    fail(
      warp,
      lane,
      node,
      `the tensor map ${region.describe(at)} was written and not published since: change a copy in shared memory, and tensorMapPublish that`,
    );
    return false;
  }
  if (warp.state.acquiredMaps.get(address) === published) return true;
  fail(
    warp,
    lane,
    node,
    `the tensor map ${region.describe(at)} was published and this thread has not acquired it since: tensorMapAcquire it first`,
  );
  return false;
}

const replace: Handler = (node, program) => {
  const [to, value] = node.args.map((arg) => program.registers.of(arg));
  const name = choiceOf(node, 'field', Object.keys(TENSORMAP_FIELDS));
  if (name === 'interleave_layout') throw new KernelError('interleaved tensor maps are not simulated', node.position);
  const index = numberOf(node, 'index', 0);
  const field = fieldOf(name, index);
  if (!field) throw new KernelError(`tensor maps have no ${name} ${index}`, node.position);
  if (to.type !== 'ptr.shared') {
    throw new KernelError(`tensormap_replace is simulated in shared memory, not in ${to.type}`, node.position);
  }
  const facts = { bytes: MAP_BYTES, align: 64, writes: true };
  return eachLane((warp, lane) => {
    const region = locate(warp, lane, to.type, readNumber(warp, to, lane), facts);
    if (!region) return;
    const at = located;
    const { shadow } = warp.cta.cluster.machine;
    const record = shadow.record(warp, node);
    shadow.read(region, at, MAP_BYTES, warp, lane, record, false);
    if (!decodeMap(region.bytes.subarray(at, at + MAP_BYTES))) {
      fail(
        warp,
        lane,
        node,
        `${region.describe(at)} holds no tensor map: copy one there first, e.g. with tensorMapCopy`,
      );
      return;
    }
    const before = region.bytes.slice(at + field.at, at + field.at + field.bytes);
    const given = value ? BigInt(read(warp, value, lane)) : BigInt(numberOf(node, 'value'));
    const whole = BigInt.asUintN(8 * field.bytes, given + BigInt(field.add));
    for (let i = 0; i < field.bytes; i++) region.bytes[at + field.at + i] = Number((whole >> BigInt(8 * i)) & 0xffn);
    shadow.write(region, at + field.at, field.bytes, warp, lane, record, false, before);
  });
};

/** A warp copies a map from shared to global memory and releases it. */
const publish: Handler = (node, program) => {
  const [to, from] = node.args.map((arg) => program.registers.of(arg));
  return (warp) => {
    if (!checkWhole(warp, node)) return;
    const lane = firstLane(warp.mask);
    const facts = { bytes: MAP_BYTES, align: 64 };
    const source = locate(warp, lane, from.type, readNumber(warp, from, lane), { ...facts, writes: false });
    if (!source) return;
    const origin = located;
    const target = locate(warp, lane, to.type, readNumber(warp, to, lane), { ...facts, writes: true });
    if (!target) return;
    const at = located;
    const { machine } = warp.cta.cluster;
    const record = machine.shadow.record(warp, node);
    machine.shadow.read(source, origin, MAP_BYTES, warp, lane, record, false);
    const before = target.bytes.slice(at, at + MAP_BYTES).map((byte) => ~byte);
    target.bytes.set(source.bytes.subarray(origin, origin + MAP_BYTES), at);
    machine.shadow.write(target, at, MAP_BYTES, warp, lane, record, false, before);
    machine.published.set(target.base + at, record);
    // The lanes copy together, and release to the whole GPU.
    warp.synchronise();
    warp.publish();
  };
};

const acquire: Handler = (node, program) => {
  const [from] = node.args.map((arg) => program.registers.of(arg));
  return eachLane((warp, lane) => {
    const facts = { bytes: MAP_BYTES, align: 64, writes: false };
    const region = locate(warp, lane, 'ptr.global', readNumber(warp, from, lane), facts);
    if (!region) return;
    const at = located;
    const { machine } = warp.cta.cluster;
    machine.shadow.read(region, at, MAP_BYTES, warp, lane, machine.shadow.record(warp, node), false);
    const published = machine.published.get(region.base + at);
    if (published !== undefined) warp.state.acquiredMaps.set(region.base + at, published);
  });
};

export const MAP_HANDLERS: Readonly<Record<string, Handler>> = {
  tensormap_replace: replace,
  tensormap_copy_fence: publish,
  tensormap_acquire: acquire,
  tensormap_prefetch: () => () => {},
};
