import { choiceOf, flagOf, numberOf } from '../ir/attributes.ts';
import type { Node, Value } from '../ir/ir.ts';
import {
  TCGEN05_COPIES,
  TCGEN05_KIND_NAMES,
  TCGEN05_KINDS,
  TMEM_SHAPES,
  tmemRegisters,
  UNPACKED_FORMATS,
} from '../atoms/tcgen05-shapes.ts';
import type { Emitter, EmitNode } from './emitter.ts';
import { braces } from './matrix.ts';

/** Tensor memory and its tensor cores (PTX ISA 9.0, "TensorCore 5th generation family instructions"). */

function group(e: Emitter, node: Node): string {
  const count = numberOf(node, 'cta_group', 1);
  if (count !== 1 && count !== 2) throw e.error(`cta_group is 1 or 2, not ${count}`);
  return `cta_group::${count}`;
}

function columns(e: Emitter, node: Node): number {
  const count = numberOf(node, 'columns');
  if (count < 32 || count > 512 || !Number.isInteger(Math.log2(count))) {
    throw e.error(`tensor memory is allocated in powers of two from 32 to 512 columns, not ${count}`);
  }
  return count;
}

function at(e: Emitter, value: Value): string {
  return `[${e.register(value)}]`;
}

/** Shape, repeat and the extra operand of loads and stores; checks the number of registers. */
function access(e: Emitter, node: Node, registers: number): { form: string; offset: string } {
  const shape = choiceOf(node, 'shape', TMEM_SHAPES);
  const repeat = numberOf(node, 'repeat');
  let expected: number;
  try {
    expected = tmemRegisters(shape, repeat);
  } catch (error) {
    throw e.error(error instanceof RangeError ? error.message : String(error));
  }
  if (registers !== expected)
    throw e.error(`${node.op} ${shape} x${repeat} moves ${expected} registers, not ${registers}`);
  // The second half of 16x32bx2 lies this many columns further.
  const offset = shape === '16x32bx2' ? `, ${numberOf(node, 'half_offset')}` : '';
  return { form: `sync.aligned.${shape}.x${repeat}`, offset };
}

function load(e: Emitter, node: Node): void {
  const { form, offset } = access(e, node, node.results.length);
  const from = at(e, node.args[0]);
  const pack = flagOf(node, 'pack') ? '.pack::16b' : '';
  e.line(`tcgen05.ld.${form}${pack}.b32 ${braces(node.results.map((result) => e.define(result)))}, ${from}${offset}`);
}

function store(e: Emitter, node: Node): void {
  const { form, offset } = access(e, node, node.args.length - 1);
  const [to, ...values] = node.args.map((value) => e.register(value));
  const unpack = flagOf(node, 'unpack') ? '.unpack::16b' : '';
  e.line(`tcgen05.st.${form}${unpack}.b32 [${to}]${offset}, ${braces(values)}`);
}

/** A few features are not those of the whole family. */
function only(e: Emitter, what: string, archs: readonly string[]): void {
  if (!archs.includes(e.arch.name))
    throw e.error(`${what} is for ${archs.join(', ')}, the kernel is compiled for ${e.arch.name}`);
}

function mma(e: Emitter, node: Node): void {
  const kind = choiceOf(node, 'kind', TCGEN05_KIND_NAMES);
  if (kind === 'i8') only(e, 'tcgen05_mma of kind i8', ['sm_100a']);
  const scales: readonly string[] = TCGEN05_KINDS[kind].scales;
  const [d, a, b, instruction, accumulate, scaleA, scaleB] = node.args;
  const first = flagOf(node, 'a_tmem') ? at(e, a) : e.register(a);
  const operands = [at(e, d), first, e.register(b), e.register(instruction)];
  let form = `tcgen05.mma.${group(e, node)}.kind::${kind}`;
  if (scales.length > 0) {
    if (!scaleA || !scaleB) throw e.error(`tcgen05_mma of kind ${kind} takes the addresses of A's and B's scales`);
    only(e, 'tcgen05_mma with scale vectors', ['sm_100a', 'sm_103a']);
    form += `.block_scale.scale_vec::${choiceOf(node, 'block', scales)}`;
    operands.push(at(e, scaleA), at(e, scaleB));
  } else if (scaleA) throw e.error(`tcgen05_mma of kind ${kind} has no scales`);
  operands.push(e.register(accumulate));
  e.line(`${form} ${operands.join(', ')}`);
}

function commit(e: Emitter, node: Node): void {
  const [barrier, mask] = node.args;
  const multicast = flagOf(node, 'multicast');
  if (multicast !== (mask !== undefined)) throw e.error('tcgen05_commit takes a mask where it is multicast');
  const form = `tcgen05.commit.${group(e, node)}.mbarrier::arrive::one.shared::cluster${multicast ? '.multicast::cluster' : ''}.b64`;
  e.line(`${form} ${at(e, barrier)}${mask ? `, ${e.register(mask)}` : ''}`);
}

function copy(e: Emitter, node: Node): void {
  const shape = choiceOf(node, 'shape', Object.keys(TCGEN05_COPIES));
  const spread = choiceOf(
    node,
    'multicast',
    TCGEN05_COPIES[shape],
    TCGEN05_COPIES[shape].find((way) => way === ''),
  );
  const source = node.attributes.source === undefined ? '' : `.b8x16.${choiceOf(node, 'source', UNPACKED_FORMATS)}`;
  const form = `tcgen05.cp.${group(e, node)}.${shape}${spread === '' ? '' : `.${spread}`}${source}`;
  e.line(`${form} ${at(e, node.args[0])}, ${e.register(node.args[1])}`);
}

export const TCGEN05_EMITTERS: Readonly<Record<string, EmitNode>> = {
  tcgen05_alloc: (e, node) => {
    e.line(`tcgen05.alloc.${group(e, node)}.sync.aligned.shared::cta.b32 ${at(e, node.args[0])}, ${columns(e, node)}`);
  },
  tcgen05_dealloc: (e, node) => {
    e.line(`tcgen05.dealloc.${group(e, node)}.sync.aligned.b32 ${e.register(node.args[0])}, ${columns(e, node)}`);
  },
  tcgen05_relinquish: (e, node) => e.line(`tcgen05.relinquish_alloc_permit.${group(e, node)}.sync.aligned`),
  tcgen05_load: load,
  tcgen05_store: store,
  tcgen05_wait: (e, node) => {
    const what = choiceOf(node, 'direction', ['load', 'store']) === 'load' ? 'ld' : 'st';
    e.line(`tcgen05.wait::${what}.sync.aligned`);
  },
  tcgen05_mma: mma,
  tcgen05_commit: commit,
  tcgen05_copy: copy,
  tcgen05_shift: (e, node) => {
    only(e, 'tcgen05_shift', ['sm_100a', 'sm_103a']);
    e.line(`tcgen05.shift.${group(e, node)}.down ${at(e, node.args[0])}`);
  },
  tcgen05_fence: (e, node) => {
    e.line(`tcgen05.fence::${choiceOf(node, 'when', ['before_thread_sync', 'after_thread_sync'])}`);
  },
};
