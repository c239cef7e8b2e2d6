import { mmaShape } from '../atoms/mma-shapes.ts';
import { choiceOf, flagOf, numberOf, textOf } from '../ir/attributes.ts';
import type { Node } from '../ir/ir.ts';
import type { Emitter, EmitNode } from './emitter.ts';

/** ldmatrix, stmatrix, movmatrix and mma.sync (PTX ISA 9.0, "Warp-level matrix instructions"). */

/** Elements of A and B in attributes. */
export const MATRIX_ELEMENTS = ['f16', 'bf16', 'tf32', 'e4m3', 'e5m2', 'i8', 'u8'] as const;
export const ACCUMULATORS = ['f32', 'f16', 'i32'] as const;

/** An element type as the matrix instructions spell it. */
export function spelled(type: string): string {
  return type === 'i8' ? 's8' : type === 'i32' ? 's32' : type;
}

export function braces(registers: readonly string[]): string {
  return `{${registers.join(', ')}}`;
}

function countOf(e: Emitter, node: Node): number {
  const count = numberOf(node, 'count');
  if (count !== 1 && count !== 2 && count !== 4) throw e.error(`${node.op} moves 1, 2 or 4 matrices, not ${count}`);
  return count;
}

function ldmatrix(e: Emitter, node: Node): void {
  const count = countOf(e, node);
  const shape = choiceOf(node, 'shape', ['m8n8', 'm16n16', 'm8n16'], 'm8n8');
  const transpose = flagOf(node, 'transpose');
  let element = 'b16';
  if (shape === 'm16n16') {
    if (!transpose || count === 4) throw e.error('ldmatrix m16n16 (8 bits) is transposed, of 1 or 2 matrices');
    element = 'b8';
  } else if (shape === 'm8n16' && transpose) throw e.error('ldmatrix m8n16 is not transposed');
  const source = node.attributes.source;
  if (source !== undefined) element = `b8x16.${choiceOf(node, 'source', ['b6x16_p32', 'b4x16_p64'])}`;
  else if (shape === 'm8n16') throw e.error('ldmatrix m8n16 unpacks: source is b6x16_p32 or b4x16_p64');
  if (source !== undefined && shape === 'm8n8') throw e.error('ldmatrix m8n8 does not unpack');
  const expected = shape === 'm16n16' ? 2 * count : count;
  if (node.results.length !== expected)
    throw e.error(`ldmatrix gives ${expected} registers, not ${node.results.length}`);
  const address = e.register(node.args[0]);
  const form = `ldmatrix.sync.aligned.${shape}.x${count}${transpose ? '.trans' : ''}.shared.${element}`;
  e.line(`${form} ${braces(node.results.map((result) => e.define(result)))}, [${address}]`);
}

function stmatrix(e: Emitter, node: Node): void {
  const count = countOf(e, node);
  const shape = choiceOf(node, 'shape', ['m8n8', 'm16n8'], 'm8n8');
  const transpose = flagOf(node, 'transpose');
  if (shape === 'm16n8' && !transpose) throw e.error('stmatrix m16n8 (8 bits) is transposed');
  if (node.args.length !== count + 1) throw e.error(`stmatrix stores ${count} registers, not ${node.args.length - 1}`);
  const [address, ...values] = node.args.map((value) => e.register(value));
  const form = `stmatrix.sync.aligned.${shape}.x${count}${transpose ? '.trans' : ''}.shared.${shape === 'm8n8' ? 'b16' : 'b8'}`;
  e.line(`${form} [${address}], ${braces(values)}`);
}

function mma(e: Emitter, node: Node): void {
  const shape = textOf(node, 'shape');
  const types = {
    a: choiceOf(node, 'a', MATRIX_ELEMENTS),
    b: choiceOf(node, 'b', MATRIX_ELEMENTS),
    d: choiceOf(node, 'd', ACCUMULATORS),
  };
  const form = mmaShape(shape, types);
  if (!form) throw e.error(`there is no mma ${shape} of ${types.a} and ${types.b} into ${types.d}`);
  e.need(form.needs.isa, form.needs.target, `mma of ${types.a}`);
  const { a, b, d } = form.registers;
  if (node.args.length !== a + b + d || node.results.length !== d) {
    throw e.error(`mma ${shape} of ${types.a} takes ${a} + ${b} + ${d} registers and gives ${d}`);
  }
  const sources = node.args.map((value) => e.register(value));
  const results = node.results.map((result) => e.define(result));
  const saturate = flagOf(node, 'saturate') ? '.satfinite' : '';
  if (saturate !== '' && types.d !== 'i32') throw e.error('only integer mma saturates');
  const d1 = spelled(types.d);
  e.line(
    `mma.sync.aligned.${shape}.row.col${saturate}.${d1}.${spelled(types.a)}.${spelled(types.b)}.${d1} ${braces(results)}, ` +
      `${braces(sources.slice(0, a))}, ${braces(sources.slice(a, a + b))}, ${braces(sources.slice(a + b))}`,
  );
}

export const MATRIX_EMITTERS: Readonly<Record<string, EmitNode>> = {
  ldmatrix,
  stmatrix,
  movmatrix: (e, node) => {
    const source = e.register(node.args[0]);
    e.line(`movmatrix.sync.aligned.m8n8.trans.b16 ${e.define(node.results[0])}, ${source}`);
  },
  mma,
};
