import type { TypeName } from '../types/dtype.ts';
import { SHARED_WINDOW } from './expressions.ts';
import { GLOBAL_WINDOW, SHARED_BASE, type MemoryRegion, type Part } from './memory.ts';
import type { Cta, Warp } from './machine.ts';

/** From addresses to bytes, with the checks that every access passes. */

/** Tensor maps that are parameters lie at generic addresses from here on, 128 bytes each. */
export const MAP_WINDOW: number = 2 ** 50;

/** Offset in the region that `locate` found last. */
export let located: number = 0;

/** What an access needs besides its address. */
export interface AccessFacts {
  readonly bytes: number;
  readonly align: number;
  readonly writes: boolean;
  /** The allocation of shared memory that the address was made from, where that is known. */
  readonly part?: Part | undefined;
}

/** The CTA whose shared memory a 32-bit address means, and the offset from its window's start. */
export function sharedTarget(warp: Warp, address: number): { cta: Cta | undefined; address: number } {
  if (address < 0x1000000) return { cta: warp.cta, address };
  const rank = Math.floor(address / 0x1000000) - 1;
  return { cta: warp.cta.cluster.ctas[rank], address: address % 0x1000000 };
}

/**
 * The region that a lane's access lies in, its offset in `located`; undefined after a finding: the access does not take
 * place.
 */
export function locate(
  warp: Warp,
  lane: number,
  type: TypeName,
  address: number,
  facts: AccessFacts,
): MemoryRegion | undefined {
  const { bytes, align, writes } = facts;
  if (address % align !== 0) {
    warp.report(
      'misaligned',
      `an access of ${bytes} bytes needs an address that ${align} divides, not ${hex(address)}`,
      [warp.place(`${writes ? 'write' : 'read'} at ${hex(address)}`, lane)],
    );
    return undefined;
  }
  if (type === 'ptr.generic' && address >= MAP_WINDOW) return locateMap(warp, lane, address, facts);
  if (type === 'ptr.global' || (type === 'ptr.generic' && address < SHARED_WINDOW))
    return locateGlobal(warp, lane, address, facts);
  const { cta, address: local } = sharedTarget(warp, type === 'ptr.generic' ? address - SHARED_WINDOW : address);
  if (!cta) {
    warp.report('cluster', `the address is that of a CTA that the cluster does not have`, [
      warp.place(`${writes ? 'write' : 'read'} at ${hex(address)}`, lane),
    ]);
    return undefined;
  }
  if (cta !== warp.cta && cta.ended) {
    warp.report(
      'cluster',
      `CTA (${cta.id.join(', ')}) has ended: nobody may use its shared memory; synchronise the cluster before threads end`,
      [warp.place(`${writes ? 'write' : 'read'} of its shared memory`, lane)],
    );
    return undefined;
  }
  const region = cta.shared;
  const offset = local - SHARED_BASE;
  const part = facts.part ?? region.partAt(offset);
  if (!part || offset < part.offset || offset + bytes > part.offset + part.bytes) {
    const where = part
      ? `"${part.name}" has ${part.bytes} bytes, and this is byte ${offset - part.offset}`
      : `nothing was allocated there`;
    warp.report('out-of-bounds', `${writes ? 'write' : 'read'} outside of shared memory's allocations: ${where}`, [
      warp.place(`${writes ? 'write' : 'read'} of ${bytes} bytes`, lane),
    ]);
    return undefined;
  }
  located = offset;
  return region;
}

/** The bytes of a tensor map that is a parameter: they can be copied. */
function locateMap(
  warp: Warp,
  lane: number,
  address: number,
  { bytes, writes }: AccessFacts,
): MemoryRegion | undefined {
  const region = warp.cta.cluster.machine.mapMemory;
  const offset = address - MAP_WINDOW;
  if (region && !writes && offset + bytes <= region.size) {
    located = offset;
    return region;
  }
  const problem = writes ? 'parameters are not written' : 'read outside of the tensor maps among the parameters';
  warp.report(writes ? 'read-only' : 'out-of-bounds', problem, [warp.place(`access of ${bytes} bytes`, lane)]);
  return undefined;
}

function locateGlobal(
  warp: Warp,
  lane: number,
  address: number,
  { bytes, writes }: AccessFacts,
): MemoryRegion | undefined {
  const { globals } = warp.cta.cluster.machine;
  const window = Math.floor(address / GLOBAL_WINDOW);
  const region = globals[window - 1];
  const offset = address - window * GLOBAL_WINDOW;
  if (region && offset + bytes <= region.size) {
    if (writes && region.access === 'read') {
      warp.report('read-only', `${region.name} is only read by this kernel, as its parameters say`, [
        warp.place('write', lane),
      ]);
      return undefined;
    }
    located = offset;
    return region;
  }
  // Half a window below a tensor is in front of it rather than behind the one before.
  const [near, distance] =
    globals[window] && offset > GLOBAL_WINDOW / 2 ? [globals[window], offset - GLOBAL_WINDOW] : [region, offset];
  const where = near
    ? `${near.name} has ${near.size} bytes, and this is byte ${distance}`
    : `${hex(address)} belongs to no tensor`;
  warp.report('out-of-bounds', `${writes ? 'write' : 'read'} outside of every tensor: ${where}`, [
    warp.place(`${writes ? 'write' : 'read'} of ${bytes} bytes`, lane),
  ]);
  return undefined;
}

export function hex(address: number): string {
  return `0x${address.toString(16)}`;
}
