import { makeNode } from '../ir/builder.ts';
import { walk, type Attributes, type KernelIR, type Node, type Region, type Value } from '../ir/ir.ts';
import { printAttribute } from '../ir/print.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import { replaceValues } from './rewrite.ts';

/**
 * Converts neighbours together, as the hardware does: two float32 that are stored or packed side by side become one
 * pair, and 8-bit floats that were loaded side by side become float16 as a pair. The bits are those of one at a time.
 */
export function pairConversions(kernel: KernelIR): void {
  new Pairs(kernel).run();
}

const PACKED: Partial<Record<TypeName, TypeName>> = { bf16: 'bf16x2', f16: 'f16x2', e4m3: 'e4m3x2', e5m2: 'e5m2x2' };
const QUADS: Partial<Record<TypeName, TypeName>> = { e4m3: 'e4m3x4', e5m2: 'e5m2x4' };

class Pairs {
  private readonly kernel: KernelIR;
  private readonly uses = new Map<Value, Node[]>();
  private readonly replaced = new Map<Value, Value>();
  private out: Region = [];

  constructor(kernel: KernelIR) {
    this.kernel = kernel;
  }

  run(): void {
    walk(this.kernel.body, (node) => {
      for (const arg of node.args) {
        const users = this.uses.get(arg);
        if (users) users.push(node);
        else this.uses.set(arg, [node]);
      }
    });
    this.kernel.body = this.region(this.kernel.body);
    replaceValues(this.kernel, this.replaced);
  }

  private region(nodes: Region): Region {
    const before = this.out;
    const out: Region = [];
    this.out = out;
    for (const node of nodes) {
      node.regions = node.regions.map((inner) => this.region(inner));
      if (node.op === 'store') this.store(node);
      if (node.op === 'pack' && this.pack(node)) continue;
      out.push(node);
      if (node.op === 'load' || node.op === 'unpack') this.eights(node);
    }
    this.out = before;
    return out;
  }

  private make(
    node: Node,
    op: string,
    args: readonly Value[],
    types: readonly TypeName[],
    attributes: Attributes = {},
  ): Value[] {
    const made = makeNode(this.kernel, op, node.position, { args, types, attributes });
    this.out.push(made);
    return made.results;
  }

  /** Values of a store that are conversions used here only become pieces of pairs (of quads for 8 bits). */
  private store(node: Node): void {
    const type = node.args[1].type;
    if (!PACKED[type]) return;
    const count = Number(node.attributes.count ?? 1);
    for (let i = 0; i + 1 < count;) {
      const quad = QUADS[type] !== undefined && i % 4 === 0 && i + 3 < count;
      const four = node.args.slice(1 + i, 5 + i);
      const group = quad && this.convertible(four, true) ? four : node.args.slice(1 + i, 3 + i);
      const packed = group.length === 4 ? QUADS[type]! : PACKED[type];
      if (this.convertible(group, true)) {
        const { attributes } = group[0].node;
        const sources = group.map((value) => value.node.args[0]);
        const [word] = this.make(node, 'convert', sources, [packed], attributes);
        const pieces = this.make(
          node,
          'unpack',
          [word],
          group.map(() => type),
        );
        for (const [k, piece] of pieces.entries()) node.args[1 + i + k] = piece;
      }
      i += group.length;
    }
  }

  private convertible(values: readonly Value[], alone: boolean): boolean {
    const first = values[0].node;
    const key = attributesKey(first.attributes);
    if (key === undefined) return false;
    return values.every(
      ({ node, type }) =>
        node.op === 'convert' &&
        node.args.length === 1 &&
        node.args[0].type === 'f32' &&
        type === values[0].type &&
        attributesKey(node.attributes) === key &&
        (!alone || this.uses.get(node.results[0])!.length === 1),
    );
  }

  /** A pack of two conversions is the packed conversion. */
  private pack(node: Node): boolean {
    const [result] = node.results;
    const packed = PACKED[node.args[0].type];
    if (!packed || node.args.length !== 2 || TYPES[packed].bits !== TYPES[result.type].bits) return false;
    if (!this.convertible(node.args, false)) return false;
    const sources = node.args.map((value) => value.node.args[0]);
    let [word] = this.make(node, 'convert', sources, [packed], node.args[0].node.attributes);
    if (result.type !== packed) [word] = this.make(node, 'bitcast', [word], [result.type]);
    this.replaced.set(result, word);
    return true;
  }

  /** Pairs of 8-bit floats, both of which are converted somewhere: to f16 here, and from there on as before. */
  private eights(node: Node): void {
    for (let i = 0; i + 1 < node.results.length; i += 2) {
      const pair = node.results.slice(i, i + 2);
      const type = pair[0].type;
      if ((type !== 'e4m3' && type !== 'e5m2') || pair[1].type !== type) continue;
      const converts = pair.map((value) => (this.uses.get(value) ?? []).filter(isWidening));
      if (converts.some((list) => list.length === 0)) continue;
      const [word] = this.make(node, 'pack', pair, [PACKED[type]!]);
      const [halves] = this.make(node, 'convert', [word], ['f16x2']);
      const pieces = this.make(node, 'unpack', [halves], ['f16', 'f16']);
      for (const [k, list] of converts.entries()) {
        for (const convert of list) {
          if (convert.results[0].type === 'f16') this.replaced.set(convert.results[0], pieces[k]);
          else convert.args[0] = pieces[k];
        }
      }
    }
  }
}

function isWidening(node: Node): boolean {
  if (node.op !== 'convert' || node.args.length !== 1 || Object.keys(node.attributes).length > 0) return false;
  const type = node.results[0].type;
  return type === 'f32' || type === 'f16' || type === 'bf16';
}

/** Attributes that the packed form has too, as a text; nothing where there is none. */
function attributesKey(attributes: Attributes): string | undefined {
  const round = attributes.round ?? 'rn';
  if (round !== 'rn' && round !== 'rz') return undefined;
  return Object.entries(attributes)
    .map(([name, value]) => `${name}=${printAttribute(value)}`)
    .join(' ');
}
