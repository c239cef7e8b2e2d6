import { formatPosition, type Node } from '../ir/ir.ts';
import type { LineReport } from './api.ts';
import type { Machine } from './machine.ts';

/** Measurements of accesses, on request. */

/** Accesses of one line are one report, however often it was unrolled. */
function reportOf(map: Map<string, LineReport>, { position, op }: Node): LineReport {
  const key = `${op} ${formatPosition(position)}`;
  let report = map.get(key);
  if (!report) {
    report = { position, op, instructions: 0, actual: 0, ideal: 0 };
    map.set(key, report);
  }
  return report;
}

/**
 * Passes over the banks that an access of shared memory takes: 32 banks of 4 bytes; lanes with the same word share it.
 * Accesses of 8 bytes go in two halves of a warp, of 16 bytes in four quarters.
 *
 * @param addresses of the lanes, NaN where a lane takes no part
 */
export function countBanks(machine: Machine, node: Node, addresses: Float64Array, bytes: number): void {
  const report = reportOf(machine.banks, node);
  report.instructions++;
  const lanes = bytes <= 4 ? 32 : bytes === 8 ? 16 : 8;
  for (let first = 0; first < 32; first += lanes) {
    const words = new Set<number>();
    for (let lane = first; lane < first + lanes; lane++) {
      const address = addresses[lane];
      if (address !== address) continue;
      for (let byte = 0; byte < Math.max(bytes, 1); byte += 4) words.add(Math.floor((address + byte) / 4));
    }
    if (words.size === 0) continue;
    const banks = new Uint8Array(32);
    let most = 0;
    for (const word of words) most = Math.max(most, ++banks[word % 32]);
    report.actual += most;
    report.ideal += Math.ceil(words.size / 32);
  }
}

/** 32-byte sectors of global memory that an access touches, and how many its bytes would fill. */
export function countSectors(machine: Machine, node: Node, addresses: Float64Array, bytes: number): void {
  const report = reportOf(machine.coalescing, node);
  report.instructions++;
  const sectors = new Set<number>();
  const starts = new Set<number>();
  for (const address of addresses) {
    if (address !== address) continue;
    starts.add(address);
    for (let at = Math.floor(address / 32); at <= Math.floor((address + bytes - 1) / 32); at++) sectors.add(at);
  }
  report.actual += sectors.size;
  report.ideal += Math.ceil((starts.size * bytes) / 32);
}
