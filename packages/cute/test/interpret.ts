import type { KernelIR, Node, Region, Value } from '../src/ir/ir.ts';
import { bitsOfNumber, constantOf } from '../src/ptx/constants.ts';
import type { TypeName } from '../src/types/dtype.ts';

/** One thread of a kernel made of a few operations, run slowly and plainly: what passes are held against. */

type Jump = { readonly op: string; readonly label: string } | undefined;
type Number_ = number | bigint;

const BYTES: Partial<Record<TypeName, number>> = { i32: 4, u32: 4, f32: 4, bf16: 2, u8: 1, i64: 8 };

function bfloat(x: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, Number(bitsOfNumber(x, 'bf16')) << 16);
  return view.getFloat32(0);
}

function wrap(type: TypeName, x: Number_): Number_ {
  switch (type) {
    case 'i32':
      return Number(BigInt.asIntN(32, BigInt(x)));
    case 'u32':
      return Number(BigInt.asUintN(32, BigInt(x)));
    case 'u8':
      return Number(x) & 255;
    case 'i64':
      return BigInt.asIntN(64, BigInt(x));
    case 'f32':
      return Math.fround(Number(x));
    case 'bf16':
      return bfloat(Number(x));
    default:
      return x;
  }
}

/** Runs thread `thread` on `memory`, which the one tensor parameter points to; changes the memory. */
export function interpret(kernel: KernelIR, memory: DataView, thread: number): void {
  const values = new Map<Value, Number_>();
  const slots = new Map<number, Number_>();
  let steps = 0;

  const get = (value: Value): Number_ => {
    if (value.node.op === 'const') return wrap(value.type, constantOf(value));
    const known = values.get(value);
    if (known === undefined) throw new Error(`%${value.id} is not there`);
    return known;
  };

  const region = (nodes: Region): Jump => {
    for (const node of nodes) {
      const jump = run(node);
      if (jump) return jump;
    }
    return undefined;
  };

  const run = (node: Node): Jump => {
    if (++steps > 100_000) throw new Error('too many steps');
    const label = String(node.attributes.label);
    switch (node.op) {
      case 'if':
        return region(node.regions[Number(get(node.args[0])) === 0 ? 1 : 0]);
      case 'loop':
        for (;;) {
          if (++steps > 100_000) throw new Error('the loop does not end');
          const jump = region(node.regions[0]);
          if (jump && jump.label !== label) return jump;
          if (jump?.op === 'break') return undefined;
          const end = region(node.regions[1]);
          if (end) return end;
        }
      case 'block': {
        const jump = region(node.regions[0]);
        return jump && jump.label !== label ? jump : undefined;
      }
      case 'break':
      case 'continue':
        return { op: node.op, label };
      case 'return':
        return { op: 'return', label: '' };
      case 'set':
        slots.set(node.slots[0].id, get(node.args[0]));
        return undefined;
      case 'load':
      case 'store':
        access(node);
        return undefined;
      default:
        compute(node);
        return undefined;
    }
  };

  const access = (node: Node): void => {
    const list = node.op === 'load' ? node.results : node.args.slice(1);
    const size = BYTES[list[0].type]!;
    const at = Number(get(node.args[0])) + Number(node.attributes.bytes ?? 0);
    if (at % Number(node.attributes.align ?? size) !== 0) throw new Error(`misaligned at ${at}`);
    for (const [i, value] of list.entries()) {
      const place = at + i * size;
      if (node.op === 'store') write(memory, place, value.type, get(value));
      else values.set(value, read(memory, place, value.type));
    }
  };

  const compute = (node: Node): void => {
    const args = node.args.map(get);
    const [result] = node.results;
    if (node.op === 'slot' || node.op === 'const') return;
    if (node.op === 'unpack' || node.op === 'pack' || (node.op === 'convert' && args.length === 2)) {
      // Pairs are kept as one number: the low half is the first.
      if (node.op === 'unpack') {
        const word = BigInt(args[0]);
        for (const [i, piece] of node.results.entries())
          values.set(piece, fromBits((word >> BigInt(16 * i)) & 0xffffn));
        return;
      }
      const bits = args.map((x) => bitsOfNumber(Number(x), 'bf16'));
      values.set(result, bits[0] | (bits[1] << 16n));
      return;
    }
    values.set(result, wrap(result.type, evaluate(node, args, slots, thread)));
  };
  region(kernel.body);
}

function fromBits(bits: bigint): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, Number(bits) << 16);
  return view.getFloat32(0);
}

function evaluate(
  node: Node,
  [a, b, c]: readonly Number_[],
  slots: ReadonlyMap<number, Number_>,
  thread: number,
): Number_ {
  const source = node.args[0]?.type;
  const whole = source === 'i32' || source === 'u32' || source === 'i64';
  switch (node.op) {
    case 'get':
      return slots.get(node.slots[0].id)!;
    case 'special':
      return thread;
    case 'param':
      return 0;
    case 'ptr_add':
      return Number(a) + Number(b ?? 0) * Number(node.attributes.scale ?? 1) + Number(node.attributes.bytes ?? 0);
    case 'add':
      return whole ? BigInt(a) + BigInt(b) : Number(a) + Number(b);
    case 'sub':
      return whole ? BigInt(a) - BigInt(b) : Number(a) - Number(b);
    case 'mul':
      return whole ? BigInt(a) * BigInt(b) : Number(a) * Number(b);
    case 'div':
      return whole ? BigInt(a) / BigInt(b) : Number(a) / Number(b);
    case 'rem':
      return BigInt(a) % BigInt(b);
    case 'mulhi':
      return (BigInt(a) * BigInt(b)) >> 32n;
    case 'and':
      return source === 'pred' ? Number(a) & Number(b) : BigInt(a) & BigInt(b);
    case 'or':
      return source === 'pred' ? Number(a) | Number(b) : BigInt(a) | BigInt(b);
    case 'xor':
      return source === 'pred' ? Number(a) ^ Number(b) : BigInt(a) ^ BigInt(b);
    case 'not':
      return source === 'pred' ? 1 - Number(a) : ~BigInt(a);
    case 'shl':
      return Number(b) >>> 0 >= 32 ? 0 : BigInt(a) << BigInt(b);
    case 'shr':
      return BigInt(a) >> BigInt(Math.min(Number(b) >>> 0, 40));
    case 'min':
      return a < b ? a : b;
    case 'max':
      return a > b ? a : b;
    case 'select':
      return Number(a) === 0 ? c : b;
    case 'bitcast':
    case 'convert':
      return a;
    case 'compare': {
      const tests: Record<string, boolean> = { eq: a === b, ne: a !== b, lt: a < b, le: a <= b, gt: a > b, ge: a >= b };
      return tests[String(node.attributes.test)] ? 1 : 0;
    }
    default:
      throw new Error(`${node.op} is not interpreted`);
  }
}

function read(memory: DataView, at: number, type: TypeName): Number_ {
  if (type === 'f32') return memory.getFloat32(at, true);
  if (type === 'bf16') return fromBits(BigInt(memory.getUint16(at, true)));
  return type === 'i32' ? memory.getInt32(at, true) : memory.getUint32(at, true);
}

function write(memory: DataView, at: number, type: TypeName, x: Number_): void {
  if (type === 'f32') memory.setFloat32(at, Number(x), true);
  else if (type === 'bf16') memory.setUint16(at, Number(bitsOfNumber(Number(x), 'bf16')), true);
  else if (type === 'i32') memory.setInt32(at, Number(x), true);
  else memory.setUint32(at, Number(x), true);
}
