import { readFileSync } from 'node:fs';
import type { NibbleSums } from './kernels/quantized.ts';

/**
 * Which kernels sum int4's products faster here. V8 has one instruction for four products on arm64 (sdot) and on x86-64
 * with AVX-VNNI; only Linux tells whether the latter is there. A wrong guess costs time alone: the sums are the same.
 */
export function nibbleSumsOfMachine(): NibbleSums {
  if (process.arch === 'arm64') return 'fours';
  if (process.platform !== 'linux') return 'pairs';
  try {
    return /^flags\b.*\bavx_vnni\b/m.test(readFileSync('/proc/cpuinfo', 'utf8')) ? 'fours' : 'pairs';
  } catch {
    // Where nothing can be read, what serves most processors.
    return 'pairs';
  }
}
