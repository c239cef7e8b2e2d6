import { TYPES } from '../types/dtype.ts';
import type { KernelIR, Value } from './ir.ts';

/** The greatest power of two (at most 4096) that is known to divide a whole number or an address. */
export function alignmentOf(kernel: KernelIR, value: Value, depth = 0): number {
  const { node } = value;
  const own = powerOf(value.divisor);
  if (depth > 12) return own;
  const of = (other: Value): number => alignmentOf(kernel, other, depth + 1);
  switch (node.op) {
    case 'const':
      return TYPES[value.type].kind === 'f' ? 1 : powerOf(Number(node.attributes.value));
    case 'param': {
      const param = kernel.params[Number(node.attributes.index)];
      return param?.kind === 'tensor' ? Math.max(own, powerOf(param.align)) : param?.kind === 'tensormap' ? 64 : own;
    }
    case 'shared_address': {
      const allocation = kernel.shared.find(({ id }) => id === node.attributes.id);
      return Math.max(own, allocation?.align ?? 1);
    }
    case 'ptr_add': {
      const [base, index] = node.args;
      const scaled = index ? Math.min(MOST, of(index) * powerOf(Number(node.attributes.scale ?? 1))) : MOST;
      return Math.max(own, Math.min(of(base), scaled, powerOf(Number(node.attributes.bytes ?? 0))));
    }
    case 'add':
    case 'sub':
    case 'or':
    case 'xor':
      return Math.max(own, Math.min(of(node.args[0]), of(node.args[1])));
    case 'mul':
      return Math.max(own, Math.min(MOST, of(node.args[0]) * of(node.args[1])));
    case 'mad':
      return Math.max(own, Math.min(MOST, of(node.args[0]) * of(node.args[1]), of(node.args[2])));
    case 'and':
      return Math.max(own, of(node.args[0]), of(node.args[1]));
    case 'shl': {
      const count = node.args[1].node;
      if (count.op !== 'const') return Math.max(own, of(node.args[0]));
      return Math.max(own, Math.min(MOST, of(node.args[0]) * 2 ** Math.min(31, Number(count.attributes.value))));
    }
    case 'convert':
    case 'ptr_cast':
    case 'map_shared':
    case 'select':
      if (node.op === 'select') return Math.max(own, Math.min(of(node.args[1]), of(node.args[2])));
      return TYPES[node.args[0].type].kind === 'f' ? own : Math.max(own, of(node.args[0]));
    default:
      return own;
  }
}

const MOST = 4096;

function powerOf(number: number): number {
  if (!Number.isSafeInteger(number)) return 1;
  let power = 1;
  while (power < MOST && number % (2 * power) === 0) power *= 2;
  return power;
}
