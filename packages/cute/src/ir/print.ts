import {
  walk,
  type Attribute,
  type KernelIR,
  type KernelParameter,
  type Node,
  type Position,
  type Slot,
} from './ir.ts';
import { OPS } from './ops.ts';

/**
 * A kernel as text, which `parseKernel` reads back to the same kernel. One node a line:
 *
 *     %7: f32, %8: f32 = load(%5) {count: 2, align: 8} @3
 *     wgmma(%9, %10, %11) {shape: "m64n8k16"} [$0, $1] @4
 *     if(%12) @5 then {
 *     } else {
 *     }
 *
 * `%n` are values (`%n/8` if 8 is known to divide it), `$n` slots, `@n` positions, which the head lists.
 */
export function printKernel(kernel: KernelIR): string {
  return new Printer(kernel).print();
}

class Printer {
  private readonly kernel: KernelIR;
  private readonly positions = new Map<Position, number>();
  private readonly places: string[] = [];
  private readonly known = new Map<string, number>();
  private readonly out: string[] = [];

  constructor(kernel: KernelIR) {
    this.kernel = kernel;
  }

  print(): string {
    this.nodes(this.kernel.body, '  ');
    const body = this.out.splice(0);
    return [...this.head(), ...this.places, 'body {', ...body, '}', ''].join('\n');
  }

  private head(): string[] {
    const { kernel } = this;
    const out = [`kernel ${JSON.stringify(kernel.name)} (${kernel.threads.join(', ')})`];
    if (kernel.cluster) out.push(`cluster (${kernel.cluster.join(', ')})`);
    if (kernel.minBlocks !== undefined) out.push(`min_blocks ${kernel.minBlocks}`);
    if (kernel.maxRegisters !== undefined) out.push(`max_registers ${kernel.maxRegisters}`);
    if (kernel.overlapsPrevious !== undefined) out.push(`overlaps_previous ${kernel.overlapsPrevious}`);
    out.push(`numbers ${kernel.values} ${kernel.slotCount}`);
    for (const param of kernel.params) out.push(`param ${printParameter(param)}`);
    for (const { id, name, element, bytes, align, offset } of kernel.shared) {
      const place = offset === undefined ? '' : ` offset ${offset}`;
      out.push(`shared ${id} ${JSON.stringify(name)} ${element} bytes ${bytes} align ${align}${place}`);
    }
    const slots = new Map<number, Slot>();
    walk(kernel.body, (node) => {
      for (const slot of node.slots) slots.set(slot.id, slot);
    });
    for (const slot of [...slots.values()].toSorted((a, b) => a.id - b.id)) {
      out.push(`slot $${slot.id} ${slot.type} ${JSON.stringify(slot.name)}`);
    }
    return out;
  }

  private nodes(nodes: readonly Node[], indent: string): void {
    for (const node of nodes) this.node(node, indent);
  }

  private node(node: Node, indent: string): void {
    let text = node.results
      .map(({ id, divisor, type }) => `%${id}${divisor === 1 ? '' : `/${divisor}`}: ${type}`)
      .join(', ');
    if (text !== '') text += ' = ';
    text += `${node.op}(${node.args.map((value) => `%${value.id}`).join(', ')})`;
    const attributes = Object.entries(node.attributes);
    if (attributes.length > 0) {
      text += ` {${attributes.map(([name, value]) => `${name}: ${printAttribute(value)}`).join(', ')}}`;
    }
    if (node.slots.length > 0) text += ` [${node.slots.map((slot) => `$${slot.id}`).join(', ')}]`;
    text += ` @${this.position(node.position)}`;
    const names = OPS[node.op]?.regions ?? [];
    for (const [i, region] of node.regions.entries()) {
      this.out.push(`${indent}${i === 0 ? text : '}'} ${names[i] ?? 'region'} {`);
      this.nodes(region, `${indent}  `);
    }
    this.out.push(indent + (node.regions.length > 0 ? '}' : text));
  }

  private position(position: Position): number {
    let number = this.positions.get(position);
    if (number !== undefined) return number;
    const { file, line, column, name, inlinedAt } = position;
    let text = `${JSON.stringify(file)} ${line} ${column}`;
    if (name !== undefined) text += ` ${JSON.stringify(name)}`;
    if (inlinedAt) text += ` in @${this.position(inlinedAt)}`;
    number = this.known.get(text);
    if (number === undefined) {
      this.known.set(text, (number = this.places.length));
      this.places.push(`at @${number} ${text}`);
    }
    this.positions.set(position, number);
    return number;
  }
}

function printParameter(param: KernelParameter): string {
  const name = JSON.stringify(param.name);
  if (param.kind === 'value') return `value ${name} ${param.type}`;
  if (param.kind === 'tensormap')
    return `tensormap ${name}${param.boxBytes === undefined ? '' : ` box ${param.boxBytes}`}`;
  return `tensor ${name} ${param.element} align ${param.align} ${param.access}`;
}

export function printAttribute(value: Attribute): string {
  if (typeof value === 'number') {
    if (Number.isNaN(value)) return 'nan';
    if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
    return Object.is(value, -0) ? '-0' : String(value);
  }
  if (typeof value === 'object') return `[${value.map(printAttribute).join(', ')}]`;
  return JSON.stringify(value);
}
