import { TYPES } from '../types/dtype.ts';
import type { KernelIR, Value } from '../ir/ir.ts';
import { knownOf } from './fold.ts';

/** Bounds of a whole number, both included. */
export interface Range {
  readonly low: number;
  readonly high: number;
}

/** What is known of integers of up to 32 bits without looking at memory, parameters or slots. */
export class Ranges {
  private readonly kernel: KernelIR;
  private readonly known = new Map<Value, Range>();

  constructor(kernel: KernelIR) {
    this.kernel = kernel;
  }

  of(value: Value): Range {
    let range = this.known.get(value);
    if (range) return range;
    range = this.compute(value);
    this.known.set(value, range);
    return range;
  }

  /** Whether adding this to a 32-bit number never wraps. */
  fits(value: Value, low: number, high: number): boolean {
    const all = typeRange(value);
    return low >= all.low && high <= all.high;
  }

  private compute(value: Value): Range {
    const all = typeRange(value);
    const { node } = value;
    const exact = knownOf(value);
    if (exact !== undefined && TYPES[value.type].kind !== 'f') return { low: Number(exact), high: Number(exact) };
    const within = (low: number, high: number): Range => (low >= all.low && high <= all.high ? { low, high } : all);
    if (node.op === 'special') {
      const name = String(node.attributes.name);
      const axis = 'xyz'.indexOf(name.at(-1)!);
      if (name.startsWith('tid.')) return { low: 0, high: this.kernel.threads[axis] - 1 };
      if (name.startsWith('ntid.')) return { low: this.kernel.threads[axis], high: this.kernel.threads[axis] };
      if (name === 'laneid') return { low: 0, high: 31 };
      if (name === 'warpid') return { low: 0, high: 63 };
      if (name.startsWith('lanemask')) return all;
      if (name.startsWith('cluster_')) return { low: 0, high: 2 ** 31 - 1 };
      return name.startsWith('ctaid.') || name.startsWith('nctaid.') ? { low: 0, high: 2 ** 31 - 1 } : all;
    }
    if (node.args.length === 0 || TYPES[value.type].kind === 'f') return all;
    const [a, b] = node.args.map((arg) => (isWhole(arg) ? this.of(arg) : undefined));
    if (!a) return all;
    if (node.op === 'convert') return within(a.low, a.high);
    if (node.op === 'bitcast') return a.low >= 0 ? within(a.low, a.high) : all;
    if (!b) return all;
    switch (node.op) {
      case 'add':
        return within(a.low + b.low, a.high + b.high);
      case 'sub':
        return within(a.low - b.high, a.high - b.low);
      case 'mul':
        return a.low >= 0 && b.low >= 0 ? within(a.low * b.low, a.high * b.high) : all;
      case 'shl':
        return a.low >= 0 && b.low >= 0 && b.high < 32 ? within(a.low * 2 ** b.low, a.high * 2 ** b.high) : all;
      case 'shr':
        return a.low >= 0 && b.low >= 0 ? { low: 0, high: Math.floor(a.high / 2 ** Math.min(b.low, 60)) } : all;
      case 'div':
        return a.low >= 0 && b.low > 0 ? { low: Math.floor(a.low / b.high), high: Math.floor(a.high / b.low) } : all;
      case 'rem':
        return a.low >= 0 && b.low > 0 ? { low: 0, high: Math.min(a.high, b.high - 1) } : all;
      case 'and':
        if (a.low < 0 && b.low < 0) return all;
        return { low: 0, high: Math.min(a.low >= 0 ? a.high : Infinity, b.low >= 0 ? b.high : Infinity) };
      case 'min':
        return { low: Math.min(a.low, b.low), high: Math.min(a.high, b.high) };
      case 'max':
        return { low: Math.max(a.low, b.low), high: Math.max(a.high, b.high) };
      default:
        return all;
    }
  }
}

function isWhole(value: Value): boolean {
  return TYPES[value.type].kind === 'i' || TYPES[value.type].kind === 'u';
}

function typeRange(value: Value): Range {
  const { kind, bits } = TYPES[value.type];
  return kind === 'i' ? { low: -(2 ** (bits - 1)), high: 2 ** (bits - 1) - 1 } : { low: 0, high: 2 ** bits - 1 };
}
