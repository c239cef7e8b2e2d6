import {
  encodeTcgen05Descriptor,
  encodeWgmmaDescriptor,
  SWIZZLE_MODES,
  type MatrixDescriptor,
} from '../atoms/descriptors.ts';
import { accumulatorRegister, wgmmaShape, type MmaShape, type ProductTypes } from '../atoms/mma-shapes.ts';
import { choiceOf, flagOf, numberOf, textOf } from '../ir/attributes.ts';
import type { Node } from '../ir/ir.ts';
import type { Emitter, EmitNode } from './emitter.ts';
import { ACCUMULATORS, braces, MATRIX_ELEMENTS, spelled } from './matrix.ts';

/** wgmma and matrix descriptors (PTX ISA 9.0, "Asynchronous warpgroup level matrix instructions"). */

function shapeOf(e: Emitter, node: Node, types: ProductTypes): MmaShape {
  const shape = textOf(node, 'shape');
  const n = Number(/^m64n(\d+)k\d+$/.exec(shape)?.[1]);
  let form: MmaShape;
  try {
    form = wgmmaShape(n, types);
  } catch (error) {
    throw e.error(error instanceof RangeError ? error.message : String(error));
  }
  if (form.shape !== shape) throw e.error(`wgmma of ${types.a} has shape ${form.shape}, not ${shape}`);
  return form;
}

function wgmma(e: Emitter, node: Node): void {
  const types = {
    a: choiceOf(node, 'a', MATRIX_ELEMENTS),
    b: choiceOf(node, 'b', MATRIX_ELEMENTS),
    d: choiceOf(node, 'd', ACCUMULATORS),
  };
  const form = shapeOf(e, node, types);
  const inRegisters = flagOf(node, 'a_registers');
  if (node.args.length !== (inRegisters ? 6 : 3)) {
    throw e.error(`wgmma takes ${inRegisters ? 'four registers' : 'a descriptor'} of A, a descriptor of B and scale_d`);
  }
  const wanted = accumulatorRegister(types.d);
  if (node.slots.length !== form.registers.d || node.slots.some((slot) => slot.type !== wanted)) {
    throw e.error(`wgmma ${form.shape} into ${types.d} has ${form.registers.d} accumulators of type ${wanted}`);
  }
  const args = node.args.map((value) => e.register(value));
  const [scale, b] = [args[args.length - 1], args[args.length - 2]];
  const operands = [
    braces(node.slots.map((slot) => e.slot(slot))),
    inRegisters ? braces(args.slice(0, 4)) : args[0],
    b,
    scale,
  ];
  const integer = types.d === 'i32';
  if (!integer) operands.push(flagOf(node, 'negate_a') ? '-1' : '1', flagOf(node, 'negate_b') ? '-1' : '1');
  const [transposeA, transposeB] = [flagOf(node, 'transpose_a'), flagOf(node, 'transpose_b')];
  if (types.a === 'f16' || types.a === 'bf16') {
    if (!inRegisters) operands.push(transposeA ? '1' : '0');
    else if (transposeA) throw e.error('an A in registers is not transposed');
    operands.push(transposeB ? '1' : '0');
  } else if (transposeA || transposeB) {
    throw e.error(`wgmma of ${types.a} takes operands whose K is contiguous: it does not transpose`);
  }
  if (integer && (flagOf(node, 'negate_a') || flagOf(node, 'negate_b'))) throw e.error('integer wgmma does not negate');
  const saturate = flagOf(node, 'saturate') ? '.satfinite' : '';
  if (saturate !== '' && !integer) throw e.error('only integer wgmma saturates');
  const spelling = `${saturate}.${spelled(types.d)}.${spelled(types.a)}.${spelled(types.b)}`;
  e.line(`wgmma.mma_async.sync.aligned.${form.shape}${spelling} ${operands.join(', ')}`);
}

/** The descriptor's constant part is known: only the address field is computed. */
function descriptor(
  e: Emitter,
  node: Node,
  encode: (fields: MatrixDescriptor & { absoluteLeading?: boolean }) => bigint,
): void {
  const fields = {
    leading: numberOf(node, 'leading'),
    stride: numberOf(node, 'stride'),
    swizzle: choiceOf(node, 'swizzle', SWIZZLE_MODES),
    baseOffset: numberOf(node, 'base_offset', 0),
    absoluteLeading: flagOf(node, 'absolute_leading'),
  };
  let bits: bigint;
  try {
    bits = encode(fields);
  } catch (error) {
    throw e.error(error instanceof RangeError ? error.message : String(error));
  }
  const [address, low] = [e.temporary('r'), e.temporary('r')];
  e.line(`bfe.u32 ${address}, ${e.register(node.args[0])}, 4, 14`);
  e.line(`or.b32 ${low}, ${address}, 0x${(bits & 0xffffffffn).toString(16)}`);
  e.line(`mov.b64 ${e.define(node.results[0])}, {${low}, ${e.constant('r', bits >> 32n)}}`);
}

/** Shared memory ends below 2^18 bytes, so that the address field never carries into the next one. */
function move(e: Emitter, node: Node): void {
  const [from, bytes] = node.args;
  const source = e.register(from);
  if (!bytes) {
    const known = numberOf(node, 'bytes');
    if (known % 16 !== 0) throw e.error(`a descriptor moves by multiples of 16 bytes, not ${known}`);
    return e.line(`add.s64 ${e.define(node.results[0])}, ${source}, ${known / 16}`);
  }
  const [units, wide] = [e.temporary('r'), e.temporary('d')];
  e.line(`shr.s32 ${units}, ${e.use(bytes)}, 4`);
  e.line(`cvt.s64.s32 ${wide}, ${units}`);
  e.line(`add.s64 ${e.define(node.results[0])}, ${source}, ${wide}`);
}

export const WGMMA_EMITTERS: Readonly<Record<string, EmitNode>> = {
  wgmma_fence: (e) => e.line('wgmma.fence.sync.aligned'),
  wgmma,
  wgmma_commit: (e) => e.line('wgmma.commit_group.sync.aligned'),
  wgmma_wait: (e, node) => e.line(`wgmma.wait_group.sync.aligned ${numberOf(node, 'groups', 0)}`),
  wgmma_descriptor: (e, node) => descriptor(e, node, encodeWgmmaDescriptor),
  tcgen05_descriptor: (e, node) => descriptor(e, node, encodeTcgen05Descriptor),
  descriptor_add: move,
};
